"""How far the delivery of hints to one target has come, and what keeps it up.

Hints are delivered in passes: each goes once over all of a target's, in the order of their keys. A
batch that fails is begun again where it began, after a while; a hint that the target refuses by itself
is passed over, and tried again in a later pass. A pass is clean if all that it met is delivered:
then nothing is left of what was there when it began. Decides only: time is handed in, and nothing is
sent from here.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from dynamo.pace import Recent

#: Seconds from a batch that failed to the next, at first and at most.
RETRY_FIRST: Final = 0.5
RETRY_MAX: Final = 30.0
#: The same where the target cannot take any for now, such as while its disk is full; and from a pass
#: in which the target refused some to the next.
REFUSED_FIRST: Final = 2.0
REFUSED_MAX: Final = 60.0
#: Codes with which a target refuses anything that is to be written, not this one record.
TAKES_NOTHING: Final = (
    *("disk_full", "damaged", "sync_failed", "storage_error", "storage_busy"),
    *("not_ready", "deadline_past"),
)


class Lane:
    """One target. Positions are those of `HintStore.page`; b"" is before the first hint."""

    __slots__ = (
        *("_ended", "_retry", "after", "bytes_delivered", "clean", "delivered", "in_flight"),
        *("in_pass", "is_busy", "left_out", "not_before", "passes", "recent", "refused"),
        *("target", "told", "up_since", "wanted", "why"),
    )

    def __init__(self, target: str) -> None:
        self.target = target
        #: There may be hints that no pass has met since they came.
        self.wanted = False
        self.in_pass = False
        #: Number of the last pass that began, and of the last that was clean.
        self.passes = 0
        self.clean = 0
        #: The next page begins after this position.
        self.after = b""
        self._ended = False
        self.in_flight = 0
        #: Nothing is sent before (monotonic seconds).
        self.not_before = 0.0
        self._retry = 0.0
        #: Why nothing is sent before that; "" if only to leave room for clients.
        self.why = ""
        #: What this pass, or the last, was refused record by record: how many, by code.
        self.refused: Counter[str] = Counter()
        #: How many this pass could not be told yet, since they are not on disk here.
        self.left_out = 0
        #: The target serves clients, as it said last.
        self.is_busy = False
        self.delivered = 0
        self.bytes_delivered = 0
        self.recent = Recent()
        #: Since when it has been up without a break; None while it is down.
        self.up_since: float | None = None
        #: `delivered` as it came up with hints waiting, until people are told that it has them.
        self.told: int | None = None

    def __repr__(self) -> str:
        state = f"pass {self.passes}" if self.in_pass else "idle"
        return f"Lane({self.target} {state} in_flight={self.in_flight} {self.why})"

    # What to do next ----------------------------------------------------------------------------

    def has_work(self) -> bool:
        """True if a page should be read, now or once the back-off is over."""
        return not self._ended if self.in_pass else self.wanted

    def may_send(self, now: float, in_flight_max: int) -> bool:
        """True if a page should be read at that time. Of the target being up it knows nothing."""
        return self.has_work() and self.in_flight < in_flight_max and now >= self.not_before

    def begin(self) -> None:
        """A page is about to be read: unless one is under way, a pass begins, over all there is now."""
        if self.in_pass:
            return
        assert self.in_flight == 0
        self.wanted = False
        self.in_pass = True
        self.passes += 1
        self.after = b""
        self._ended = False
        self.left_out = 0
        self.refused.clear()

    # What came of it ----------------------------------------------------------------------------

    def read(self, after: bytes, *, ended: bool, left_out: int = 0) -> None:
        """A page was read; the next begins at `after`, unless it was the last. `left_out`: hints that
        are there and not in it."""
        self.after = after
        self._ended = ended
        self.left_out += left_out

    def took(self, count: int, size: int, now: float) -> None:
        """The target has so many on its disk."""
        self.delivered += count
        self.bytes_delivered += size
        self.recent.note(count, size, now)

    def goes_on(self) -> None:
        """Some have left this disk: what put it off before is over."""
        self._retry = 0.0
        self.why = ""

    def go_back(self, start: bytes) -> None:
        """The batch whose page began there is to be sent anew."""
        self.after = start if self._ended else min(self.after, start)
        self._ended = False

    def back_off(self, why: str, now: float, *, refused: bool) -> None:
        """Send nothing for a while, longer each time; `refused`: by the target, which can tell."""
        first, most = (REFUSED_FIRST, REFUSED_MAX) if refused else (RETRY_FIRST, RETRY_MAX)
        self._retry = min(max(self._retry * 2, first), most)
        self.not_before = now + self._retry
        self.why = why

    def end_pass(self, now: float) -> bool:
        """True if the pass has ended just now, and was clean. After one that was not, another is due
        in a while."""
        if not (self.in_pass and self._ended) or self.in_flight:
            return False
        self.in_pass = False
        if self.refused:
            self.wanted = True
            code, _ = self.refused.most_common(1)[0]
            self.back_off(f"it refuses some: {code}", now, refused=True)
            return False
        if self.left_out:
            self.wanted = True
            self.back_off("some are not on disk here yet", now, refused=False)
            return False
        self.clean = self.passes
        return True

    def try_now(self, now: float) -> None:
        """Forget the back-off: the target is back, or somebody waits."""
        self._retry = 0.0
        self.why = ""
        self.not_before = now
