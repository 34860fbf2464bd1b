"""One write on its way: mint at a live primary, store at the others, tally, answer.

Fed by the transport, straight from the bytes that arrive; one future tells the client's task. A
write is minted once: it goes to another primary only if the first certainly did not execute it, and
no answer means unknown. After the answer, stragglers go on to their deadline and are counted.
Where the last write wins, a replica that shows another one does not count; the minter is sent what
that replica has, so that the next write goes above it.
Knows nothing of sockets or storage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from dynamo.errors import (
    DynamoError,
    InvalidArgument,
    Malformed,
    PreconditionFailed,
    RecordFull,
    StorageFull,
    Unavailable,
    WriteUncertain,
)
from dynamo.metrics import Metrics
from dynamo.patience import timer_for
from dynamo.ports import NO_ANSWER, Clock, Failure, Timer, Transport, Waiter
from dynamo.quorum import LOST, MET, WriteTally
from dynamo.record import EMPTY, Record, decode_record
from dynamo.rpc.messages import Mint, Minted, Refused, Reply, Store, Synced

#: Once w is out of reach, answers that are on their way are still waited for so long (seconds), so
#: that the error says who has the write and who has not.
LOST_GRACE: Final = 0.5
#: How long (seconds) a minter has to take a record that it was behind of.
TELL_TIMEOUT: Final = 10.0


class TellWaiter:
    """Counts what becomes of records that minters are sent; nobody waits for them."""

    __slots__ = ("_count",)

    def __init__(self, metrics: Metrics) -> None:
        self._count = metrics.count

    def on_reply(self, node: str, reply: Reply) -> None:
        self._count["minters_told" if type(reply) is Synced else "minters_refused_to_be_told"] += 1

    def on_failure(self, node: str, failure: Failure) -> None:
        self._count["minters_not_told"] += 1


class WriteOperation:
    """A `Waiter` for one Mint and the Stores that follow it."""

    __slots__ = (
        "_candidates",
        "_clock",
        "_count",
        "_done",
        "_grace",
        "_heard",
        "_mint",
        "_minted",
        "_minter",
        "_primaries",
        "_refused",
        "_tally",
        "_tell",
        "_timer",
        "_told",
        "_transport",
        "deadline",
    )

    def __init__(
        self,
        *,
        mint: Mint,
        candidates: Sequence[str],
        tally: WriteTally,
        transport: Transport,
        clock: Clock,
        metrics: Metrics,
        deadline: float,
        done: asyncio.Future[Minted],
        heard: dict[str, int],
        tell: Waiter,
    ) -> None:
        """`candidates`: the primaries, best minter first. `done`: gets the minter's first answer.
        `tell`: gets the answers of a minter that was behind, and was sent what it had missed."""
        self._mint = mint
        self._primaries = candidates
        self._candidates = iter(candidates)
        self._tally = tally
        self._transport = transport
        self._clock = clock
        self._count = metrics.count
        self._done = done
        self._heard = heard
        self._tell = tell
        self._told = 0
        self.deadline = deadline
        self._minted: Minted | None = None
        self._minter = ""
        self._refused: dict[str, Refused] = {}
        self._grace: Timer | None = None
        self._timer = timer_for(deadline, clock, self._expired)

    def start(self) -> None:
        """Ask the first candidate that can be asked to mint."""
        self._mint_at_next()

    # Waiter -------------------------------------------------------------------------------------

    def on_reply(self, node: str, reply: Reply) -> None:
        kind = type(reply)
        if kind is Synced:
            if self._minted is None:
                self._failed(node, "its answer to the mint was lost", definite=False)
                return
            assert isinstance(reply, Synced)
            if reply.write_number > self._heard.get(node, 0):
                self._heard[node] = reply.write_number
            self._tally.ack(node)
            self._judge()
        elif kind is Minted and node == self._minter and self._minted is None:
            assert isinstance(reply, Minted)
            self._minted = reply
            self._store_at_others(node)
        elif isinstance(reply, Refused):
            self._on_refused(node, reply)
        else:
            self._failed(node, "unexpected reply", definite=False)

    def on_failure(self, node: str, failure: Failure) -> None:
        self._failed(node, failure.reason, definite=failure.kind == "not_sent")

    # Steps --------------------------------------------------------------------------------------

    def _mint_at_next(self) -> None:
        if self._done.done():
            self._stop_timer()
            return  # the client has its answer, or has gone: no reason to begin now
        node = next(self._candidates, None)
        if node is None:
            self._fail(self._nobody_minted())
            return
        self._minter = node
        self._transport.request((node,), self._mint, self, self._remaining())

    def _store_at_others(self, minter: str) -> None:
        others = [node for node in self._primaries if node != minter]
        if not others:
            return
        for node in others:
            # Left from a candidate that refused to mint; it is asked again, to store.
            self._tally.reasons.pop(node, None)
        mint = self._mint
        remaining = self._remaining()
        minted = self._minted
        assert minted is not None
        store = Store(
            mint.key,
            mint.cls,
            mint.partition,
            mint.epoch,
            max(1, int(remaining * 1000)),
            minted.record,
            lww=mint.lww,
        )
        self._transport.request(others, store, self, remaining)

    def _on_refused(self, node: str, refused: Refused) -> None:
        if self._minted is None:
            self._refused[node] = refused
            if refused.code in ("precondition_failed", "record_full", "malformed"):
                self._fail(_error_of(refused))
                return
        elif refused.code == "older":
            self._tell_minter(refused)
        self._failed(node, refused.detail or refused.code, definite=refused.definite)

    def _tell_minter(self, older: Refused) -> None:
        """Send the minter the record that hides its write, if it is above what it was sent so far: its
        clock adopts that stamp, and nothing is minted again. Whether it has that record from elsewhere
        by now, nobody here knows."""
        if older.stamp <= self._told or not older.record:
            return
        self._told = older.stamp
        mint = self._mint
        store = Store(
            mint.key,
            mint.cls,
            mint.partition,
            mint.epoch,
            int(TELL_TIMEOUT * 1000),
            older.record,
            repair=True,
        )
        self._transport.request((self._minter,), store, self._tell, TELL_TIMEOUT)

    def _failed(self, node: str, reason: str, *, definite: bool) -> None:
        if self._minted is not None:
            self._tally.fail(node, reason)
            self._count["stores_missed"] += 1
            self._judge()
            return
        self._tally.reasons[node] = reason
        if definite:
            self._count["mints_moved_on"] += 1
            deadline_ms = max(1, int(self._remaining() * 1000))
            self._mint = msgspec.structs.replace(self._mint, deadline_ms=deadline_ms)
            self._mint_at_next()
        else:
            self._fail(
                WriteUncertain(
                    f"no answer from {node}, which was asked to mint the write",
                    required=self._tally.required,
                    received=0,
                    reasons=dict(self._tally.reasons),
                )
            )

    # Answers ------------------------------------------------------------------------------------

    def _judge(self) -> None:
        if self._done.done():
            if self._done.cancelled():
                self._stop_timer()  # or it would keep the value of a client that has gone
            return
        tally = self._tally
        state = tally.state
        if state is MET:
            self._stop_timer()
            if self._grace is not None:
                self._grace.cancel()
            assert self._minted is not None
            self._done.set_result(self._minted)
        elif state is LOST:
            if tally.settled:
                self._fail(self._not_enough())
            elif self._grace is None:
                self._grace = self._clock.call_later(LOST_GRACE, self._expired)

    def _expired(self) -> None:
        if self._done.done():
            return
        tally = self._tally
        # Without a mint nobody but the minter has been asked for anything that lasts.
        asked = self._primaries if self._minted is not None else (self._minter,)
        for node in asked:
            if node not in tally.acked:
                tally.reasons.setdefault(node, NO_ANSWER)
        self._fail(self._not_enough())

    def _not_enough(self) -> DynamoError:
        tally = self._tally
        return WriteUncertain(
            f"{tally.received} of {tally.required} acknowledgements; the write may live on",
            required=tally.required,
            received=tally.received,
            reasons=dict(tally.reasons),
        )

    def _nobody_minted(self) -> DynamoError:
        reasons = dict(self._tally.reasons)
        codes = {refused.code for refused in self._refused.values()}
        if codes == {"disk_full"}:
            return StorageFull("every replica that answered is out of disk space", reasons=reasons)
        return Unavailable(
            "no replica of the key could take the write; nothing was written",
            required=self._tally.required,
            received=0,
            alive=sum(map(self._transport.is_connected, self._primaries)),
            reasons=reasons,
        )

    def _fail(self, error: DynamoError) -> None:
        self._stop_timer()
        if self._grace is not None:
            self._grace.cancel()
        if not self._done.done():
            self._done.set_exception(error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _remaining(self) -> float:
        return max(0.001, self.deadline - self._clock.monotonic())


def _error_of(refused: Refused) -> DynamoError:
    if refused.code == "precondition_failed":
        return PreconditionFailed(refused.detail)
    if refused.code == "record_full":
        return RecordFull(refused.detail, record=_record_of(refused), cap=refused.limit)
    return InvalidArgument(refused.detail, field="key")


def _record_of(refused: Refused) -> Record:
    """The record that is full; an empty one if the peer sent none that can be read."""
    try:
        return decode_record(refused.record) if refused.record else EMPTY
    except Malformed:
        return EMPTY
