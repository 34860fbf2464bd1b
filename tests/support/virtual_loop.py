"""The simulated loop (dynamo/sim/loop.py) for tests that need only its time, with one seed for all."""

from __future__ import annotations

import random
from collections.abc import Coroutine
from typing import Any, TypeVar

from dynamo.sim import loop
from dynamo.sim.loop import Deadlock as Deadlock
from dynamo.sim.loop import Livelock as Livelock
from dynamo.sim.loop import SimLoop as VirtualLoop

__all__ = ["Deadlock", "Livelock", "VirtualLoop", "run_virtual"]

_T = TypeVar("_T")


def run_virtual(main: Coroutine[Any, Any, _T]) -> _T:
    """`dynamo.sim.loop.run_virtual`, always with the same seed."""
    return loop.run_virtual(main, random=random.Random(1))
