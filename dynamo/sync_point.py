"""Sync points: who waits until all hints of a moment are delivered.

Such a waiter needs of each target one clean pass that began after it came. Knows nothing of how
passes are made, nor of hints.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Final

from dynamo.errors import HintsUndelivered, NotReady, TooManySyncs
from dynamo.ports import Clock

#: Those that wait at once.
WAITERS_MAX: Final = 64


class _Waiter:
    """`due`: by target, the number of the first pass that will do; None while it is not known which
    targets there are."""

    __slots__ = ("due", "ended")

    def __init__(self, due: dict[str, int] | None) -> None:
        self.due = due
        #: True once nothing is due any more, False if that comes too late.
        self.ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.look()

    def look(self) -> None:
        if self.due is not None and not self.due:
            self.end(in_time=True)

    def end(self, *, in_time: bool) -> None:
        if not self.ended.done():
            self.ended.set_result(in_time)


class SyncPoints:
    """All who wait, in the order in which they came."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._waiters: dict[_Waiter, None] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiters)

    async def wait(
        self,
        due: dict[str, int] | None,
        timeout: float,
        *,
        left: Callable[[Collection[str]], Mapping[str, object]],
    ) -> None:
        """Return once each target had a clean pass with at least that number. `due` None: it is told
        by `counted`. `timeout`: seconds. `left`: of the targets that it is given, what each lacks.

        Raises HintsUndelivered at the timeout, NotReady if it is closed, TooManySyncs.
        """
        if self._closed:
            raise NotReady("this node is stopping")
        if len(self._waiters) >= WAITERS_MAX:
            raise TooManySyncs(f"{WAITERS_MAX} wait already", limit=WAITERS_MAX, retry_after_s=1)
        waiter = _Waiter(due)
        self._waiters[waiter] = None
        timer = self._clock.call_later(timeout, lambda: waiter.end(in_time=False))
        try:
            in_time = await waiter.ended
        finally:
            timer.cancel()
            del self._waiters[waiter]
        if in_time:
            return
        if self._closed:
            raise NotReady("this node is stopping")
        if waiter.due is None:
            raise HintsUndelivered("the hints are not counted yet", undelivered={})
        raise HintsUndelivered(
            f"hints for {', '.join(waiter.due)} are not delivered yet",
            undelivered=dict(left(waiter.due)),
        )

    @property
    def wait_for_count(self) -> bool:
        """Somebody waits to be told by `counted` what is due."""
        return any(waiter.due is None for waiter in self._waiters)

    def counted(self, due: Mapping[str, int]) -> None:
        """It is known now which targets there are: those who wait for that wait for these passes."""
        for waiter in self._waiters:
            if waiter.due is None:
                waiter.due = dict(due)
                waiter.look()

    def cleaned(self, target: str, number: int) -> None:
        """A clean pass of the target has ended."""
        for waiter in self._waiters:
            if waiter.due is not None and waiter.due.get(target, number + 1) <= number:
                del waiter.due[target]
                waiter.look()

    def close(self) -> None:
        """Nothing is delivered any more; who waits is told."""
        self._closed = True
        for waiter in self._waiters:
            waiter.end(in_time=False)
