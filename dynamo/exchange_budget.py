"""What exchanges with peers may cost: keys and bytes in a second, less while clients are served.

One budget for all exchanges of a node. Knows nothing of what they do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from dynamo.metrics import Metrics
from dynamo.pace import ClientLoad, Step, TokenBucket, step
from dynamo.ports import Clock

#: Of either rate, and of the time, beside clients.
CLIENTS_LEAVE: Final = 4
#: A record that is read to see that it lies in another leaf costs this part of a key.
READ_COST: Final = 10
#: Seconds after which it is looked anew whether clients are served, and for which a peer is taken for
#: busy that has said so.
LOOK_AGAIN: Final = 1.0


class Budget:
    """Whoever is about to do something waits for `room`, and says afterwards what it `spent`."""

    def __init__(
        self,
        *,
        keys: int,
        size: int,
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]],
        metrics: Metrics,
    ) -> None:
        """`keys`, `size`: keys looked at, and bytes moved, in a second at most."""
        now = clock.monotonic()
        self._rates = (keys, size)
        self._keys = TokenBucket(keys, now)
        self._bytes = TokenBucket(size, now)
        self._clock = clock
        self._sleep = sleep
        self._load = ClientLoad(metrics.count)
        self._peer_busy_until = now
        #: When room was last found, and until when there is none: where clients leave little of the
        #: cores, all takes longer, and less is done.
        self._began = now
        self._pause_until = now

    async def room(self) -> None:
        """Return as soon as something may be done."""
        while True:
            now = self._clock.monotonic()
            share = CLIENTS_LEAVE if self._makes_way(now) else 1
            for bucket, rate in zip((self._keys, self._bytes), self._rates, strict=True):
                bucket.set_rate(max(rate // share, 1), now)
            wait = max(self._keys.wait(now), self._bytes.wait(now), self._pause_until - now)
            if wait <= 0.0:
                self._began = now
                return
            await self._sleep(min(wait, LOOK_AGAIN))

    def spent(self, *, keys: int = 0, read: int = 0, size: int = 0) -> None:
        """So many keys were looked at, records read over, bytes moved."""
        now = self._clock.monotonic()
        self._keys.take(keys + read // READ_COST, now)
        self._bytes.take(size, now)
        if self._makes_way(now):
            took = min(now - self._began, LOOK_AGAIN)
            self._pause_until = now + took * (CLIENTS_LEAVE - 1)

    def batch(self) -> Step:
        """How much may be done at a time."""
        return step(clients=self._makes_way(self._clock.monotonic()))

    def peer_is_busy(self) -> None:
        """A peer says that it serves clients."""
        self._peer_busy_until = self._clock.monotonic() + LOOK_AGAIN

    def _makes_way(self, now: float) -> bool:
        return self._load.is_busy(now) or now < self._peer_busy_until
