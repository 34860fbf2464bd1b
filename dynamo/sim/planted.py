"""Bugs that the simulator must find: each is planted by patching the product while a run lasts.

The switches are here and nowhere else; the product does not know of them. A simulator that cannot find
these has no right to be believed when it finds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import msgspec

import dynamo.answers
import dynamo.commit
import dynamo.context
import dynamo.coordinator
import dynamo.last_write
import dynamo.own_records
import dynamo.read_tally
import dynamo.record
import dynamo.refill
import dynamo.replica
import dynamo.replica_reads
import dynamo.resolve
import dynamo.rpc.frame
import dynamo.services
import dynamo.stored
import dynamo.write_operation
from dynamo.backlog import Backlog
from dynamo.cluster.topology import Known
from dynamo.commit import GroupCommit
from dynamo.context import ContextSealer
from dynamo.datadir import DataDirectory
from dynamo.errors import (
    BadContext,
    DynamoError,
    Malformed,
    StorageCorrupt,
    StorageError,
    StorageRefusesWrites,
    Unavailable,
)
from dynamo.hybrid_clock import HybridClock, stamp_at
from dynamo.keys import PREFIX_BYTES
from dynamo.merging import Merging
from dynamo.own_records import SYNCED, OwnRecords
from dynamo.ports import Call, Failure, Write
from dynamo.read_operation import ReadOperation
from dynamo.read_repair import BlockingRepair
from dynamo.read_tally import ReadTally
from dynamo.record import Record, Sibling
from dynamo.recovery import Recovery
from dynamo.refill import Refill
from dynamo.refill_marks import Partition, RefillMark, RefillMarks
from dynamo.refusing import DAMAGED, Refusing
from dynamo.replica import Replica
from dynamo.replica_reads import ReplicaReads
from dynamo.requests import ReadOptions, WriteOptions
from dynamo.resolve import View, holds, rank, view
from dynamo.rpc.messages import Condition, Fetch, Minted, Page, Refused, Reply, Scan, Store
from dynamo.rpc.pending import Pending
from dynamo.seen import Seen
from dynamo.sim.disk import Disk
from dynamo.sim.patches import Patches, Plant
from dynamo.sim.planted_hints import HINT_BUGS
from dynamo.sim.planted_set_back import SET_BACK_BUGS
from dynamo.sim.planted_trees import UPKEEP_BUGS
from dynamo.sim.storage import SimStorage
from dynamo.stored import Stored
from dynamo.version import Birth, Vector, decode_vector, incarnation_bytes
from dynamo.write_operation import WriteOperation
from dynamo.write_tally import WriteTally


class Bug(NamedTuple):
    """`what` is wrong, in a line; `plant` puts it in."""

    name: str
    what: str
    plant: Plant


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The product has this bug meanwhile. Raises KeyError for a name that is none."""
    patches = Patches()
    try:
        PLANTED[name].plant(patches)
        yield
    finally:
        patches.undo()


# Durability ---------------------------------------------------------------------------------------


def _ack_before_sync(patch: Patches) -> None:
    def reply(self: OwnRecords, number: int, storage_key: bytes, call: Call) -> None:
        def synced(error: DynamoError | None) -> None:
            self.unsynced.pop(storage_key, None)

        call.reply(SYNCED)
        self._commit.when_synced(number, synced)

    patch.set(OwnRecords, "reply_synced", reply)


def _unsynced_record_is_shown(patch: Patches) -> None:
    on_fetch = ReplicaReads.on_fetch

    def fetch(self: ReplicaReads, message: Fetch, call: Call) -> None:
        replica = self._replica
        unsynced, replica.unsynced = replica.unsynced, {}
        on_fetch(self, message, call)
        replica.unsynced = unsynced

    patch.set(ReplicaReads, "on_fetch", fetch)


def _sync_serves_later_writes(patch: Patches) -> None:
    tell = GroupCommit._tell

    def everyone(self: GroupCommit, number: int | None, error: DynamoError | None) -> None:
        tell(self, None, error)

    patch.set(GroupCommit, "_tell", everyone)


def _sync_is_tried_again(patch: Patches) -> None:
    def stop(self: SimStorage, reason: str, cause: str) -> None:
        if reason != "sync_failed":
            self._stopped, self._cause = reason, cause

    patch.set(SimStorage, "_stop", stop)


