"""Bugs of what replicas do by themselves that the simulator must find: hash trees, exchanges, what is
reaped, what expires, disks that went back.

Each is planted as those of `dynamo.sim.planted`, which has them in its table.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any, Final

import dynamo.exchange_keys
import dynamo.kept_trees
import dynamo.reap_batch
import dynamo.record
from dynamo.kept_trees import HEADER_FACT, KeptTrees
from dynamo.keys import PREFIX_BYTES
from dynamo.own_records import OwnRecords
from dynamo.reap_batch import Batch
from dynamo.record import Sibling
from dynamo.refill_marks import RefillMarks
from dynamo.replica_reap import ReplicaReap
from dynamo.rpc.exchange_messages import LookedAt
from dynamo.rpc.reap_messages import Doomed
from dynamo.seen import Seen
from dynamo.sim.patches import Patches, Plant
from dynamo.stored import Stored

# What is reaped -----------------------------------------------------------------------------------


def _reaped_though_not_all_hold_it(patch: Patches) -> None:
    """Nobody asks whether every owner has it."""

    def all_do(owners: Sequence[Sequence[str]], held: object) -> list[str]:
        return [""] * len(owners)

    patch.set(dynamo.reap_batch, "held_by_all", all_do)


def _reaped_before_all_have_settled(patch: Patches) -> None:
    """Nobody waits for what is under way."""

    async def settled(self: Batch) -> str:
        return ""

    patch.set(Batch, "_settle", settled)


def _reaped_in_spite_of_hints(patch: Patches) -> None:
    """What members hold for others is not looked at."""
    for name in ("first_look", "second_look"):
        patch.set(dynamo.reap_batch, name, lambda *given: {})


def _reaped_whatever_it_is(patch: Patches) -> None:
    """A record is dropped that is no longer the one which was proved."""
    judge = ReplicaReap._judge

    def any_record(self: ReplicaReap, doomed: Doomed) -> tuple[Seen | None, str]:
        seen, why = judge(self, doomed)
        if seen is not None or why != "it is another record":
            return seen, why
        prefix = self._replica.prefixes[doomed.cls, doomed.partition]
        return self._replica.look(prefix + doomed.key), ""

    patch.set(ReplicaReap, "_judge", any_record)


# Trees --------------------------------------------------------------------------------------------


class _Deaf:
    """Trees that are told of nothing."""

    def __getitem__(self, name: bytes) -> _Deaf:
        return self

    def note(self, key: bytes, position: int, change: int) -> None:
        """It is not noted."""


def _trees_miss(patch: Patches, path: str) -> None:
    """One way of writing does not tell the trees."""
    write: Callable[..., int] = vars(OwnRecords)[path]

    def untold(self: OwnRecords, *given: Any, **named: Any) -> int:
        trees, self._trees = self._trees, _Deaf()  # type: ignore[assignment]
        try:
            return write(self, *given, **named)
        finally:
            self._trees = trees

    patch.set(OwnRecords, path, untold)


def _trees_miss_what_is_written_beside(patch: Patches) -> None:
    _trees_miss(patch, "put_beside")


def _trees_miss_what_is_dropped(patch: Patches) -> None:
    _trees_miss(patch, "drop")


def _trees_miss_half_of_the_writes(patch: Patches) -> None:
    """A record that takes the place of none is not noted."""
    put = OwnRecords.put

    def untold(
        self: OwnRecords, storage_key: bytes, before: Stored | None, *given: Any, **named: Any
    ) -> int:
        trees = self._trees
        if before is None:
            tree = trees[storage_key[:PREFIX_BYTES]]
            leaves = array("Q", tree.leaves)
            number = put(self, storage_key, before, *given, **named)
            tree.leaves[:] = leaves
            return number
        return put(self, storage_key, before, *given, **named)

    patch.set(OwnRecords, "put", untold)


def _kept_trees_are_believed_after_a_crash(patch: Patches) -> None:
    """Trees that were kept by any start are true, and stay."""

    def take(self: KeptTrees) -> dict[bytes, array[int]]:
        data = self._storage.get("facts", HEADER_FACT)
        if data is None:
            return {}
        header = dynamo.kept_trees._decoder.decode(data)
        return self._read(data, header.number)

    patch.set(KeptTrees, "take", take)


# Exchanges ----------------------------------------------------------------------------------------


def _exchange_leaves_siblings_apart(patch: Patches) -> None:
    """Of two records of which neither covers the other, neither is brought to the other side."""
    behind_of = dynamo.exchange_keys.behind_of

    def one_of_them(mine: LookedAt, theirs: LookedAt) -> tuple[bool, bool]:
        behind = behind_of(mine, theirs)
        return (False, False) if all(behind) else behind

    patch.set(dynamo.exchange_keys, "behind_of", one_of_them)


def _exchange_brings_nothing_to_who_has_none(patch: Patches) -> None:
    behind_of = dynamo.exchange_keys.behind_of

    def something(mine: LookedAt, theirs: LookedAt) -> tuple[bool, bool]:
        behind = behind_of(mine, theirs)
        return behind if mine.vector and theirs.vector else (False, False)

    patch.set(dynamo.exchange_keys, "behind_of", something)


# Expiry, and disks that went back -----------------------------------------------------------------


def _expired_body_comes_back(patch: Patches) -> None:
    """Of a value with and without its body, a merge keeps the one with it."""

    def rank(sibling: Sibling) -> tuple[bool, bytes]:
        return sibling.content is None, dynamo.record._encoder.encode(sibling)

    patch.set(dynamo.record, "_rank", rank)


def _disk_that_went_back_is_believed(patch: Patches) -> None:
    """What it had of before is merged with what its peers have, though they may have reaped what
    covers it."""

    def unjudged(self: RefillMarks, storage_key: bytes) -> bool:
        return False

    patch.set(RefillMarks, "is_earlier", unjudged)


UPKEEP_BUGS: Final[tuple[tuple[Plant, str], ...]] = (
    (_reaped_though_not_all_hold_it, "a tombstone is reaped that an owner has not got"),
    (_reaped_before_all_have_settled, "a tombstone is reaped while older writes are under way"),
    (_reaped_in_spite_of_hints, "a tombstone is reaped while somebody holds what it covers"),
    (_reaped_whatever_it_is, "what is there by then is dropped in a tombstone's place"),
    (_trees_miss_what_is_written_beside, "trees are not told of records written in a batch"),
    (_trees_miss_what_is_dropped, "trees are not told of what is reaped"),
    (_trees_miss_half_of_the_writes, "trees are not told of new records"),
    (_kept_trees_are_believed_after_a_crash, "trees of an earlier start are believed"),
    (_exchange_leaves_siblings_apart, "an exchange leaves two siblings where they are"),
    (_exchange_brings_nothing_to_who_has_none, "an exchange brings no key to who has none of it"),
    (_expired_body_comes_back, "the body of an expired value comes back with a merge"),
    (_disk_that_went_back_is_believed, "what a disk had when it went back is merged with the rest"),
)
