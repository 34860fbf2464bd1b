"""Bugs of what nodes hold for others, and of who stands in for whom, that the simulator must find.

Each is planted as those of `dynamo.sim.planted`, which has them in its table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import dynamo.hint_store
from dynamo.errors import StorageCorrupt
from dynamo.handoff import Handoff
from dynamo.hint_account import HintAccount
from dynamo.hint_store import Hint, HintStore, Owed
from dynamo.keys import hint_prefix, partition_prefix
from dynamo.merging import Merging
from dynamo.own_records import OwnRecords
from dynamo.ports import Call, Failure, Write
from dynamo.quorum import State
from dynamo.read_tally import SloppyReadTally
from dynamo.rpc.messages import Delivered, Mint, Refused, Reply
from dynamo.sim.patches import Patches, Plant
from dynamo.stand_ins import DOWN
from dynamo.stored import (
    CREATED_BYTES,
    HEAD_BYTES,
    Stored,
    StoredHint,
    decode_hint,
    encode_hint,
)
from dynamo.write_operation import WriteOperation
from dynamo.write_tally import WriteTally

#: Where in a hint the birth is: behind its time and the head of what is stored (`dynamo.stored`).
_BIRTH_AT: Final = CREATED_BYTES + HEAD_BYTES
#: Keys of the records that a node owns begin with it: its replication class, which is the first.
_OWN_KEY: Final = b"\0\0"


# What leaves --------------------------------------------------------------------------------------


def _ack_of_an_older_record_removes_a_hint(patch: Patches) -> None:
    """Whatever was delivered, the hint that is there now goes."""
    settle = HintStore.settle

    def any_record(self: HintStore, delivered: Sequence[Hint]) -> int:
        now = []
        for hint in delivered:
            storage_key = partition_prefix(hint.cls, hint.partition) + hint.key
            hint_key = hint_prefix(hint.target) + storage_key
            data = self._storage.get("hints", hint_key)
            if data is None:
                continue
            record = self._owed_record(hint_key, decode_hint(hint_key, data).stored)
            now.append(hint._replace(record=record) if record is not None else hint)
        return settle(self, now)

    patch.set(HintStore, "settle", any_record)


def _hint_removed_before_its_ack(patch: Patches) -> None:
    page = HintStore.page

    def gone(self: HintStore, *given: Any, **named: Any) -> tuple[tuple[Hint, ...], bytes]:
        hints, after = page(self, *given, **named)
        self.settle(hints)
        return hints, after

    patch.set(HintStore, "page", gone)


def _failed_delivery_removes_hints(patch: Patches) -> None:
    answered = Handoff.answered

    def trusting(self: Handoff, batch: Any, answer: Reply | Failure) -> None:
        answered(self, batch, answer if isinstance(answer, Delivered) else Delivered())

    patch.set(Handoff, "answered", trusting)


def _delivery_that_is_refused_in_part_removes_all(patch: Patches) -> None:
    take = Handoff._take

    def all_of_it(self: Handoff, batch: Any, answer: Delivered, now: float) -> None:
        take(self, batch, Delivered((), answer.busy), now)

    patch.set(Handoff, "_take", all_of_it)


def _old_record_is_delivered(patch: Patches) -> None:
    """Of a key that this node owes its own record of, it sends the one that it had first."""
    owed_record, owe = HintStore._owed_record, HintStore.owe

    def owing(
        self: HintStore,
        storage_key: bytes,
        targets: Iterable[str],
        beside: Sequence[Write],
        reserve: bool,
    ) -> Owed:
        owed = owe(self, storage_key, tuple(targets), beside, reserve)
        first = vars(self).setdefault("_planted_first", {})
        seen = self._own.look(storage_key)
        if seen is not None:
            first.setdefault(storage_key, seen.stored.record)
        return owed

    def old(self: HintStore, hint_key: bytes, stored: Stored) -> bytes | None:
        record = owed_record(self, hint_key, stored)
        if stored.record or not record:
            return record
        first = vars(self).setdefault("_planted_first", {})
        return bytes(first.get(hint_key[1 + hint_key[0] :], record))

    patch.set(HintStore, "owe", owing)
    patch.set(HintStore, "_owed_record", old)


def _hints_are_forgotten_by_a_start(patch: Patches) -> None:
    """A start does not look which hints there are."""

    def nobody(self: HintAccount) -> bool:
        return False

    patch.set(HintAccount, "_find_targets", nobody)


def _corrupt_hint_is_delivered(patch: Patches) -> None:
    """The checksum of a hint is not looked at."""

    def trusting(hint_key: bytes, data: bytes) -> StoredHint:
        try:
            return decode_hint(hint_key, data)
        except StorageCorrupt:
            sound = _with_a_right_checksum(hint_key, data)
            if sound is None:
                raise
            return decode_hint(hint_key, sound)

    patch.set(dynamo.hint_store, "decode_hint", trusting)


def _with_a_right_checksum(hint_key: bytes, data: bytes) -> bytes | None:
    """The same bytes under a checksum that fits them; None where a length does not."""
    created, birth_bytes, record_bytes = data[:8], data[21], int.from_bytes(data[22:26])
    birth = data[_BIRTH_AT : _BIRTH_AT + birth_bytes]
    record = data[_BIRTH_AT + birth_bytes :]
    if len(record) != record_bytes:
        return None
    counter = int.from_bytes(data[13:21])
    return encode_hint(hint_key, int.from_bytes(created), birth, counter, record)


# What is taken ------------------------------------------------------------------------------------


def _hint_is_acknowledged_before_its_sync(patch: Patches) -> None:
    reply_synced = OwnRecords.reply_synced

    def reply(self: OwnRecords, number: int, storage_key: bytes, call: Call) -> None:
        if storage_key.startswith(_OWN_KEY):
            reply_synced(self, number, storage_key, call)
        else:
            reply_synced(self, 0, storage_key, call)

    patch.set(OwnRecords, "reply_synced", reply)


def _hint_replaces_the_one_before(patch: Patches) -> None:
    """What comes in is not merged into what is held already."""

    def nothing(self: HintStore, hint_key: bytes) -> Stored | None:
        return None

    patch.set(HintStore, "load_for_merge", nothing)


def _birth_of_a_hint_outlives_it(patch: Patches) -> None:
    """Who mints into a hint goes on under the birth of one that is gone, whose counter is too."""
    mint_into, next_dot = Merging.mint_into, Merging._next_dot

    def mint(
        self: Merging, shelf: Any, storage_key: bytes, message: Mint, *given: Any
    ) -> tuple[Any, int]:
        vars(self)["_planted_key"] = None if shelf is self else storage_key
        return mint_into(self, shelf, storage_key, message, *given)

    def dot(self: Merging, stored: Stored | None) -> tuple[bytes, int]:
        birth, counter = next_dot(self, stored)
        hint_key = vars(self)["_planted_key"]
        if hint_key is not None and stored is None:
            births = vars(self).setdefault("_planted_births", {})
            birth = births.setdefault((self._incarnation, hint_key), birth)
        return birth, counter

    patch.set(Merging, "mint_into", mint)
    patch.set(Merging, "_next_dot", dot)


def _debts_are_not_noted(patch: Patches) -> None:
    """A node that is told what it owes says yes, and forgets it."""

    def owe(
        self: HintStore,
        storage_key: bytes,
        targets: Iterable[str],
        beside: Sequence[Write],
        reserve: bool,
    ) -> Owed:
        return Owed(self._write(tuple(beside), reserve) if beside else 0, {})

    patch.set(HintStore, "owe", owe)


def _debts_are_never_told(patch: Patches) -> None:
    """Nobody is told what a node has missed."""
    patch.set(WriteOperation, "_pay_debts", lambda self: None)


# Who counts ---------------------------------------------------------------------------------------


def _two_hints_of_one_node_are_two_acks(patch: Patches) -> None:
    """Where too few nodes can stand in, one does so for two, and counts twice."""
    ack_stand_in = WriteTally.ack_stand_in

    def twice(self: WriteTally, node: str) -> State:
        ack_stand_in(self, node)
        if list(self.reasons.values()).count(DOWN) > len(self.stand_ins):
            self.stand_ins.append(node)
        return self.state

    patch.set(WriteTally, "ack_stand_in", twice)


def _refused_hint_counts(patch: Patches) -> None:
    on_refused = WriteOperation._on_refused

    def counted(self: WriteOperation, node: str, refused: Refused) -> None:
        if self._minted is not None and node in self._absences.stands_for:
            self._tally.ack_stand_in(node)
            self._judge()
        else:
            on_refused(self, node, refused)

    patch.set(WriteOperation, "_on_refused", counted)


def _stand_in_counts_as_primary(patch: Patches) -> None:
    def primary(self: WriteTally, node: str) -> State:
        self._primaries_open += 1
        return self.ack(node)

    patch.set(WriteTally, "ack_stand_in", primary)


def _nothing_of_a_stand_in_counts(patch: Patches) -> None:
    """That who stands in holds nothing of a key is taken for an answer to a read."""

    def counted(self: SloppyReadTally) -> tuple[int, int]:
        wanting = self.wanting()
        answered = [node for node in self._digests if node not in wanting]
        stand_ins = sum(node in self._stand_ins for node in answered)
        return len(answered) - stand_ins, stand_ins

    def waited_for(self: SloppyReadTally) -> int:
        return sum(node not in self.reasons for node in self._stand_ins)

    patch.set(SloppyReadTally, "_counted", counted)
    patch.set(SloppyReadTally, "_open_stand_ins", waited_for)


def _owner_that_stands_in_is_a_second_ack(patch: Patches) -> None:
    """What an owner notes to owe counts as another node that has the write."""
    on_reply = WriteOperation.on_reply

    def twice(self: WriteOperation, node: str, reply: Reply) -> None:
        first = node == self._minter and self._absences.owed and node not in self._tally.acked
        on_reply(self, node, reply)
        if first and node in self._tally.acked:
            self._tally.stand_ins.append(node)
            self._judge()

    patch.set(WriteOperation, "on_reply", twice)


HINT_BUGS: Final[tuple[tuple[Plant, str], ...]] = (
    (_ack_of_an_older_record_removes_a_hint, "an ack of an older record removes a hint"),
    (_hint_removed_before_its_ack, "a hint is removed as it is sent"),
    (_failed_delivery_removes_hints, "a delivery that is refused or lost counts as taken"),
    (_delivery_that_is_refused_in_part_removes_all, "what a target refuses of a delivery goes too"),
    (_old_record_is_delivered, "a node delivers a record older than it owes"),
    (_hints_are_forgotten_by_a_start, "hints are not delivered after a start of who holds them"),
    (_corrupt_hint_is_delivered, "a hint that fails its checksum is delivered"),
    (_hint_is_acknowledged_before_its_sync, "a hint is acknowledged before its sync"),
    (_hint_replaces_the_one_before, "a hint takes the place of the one before"),
    (_birth_of_a_hint_outlives_it, "the birth of a hint outlives it"),
    (_debts_are_not_noted, "a node forgets what it says that it owes"),
    (_two_hints_of_one_node_are_two_acks, "two hints at one node count as two acks"),
    (_refused_hint_counts, "a hint that was refused counts"),
    (_stand_in_counts_as_primary, "who stands in for a primary counts as one"),
    (_nothing_of_a_stand_in_counts, "that a stand-in has nothing is an answer to a read"),
    (_owner_that_stands_in_is_a_second_ack, "what an owner owes counts as an ack"),
)