def _w_minus_one_acks(patch: Patches) -> None:
    init = WriteTally.__init__

    def fewer(self: WriteTally, nodes: int, *, w: int, pw: int, node_confirms: int) -> None:
        init(self, nodes, w=max(1, w - 1), pw=max(0, pw - 1), node_confirms=node_confirms - 1)

    patch.set(WriteTally, "__init__", fewer)


def _unknown_is_called_none(patch: Patches) -> None:
    def not_enough(self: WriteOperation) -> DynamoError:
        return Unavailable("nothing was written")

    patch.set(WriteOperation, "_not_enough", not_enough)


def _full_disk_takes_mints(patch: Patches) -> None:
    """The write is there, and the client is told that it is not."""
    put = SimStorage.put

    def writing(
        self: SimStorage, family: Any, key: bytes, value: bytes, *, reserve: bool = False
    ) -> int:
        is_full = self.refusal(reserve=reserve) == "disk_full" and not self._stuck
        return put(self, family, key, value, reserve=reserve or is_full)

    def refusal(self: Replica, *args: Any) -> Any:
        refused = before(self, *args)
        vars(self)["_planted_refusal"] = None
        if refused is not None and refused.code == "disk_full" and not args[4]:
            vars(self)["_planted_refusal"] = refused
            return None
        return refused

    def reply_synced(self: OwnRecords, number: int, storage_key: bytes, call: Call) -> None:
        refused = vars(self).get("_planted_refusal")
        if refused is not None:
            self.unsynced.pop(storage_key, None)
            call.reply(refused)
            return
        answer(self, number, storage_key, call)

    before, answer = Replica._refusal, OwnRecords.reply_synced
    on_mint = Replica.on_mint

    def mint(self: Replica, message: Any, call: Call) -> None:
        on_mint(self, message, _Deaf(call, self))

    patch.set(Replica, "_refusal", refusal)
    patch.set(OwnRecords, "reply_synced", reply_synced)
    patch.set(Replica, "on_mint", mint)
    patch.set(SimStorage, "put", writing)


class _Deaf:
    """A call that is not told of a mint which was to be refused."""

    def __init__(self, call: Call, replica: Replica) -> None:
        self._call = call
        self._replica = replica
        self.peer = call.peer
        self.deadline = call.deadline

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        """Pass it on, unless it is the record of such a mint."""
        if type(reply) is Minted and vars(self._replica).get("_planted_refusal") is not None:
            return
        self._call.reply(reply, last=last)


# Dots ---------------------------------------------------------------------------------------------


def _counter_restarts_after_a_crash(patch: Patches) -> None:
    """A start mints under the incarnation of the start before."""
    raise_start = DataDirectory.raise_start

    def once(self: DataDirectory, above: int) -> None:
        if self._identity.start == 0 or above > self._identity.start:
            raise_start(self, above)

    patch.set(DataDirectory, "raise_start", once)


def _counter_restarts_after_a_dropped_record(patch: Patches) -> None:
    """The birth of a key outlives its record, whose counter does not."""
    on_mint, next_dot = Replica.on_mint, Merging._next_dot

    def mint(self: Replica, message: Any, call: Call) -> None:
        vars(self)["_planted_key"] = message.key
        on_mint(self, message, call)

    def dot(self: Merging, stored: Stored | None) -> tuple[bytes, int]:
        births: dict[tuple[bytes, bytes], bytes] = vars(self).setdefault("_planted_births", {})
        birth, counter = next_dot(self, stored)
        if stored is None:
            birth = births.setdefault((self._incarnation, vars(self)["_planted_key"]), birth)
        return birth, counter

    patch.set(Replica, "on_mint", mint)
    patch.set(Merging, "_next_dot", dot)


def _counter_restarts_after_a_restored_image(patch: Patches) -> None:
    """The incarnation of a start comes from what is on disk alone, and nobody knows better."""
    raise_start = DataDirectory.raise_start

    def known(self: DataDirectory, above: int) -> None:
        self._entropy = lambda size: self._identity.node_id.encode().rjust(size, b"\0")
        raise_start(self, above)

    patch.set(DataDirectory, "raise_start", known)
    patch.set(Known, "lacks", lambda self, other: False)


def _reopened_under_the_same_incarnation(patch: Patches) -> None:
    patch.set(Merging, "renew_incarnation", lambda self, incarnation: None)


def _two_nodes_of_one_incarnation(patch: Patches) -> None:
    def same(start: int, random: bytes) -> bytes:
        return incarnation_bytes(start, b"the same")

    patch.set(dynamo.services, "incarnation_bytes", same)


