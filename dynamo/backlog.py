"""Writes that came while the storage was too far behind to take them, tried again in their order.

The storage refuses such a write at once and without effect (`storage_busy`), so the request can be
carried out again as a whole. That smooths a burst; what does not pass in time, or does not fit in
here, is refused. Knows nothing of what the requests do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from dynamo.metrics import Metrics
from dynamo.ports import Call, Clock, Handler, Timer
from dynamo.rpc.messages import NO_HINT, Mint, Owe, Refused, Request, Store

RETRY_SECONDS: Final = 0.005
REQUESTS_MAX: Final = 1024
BYTES_MAX: Final = 32 << 20

BUSY: Final = "this node's storage is behind with its writes; try again"


#: (class, partition, routing key).
RecordName = tuple[int, int, bytes]


class _Waiting(NamedTuple):
    handler: Handler
    message: Request
    call: Call
    size: int
    until: float


class Backlog:
    """At most 1,024 requests of 32 MiB together, each until its deadline at most."""

    def __init__(self, *, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._count = metrics.count
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._timer: Timer | None = None
        self._retrying = False

    def __repr__(self) -> str:
        return f"Backlog({len(self._waiting)} requests, {self._bytes} bytes)"

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def bytes(self) -> int:
        """What those that wait hold."""
        return self._bytes

    def keys(self) -> Iterator[RecordName]:
        """What the messages that wait are about: (class, partition, routing key)."""
        for message in self._messages():
            yield message.cls, message.partition, message.key

    def hinted(self) -> Iterator[tuple[int, int]]:
        """The (class, partition) of those that are to become hints."""
        for message in self._messages():
            if not isinstance(message, Owe) and message.hint_for != NO_HINT:
                yield message.cls, message.partition

    def _messages(self) -> Iterator[Mint | Store | Owe]:
        for one in self._waiting:
            assert isinstance(one.message, Mint | Store | Owe), "nothing else is put off"
            yield one.message

    def wait(
        self, handler: Handler, message: Request, call: Call, size: int, *, share: float = 1.0
    ) -> bool:
        """Call `handler(message, call)` again soon; False if it cannot wait. `size`: bytes it holds;
        `share`: of the time it came with, what it may wait here before it is refused."""
        until = call.deadline - (1.0 - share) * message.deadline_ms / 1000
        if (
            len(self._waiting) >= REQUESTS_MAX
            or self._bytes + size > BYTES_MAX
            or self._clock.monotonic() + RETRY_SECONDS >= until
        ):
            return False
        one = _Waiting(handler, message, call, size, until)
        self._bytes += size
        if self._retrying:  # the oldest stays the first
            self._waiting.appendleft(one)
        else:
            self._waiting.append(one)
            self._count["writes_waited"] += 1
        if self._timer is None:
            self._timer = self._clock.call_later(RETRY_SECONDS, self._retry)
        return True

    def close(self) -> None:
        """Refuse what waits; nothing of it was carried out."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            self._take().call.reply(Refused("not_ready", True, "this node is stopping"))

    def _take(self) -> _Waiting:
        one = self._waiting.popleft()
        self._bytes -= one.size
        return one

    def _retry(self) -> None:
        """Carry out what waits, the oldest first, until the storage is busy again."""
        self._timer = None
        self._retrying = True
        try:
            while self._waiting and self._timer is None:
                one = self._take()
                if self._clock.monotonic() >= one.until:
                    self._count["writes_waited_in_vain"] += 1
                    is_past = self._clock.monotonic() >= one.call.deadline
                    code, detail = ("deadline_past", "") if is_past else ("storage_busy", BUSY)
                    one.call.reply(Refused(code, True, detail))
                else:
                    one.handler(one.message, one.call)
        finally:
            self._retrying = False
            if self._waiting and self._timer is None:
                self._timer = self._clock.call_later(RETRY_SECONDS, self._retry)
