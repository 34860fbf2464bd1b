"""One repair on demand: all that was asked for is compared now, pass after pass, until one finds
nothing.

It goes by exchanges like those that begin by themselves, a step of one at a time. What cannot be
compared yet is waited for as long as it passes by itself, and otherwise for a while. It may be stopped
at any point and begun again: nothing has to be remembered. Knows nothing of who asked for it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal

from dynamo.exchange_keys import Tally
from dynamo.exchange_moves import PeerFailed
from dynamo.exchange_round import PASSING, Round
from dynamo.ports import Clock
from dynamo.refill_marks import Partition
from dynamo.status import RepairProgress

#: Peers that are compared with at a time.
ROUNDS_MAX: Final = 8
#: Passes of which each finds something that the one before did not.
PASSES_MAX: Final = 10
#: Seconds from a try to the next, of what could not be compared.
RETRY_AFTER: Final = 1.0
#: For so long (seconds) without any progress it is waited for what does not pass by itself.
PATIENCE: Final = 30.0

DOWN: Final = "the peer is down"

Pairs = Mapping[str, tuple[Partition, ...]]
State = Literal["running", "done", "incomplete", "stopped", "failed"]


class RepairRun:
    """What became of one repair, or how far it is. `begin` makes an exchange with a peer, None while it
    cannot be asked."""

    def __init__(
        self,
        number: int,
        pairs: Pairs,
        *,
        begin: Callable[[str, tuple[Partition, ...], Tally], Round | None],
        end: Callable[[Round], None],
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        """`pairs`: partitions to compare, by peer."""
        self.number = number
        self.state: State = "running"
        self.reason = ""
        self._pairs = pairs
        self._begin = begin
        self._end = end
        self._clock = clock
        self._sleep = sleep
        self._tally = Tally()
        self._began = self._changed = clock.monotonic()
        self._ended_at: float | None = None
        self._passes = 0
        self._pass_began = self._began
        #: Pairs of this pass that are settled, apart from those of rounds under way.
        self._done = 0
        self._rounds: list[Round] = []
        #: Why partitions of a peer wait, by peer, and why peers could not be asked.
        self._waits: dict[str, dict[Partition, str]] = {}
        self._unreached: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"RepairRun({self.number} {self.state}, pass {self._passes}, {self._done} done)"

    def start(self) -> asyncio.Task[None]:
        """Run it in a task, which the caller owns."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="repair")
        return self._task

    def stop(self) -> None:
        """End it soon; what it has moved by then stays. Nothing, if it has ended."""
        if self.state == "running":
            self._finish("stopped", "it was stopped")
            if self._task is not None:
                self._task.cancel()

    async def ended(self) -> None:
        """Return once it does nothing any more."""
        if self._task is not None:
            await asyncio.wait((self._task,))

    def progress(self) -> RepairProgress:
        """How far it is."""
        now = self._clock.monotonic() if self._ended_at is None else self._ended_at
        tally = self._tally
        waiting = Counter(why for places in self._waits.values() for why in places.values())
        return RepairProgress(
            number=self.number,
            state=self.state,
            reason=self.reason,
            passes=self._passes,
            pairs_done=self._pairs_done,
            pairs_total=self._pairs_total,
            keys_compared=tally.keys_compared,
            keys_differing=tally.keys_differing,
            pulled=tally.pulled,
            pushed=tally.pushed,
            bytes_pulled=tally.bytes_pulled,
            bytes_pushed=tally.bytes_pushed,
            elapsed_s=round(now - self._began, 3),
            eta_s=self._eta(now),
            waiting_for=dict(sorted(waiting.items())),
            unreached=dict(sorted(self._unreached.items())),
        )

    # Inside -------------------------------------------------------------------------------------

    @property
    def _pairs_total(self) -> int:
        return sum(len(places) for places in self._pairs.values())

    @property
    def _pairs_done(self) -> int:
        return self._done + sum(len(round_.clean) for round_ in self._rounds)

    def _eta(self, now: float) -> float | None:
        """Of this pass, as if what is left went on as what is done; nothing is known of the next."""
        if self.state != "running":
            return None
        done, total = self._pairs_done, self._pairs_total
        if not done or self._waits:
            return None
        due = max((round_.due or now for round_ in self._rounds), default=now)
        by_rate = (now - self._pass_began) * (total - done) / done
        return round(max(due - now, by_rate), 1)

    def _finish(self, state: State, reason: str) -> None:
        self.state, self.reason = state, reason
        self._ended_at = self._clock.monotonic()

    async def _run(self) -> None:
        try:
            await self._pass_on()
        except asyncio.CancelledError:
            if self.state == "running":
                self._finish("stopped", "the node stops")
            raise
        except Exception as error:
            self._finish("failed", f"{type(error).__name__}: {error}")
            raise
        finally:
            for round_ in self._rounds:
                self._end(round_)
            self._rounds = []

    async def _pass_on(self) -> None:
        while self._passes < PASSES_MAX:
            self._passes += 1
            self._done = 0
            self._pass_began = self._clock.monotonic()
            found = await self._pass()
            if self._waits:
                whom = ", ".join(sorted(self._waits))
                self._finish("incomplete", f"not all could be compared with {whom}")
                return
            if not found:
                self._finish("done", "")
                return
        self._finish("incomplete", f"each of {PASSES_MAX} passes found more that differs")

    async def _pass(self) -> int:
        """Go over all pairs, those that have to wait again and again; returns in how many keys somebody
        had missed something."""
        left = dict(self._pairs)
        found = 0
        self._changed = self._clock.monotonic()
        while True:
            before = sum(len(places) for places in left.values())
            found_now, left = await self._go_over(left)
            found += found_now
            now = self._clock.monotonic()
            if found_now or sum(len(places) for places in left.values()) < before:
                self._changed = now
            if not left:
                return found
            reasons = {why for places in self._waits.values() for why in places.values()}
            if not reasons & set(PASSING) and now - self._changed >= PATIENCE:
                return found
            await self._sleep(RETRY_AFTER)

    async def _go_over(
        self, pairs: Mapping[str, tuple[Partition, ...]]
    ) -> tuple[int, dict[str, tuple[Partition, ...]]]:
        """(keys of which somebody had missed something, pairs that could not be compared)."""
        self._waits = {}
        self._unreached = {}
        slots = asyncio.Semaphore(ROUNDS_MAX)
        loop = asyncio.get_running_loop()
        tasks = [
            loop.create_task(self._exchange(peer, places, slots), name=f"repair with {peer}")
            for peer, places in pairs.items()
        ]
        found = 0
        try:
            for task in tasks:
                found += await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return found, {peer: tuple(self._waits[peer]) for peer in pairs if peer in self._waits}

    async def _exchange(
        self, peer: str, places: tuple[Partition, ...], slots: asyncio.Semaphore
    ) -> int:
        """Of one peer, whatever the others take: in how many keys somebody had missed something."""
        async with slots:
            round_ = self._begin(peer, places, self._tally)
            if round_ is None:
                self._waits[peer] = dict.fromkeys(places, DOWN)
                self._unreached[peer] = DOWN
                return 0
            self._rounds.append(round_)
            while round_.due is not None:
                await self._sleep(max(round_.due - self._clock.monotonic(), 0.0))
                try:
                    await round_.advance()
                except PeerFailed as failed:
                    self._unreached[peer] = failed.reason
            self._rounds.remove(round_)
            self._end(round_)
            self._done += len(round_.clean)
            if round_.left_out:
                self._waits[peer] = dict(round_.left_out)
            return round_.found
