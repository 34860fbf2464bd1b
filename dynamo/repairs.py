"""What people see of exchanges and start of them: since when replicas agree, and repairs on demand.

Reads what exchanges tell and hands on what is asked of them. Knows nothing of HTTP, nor of how replicas
are compared.
"""

from __future__ import annotations

from typing import Any

import msgspec

from dynamo.agreement import (
    AntiEntropyStatus,
    RepairStatus,
    TreeRoots,
    antientropy_status,
    tree_roots,
)
from dynamo.errors import InvalidArgument, NotReady, RepairRunning
from dynamo.exchanges import Exchanges
from dynamo.metrics import Metrics
from dynamo.repair_run import RepairRun
from dynamo.repair_selection import what_of
from dynamo.requests import RepairAsked
from dynamo.trees import Trees
from ring.ring import Ring


class Repairs:
    """Of one node. One repair at a time; the last is remembered until the node ends."""

    def __init__(
        self, *, node_id: str, exchanges: Exchanges, trees: Trees, metrics: Metrics
    ) -> None:
        self._node_id = node_id
        self._exchanges = exchanges
        self._trees = trees
        self._count = metrics.count
        self._ring: Ring | None = None
        self._asked = RepairAsked()
        self._run: RepairRun | None = None

    def adopt(self, ring: Ring) -> None:
        """From now on repairs are held against this ring."""
        self._ring = ring

    def antientropy(self, partition: int | None, limit: int) -> AntiEntropyStatus:
        """`limit`: of the pairs that are told one by one. Raises InvalidArgument for a partition that
        there is not."""
        ring = self._ring
        partitions = 0 if ring is None else ring.partitions
        if partition is not None and partition >= max(partitions, 1):
            allowed = f"0 to {max(partitions - 1, 0)}"
            raise InvalidArgument(
                f"partition is not in {allowed}", field="partition", allowed=allowed
            )
        return antientropy_status(
            self._exchanges.status(),
            classes={} if ring is None else {cls.id: cls.name for cls in ring.classes},
            trees=self._trees.status(),
            counters=self._count,
            partition=partition,
            limit=limit,
        )

    def roots(self) -> TreeRoots:
        """Of the partitions that this node keeps."""
        ring, trees = self._ring, self._trees.status()
        return tree_roots(
            self._node_id,
            self._trees.roots(),
            unready=trees.trees - trees.ready,
            classes={} if ring is None else {cls.id: cls.name for cls in ring.classes},
        )

    def status(self) -> RepairStatus:
        """Of the repair that runs, or of the last."""
        asked, run = self._asked, self._run
        if run is None:
            return RepairStatus(node=self._node_id)
        return RepairStatus(
            node=self._node_id,
            partition=asked.partition,
            type=asked.bucket_type.decode("utf-8", "replace") or None,
            bucket=_text(asked.bucket),
            encoded_bucket=None if _text(asked.bucket) is not None else _encoded(asked.bucket),
            peer=asked.peer or None,
            progress=run.progress(),
        )

    def start(self, asked: RepairAsked) -> RepairStatus:
        """It runs. Raises RepairRunning, NotReady while there is no ring, and as `what_of`."""
        if self._ring is None:
            raise NotReady("the ring is not formed, so there is nobody to compare with")
        what = what_of(asked, self._ring, self._node_id)
        status = self.status()
        if status.is_running:
            raise RepairRunning(
                "a repair runs at this node already", repair=msgspec.to_builtins(status)
            )
        self._run = self._exchanges.start_repair(what)
        self._asked = asked
        return self.status()

    def stats(self) -> dict[str, Any]:
        """Facts by name, for `/stats`."""
        status = self.antientropy(None, 1)
        return {
            "antientropy_state": status.state,
            "antientropy_oldest_clean_s": status.oldest_clean_s,
            "antientropy_pairs": status.pairs,
            "antientropy_pairs_never_clean": status.never_clean,
            "trees_ready": status.trees.ready,
            "trees_building": status.trees.trees - status.trees.ready,
        }

    async def stop(self) -> RepairStatus:
        """None runs any more."""
        if self._run is not None and self.status().is_running:
            self._run.stop()
            await self._run.ended()
        return self.status()


def _text(bucket: bytes) -> str | None:
    try:
        return bucket.decode("utf-8") or None
    except UnicodeDecodeError:
        return None


def _encoded(bucket: bytes) -> str | None:
    """Percent-encoded."""
    letters = (chr(byte) if byte < 0x80 else "" for byte in bucket)
    return (
        "".join(
            letter if letter.isalnum() else f"%{byte:02X}"
            for letter, byte in zip(letters, bucket, strict=True)
        )
        or None
    )