def _mint_repeated_elsewhere(patch: Patches) -> None:
    """No answer is taken for a sign that nothing happened."""

    def on_failure(self: WriteOperation, node: str, failure: Failure) -> None:
        self._failed(node, failure.reason, definite=True)

    patch.set(WriteOperation, "on_failure", on_failure)


# Merge and causality --------------------------------------------------------------------------------


def _patch_merge(patch: Patches, other: Callable[[Record, Record], Record]) -> None:
    for module in (dynamo.merging, dynamo.read_tally):
        patch.set(module, "merge", other)


def _last_write_merge(patch: Patches) -> None:
    merge = dynamo.record.merge

    def newest(left: Record, right: Record) -> Record:
        merged = merge(left, right)
        if len(merged.siblings) < 2:
            return merged
        last = max(merged.siblings, key=lambda one: (one.written_ms, one.dot))
        return Record(merged.format, merged.vector, (last,))

    _patch_merge(patch, newest)


def _sibling_lost_in_merge(patch: Patches) -> None:
    merge = dynamo.record.merge

    def dropping(left: Record, right: Record) -> Record:
        merged = merge(left, right)
        if merged is left or len(merged.siblings) < 3:
            return merged
        return Record(merged.format, merged.vector, merged.siblings[1:])

    _patch_merge(patch, dropping)


def _repair_with_an_older_record(patch: Patches) -> None:
    store_of = ReadOperation.store_of

    def older(self: ReadOperation, record: Record) -> Store:
        if len(record.siblings) > 1:
            first, *_ = record.siblings
            vector = ((first.birth, first.counter),)
            record = Record(record.format, vector, (first,))
        return store_of(self, record)

    patch.set(ReadOperation, "store_of", older)


def _blind_write_covers_everything(patch: Patches) -> None:
    mint = dynamo.record.mint

    def covering(record: Record, context: Vector, *, birth: Birth, **named: Any) -> Record:
        return mint(record, context or record.vector, birth=birth, **named)

    patch.set(dynamo.merging, "mint", covering)


def _context_covers_nothing(patch: Patches) -> None:
    mint = dynamo.record.mint

    def deaf(record: Record, context: Vector, *, birth: Birth, **named: Any) -> Record:
        return mint(record, (), birth=birth, **named)

    patch.set(dynamo.merging, "mint", deaf)


def _context_of_another_key_accepted(patch: Patches) -> None:
    def trusting(self: ContextSealer, routing_key: bytes, token: bytes) -> Vector:
        try:
            return decode_vector(token[dynamo.context._HEAD_BYTES :])
        except Malformed as error:
            raise BadContext("no vector") from error

    patch.set(ContextSealer, "open", trusting)


def _own_context_is_refused(patch: Patches) -> None:
    open_ = ContextSealer.open

    def wary(self: ContextSealer, routing_key: bytes, token: bytes) -> Vector:
        vector = open_(self, routing_key, token)
        if len(vector) > 1:
            raise BadContext("more than one birth")
        return vector

    patch.set(ContextSealer, "open", wary)


def _tombstones_are_forgotten(patch: Patches) -> None:
    put = OwnRecords.put

    def forgetting(
        self: OwnRecords,
        storage_key: bytes,
        before: Stored | None,
        birth: bytes,
        counter: int,
        record: Record,
        encoded: bytes,
        reserve: bool,
    ) -> int:
        number = put(self, storage_key, before, birth, counter, record, encoded, reserve)
        if all(sibling.kind == dynamo.record.TOMBSTONE for sibling in record.siblings):
            self._storage.write((Write("records", storage_key, None),))
            self.forest.doubt(storage_key[:PREFIX_BYTES])
        return number

    patch.set(OwnRecords, "put", forgetting)


def _tombstone_is_shown(patch: Patches) -> None:
    patch.set(Sibling, "is_live", lambda self, now_ms: not 0 < self.expires_ms <= now_ms)


def _what_has_expired_is_shown(patch: Patches) -> None:
    patch.set(Sibling, "is_live", lambda self, now_ms: self.kind == dynamo.record.VALUE)


