"""Random histories on a little cluster: no seed breaks a promise, and each planted bug does.

Every seed is a run of clients and faults under virtual time (`history_run`), judged by what clients
did and saw (`causal_history`). The bugs that are planted show that the checks can fail.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import pytest
from history_run import incarnation_of, run_seed
from hostile_run import run_hostile_seed

import dynamo.coordinator
import dynamo.quorum
import dynamo.record
import dynamo.replica
import dynamo.write_operation
from dynamo.commit import GroupCommit
from dynamo.errors import DynamoError, StorageCorrupt, Unavailable
from dynamo.ports import Call, Failure, Write
from dynamo.quorum import ReadTally, WriteTally
from dynamo.read_operation import ReadOperation
from dynamo.record import Record, Sibling
from dynamo.refill import Refill
from dynamo.replica import SYNCED, Partition, RefillMark, Replica
from dynamo.rpc.messages import Fetch, Store
from dynamo.stored import Stored
from dynamo.version import Birth, Vector
from dynamo.write_operation import WriteOperation

SEEDS = 300
HOSTILE_SEEDS = 120
Plant = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def _quiet() -> Iterable[None]:
    """Faults are logged by the hundred here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("first", range(0, SEEDS, 50))
def test_no_history_breaks_a_promise(first: int) -> None:
    broken = {seed: run_seed(seed)[:3] for seed in range(first, first + 50)}
    assert {seed: problems for seed, problems in broken.items() if problems} == {}


@pytest.mark.parametrize("first", range(0, HOSTILE_SEEDS, 40))
def test_no_hostile_history_breaks_a_promise(first: int) -> None:
    broken = {seed: run_hostile_seed(seed)[:3] for seed in range(first, first + 40)}
    assert {seed: problems for seed, problems in broken.items() if problems} == {}


@pytest.mark.parametrize(
    ("seed", "what_was_wrong"),
    [
        (106, "a damaged record was mended without the primary that alone had its last write"),
        (394, "the same"),
        (522, "a delete counted as done because of a tombstone at one replica"),
        (593, "the same"),
        (1276, "a sync whose mint was lost on the way left the client waiting"),
    ],
)
def test_seeds_that_failed_once(seed: int, what_was_wrong: str) -> None:
    assert run_seed(seed) == [], what_was_wrong


# Planted bugs -----------------------------------------------------------------------------------


def ack_before_sync(patch: pytest.MonkeyPatch) -> None:
    def reply(self: Replica, number: int, storage_key: bytes, call: Call) -> None:
        def synced(error: DynamoError | None) -> None:
            self._unsynced.pop(storage_key, None)

        call.reply(SYNCED)
        self._commit.when_synced(number, synced)

    patch.setattr(Replica, "_reply_synced", reply)


def answer_before_sync(patch: pytest.MonkeyPatch) -> None:
    on_fetch = Replica.on_fetch

    def fetch(self: Replica, message: Fetch, call: Call) -> None:
        unsynced, self._unsynced = self._unsynced, {}
        on_fetch(self, message, call)
        self._unsynced = unsynced

    patch.setattr(Replica, "on_fetch", fetch)


def one_ack_too_few(patch: pytest.MonkeyPatch) -> None:
    init = WriteTally.__init__

    def fewer(self: WriteTally, nodes: int, *, w: int, pw: int, node_confirms: int) -> None:
        init(self, nodes, w=max(1, w - 1), pw=max(0, pw - 1), node_confirms=node_confirms - 1)

    patch.setattr(WriteTally, "__init__", fewer)


def merge_drops_a_sibling(patch: pytest.MonkeyPatch) -> None:
    merge = dynamo.record.merge

    def dropping(left: Record, right: Record) -> Record:
        merged = merge(left, right)
        if merged is left or len(merged.siblings) < 3:
            return merged
        return Record(merged.format, merged.vector, merged.siblings[1:])

    for module in (dynamo.replica, dynamo.quorum):
        patch.setattr(module, "merge", dropping)


def digest_counts_without_its_body(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ReadTally, "wanting", lambda self: [])


def repair_with_an_older_record(patch: pytest.MonkeyPatch) -> None:
    store_of = ReadOperation.store_of

    def older(self: ReadOperation, record: Record) -> Store:
        if len(record.siblings) > 1:
            first, *_ = record.siblings
            vector = ((first.birth, first.counter),)
            record = Record(record.format, vector, (first,))
        return store_of(self, record)

    patch.setattr(ReadOperation, "store_of", older)


def minted_again_after_no_answer(patch: pytest.MonkeyPatch) -> None:
    def on_failure(self: WriteOperation, node: str, failure: Failure) -> None:
        self._failed(node, failure.reason, definite=True)

    patch.setattr(WriteOperation, "on_failure", on_failure)


