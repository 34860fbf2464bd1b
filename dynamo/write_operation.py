"""One write on its way: mint at a live primary, store at the others, tally, answer.

A primary that is down, or turns out to be, is stood in for by another node, which keeps the record for
it as a hint (Dynamo 4.6). Where nobody can stand in, and for whoever has missed the write in the end,
a primary that has it notes that it owes it to them.

Fed by the transport, straight from the bytes that arrive; one future tells the client's task. A
write is minted once: it goes to another primary only if the first certainly did not execute it, and
no answer means unknown. After the answer, stragglers go on to their deadline and are counted; the
value is let go as soon as a primary has it on disk, which can owe it.
Where the last write wins, a replica that shows another one does not count; the minter is sent what
that replica has, so that the next write goes above it.
Knows nothing of sockets or storage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from dynamo.absences import Absences
from dynamo.errors import DynamoError, StorageFull, Unavailable, WriteUncertain
from dynamo.metrics import Metrics
from dynamo.patience import timer_for
from dynamo.ports import NO_ANSWER, Clock, Failure, Timer, Transport, Waiter
from dynamo.quorum import LOST, MET
from dynamo.rpc.messages import (
    NO_HINT,
    Mint,
    Minted,
    Owe,
    Refused,
    Reply,
    Request,
    Store,
    Synced,
)
from dynamo.telling import Debt
from dynamo.write_refusals import CANNOT_STORE, NOT_OWED, error_of_mint
from dynamo.write_tally import WriteTally
from ring.preference import Plan

#: Once w is out of reach, answers that are on their way are still waited for so long (seconds), so
#: that the error says who has the write and who has not.
LOST_GRACE: Final = 0.5
#: How long (seconds) a minter has to take a record that it was behind of, and any node to note what it
#: owes.
TELL_TIMEOUT: Final = 10.0


class WriteOperation:
    """A `Waiter` for one Mint and the Stores that follow it."""

    __slots__ = (
        "_absences",
        "_candidates",
        "_clock",
        "_count",
        "_done",
        "_down",
        "_grace",
        "_heard",
        "_hint_for",
        "_is_minted",
        "_key",
        "_lww",
        "_may_retry",
        "_metrics",
        "_mint",
        "_minted",
        "_minter",
        "_plan",
        "_refused",
        "_tally",
        "_tell",
        "_timer",
        "_told",
        "_transport",
        "deadline",
        "flight",
    )

    def __init__(
        self,
        *,
        mint: Mint,
        plan: Plan,
        candidates: Sequence[str],
        down: AbstractSet[str],
        tally: WriteTally,
        transport: Transport,
        clock: Clock,
        metrics: Metrics,
        deadline: float,
        done: asyncio.Future[Minted],
        heard: dict[str, int],
        tell: Waiter,
        may_retry: Callable[[], bool],
        flight: int = 0,
        hints: bool = True,
    ) -> None:
        """`candidates`: the primaries that are up, best minter first. `down`: who is down, now and
        later. `done`: gets the minter's first answer. `tell`: gets the answers of a minter that was
        behind, and was sent what it had missed.
        `may_retry`: asked before another node is, since one has too much to do. `flight`: as of
        `dynamo.flights`. `hints`: False, and what a primary misses is kept for it by nobody."""
        self.flight = flight
        #: What is to be minted, until it is; and what is said of it to all.
        self._mint: Mint | None = mint
        self._key = mint.key
        self._lww = mint.lww
        #: Whom the minter stands in for, as an index.
        self._hint_for = NO_HINT
        self._may_retry = may_retry
        self._plan = plan
        self._down = down
        self._absences = Absences(plan, down, tally, hints=hints)
        self._candidates = iter(candidates)
        self._tally = tally
        self._transport = transport
        self._clock = clock
        self._metrics = metrics
        self._count = metrics.count
        #: None once it has its answer.
        self._done: asyncio.Future[Minted] | None = done
        self._heard = heard
        self._tell = tell
        self._told = 0
        self.deadline = deadline
        self._is_minted = False
        #: What was minted, as long as it may have to be sent.
        self._minted: Minted | None = None
        self._minter = ""
        self._refused: dict[str, Refused] = {}
        self._grace: Timer | None = None
        self._timer = timer_for(deadline, clock, self._expired)

    def start(self, absent: Sequence[str] = ()) -> None:
        """Ask the first candidate that can be asked to mint. `absent`: primaries that are down."""
        if absent:
            absences = self._absences
            absences.leave_out(absent)
            if absences.owed:
                assert self._mint is not None
                owes = absences.indexes(absences.owed)
                self._mint = msgspec.structs.replace(self._mint, owes=owes)
        self._mint_at_next()

    # Waiter -------------------------------------------------------------------------------------

    def on_reply(self, node: str, reply: Reply) -> None:
        kind = type(reply)
        if kind is Synced:
            if not self._is_minted:
                self._failed(node, "its answer to the mint was lost", definite=False)
                return
            assert isinstance(reply, Synced)
            if reply.write_number > self._heard.get(node, 0):
                self._heard[node] = reply.write_number
            if node in self._absences.stands_for:
                self._tally.ack_stand_in(node)
            else:
                self._tally.ack(node)
            self._judge()
        elif kind is Minted and node == self._minter and not self._is_minted:
            assert isinstance(reply, Minted)
            self._is_minted = True
            self._minted = reply
            self._mint = None
            self._store_at_others(node)
        elif isinstance(reply, Refused):
            self._on_refused(node, reply)
        else:
            self._failed(node, "unexpected reply", definite=False)

    def on_failure(self, node: str, failure: Failure) -> None:
        kind = failure.kind
        # Who is only slow is not replaced: it has the write, or will have it from who owes it.
        self._failed(node, failure.reason, definite=kind == "not_sent", is_gone=kind != "timed_out")

    # Steps --------------------------------------------------------------------------------------

    def _mint_at_next(self, *, is_retry: bool = False) -> None:
        """`is_retry`: the one before has too much to do, as this one may have."""
        if self._done is None or self._done.done():
            self._end()
            return  # the client has its answer, or has gone: no reason to begin now
        node = next(self._candidates, None)
        if node is None:
            node = self._stand_in_to_mint()
            if node is None:
                self._fail(self._nobody_minted())
                return
        if is_retry and not self._may_retry():
            self._fail(self._nobody_minted("no more writes may be tried at another replica now"))
            return
        assert self._mint is not None
        self._minter = node
        self._transport.request((node,), self._mint, self, self._remaining())

    def _store_at_others(self, minter: str) -> None:
        remaining = self._remaining()
        # What answers at once may end the operation, which then lets go of it.
        minted = self._minted
        assert minted is not None
        others = [node for node in self._plan.primaries if node != minter]
        stands_for = self._absences.stands_for
        if stands_for or self._tally.reasons:
            others = self._absences.present(others)
            for node in others:
                # Left from a candidate that refused to mint; it is asked again, to store.
                self._tally.reasons.pop(node, None)
        # Those who stand in for one of `others` that fails at once are sent it as they begin to.
        waiting = [node for node in stands_for if node != minter]
        if others:
            self._transport.request(others, self._store(minted, remaining), self, remaining)
        for node in waiting:
            if node in stands_for:
                self._store_at_stand_in(node, minted)

    def _store(self, minted: Minted, remaining: float, *, hint_for: int = NO_HINT) -> Store:
        plan = self._plan
        return Store(
            self._key,
            plan.class_id,
            plan.partition,
            plan.epoch,
            max(1, int(remaining * 1000)),
            minted.record,
            hint_for=hint_for,
            lww=self._lww,
        )

    def _on_refused(self, node: str, refused: Refused) -> None:
        if not self._is_minted:
            self._refused[node] = refused
            error = error_of_mint(refused)
            if error is not None:
                self._fail(error)
                return
        elif refused.code == "older":
            self._tell_minter(refused)
        code = refused.code
        self._failed(
            node,
            refused.detail or code,
            definite=refused.definite,
            is_gone=code in CANNOT_STORE,
            is_owed=code not in NOT_OWED,
            is_busy=code == "storage_busy",
        )

    def _tell_minter(self, older: Refused) -> None:
        """Send the minter the record that hides its write, if it is above what it was sent so far: its
        clock adopts that stamp, and nothing is minted again. Whether it has that record from elsewhere
        by now, nobody here knows."""
        if older.stamp <= self._told or not older.record:
            return
        self._told = older.stamp
        plan = self._plan
        store = Store(
            self._key,
            plan.class_id,
            plan.partition,
            plan.epoch,
            int(TELL_TIMEOUT * 1000),
            older.record,
            repair=True,
            hint_for=self._hint_for,
        )
        self._transport.request((self._minter,), store, self._tell, TELL_TIMEOUT)

    def _failed(
        self,
        node: str,
        reason: str,
        *,
        definite: bool,
        is_gone: bool = False,
        is_owed: bool = True,
        is_busy: bool = False,
    ) -> None:
        """`is_gone`: the node cannot store anything now. `is_owed`: it has missed the write. `is_busy`:
        it has too much to do."""
        if self._is_minted:
            self._store_failed(node, reason, is_gone=is_gone, is_owed=is_owed)
            return
        self._tally.reasons[node] = reason
        if definite:
            self._count["mints_moved_on"] += 1
            if node in self._absences.stands_for:
                self._absences.replace(node, reason)
            deadline_ms = max(1, int(self._remaining() * 1000))
            assert self._mint is not None
            self._mint = msgspec.structs.replace(self._mint, deadline_ms=deadline_ms)
            self._mint_at_next(is_retry=is_busy)
        else:
            self._fail(
                WriteUncertain(
                    f"no answer from {node}, which was asked to mint the write",
                    **self._tally.counts(),
                    reasons=dict(self._tally.reasons),
                )
            )

    def _store_failed(self, node: str, reason: str, *, is_gone: bool, is_owed: bool) -> None:
        absences = self._absences
        self._count["stores_missed"] += 1
        if node == self._minter:
            # What it was to note with the write may be as little on its disk as the write.
            absences.miss_owed()
        minted = self._minted
        if is_gone and minted is not None and self._tally.state is not MET:
            stand_in = absences.replace(node, reason)
            if stand_in is not None:
                self._store_at_stand_in(stand_in, minted)
        else:
            absences.lose(node, reason, is_owed=is_owed)
        self._judge()

    def _stand_in_to_mint(self) -> str | None:
        """No primary can be reached: who mints in the place of one. None if one has said no, or nobody
        is there."""
        absences = self._absences
        if any(node in self._plan.primaries for node in self._refused):
            return None
        node = absences.stand_in_for_all()
        if node is not None:
            assert self._mint is not None
            self._hint_for = absences.target_of(node)
            self._mint = msgspec.structs.replace(self._mint, hint_for=self._hint_for, owes=())
            absences.miss_owed()
        return node

    def _store_at_stand_in(self, node: str, minted: Minted) -> None:
        remaining = self._remaining()
        hint_for = self._absences.target_of(node)
        self._count["stores_at_stand_ins"] += 1
        store = self._store(minted, remaining, hint_for=hint_for)
        self._transport.request((node,), store, self, remaining)

    def _pay_debts(self) -> None:
        """Every node has answered or failed: whoever has missed the write is owed it, by a primary that
        has it, or else by who stands in for another one."""
        absences, tally = self._absences, self._tally
        missed, absences.missed = absences.missed, []
        self._count["writes_missed"] += len(missed)
        if not absences.hints:
            self._count["hints_left_out"] += len(missed)
        elif tally.acked:
            plan = self._plan
            keepers = sorted(
                tally.acked, key=lambda node: (node in self._down, node != self._minter)
            )
            message: Request = Owe(
                self._key,
                plan.class_id,
                plan.partition,
                plan.epoch,
                int(TELL_TIMEOUT * 1000),
                absences.indexes(missed),
            )
            self._debt(message, keepers).note()
        elif tally.stand_ins:
            assert self._minted is not None
            for target in absences.indexes(missed):
                message = self._store(self._minted, TELL_TIMEOUT, hint_for=target)
                self._debt(message, tally.stand_ins).note()
        else:
            self._count["writes_owed_by_nobody"] += len(missed)

    def _debt(self, message: Request, keepers: Sequence[str]) -> Debt:
        return Debt(
            message,
            keepers,
            transport=self._transport,
            timeout=TELL_TIMEOUT,
            metrics=self._metrics,
            flight=self.flight,
        )

    # Answers ------------------------------------------------------------------------------------

    def _judge(self) -> None:
        tally = self._tally
        done = self._done
        if done is not None:
            state = tally.state
            if done.done():
                self._end()  # or it would keep the value of a client that has gone
            elif state is MET:
                assert self._minted is not None
                done.set_result(self._minted)
                self._end()
            elif state is LOST:
                if tally.settled:
                    self._fail(self._not_enough())
                elif self._grace is None:
                    self._grace = self._clock.call_later(LOST_GRACE, self._expired)
        if self._absences.missed and tally.settled:
            self._pay_debts()

    def _expired(self) -> None:
        if self._done is None:
            return
        tally = self._tally
        # Without a mint nobody but the minter has been asked for anything that lasts.
        asked: Iterable[str] = (self._minter,)
        if self._is_minted:
            asked = (*self._plan.primaries, *self._absences.stands_for)
        for node in asked:
            if node not in tally.acked and node not in tally.stand_ins:
                tally.reasons.setdefault(node, NO_ANSWER)
        self._fail(self._not_enough())

    def _not_enough(self) -> DynamoError:
        tally = self._tally
        return WriteUncertain(
            f"{tally.told()}; the write may live on",
            **tally.counts(),
            reasons=dict(tally.reasons),
        )

    def _nobody_minted(
        self, why: str = "no replica of the key could take the write"
    ) -> DynamoError:
        reasons = dict(self._tally.reasons)
        codes = {refused.code for refused in self._refused.values()}
        if codes == {"disk_full"}:
            return StorageFull("every replica that answered is out of disk space", reasons=reasons)
        return Unavailable(
            f"{why}; nothing was written",
            **self._tally.counts(),
            alive=sum(node not in self._down for node in self._plan.primaries),
            reasons=reasons,
        )

    def _fail(self, error: DynamoError) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)
        self._end()

    def _end(self) -> None:
        """The client has its answer, or has gone: nothing is kept that is not needed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._grace is not None:
            self._grace.cancel()
        self._done = None
        if self._tally.acked:
            self._minted = None  # who has it owes it to those that fail from now on

    def _remaining(self) -> float:
        return max(0.001, self.deadline - self._clock.monotonic())