def _failed_write_had_no_effect(patch: Patches) -> None:
    """What an engine did of a write that failed is unknown, and is said to be nothing."""
    refuse_error = Refusing.refuse_error

    def sure(self: Refusing, call: Call, error: DynamoError) -> None:
        if type(error) is StorageError:
            error = StorageRefusesWrites(error.message, reason="storage_error")
        refuse_error(self, call, error)

    patch.set(Refusing, "refuse_error", sure)


def _newest_sibling_is_shown_alone(patch: Patches) -> None:
    """The wall clock decides between concurrent writes."""

    def newest(record: Record, now_ms: int, lww: bool = False) -> View:
        seen = view(record, now_ms, lww)  # the product's, as this module has it
        return View(seen.siblings[-1:], seen.deleted)

    patch.set(dynamo.answers, "view", newest)


# Reads --------------------------------------------------------------------------------------------


def _digest_counts_without_its_body(patch: Patches) -> None:
    patch.set(ReadTally, "wanting", lambda self: [])


def _blocking_repair_needs_one_less(patch: Patches) -> None:
    init = ReadOperation.__init__

    def fewer(self: ReadOperation, *, holders_needed: int, **named: Any) -> None:
        init(self, holders_needed=max(0, holders_needed - 1), **named)

    patch.set(ReadOperation, "__init__", fewer)


def _blocking_repair_is_never_sent(patch: Patches) -> None:
    patch.set(BlockingRepair, "start", lambda self: None)


def _known_value_is_not_found(patch: Patches) -> None:
    patch.set(ReadTally, "not_found", property(lambda self: not self._notfound_ok))


def _deleted_anywhere_is_deleted(patch: Patches) -> None:
    patch.set(dynamo.coordinator, "_acks_needed", lambda options, n: 0)


def _read_before_a_delete_asks_one(patch: Patches) -> None:
    """So it is said that there is nothing to delete where a quorum has something."""

    def of_one(options: WriteOptions, timeout_ms: int) -> ReadOptions:
        return ReadOptions(r=1, timeout_ms=timeout_ms)

    patch.set(dynamo.coordinator, "_read_of", of_one)


def _minter_judges_no_condition(patch: Patches) -> None:
    patch.set(dynamo.merging, "holds", lambda *given: True)


def _what_is_there_meets_no_condition(patch: Patches) -> None:
    """A condition that names what is there is taken not to hold."""

    def never(condition: Condition, record: Record, now_ms: int, lww: bool = False) -> bool:
        return not condition.if_match and holds(condition, record, now_ms, lww)

    patch.set(dynamo.coordinator, "holds", never)


def _who_refuses_a_mint_ends_the_write(patch: Patches) -> None:
    on_refused = WriteOperation._on_refused

    def ended(self: WriteOperation, node: str, refused: Refused) -> None:
        if self._minted is None and refused.code == "disk_full":
            self._failed(node, refused.code, definite=False)
            return
        on_refused(self, node, refused)

    patch.set(WriteOperation, "_on_refused", ended)


def _deletes_are_always_made(patch: Patches) -> None:
    patch.set(ReadOperation, "holders", property(lambda self: 0))


def _busy_storage_is_no_answer(patch: Patches) -> None:
    def silent(self: Replica, *args: Any) -> None:
        """Who asked waits for nothing."""

    patch.set(Replica, "_put_off_or_refuse", silent)


def _absent_is_damaged(patch: Patches) -> None:
    """A key that was never written cannot be read."""
    on_fetch = ReplicaReads.on_fetch

    def fetch(self: ReplicaReads, message: Fetch, call: Call) -> None:
        prefix = self._replica.prefixes.get((message.cls, message.partition))
        if prefix is not None and self._storage.get("records", prefix + message.key) is None:
            self._refusing.refuse(call, DAMAGED)
            return
        on_fetch(self, message, call)

    patch.set(ReplicaReads, "on_fetch", fetch)


def _put_off_write_is_lost(patch: Patches) -> None:
    """A write that met a busy storage twice is forgotten."""
    wait = Backlog.wait

    def once(
        self: Backlog, handler: Any, message: Any, call: Call, size: int, **named: Any
    ) -> bool:
        waits = wait(self, handler, message, call, size, **named)
        if waits and self._retrying:
            self._waiting.popleft()
        return waits

    patch.set(Backlog, "wait", once)


def _full_disk_takes_no_delete(patch: Patches) -> None:
    def never(self: SimStorage, *, reserve: bool = False) -> str | None:
        return refusal(self)

    refusal = SimStorage.refusal
    patch.set(SimStorage, "refusal", never)


