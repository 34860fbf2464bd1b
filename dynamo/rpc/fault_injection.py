"""Faults injected into the messages of one node: the rules in force, and what is held for them now.

There is one only where the node was started with `--fault-injection`. Knows nothing of connections.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable
from typing import Any

from dynamo.metrics import Metrics
from dynamo.ports import Clock
from dynamo.rpc.fault_rules import DELAY_MS_MAX, FaultRules, Leg, parse_rules, show_rules
from dynamo.rpc.holding import Holding, MakeAlarm
from dynamo.status import FaultsStatus

log = logging.getLogger("dynamo.rpc")


class FaultInjection:
    """The rules of one start of one node, none at first. `chance`: of the delays."""

    def __init__(
        self, *, make_alarm: MakeAlarm, chance: random.Random, clock: Clock, metrics: Metrics
    ) -> None:
        self._chance = chance
        self._monotonic = clock.monotonic
        self._count = metrics.count
        self.rules = FaultRules()
        self.holding = Holding(make_alarm=make_alarm, monotonic=clock.monotonic, metrics=metrics)
        #: Told of peers that are cut off from now on, with the reason.
        self.on_cut: Callable[[str], None] | None = None
        self._cut: tuple[str, ...] = ()
        log.warning(
            "FAULT INJECTION IS ON: whoever reaches the HTTP address of this node can delay its "
            "messages and cut it off (/admin/faults). For tests and measurements only%s",
            ""
            if self.holding.precise
            else "; delays are whole milliseconds, for want of a timerfd",
        )

    def __repr__(self) -> str:
        return f"FaultInjection({self.rules!r} cut=[{' '.join(self._cut)}] {self.holding!r})"

    def set(self, given: object, peers: Iterable[str]) -> None:
        """These rules (a JSON list) are in force, in place of those before. `peers`: ids of the other
        members. What is held already stays so. Raises InvalidArgument, and then nothing changes."""
        known = tuple(peers)
        rules = parse_rules(given, known)
        before, self.rules = self._cut, rules
        self._cut = tuple(peer for peer in known if rules.is_cut(peer))
        self._count["faults_changed"] += 1
        log.warning("faults: %s rules, cut off from %s", len(rules.rules), self._cut or "nobody")
        for peer in self._cut:
            if peer not in before and self.on_cut is not None:
                self.on_cut(peer)

    def is_cut(self, peer: str) -> bool:
        """True if nothing passes between this node and the peer."""
        return self.rules.is_cut(peer)

    def delay(self, peer: str, leg: Leg) -> float:
        """Seconds by which the next message of this leg to the peer is late."""
        delay_ms = self.rules.draw(peer, leg, self._chance)
        if delay_ms > DELAY_MS_MAX:
            self._count["faults_delays_capped"] += 1
            delay_ms = DELAY_MS_MAX
        return delay_ms / 1000

    def show(self) -> dict[str, Any]:
        """As `PUT /admin/faults` takes it, and how things are."""
        return {
            "rules": show_rules(self.rules),
            "cut": list(self._cut),
            "held": len(self.holding),
            "held_max": self.holding.held_max,
            "precise": self.holding.precise,
        }

    def status(self) -> FaultsStatus:
        """In short."""
        return FaultsStatus(
            rules=len(self.rules.rules),
            delays=self.rules.delays,
            cut=self._cut,
            held=len(self.holding),
        )

    def close(self) -> None:
        """Nothing more is sent of what is held."""
        self.holding.close()
