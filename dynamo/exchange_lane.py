"""What a node is at with one of its peers: the exchange under way, what came of those before, and when
each partition that both own was in agreement last.

Decides nothing and asks nobody. Knows nothing of how two nodes are compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from dynamo.exchange_keys import Tally
from dynamo.exchange_round import Round
from dynamo.refill_marks import Partition
from dynamo.status import ExchangePair, ExchangePeer, ExchangeState


class ExchangeLane:
    """One peer. Times are monotonic seconds."""

    __slots__ = (
        *("begun_at", "clean", "datacenter", "exchanges", "failures", "is_held", "left_out"),
        *("peer", "places", "round", "tally", "task", "why"),
    )

    def __init__(self, peer: str, datacenter: str) -> None:
        self.peer = peer
        self.datacenter = datacenter
        #: That both own.
        self.places: tuple[Partition, ...] = ()
        self.tally = Tally()
        #: What carries out the exchange that began by itself.
        self.task: asyncio.Task[None] | None = None
        self.round: Round | None = None
        #: A repair on demand has it.
        self.is_held = False
        #: When the last exchange began.
        self.begun_at: float | None = None
        self.exchanges = 0
        self.failures = 0
        #: Why the last one broke off, "" if it did not.
        self.why = ""
        #: When the last exchange began after which both had the same.
        self.clean: dict[Partition, float] = {}
        #: Why the last one could not tell.
        self.left_out: dict[Partition, str] = {}

    def __repr__(self) -> str:
        state = "idle" if self.round is None else self.round.state
        return f"ExchangeLane({self.peer} {state} {len(self.clean)} clean {self.why})"

    @property
    def is_busy(self) -> bool:
        """True while an exchange is under way, or a repair on demand has it."""
        return self.task is not None or self.is_held

    def adopt(self, places: Collection[Partition]) -> None:
        """Both own these."""
        self.places = tuple(places)
        kept = set(places)
        self.clean = {place: at for place, at in self.clean.items() if place in kept}
        self.left_out = {place: why for place, why in self.left_out.items() if place in kept}

    def stop(self) -> None:
        """End the exchange that began by itself. Nothing is lost by it."""
        if self.task is not None:
            self.task.cancel()

    def begin(self, round_: Round) -> None:
        """An exchange is under way."""
        self.round = round_
        self.begun_at = round_.began
        self.exchanges += 1
        self.why = ""

    def end(self, round_: Round) -> None:
        """It is over, and what it found out counts."""
        if self.round is round_:
            self.round = None
        for place in round_.clean:
            self.left_out.pop(place, None)
            if not round_.prefix:
                self.clean[place] = round_.began
        self.left_out.update(round_.left_out)

    def status(self, now: float, *, is_up: bool, backs_off: float) -> ExchangePeer:
        """For people. `backs_off`: seconds for which it is left alone."""
        state: ExchangeState = "idle"
        reason = ""
        if self.round is not None:
            state = self.round.state
        elif not is_up:
            state, reason = "down", self.why
        elif backs_off:
            state, reason = "backing_off", self.why
        tally = self.tally
        return ExchangePeer(
            peer=self.peer,
            datacenter=self.datacenter,
            state=state,
            reason=reason,
            partitions=len(self.places),
            begun_s=None if self.begun_at is None else round(now - self.begun_at, 1),
            suspects=0 if self.round is None else self.round.suspects,
            exchanges=self.exchanges,
            failures=self.failures,
            keys_compared=tally.keys_compared,
            keys_differing=tally.keys_differing,
            pulled=tally.pulled,
            pushed=tally.pushed,
            bytes_pulled=tally.bytes_pulled,
            bytes_pushed=tally.bytes_pushed,
        )

    def pairs(self, now: float) -> list[ExchangePair]:
        """For people: each partition."""
        return [
            ExchangePair(
                cls=place[0],
                partition=place[1],
                peer=self.peer,
                clean_s=round(now - self.clean[place], 1) if place in self.clean else None,
                reason=self.left_out.get(place, ""),
            )
            for place in self.places
        ]
