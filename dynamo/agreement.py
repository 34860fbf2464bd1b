"""How far what this node keeps agrees with the other owners, and what mends it: for people.

Plain values that go into JSON as they are, and the arithmetic that makes them. A *pair* is a partition
of a class and another owner of it. Pure; knows nothing of how pairs are compared.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from dynamo.status import (
    ExchangePair,
    ExchangePeer,
    ExchangeStatus,
    RepairProgress,
    TreesStatus,
)

#: Pairs that are told one by one unless more are asked for, and at most.
PAIRS_SHOWN: Final = 20
PAIRS_SHOWN_MAX: Final = 1_000


class PairAgreement(msgspec.Struct, frozen=True, kw_only=True, rename={"cls": "class"}):
    """As `ExchangePair`, with the name of the class."""

    cls: str
    partition: int
    peer: str
    clean_s: float | None
    reason: str = ""


class PeerAgreement(ExchangePeer, frozen=True, kw_only=True):
    """An `ExchangePeer`, and all pairs with it: `never_clean` of its `partitions` have not been
    clean since this node's start; `oldest_clean_s`: of the others the longest ago, None while there
    are such."""

    never_clean: int
    oldest_clean_s: float | None


class RepairedStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Records that were brought up to date since this node's start, and their bytes: of read repairs
    those that it sent, of hints those that it delivered, of exchanges those that it pulled or pushed."""

    keys: int
    bytes: int


class AntiEntropyStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`oldest_clean_s`: everything that this node keeps was in agreement so long ago; None while
    `never_clean` of the `pairs` have not been clean since its start, and without any. `state`:
    whether exchanges run by themselves, and `reason` why not. `oldest`: pairs that were clean the
    longest ago, never before all; `left_out`: so many are not among them. `repaired`: by cause."""

    node: str
    state: str
    reason: str
    interval_s: float
    interval_remote_s: float
    oldest_clean_s: float | None
    pairs: int
    never_clean: int
    trees: TreesStatus
    peers: tuple[PeerAgreement, ...]
    oldest: tuple[PairAgreement, ...]
    left_out: int
    repaired: dict[str, RepairedStatus]


class TreeRoots(msgspec.Struct, frozen=True, kw_only=True):
    """What sums up the records of each partition that a node keeps: by class, then by partition. Equal
    records are equal sums, and nothing else can be told from them. `unready`: partitions left out, whose
    trees are being built."""

    node: str
    unready: int
    roots: dict[str, dict[str, str]]


def tree_roots(
    node: str,
    roots: Mapping[tuple[int, int], int],
    *,
    unready: int,
    classes: Mapping[int, str],
) -> TreeRoots:
    """`roots`: of hash trees, by class and partition. They are hashed once more: whoever could watch
    how a root itself changes could find out where keys are in the tree."""
    shown: dict[str, dict[str, str]] = {}
    for (cls, partition), root in roots.items():
        hashed = blake2b(root.to_bytes(8), digest_size=8, person=b"tree root").hexdigest()
        shown.setdefault(classes.get(cls, str(cls)), {})[str(partition)] = hashed
    return TreeRoots(node=node, unready=unready, roots=shown)


class RepairStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The repair on demand that runs at a node, or the last; `progress` is None if there was none
    since its start. `partition`, `type`, `bucket`, `peer`: what it is narrowed to, None for all; a
    bucket that is not UTF-8 is percent-encoded in `encoded_bucket`."""

    node: str
    partition: int | None = None
    type: str | None = None
    bucket: str | None = None
    encoded_bucket: str | None = None
    peer: str | None = None
    progress: RepairProgress | None = None

    @property
    def is_running(self) -> bool:
        """True until it is over, one way or another."""
        return self.progress is not None and self.progress.state == "running"


def antientropy_status(
    exchanges: ExchangeStatus,
    *,
    classes: Mapping[int, str],
    trees: TreesStatus,
    counters: Mapping[str, int],
    partition: int | None = None,
    limit: int = PAIRS_SHOWN,
) -> AntiEntropyStatus:
    """What people see; of one `partition`, if it is not None. `classes`: names by id. `limit`: of
    `oldest`."""
    pairs = [pair for pair in exchanges.pairs if partition is None or pair.partition == partition]
    by_peer: dict[str, list[ExchangePair]] = {peer.peer: [] for peer in exchanges.peers}
    for pair in pairs:
        by_peer.setdefault(pair.peer, []).append(pair)
    peers = tuple(
        _peer(peer, by_peer[peer.peer])
        for peer in exchanges.peers
        if partition is None or by_peer[peer.peer]
    )
    shown = heapq.nsmallest(limit, pairs, key=_staleness)
    return AntiEntropyStatus(
        node=exchanges.node,
        state=exchanges.state,
        reason=exchanges.reason,
        interval_s=exchanges.interval_s,
        interval_remote_s=exchanges.interval_remote_s,
        oldest_clean_s=_oldest(pairs),
        pairs=len(pairs),
        never_clean=_never(pairs),
        trees=trees,
        peers=peers,
        oldest=tuple(
            PairAgreement(
                cls=classes.get(pair.cls, str(pair.cls)),
                partition=pair.partition,
                peer=pair.peer,
                clean_s=pair.clean_s,
                reason=pair.reason,
            )
            for pair in shown
        ),
        left_out=len(pairs) - len(shown),
        repaired=_repaired(counters),
    )


def _peer(peer: ExchangePeer, pairs: Sequence[ExchangePair]) -> PeerAgreement:
    told = {**msgspec.structs.asdict(peer), "partitions": len(pairs)}
    return PeerAgreement(**told, never_clean=_never(pairs), oldest_clean_s=_oldest(pairs))


def _never(pairs: Sequence[ExchangePair]) -> int:
    return sum(pair.clean_s is None for pair in pairs)


def _oldest(pairs: Sequence[ExchangePair]) -> float | None:
    """None unless each has been clean."""
    ages = [pair.clean_s for pair in pairs if pair.clean_s is not None]
    return round(max(ages), 1) if ages and len(ages) == len(pairs) else None


def _staleness(pair: ExchangePair) -> tuple[float, int, int, str]:
    age = math.inf if pair.clean_s is None else pair.clean_s
    return -age, pair.cls, pair.partition, pair.peer


#: Counters of what brought records up to date, by cause: of keys, and of bytes.
_COUNTED: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "read_repair": (("read_repairs", "read_repairs_blocking"), ("read_repair_bytes",)),
    "hint": (("hints_delivered",), ("hint_bytes_delivered",)),
    "exchange": (
        ("repairs_by_exchange_pulled", "repairs_by_exchange_pushed"),
        ("repair_bytes_by_exchange_pulled", "repair_bytes_by_exchange_pushed"),
    ),
}


def _repaired(counters: Mapping[str, int]) -> dict[str, RepairedStatus]:
    return {
        cause: RepairedStatus(
            keys=sum(counters.get(name, 0) for name in keys),
            bytes=sum(counters.get(name, 0) for name in sizes),
        )
        for cause, (keys, sizes) in _COUNTED.items()
    }