def _nobody_looks_at_the_clock(patch: Patches) -> None:
    patch.set(ReadOperation, "_expired", lambda self: None)
    patch.set(WriteOperation, "_expired", lambda self: None)
    patch.set(ReadOperation, "on_failure", lambda self, node, failure: None)
    patch.set(WriteOperation, "on_failure", lambda self, node, failure: None)


# Disks that lost something ------------------------------------------------------------------------


def _corrupt_record_served(patch: Patches) -> None:
    decode = dynamo.stored.decode_stored

    def trusting(storage_key: bytes, data: bytes) -> Stored:
        try:
            return decode(storage_key, data)
        except StorageCorrupt:
            counter, birth_bytes_, record_bytes = dynamo.stored._LENGTHS.unpack_from(
                data, dynamo.stored.HEAD.size
            )
            at = dynamo.stored._BIRTH_AT + birth_bytes_
            if len(data) != at + record_bytes:
                raise
            return Stored(data[dynamo.stored._BIRTH_AT : at], counter, data[at:])

    for module in (dynamo.own_records, dynamo.replica_reads):
        patch.set(module, "decode_stored", trusting)


def _damaged_is_absent(patch: Patches) -> None:
    look = OwnRecords.look

    def absent(self: OwnRecords, storage_key: bytes) -> Seen | None:
        try:
            return look(self, storage_key)
        except StorageCorrupt:
            self.damaged.discard(storage_key)
            return None

    patch.set(OwnRecords, "look", absent)


def _mended_without_who_is_down(patch: Patches) -> None:
    others = Refill._others

    def up(self: Refill, cls: int, partition: int) -> tuple[str, ...]:
        return tuple(filter(self._is_up, others(self, cls, partition)))

    patch.set(Refill, "_others", up)


def _refilling_counts(patch: Patches) -> None:
    on_fetch = ReplicaReads.on_fetch

    def fetch(self: ReplicaReads, message: Fetch, call: Call) -> None:
        replica = self._replica
        marks, replica.refilling = replica.refilling, {}
        on_fetch(self, message, call)
        replica.refilling = marks

    patch.set(ReplicaReads, "on_fetch", fetch)


def _refilled_after_one_peer(patch: Patches) -> None:
    mark_refill = RefillMarks.mark_refill

    def early(self: RefillMarks, marks: Iterable[tuple[Partition, RefillMark]]) -> int:
        changed = []
        for place, mark in marks:
            before = self.refilling.get(place)
            if before is not None and mark.owed != before.owed:
                mark = RefillMark((), serving=True)
            changed.append((place, mark))
        return mark_refill(self, changed)

    patch.set(RefillMarks, "mark_refill", early)


def _refill_ends_with_the_first_page(patch: Patches) -> None:
    on_scan = ReplicaReads.on_scan

    def scan(self: ReplicaReads, message: Scan, call: Call) -> None:
        on_scan(self, message, _OnePage(call))

    patch.set(ReplicaReads, "on_scan", scan)