def unknown_is_called_none(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(WriteOperation, "_not_enough", lambda self: Unavailable("nothing was written"))


def refilling_counts(patch: pytest.MonkeyPatch) -> None:
    on_fetch = Replica.on_fetch

    def fetch(self: Replica, message: Fetch, call: Call) -> None:
        marks, self.refilling = self.refilling, {}
        on_fetch(self, message, call)
        self.refilling = marks

    patch.setattr(Replica, "on_fetch", fetch)


def refilled_after_one_peer(patch: pytest.MonkeyPatch) -> None:
    mark_refill = Replica.mark_refill

    def early(self: Replica, marks: Iterable[tuple[Partition, RefillMark]]) -> int:
        changed = []
        for place, mark in marks:
            before = self.refilling.get(place)
            if before is not None and mark.owed != before.owed:
                mark = RefillMark((), serving=True)
            changed.append((place, mark))
        return mark_refill(self, changed)

    patch.setattr(Replica, "mark_refill", early)


def blocking_repair_needs_one_less(patch: pytest.MonkeyPatch) -> None:
    init = ReadOperation.__init__

    def fewer(self: ReadOperation, *, holders_needed: int, **named: object) -> None:
        init(self, holders_needed=max(0, holders_needed - 1), **named)  # type: ignore[arg-type]

    patch.setattr(ReadOperation, "__init__", fewer)


def damaged_is_absent(patch: pytest.MonkeyPatch) -> None:
    load = Replica._load

    def absent(self: Replica, storage_key: bytes) -> Stored | None:
        try:
            return load(self, storage_key)
        except StorageCorrupt:
            self.damaged.discard(storage_key)
            return None

    patch.setattr(Replica, "_load", absent)


def mended_without_who_is_down(patch: pytest.MonkeyPatch) -> None:
    others = Refill._others

    def up(self: Refill, cls: int, partition: int) -> tuple[str, ...]:
        return tuple(filter(self._is_up, others(self, cls, partition)))

    patch.setattr(Refill, "_others", up)


def blind_write_covers_everything(patch: pytest.MonkeyPatch) -> None:
    mint = dynamo.record.mint

    def covering(record: Record, context: Vector, *, birth: Birth, **named: object) -> Record:
        return mint(record, context or record.vector, birth=birth, **named)  # type: ignore[arg-type]

    patch.setattr(dynamo.replica, "mint", covering)


def context_covers_nothing(patch: pytest.MonkeyPatch) -> None:
    mint = dynamo.record.mint

    def deaf(record: Record, context: Vector, *, birth: Birth, **named: object) -> Record:
        return mint(record, (), birth=birth, **named)  # type: ignore[arg-type]

    patch.setattr(dynamo.replica, "mint", deaf)


def tombstones_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    put = Replica._put

    def forgetting(
        self: Replica, storage_key: bytes, birth: bytes, counter: int, encoded: bytes, reserve: bool
    ) -> int:
        number = put(self, storage_key, birth, counter, encoded, reserve)
        siblings: tuple[Sibling, ...] = dynamo.record.read_record(encoded).siblings
        if all(sibling.kind == dynamo.record.TOMBSTONE for sibling in siblings):
            self._storage.write((Write("records", storage_key, None),))
        return number

    patch.setattr(Replica, "_put", forgetting)


def reopened_under_the_same_incarnation(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Replica, "renew_incarnation", lambda self, incarnation: None)


def nobody_looks_at_the_clock(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ReadOperation, "_expired", lambda self: None)
    patch.setattr(WriteOperation, "_expired", lambda self: None)
    patch.setattr(ReadOperation, "on_failure", lambda self, node, failure: None)
    patch.setattr(WriteOperation, "on_failure", lambda self, node, failure: None)


def sync_of_later_writes_is_assumed(patch: pytest.MonkeyPatch) -> None:
    tell = GroupCommit._tell

    def everyone(self: GroupCommit, number: int | None, error: object) -> None:
        tell(self, None, error)  # type: ignore[arg-type]

    patch.setattr(GroupCommit, "_tell", everyone)


PLANTED: tuple[Plant, ...] = (
    ack_before_sync,
    answer_before_sync,
    sync_of_later_writes_is_assumed,
    one_ack_too_few,
    merge_drops_a_sibling,
    digest_counts_without_its_body,
    repair_with_an_older_record,
    minted_again_after_no_answer,
    unknown_is_called_none,
    refilling_counts,
    refilled_after_one_peer,
    blocking_repair_needs_one_less,
    damaged_is_absent,
    mended_without_who_is_down,
    blind_write_covers_everything,
    context_covers_nothing,
    tombstones_are_forgotten,
    reopened_under_the_same_incarnation,
    nobody_looks_at_the_clock,
)


#: Where to look first, for those that few seeds show; the others come after.
FIRST: dict[Plant, int] = {
    refilling_counts: 150,
    refilled_after_one_peer: 87,
    blocking_repair_needs_one_less: 37,
    damaged_is_absent: 106,
    mended_without_who_is_down: 55,
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    assert is_found(first=FIRST.get(plant, 0))


def condition_is_not_judged_by_the_minter(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dynamo.replica, "holds", lambda condition, record, now_ms: True)


def deleted_anywhere_is_deleted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dynamo.coordinator, "_acks_needed", lambda options, n: 0)


def a_value_that_is_known_is_not_found(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ReadTally, "not_found", property(lambda self: not self._notfound_ok))


@pytest.mark.parametrize(
    ("plant", "first"),
    [
        (condition_is_not_judged_by_the_minter, 100),
        (deleted_anywhere_is_deleted, 100),
        (a_value_that_is_known_is_not_found, 0),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_planted_bug_is_found_by_a_hostile_history(
    plant: Plant, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    seeds = (*range(first, HOSTILE_SEEDS), *range(first))
    assert any(run_hostile_seed(seed) for seed in seeds)


@pytest.mark.parametrize(
    "incarnation",
    [lambda node, start: incarnation_of(node, 1), lambda node, start: incarnation_of("x", start)],
    ids=["a start that repeats", "two nodes of one incarnation"],
)
def test_an_incarnation_that_is_used_twice_is_found(
    incarnation: Callable[[str, int], bytes],
) -> None:
    assert is_found(incarnation)


def is_found(incarnation: Callable[[str, int], bytes] = incarnation_of, first: int = 0) -> bool:
    """True if one of the seeds shows a problem."""
    seeds = (*range(first, SEEDS), *range(first))
    return any(run_seed(seed, incarnation=incarnation) for seed in seeds)
