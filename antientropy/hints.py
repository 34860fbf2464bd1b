"""What a node keeps for absent ones: how much, since when, and whether it may take more.

An account of hints, one for each (target, key): how many and how large they are, by target, and since
when hints have been taken for it. Targets are names, hints are sizes: values are never seen. Time
(milliseconds since 1970) is an argument, and so is whether a target is up. Knows nothing of storage.
"""

from __future__ import annotations

from typing import Final

import msgspec

#: Hints that are taken for a target that is up: above, its keys are left to anti-entropy.
LIVE_MAX: Final = 1_000
#: Hints are told apart by age in steps of so many milliseconds.
_STEP_MS: Final = 5_000


class Held(msgspec.Struct, frozen=True):
    """Hints for one target. `bytes`: of keys and values. `since_ms`: when the first was taken since the
    target was last steadily well. `oldest_ms`: when the oldest of them was taken,
    or up to five seconds before."""

    target: str
    count: int
    bytes: int
    since_ms: int
    oldest_ms: int = 0


class _Tally:
    """Of one target. `since_ms`: -1 if no window is open. `steps`: how many of its hints were taken in
    each step of time since 1970: as many entries as a window has steps, whatever the count."""

    __slots__ = ("bytes", "count", "is_steady", "since_ms", "steps")

    def __init__(self) -> None:
        self.count = 0
        self.bytes = 0
        self.since_ms = -1
        self.is_steady = False
        self.steps: dict[int, int] = {}


class HintBook:
    """The account of one node."""

    def __init__(self, *, window_ms: int, bytes_max: int) -> None:
        """`window_ms`: for so long hints are taken for a target; 0 for never. `bytes_max`: of all."""
        self._window_ms = window_ms
        self._bytes_max = bytes_max
        self._targets: dict[str, _Tally] = {}
        self.bytes = 0

    def __repr__(self) -> str:
        return f"HintBook({self.bytes} of {self._bytes_max} bytes, {', '.join(self._targets)})"

    # Decisions ----------------------------------------------------------------------------------

    def why_not(
        self, target: str, now_ms: int, *, grows: int, is_new: bool, is_live: bool = False
    ) -> str:
        """Why a hint is not taken for this target: `window`, `full` or `live`; "" if it is.

        `grows`: bytes by which the hints grow. One that only changes a hint that is there (`is_new`
        False) is taken after the window too: what that hint holds must not be lost, and a hint that
        does not grow has its room.
        """
        tally = self._targets.get(target)
        if is_new:
            since_ms = now_ms if tally is None or tally.since_ms < 0 else tally.since_ms
            # A clock that went back must not hold the window open.
            if tally is not None and since_ms > now_ms:
                since_ms = tally.since_ms = now_ms
            if now_ms - since_ms >= self._window_ms:
                return "window"
            if is_live and tally is not None and tally.count >= LIVE_MAX:
                return "live"
        if grows > 0 and self.bytes + grows > self._bytes_max:
            return "full"
        return ""

    def may_forget(self, target: str) -> bool:
        """True if the window can begin anew: no hint is left, and the target has been well since."""
        tally = self._targets.get(target)
        return tally is not None and tally.is_steady and tally.count == 0 and tally.since_ms >= 0

    # What there is ------------------------------------------------------------------------------

    def targets(self) -> tuple[str, ...]:
        """All that are known of, with hints or without, in order."""
        return tuple(sorted(self._targets))

    def count(self, target: str) -> int:
        """Hints for this target."""
        tally = self._targets.get(target)
        return 0 if tally is None else tally.count

    def since_ms(self, target: str) -> int:
        """When the target's window began; -1 if none is open."""
        tally = self._targets.get(target)
        return -1 if tally is None else tally.since_ms

    def held(self, *, empty: bool = False) -> tuple[Held, ...]:
        """Each target with hints, in order of name; with `empty` those without any too."""
        return tuple(
            _shown(target, tally)
            for target, tally in sorted(self._targets.items())
            if tally.count or empty
        )

    # Changes ------------------------------------------------------------------------------------

    def know(self, target: str) -> None:
        """There may be hints for this target."""
        self._targets.setdefault(target, _Tally())

    def open(self, target: str, since_ms: int) -> None:
        """The target's window began then."""
        self._of(target).since_ms = since_ms

    def close(self, target: str) -> None:
        """The target's window is over, and nothing of it is left."""
        tally = self._targets.get(target)
        if tally is not None and not tally.count:
            del self._targets[target]

    def steady(self, target: str) -> None:
        """The target has been up without a break for long enough."""
        tally = self._targets.get(target)
        if tally is not None:
            tally.is_steady = True

    def taken(self, target: str) -> None:
        """A hint is taken for the target, which misses something again."""
        self._of(target).is_steady = False

    def add(self, target: str, size: int, created_ms: int) -> None:
        """There is one more hint, of `size` bytes."""
        tally = self._of(target)
        tally.count += 1
        tally.bytes += size
        self.bytes += size
        step = created_ms // _STEP_MS
        tally.steps[step] = tally.steps.get(step, 0) + 1

    def grow(self, target: str, size: int) -> None:
        """A hint has grown by so many bytes, or shrunk."""
        self._of(target).bytes += size
        self.bytes += size

    def remove(self, target: str, size: int, created_ms: int) -> None:
        """A hint is gone, which had been added so."""
        tally = self._of(target)
        tally.count -= 1
        tally.bytes -= size
        self.bytes -= size
        step = created_ms // _STEP_MS
        left = tally.steps.get(step, 0) - 1
        if left > 0:
            tally.steps[step] = left
        else:
            tally.steps.pop(step, None)
        if not tally.count:
            tally.steps.clear()  # a damaged hint does not say when it was added

    def clear(self) -> None:
        """Nothing is known any more."""
        self._targets.clear()
        self.bytes = 0

    def _of(self, target: str) -> _Tally:
        tally = self._targets.get(target)
        if tally is None:
            tally = self._targets[target] = _Tally()
        return tally


def _shown(target: str, tally: _Tally) -> Held:
    oldest_ms = min(tally.steps, default=0) * _STEP_MS
    since_ms = oldest_ms if tally.since_ms < 0 else tally.since_ms
    return Held(target, tally.count, tally.bytes, since_ms, oldest_ms)