class _OnePage:
    """A call for a page that says that there is no other."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.peer = call.peer
        self.deadline = call.deadline

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        """Pass it on."""
        if type(reply) is Page:
            reply = msgspec.structs.replace(reply, more=False)
        self._call.reply(reply, last=last)


def _refill_marks_are_forgotten(patch: Patches) -> None:
    """A start does not know what the start before was reading back."""
    patch.set(RefillMarks, "_load_marks", lambda self: None)


def _quarantine_is_forgotten(patch: Patches) -> None:
    """A start does not know which records were put aside."""
    read_marks = RefillMarks._read_marks

    def refilling_alone(self: RefillMarks) -> None:
        read_marks(self)
        self.damaged.clear()

    patch.set(RefillMarks, "_read_marks", refilling_alone)


def _refill_ignores_refused_stores(patch: Patches) -> None:
    store = Refill._store

    async def stored(self: Refill, place: Partition, entries: Any) -> bool:
        await store(self, place, entries)
        return True

    patch.set(Refill, "_store", stored)


def _peer_that_is_away_is_not_waited_for(patch: Patches) -> None:
    patch.set(dynamo.refill, "PATIENCE", 0.0)


def _rebuilt_database_counts_as_whole(patch: Patches) -> None:
    patch.set(Recovery, "_recovered", Recovery.renew_incarnation)


def _emptied_disk_goes_unnoticed(patch: Patches) -> None:
    patch.set(Known, "lacks", lambda self, other: False)


def _lost_log_goes_unnoticed(patch: Patches) -> None:
    def nothing(self: Disk, state: object, why: str, synced_number: int) -> None:
        """Whoever opens it sees nothing wrong."""

    patch.set(Disk, "found", nothing)
    patch.set(Known, "lacks", lambda self, other: False)


# Where the last write wins --------------------------------------------------------------------------


def _stamp_is_the_wall_clock(patch: Patches) -> None:
    """The minter does not go above what it holds."""

    def wall(self: HybridClock, wall_ms: int, above: int) -> int | None:
        return stamp_at(wall_ms)

    patch.set(HybridClock, "next", wall)


def _hidden_write_counts(patch: Patches) -> None:
    """A replica acknowledges a write though it holds one with a higher stamp."""
    patch.set(dynamo.merging, "refused_older", lambda write, merged: None)


def _clock_does_not_adopt(patch: Patches) -> None:
    patch.set(HybridClock, "adopt", lambda self, stamp, wall_ms: True)


def _minter_is_not_told(patch: Patches) -> None:
    patch.set(WriteOperation, "_tell_minter", lambda self, older: None)


def _stamps_of_the_future_are_taken(patch: Patches) -> None:
    patch.set(dynamo.last_write, "AHEAD_MS_MAX", 1 << 50)


def _repair_is_refused_for_its_stamp(patch: Patches) -> None:
    look = Merging._look_at_stamps

    def strict(self: Merging, incoming: Record, *, is_write: bool) -> Refused | None:
        return look(self, incoming, is_write=True)

    patch.set(Merging, "_look_at_stamps", strict)


def _context_has_no_stamp(patch: Patches) -> None:
    """A minter that has nothing of a key stamps below what its client has seen."""
    patch.set(dynamo.coordinator, "stamp_of", lambda token: 0)


def _last_write_covers_its_context_alone(patch: Patches) -> None:
    patch.set(dynamo.merging, "join", lambda vector, other: vector)


def _first_write_is_shown(patch: Patches) -> None:
    def lowest(siblings: Sequence[Sibling]) -> Sibling:
        return min(siblings, key=rank)

    patch.set(dynamo.resolve, "newest", lowest)


# Wire ---------------------------------------------------------------------------------------------


def _frames_are_not_checked(patch: Patches) -> None:
    """Neither the checksum of a frame nor its running number."""
    header = dynamo.rpc.frame._HEADER

    class Header:
        """Reads a header whose number and checksum are as they should be."""

        size = header.size
        pack = header.pack

        @staticmethod
        def unpack_from(data: bytes, at: int) -> tuple[int, int, int, int]:
            length, checksum, number, stamps = header.unpack_from(data, at)
            return length, _Any(checksum), _Any(number), stamps

    patch.set(dynamo.rpc.frame, "_HEADER", Header)


def _what_was_sent_counts_as_unsent(patch: Patches) -> None:
    """A node that stops says of its requests on their way that they never left."""
    close = Pending.close

    def forgetful(self: Pending, failure: Failure) -> None:
        if "stopping" in failure.reason:
            failure = Failure("not_sent", failure.reason)
        close(self, failure)

    patch.set(Pending, "close", forgetful)


class _Any(int):
    """A number that differs from none."""

    def __ne__(self, other: object) -> bool:
        return False

    __eq__ = int.__eq__
    __hash__ = int.__hash__


_BUGS: Final[tuple[tuple[Plant, str], ...]] = (
    (_ack_before_sync, "an acknowledgement leaves before the sync"),
    (_unsynced_record_is_shown, "a read shows a record that is not synced"),
    (_sync_serves_later_writes, "a sync is taken to cover writes made after it began"),
    (_sync_is_tried_again, "writing goes on after a failed sync"),
    (_w_minus_one_acks, "w - 1 acknowledgements are enough"),
    (_unknown_is_called_none, "a write that missed w is said to have had no effect"),
    (_full_disk_takes_mints, "a write refused for lack of space is there all the same"),
    (_counter_restarts_after_a_crash, "a start goes on under the incarnation before it"),
    (_counter_restarts_after_a_dropped_record, "a birth outlives its record"),
    (_counter_restarts_after_a_restored_image, "an old disk repeats its starts"),
    (_reopened_under_the_same_incarnation, "lost writes' dots are given again"),
    (_two_nodes_of_one_incarnation, "two nodes mint under one incarnation"),
    (_mint_repeated_elsewhere, "a mint without an answer is made again elsewhere"),
    (_last_write_merge, "the newest sibling wins a merge"),
    (_sibling_lost_in_merge, "a merge drops one of three siblings"),
    (_repair_with_an_older_record, "a repair sends one of the siblings"),
    (_blind_write_covers_everything, "a write without a context covers all there is"),
    (_context_covers_nothing, "a context removes no sibling"),
    (_context_of_another_key_accepted, "a context of another key is believed"),
    (_own_context_is_refused, "a context of this key is refused"),
    (_tombstones_are_forgotten, "a tombstone is dropped at once"),
    (_tombstone_is_shown, "a tombstone is shown as a value"),
    (_what_has_expired_is_shown, "a value is shown after its time"),
    (_failed_write_had_no_effect, "a write that failed in the engine is made elsewhere"),
    (_newest_sibling_is_shown_alone, "a read shows the newest sibling alone"),
    (_digest_counts_without_its_body, "an answer counts whose siblings are not in hand"),
    (_blocking_repair_needs_one_less, "a blocking repair waits for one primary too few"),
    (_blocking_repair_is_never_sent, "a blocking repair waits for what nobody sent"),
    (_known_value_is_not_found, "a value in hand is said to be not found"),
    (_deleted_anywhere_is_deleted, "one replica's tombstone makes a delete needless"),
    (_read_before_a_delete_asks_one, "the read within a delete asks one replica"),
    (_minter_judges_no_condition, "the minter does not judge the condition"),
    (_what_is_there_meets_no_condition, "a condition that holds is said not to"),
    (_who_refuses_a_mint_ends_the_write, "a full disk ends writes that others could take"),
    (_deletes_are_always_made, "a delete of nothing is made all the same"),
    (_busy_storage_is_no_answer, "who meets a busy storage gets no answer"),
    (_absent_is_damaged, "a key that was never written cannot be read"),
    (_put_off_write_is_lost, "a write that waits for a busy storage is forgotten"),
    (_full_disk_takes_no_delete, "a full disk refuses deletes as well"),
    (_nobody_looks_at_the_clock, "operations have no end"),
    (_corrupt_record_served, "a record that fails its checksum is served"),
    (_damaged_is_absent, "a damaged record is taken for absent"),
    (_mended_without_who_is_down, "a damaged record is mended without who is down"),
    (_refilling_counts, "a partition that is being refilled answers reads"),
    (_refilled_after_one_peer, "a refill ends with the first peer"),
    (_refill_ends_with_the_first_page, "a refill reads one page of a partition"),
    (_quarantine_is_forgotten, "a start forgets which records were damaged"),
    (_refill_ignores_refused_stores, "a refill takes for stored what was refused"),
    (_refill_marks_are_forgotten, "a start forgets what was to be refilled"),
    (_peer_that_is_away_is_not_waited_for, "a refill does without who is down at once"),
    (_rebuilt_database_counts_as_whole, "a rebuilt database is not refilled"),
    (_emptied_disk_goes_unnoticed, "nobody notices that a node has less than it had"),
    (_lost_log_goes_unnoticed, "neither a node nor its peers notice that its log is cut off"),
    (_stamp_is_the_wall_clock, "a stamp is not above what the minter holds"),
    (_hidden_write_counts, "a replica acknowledges a write that it does not show"),
    (_clock_does_not_adopt, "a clock does not adopt the stamps that it sees"),
    (_minter_is_not_told, "a minter that was behind is not sent what it has missed"),
    (_stamps_of_the_future_are_taken, "a write that a clock far ahead has stamped counts"),
    (_repair_is_refused_for_its_stamp, "a repair is refused for its stamp"),
    (_context_has_no_stamp, "a write is stamped below what its client has seen"),
    (_last_write_covers_its_context_alone, "a last write leaves others beside it"),
    (_first_write_is_shown, "a read shows the first of several writes, not the last"),
    (_what_was_sent_counts_as_unsent, "who stops takes what it sent for unsent"),
    (_frames_are_not_checked, "frames are executed whatever their checksum"),
)

PLANTED: Final[Mapping[str, Bug]] = {
    plant.__name__[1:]: Bug(plant.__name__[1:], what, plant)
    for plant, what in (*_BUGS, *HINT_BUGS, *SET_BACK_BUGS, *UPKEEP_BUGS)
}
