"""When a client's time is up: who notices that, for the operations of a coordinator.

Knows nothing of what they do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dynamo.ports import Clock, Timer

#: Requests with less time than this end exactly in time; others up to SWEEP_SECONDS late.
EXACT_SECONDS: Final = 2.0


def timer_for(deadline: float, clock: Clock, expired: Callable[[], None]) -> Timer | None:
    """A timer for the end of a request's time, where the end may not be late; else None.

    The transport ends what is open at the same deadline, and notices within its SWEEP_SECONDS: for a
    request that has had seconds, a timer of its own would do no more.
    """
    left = deadline - clock.monotonic()
    return clock.call_later(left, expired) if left < EXACT_SECONDS else None
