"""What a node has under way that may still carry a record somewhere, told apart by when it began.

Before a tombstone goes for good, every member has to say that nothing is left of what it had under way
when it was asked: a read that may repair yet, a write whose stragglers are out, a page that is read from
a peer to be merged in here. Whatever begins notes the *generation* that it began in, a number, as its
`flight`; whoever wants to know begins a new generation, and waits until nothing of an older one is
left. So an operation pays for it by reading one attribute.

A `Waiter` that may send more, of what it has got, once the requests end that it waits for, says by its
`flight` when it began; one without that attribute sends nothing more, and needs none: what it has sent
is waited for where it was sent to. Who holds a record across an `await`, with no request of a waiter
with a `flight` under way meanwhile, takes a `hold`. Knows nothing of requests, nor of what is carried.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Flights:
    """Of one start of a node."""

    __slots__ = ("_held", "now")

    def __init__(self) -> None:
        #: The generation of what begins now.
        self.now = 0
        #: Of each generation with holds, how many.
        self._held: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"Flights({self.now}, held={self._held})"

    def begin(self) -> int:
        """Begin a generation: what was under way before is of a lower one than is returned."""
        self.now += 1
        return self.now

    @contextmanager
    def hold(self) -> Iterator[int]:
        """Meanwhile records are carried that no waiter of a request stands for; gives the generation."""
        flight = self.now
        self._held[flight] = self._held.get(flight, 0) + 1
        try:
            yield flight
        finally:
            left = self._held[flight] - 1
            if left:
                self._held[flight] = left
            else:
                del self._held[flight]

    def holds_before(self, generation: int) -> int:
        """How many holds are left that began before this generation."""
        return sum(count for flight, count in self._held.items() if flight < generation)
