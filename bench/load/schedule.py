"""When arrivals are due: drawn before anything is asked, so that no answer can move them.

That is what makes an open loop: a store that is slow does not thereby get less to do, and the waiting
it causes is counted (coordinated omission). Pure: no clock, chance is an argument.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Final, NamedTuple

from bench.history import Phase
from bench.scenario import BadScenario, Load
from bench.workloads.protocol import Arrival

SECOND: Final = 1_000_000_000

#: Above these a load is a mistake.
RATE_MAX: Final = 1e6
SESSIONS_MAX: Final = 100_000
IN_FLIGHT_MAX: Final = 1_000_000
SECONDS_MAX: Final = 7 * 86_400.0


class Span(NamedTuple):
    """From when to when arrivals come (ns): warm-up from `begin`, measured from `measured` to `end`."""

    begin: int
    measured: int
    end: int

    def phase(self, at: int) -> Phase:
        """Of what is due then."""
        return "warmup" if at < self.measured else "measure"


def span(load: Load, begin: int) -> Span:
    """The span of a load whose warm-up begins then."""
    measured = begin + nanoseconds(load.warmup)
    return Span(begin, measured, measured + nanoseconds(load.duration))


def nanoseconds(seconds: float) -> int:
    """Whole ones."""
    return round(seconds * SECOND)


def arrivals(
    load: Load, times: Span, chance: random.Random, *, first: int = 0
) -> Iterator[Arrival]:
    """The arrivals of an open loop, in turn; the sessions take turns. Drawn as they are asked for, from
    nothing but `chance`. `first`: the number of the first."""
    number = 0
    at = 0.0
    while True:
        if load.arrivals == "poisson":
            at += chance.expovariate(load.rate)
        else:
            at = number / load.rate
        due = times.begin + round(at * SECOND)
        if due >= times.end:
            return
        yield Arrival(first + number, due, number % load.sessions, times.phase(due))
        number += 1


def check_load(load: Load) -> None:
    """Raises BadScenario for a load that cannot be driven, with the reason."""
    for name, low, high in (
        ("rate", 0.0, RATE_MAX),
        ("duration", 0.0, SECONDS_MAX),
        ("timeout", 0.0, SECONDS_MAX),
    ):
        value = getattr(load, name)
        if not (math.isfinite(value) and low < value <= high):
            raise BadScenario(f"load: {name} is {value}, which is not above {low:g} up to {high:g}")
    for name in ("warmup", "drain"):
        value = getattr(load, name)
        if not (math.isfinite(value) and 0 <= value <= SECONDS_MAX):
            raise BadScenario(f"load: {name} is {value}, which is not from 0 to {SECONDS_MAX:g}")
    for name, most in (("sessions", SESSIONS_MAX), ("in_flight_max", IN_FLIGHT_MAX)):
        value = getattr(load, name)
        if not 1 <= value <= most:
            raise BadScenario(f"load: {name} is {value}, which is not from 1 to {most}")
