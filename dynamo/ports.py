"""What the services need from the world: a clock, a transport, a storage.

Protocols only. Production puts adapters behind them, the simulator its own; the services cannot
tell. All run on one event loop and one thread; callbacks are plain calls and must not block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec

from dynamo.rpc.messages import Reply, Request

#: Why a request to a peer ended without a final reply.
#: "not_sent": it certainly never reached the peer (no connection, queue full).
#: "lost": the connection broke after it was handed to the network; it may have been executed.
#: "timed_out": no final reply by the deadline; it may have been executed.
FailureKind = Literal["not_sent", "lost", "timed_out"]


#: Why, for people, of a node that was asked and has not answered by the deadline.
NO_ANSWER: Final = "no answer in time"


class Failure(NamedTuple):
    """The end of a request that got no final reply."""

    kind: FailureKind
    reason: str


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Time as this node sees it."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since 1970; may jump. No safety property rests on it."""
        ...

    def wall_ns(self) -> int:
        """Nanoseconds since 1970, by the same clock as `wall_ms`: for measuring."""
        ...

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` once, `delay` seconds from now, unless cancelled."""
        ...


class Waiter(Protocol):
    """Who asked. Called from the event loop; `on_reply` may be called before `request` returns
    (loopback), several times per node (a Mint answers twice), never after `on_failure` of that
    node or after a final reply."""

    def on_reply(self, node: str, reply: Reply) -> None: ...

    def on_failure(self, node: str, failure: Failure) -> None: ...


class Transport(Protocol):
    """Requests to nodes by id, this node included."""

    def request(
        self, targets: Sequence[str], message: Request, waiter: Waiter, timeout: float
    ) -> None:
        """Send one message to each target; encoded once. `timeout` in seconds: after it the
        waiter gets a `timed_out` failure and later replies are dropped and counted. Never raises
        for an unreachable peer: `on_failure` may be called before this returns."""
        ...

    def is_connected(self, node: str) -> bool:
        """True if a request now would be handed to the network (always, for this node)."""
        ...

    def stalled_for(self, node: str) -> float:
        """Seconds since the oldest request to the node that has had no reply at all; 0.0 if none."""
        ...


class Opinions(Protocol):
    """What this node thinks of the other members, itself never among them. Both sets are the same
    objects all along, so that who asks for each request can keep them."""

    @property
    def down(self) -> AbstractSet[str]:
        """Members that requests do not reach, or that leave all unanswered: others stand in."""
        ...

    @property
    def doubted(self) -> AbstractSet[str]:
        """Members that are up, and so slow or silent now that they are asked last to mint, and for
        bodies."""
        ...


class Call(Protocol):
    """One request as the answering side sees it."""

    #: Who asked: a node id.
    peer: str
    #: Monotonic second after which nobody waits for the answer.
    deadline: float

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        """Send an answer. Exactly one has `last=True`. Never raises for a peer that went away."""
        ...


#: Executes the requests of one message class: called with the message and its call. A dictionary
#: from class to handler is what ties the two, so the message's type cannot be said here.
Handler = Callable[[Any, Call], None]


class Prompt:
    """A `Handler` that can nearly always answer at once. `at_once` gives the reply, or None: then, and
    only then, it is called as any other."""

    __slots__ = ("at_once", "later")

    def __init__(self, at_once: Callable[[Any], Reply | None], later: Handler) -> None:
        self.at_once = at_once
        self.later = later

    def __call__(self, message: Any, call: Call) -> None:
        self.later(message, call)


Family = Literal["records", "hints", "facts"]


class Write(NamedTuple):
    """One entry of an atomic batch; `value` None deletes."""

    family: Family
    key: bytes
    value: bytes | None


#: What an open of a storage found: "clean", or what was lost.
OpeningState = Literal["clean", "lost_tail", "point_in_time", "rebuilt", "empty"]


class Opening(msgspec.Struct, frozen=True):
    """What an open found. `why`: one line, "" if clean. `recovered`: the write number it goes on
    from, everything up to which is synced; `noted`: the highest known to have been synced before."""

    state: OpeningState
    why: str
    recovered: int
    noted: int


#: Refusals of a storage that may pass without a restart of the node.
PASSING_REFUSALS: Final = ("disk_full", "damaged")


class Storage(Protocol):
    """An ordered map per family, written through a log.

    Writes are atomic and applied in order, across families alike; after a crash a prefix of them
    survives that holds at least everything flushed.
    """

    @property
    def write_number(self) -> int:
        """Number of the last write applied; grows by at least 1 a write, also across restarts."""
        ...

    @property
    def synced_number(self) -> int:
        """Number of the last write known to be on disk."""
        ...

    def refusal(self, *, reserve: bool = False) -> str | None:
        """Why writes are refused now (`disk_full`, `damaged`, `sync_failed`, ...), or None. No I/O.

        `reserve`: why those are that may use the space that is kept free, as deletes may.
        """
        ...

    def get(self, family: Family, key: bytes) -> bytes | None:
        """The value, or None. Raises StorageCorrupt, StorageError."""
        ...

    def put(self, family: Family, key: bytes, value: bytes, *, reserve: bool = False) -> int:
        """Write one entry, unsynced; returns its write number. `reserve` as for `refusal`.

        Raises StorageRefusesWrites (nothing happened) or StorageError (indefinite).
        """
        ...

    def write(self, writes: Sequence[Write], *, reserve: bool = False) -> int:
        """Write a batch atomically, unsynced; returns its write number. `reserve` and what it raises
        as for `put`."""
        ...

    def scan(
        self, family: Family, start: bytes, end: bytes, *, count_max: int, bytes_max: int
    ) -> list[tuple[bytes, bytes]]:
        """Entries with start <= key < end in order; stops after count_max entries or once bytes_max
        bytes were collected (at least one entry if there is one). Raises StorageCorrupt."""
        ...

    async def flush(self) -> int:
        """Put on disk everything written before the call; returns the number it is synced up to.

        Raises StorageError at the first failed sync; from then on writes are refused for good
        (no retry: a failed fsync may have dropped the pages it could not write).
        """
        ...

    async def close(self) -> None:
        """Flush and release the files."""
        ...
