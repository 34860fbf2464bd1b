"""What each node has on its disk of every key: its database, copied and looked at.

A node may run meanwhile, as long as nothing is written: what it has acknowledged is in its files.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from dynamo.clock import SystemClock
from dynamo.cluster_file import ClusterFile
from dynamo.keys import partition_prefix, routing_key
from dynamo.metrics import Metrics
from dynamo.node import DATABASE
from dynamo.record import decode_record
from dynamo.resolve import view
from dynamo.store.rocks import RocksStorage
from dynamo.stored import decode_stored
from ring.partition import partition_of, token
from ring.ring import ReplicationClass, Ring

_PAGE_BYTES = 1 << 24
_END = b"\xff" * 8


class Copies:
    """The records of all nodes, read when it is made. `data_dirs`: by member."""

    def __init__(self, cluster: ClusterFile, data_dirs: Mapping[str, Path]) -> None:
        self._cluster = cluster
        self._ring = Ring.build(
            cluster.members,
            partitions=cluster.partitions,
            seed=cluster.seed,
            classes=tuple(
                ReplicationClass(name=name, id=index, replicas=replicas)
                for index, (name, replicas) in enumerate(cluster.classes)
            ),
        )
        self._of = {member: _records(path) for member, path in data_dirs.items()}

    def of(self, key: str) -> dict[str, bytes]:
        """Every owner's record of a key of the bucket `b`, encoded; b"" where it has none."""
        routing = routing_key(b"default", b"b", key.encode())
        partition = partition_of(token(routing, self._cluster.seed), self._cluster.partitions)
        storage_key = partition_prefix(0, partition) + routing
        owners = self._ring.all_owners(0, partition)
        return {owner: self._of[owner].get(storage_key, b"") for owner in owners}

    def without(self, key: str, value: bytes) -> list[str]:
        """The owners that do not show this value of the key."""
        return [owner for owner, record in self.of(key).items() if value not in _values(record)]

    def differing(self, keys: Iterable[str]) -> list[str]:
        """Of these keys, those whose owners do not all have the same bytes."""
        return [key for key in keys if len(set(self.of(key).values())) != 1]


def _values(record: bytes) -> list[bytes]:
    if not record:
        return []
    return [sibling.read().value for sibling in view(decode_record(record), 0).siblings]


def _records(data_dir: Path) -> dict[bytes, bytes]:
    with tempfile.TemporaryDirectory(prefix="dynamo-copy-") as directory:
        path = Path(directory) / DATABASE
        shutil.copytree(data_dir / DATABASE, path)
        return asyncio.run(_read(path))


async def _read(path: Path) -> dict[bytes, bytes]:
    storage = await RocksStorage.open(
        path, clock=SystemClock(), metrics=Metrics(), existed=True, free_space_min=0
    )
    try:
        found: dict[bytes, bytes] = {}
        after = b"\0"
        while page := storage.scan("records", after, _END, count_max=10_000, bytes_max=_PAGE_BYTES):
            found.update((key, decode_stored(key, data).record) for key, data in page)
            after = page[-1][0] + b"\0"
        return found
    finally:
        await storage.close()
