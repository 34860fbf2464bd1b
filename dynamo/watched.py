"""Reads and writes that are looked at as they go: measured, or stamped for a client that asks.

The same operations, which know nothing of it: one that is not looked at pays nothing. Knows nothing of
sockets, nor which operations are chosen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from dynamo.ports import Clock, Failure
from dynamo.quorum import MET
from dynamo.read_operation import ReadOperation
from dynamo.record import Record
from dynamo.requests import Stamps
from dynamo.rpc.messages import NO_HINT, Body, Digest, Mint, Minted, Reply, Store, Synced
from dynamo.wars import Wars
from dynamo.wars_status import WarsRead, WarsWrite
from dynamo.write_operation import WriteOperation


class Watch:
    """One operation that is looked at, from the moment it begins: made first of all. Either part may
    be None."""

    __slots__ = ("_clock", "began", "began_wall_ns", "stamps", "wars")

    def __init__(self, clock: Clock, wars: Wars | None, stamps: Stamps | None) -> None:
        self._clock = clock
        self.wars = wars
        self.stamps = stamps
        # In this order, the time until an answer is never less than what its stamp shows of it.
        self.began = clock.monotonic()
        self.began_wall_ns = clock.wall_ns()

    def legs(self, node: str, stamp: int, came: float) -> tuple[float, float]:
        """(milliseconds until the replica had carried it out, from then until the answer was here).
        `stamp`: by its wall clock. `came`: by the own monotonic one."""
        assert self.wars is not None
        # Not by the own wall clock: it may have been set since.
        total = (came - self.began) * 1000
        out = (stamp - self.began_wall_ns) / 1_000_000
        out = self.wars.answered(node, out, total - out, came)
        return out, max(total - out, 0.0)

    def commit(self) -> None:
        """It has what its client waits for."""
        if self.stamps is not None and not self.stamps.committed:
            self.stamps.committed = self._clock.monotonic()


class WatchedRead(ReadOperation):
    """A read that is looked at."""

    __slots__ = ("_legs", "_waiting", "_watch")

    def __init__(self, *, watch: Watch, nodes: Sequence[str], **arguments: Any) -> None:
        self._watch = watch
        self._legs: dict[str, tuple[float, float]] = {}
        #: Who may still give a part of it.
        self._waiting = set(nodes) if watch.wars is not None else set()
        super().__init__(nodes=nodes, **arguments)

    def on_reply(self, node: str, reply: Reply) -> None:
        """As of `ReadOperation`."""
        if node in self._waiting:
            if isinstance(reply, (Body, Digest)) and reply.stamp:
                wars = self._watch.wars
                assert wars is not None
                legs = self._watch.legs(node, reply.stamp, self._clock.monotonic())
                self._legs[node] = legs
                wars.read(node, *legs)
            self._leave(node)
        super().on_reply(node, reply)

    def on_failure(self, node: str, failure: Failure) -> None:
        """As of `ReadOperation`."""
        if node in self._waiting:
            self._leave(node)
        super().on_failure(node, failure)

    def _leave(self, node: str) -> None:
        self._waiting.discard(node)
        wars = self._watch.wars
        if not self._waiting and wars is not None and self._legs:
            whole = WarsRead(body=self._nodes[0], legs=self._legs)
            wars.ended_read(whole, len(self._nodes) - len(self._legs), self._fetch.cls)

    def _ask_bodies(self, targets: list[str]) -> None:
        for node in targets:
            if node in self._waiting:
                self._leave(node)  # which of two questions it answers is not told
        super()._ask_bodies(targets)

    def _met(self, merged: Record) -> None:
        self._watch.commit()
        super()._met(merged)

    def _answer(self, record: Record) -> None:
        self._watch.commit()
        super()._answer(record)


class WatchedWrite(WriteOperation):
    """A write that is looked at."""

    __slots__ = ("_began_at_minter", "_legs", "_primaries", "_watch")

    def __init__(
        self, *, watch: Watch, mint: Mint, done: asyncio.Future[Minted], **arguments: Any
    ) -> None:
        self._watch = watch
        #: None once all that is to come has come.
        self._legs: dict[str, tuple[float, float]] | None = {} if watch.wars is not None else None
        #: The minter's stamp, until it has the write on disk.
        self._began_at_minter = 0
        if watch.wars is not None:
            mint = msgspec.structs.replace(mint, measured=True)
        super().__init__(mint=mint, done=done, **arguments)

    def on_reply(self, node: str, reply: Reply) -> None:
        """As of `WriteOperation`."""
        if self._legs is not None:
            self._measure(node, reply)
        super().on_reply(node, reply)
        self._look()

    def on_failure(self, node: str, failure: Failure) -> None:
        """As of `WriteOperation`."""
        super().on_failure(node, failure)
        self._look()

    def _measure(self, node: str, reply: Reply) -> None:
        kind = type(reply)
        if kind is Minted and node == self._minter and not self._is_minted:
            assert isinstance(reply, Minted)
            self._began_at_minter = reply.stamp
            if reply.stamp:
                # What is known of its clock by this is more than its last answer can tell.
                self._watch.legs(node, reply.stamp, self._clock.monotonic())
        elif kind is Synced and self._is_minted and node in self._plan.primaries:
            assert isinstance(reply, Synced)
            assert self._legs is not None
            stamp = self._began_at_minter if node == self._minter else reply.stamp
            if stamp and node not in self._legs:
                wars = self._watch.wars
                assert wars is not None
                legs = self._watch.legs(node, stamp, self._clock.monotonic())
                self._legs[node] = legs
                wars.wrote(node, *legs)

    def _look(self) -> None:
        legs = self._legs
        if legs is None or not self._is_minted or not self._tally.settled:
            return
        self._legs = None
        wars = self._watch.wars
        if legs and wars is not None:
            whole = WarsWrite(minter=self._minter, legs=legs)
            plan = self._plan
            wars.ended_write(whole, len(plan.primaries) - len(legs), plan.class_id)

    def _store(self, minted: Minted, remaining: float, *, hint_for: int = NO_HINT) -> Store:
        store = super()._store(minted, remaining, hint_for=hint_for)
        if self._legs is None or hint_for != NO_HINT:
            return store
        return msgspec.structs.replace(store, measured=True)

    def _end(self) -> None:
        if self._tally.state is MET:
            self._watch.commit()
        super()._end()
