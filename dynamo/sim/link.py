"""One direction between two simulated nodes: how long bytes take, and what is wrong with it.

Knows nothing of the streams that it carries.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import Final, Generic, Literal, NamedTuple, TypeVar

_P = TypeVar("_P")

#: What is done to one chunk, and TCP would not do.
Trick = Literal["flip", "tear", "repeat", "swap", "replay"]

#: Chunks of a link that can be replayed.
REPLAY_CHUNKS: Final = 300


class Timing(NamedTuple):
    """Seconds that bytes take: `latency`, plus up to `jitter`, plus sometimes up to `tail`."""

    latency: float = 0.000_3
    jitter: float = 0.000_4
    tail: float = 0.03
    tail_chance: float = 0.002


class Link(Generic[_P]):
    """One direction between two nodes: its delays, its faults, and the pipes that it carries."""

    def __init__(self, source: str, target: str, *, timing: Timing, chance: random.Random) -> None:
        self.name = f"{source}>{target}"
        self.source = source
        self.target = target
        self.timing = timing
        self.random = chance
        self.factor = 1.0
        self.dribbles = False
        self.tricks: deque[Trick] = deque()
        self.kept: deque[bytes] = deque(maxlen=REPLAY_CHUNKS)
        self.pipes: dict[_P, None] = {}
        self.cut_since: float | None = None
        self.clogged = False
        #: Nobody is there: the target's machine has lost power.
        self.off = False
        #: Nothing passes, for one of these three.
        self.blocked = False
        self.passable = asyncio.Event()
        self.passable.set()

    def __repr__(self) -> str:
        faults = [
            *(["cut"] if self.cut_since is not None else []),
            *(["clogged"] if self.clogged else []),
            *(["off"] if self.off else []),
            *([f"slow {self.factor:g}"] if self.factor != 1.0 else []),
            *(["dribbles"] if self.dribbles else []),
            *self.tricks,
        ]
        return " ".join([self.name, *faults])

    @property
    def is_faulty(self) -> bool:
        """True if a fault is on, or waits for a chunk."""
        return bool(self.blocked or self.factor != 1.0 or self.dribbles or self.tricks)

    def delay(self) -> float:
        """Seconds that the next bytes take."""
        latency, jitter, tail, tail_chance = self.timing
        drawn = self.random.random()
        seconds = latency + jitter * drawn
        if drawn < tail_chance:
            seconds += tail * self.random.random()
        return seconds * self.factor
