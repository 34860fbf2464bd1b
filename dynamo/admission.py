"""Which requests of clients a node takes, decided before anything is done for them (DESIGN 6, I19).

There are bounds on how many are in flight, on the bytes they bring, and on the work that is queued: a
loop that has been more than 50 ms behind for 100 ms takes no more until it has caught up. Who has more
than its share while others come is refused first. Knows nothing of HTTP, of replicas or of what requests
ask for; what peers ask is never shed here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from dynamo.config import REQUEST_BYTES_DEFAULT, REQUESTS_DEFAULT
from dynamo.errors import DynamoError, Overloaded, TooManyRequests
from dynamo.metrics import Metrics
from dynamo.ports import Clock, Timer

#: Seconds that the loop may be behind before requests are shed; before shares are looked at.
LAG_MAX: Final = 0.050
LAG_HIGH: Final = LAG_MAX / 2
#: Seconds for which it must be behind at every look: a burst, or one long turn, is no overload.
STANDING_SECONDS: Final = 0.1
#: Who was overloaded less than so many seconds ago is so again at the first look.
RELAPSE_SECONDS: Final = 1.0
#: However late it is, so many are carried out: under enough clients that ask again at once, refusing
#: alone takes longer than LAG_MAX. They are some milliseconds of work.
LATE_RUNNING_MAX: Final = 32
#: Seconds between two looks while there is anything to do.
LOOK_INTERVAL: Final = 0.020
#: Part of the bounds from which on shares count, so that there is room for who has less.
SHARED_FROM: Final = 0.75
#: How much more than its equal part a client may have in flight.
SHARE_SLACK: Final = 1.25
#: Seconds for which a client that has made a request counts as one who comes.
SEEN_SECONDS: Final = 1.0
#: Milliseconds after which to try again: least and most. The draw keeps clients from coming together.
RETRY_MS: Final = (200, 3000)
#: Requests about the node itself: at once at most, those that wait for something, and the others.
ADMIN_MAX: Final = 16
HEALTH_MAX: Final = 64

_DRAW_BYTES: Final = 2


class Client:
    """A remote address that is connected. `running`, `bytes`: of its requests in flight."""

    __slots__ = ("address", "bytes", "connections", "running", "seen")

    def __init__(self, address: str) -> None:
        self.address = address
        self.connections = 0
        self.running = 0
        self.bytes = 0
        #: When it last made a request.
        self.seen = -math.inf

    def __repr__(self) -> str:
        return f"Client({self.address} running={self.running} bytes={self.bytes})"


class Lane:
    """Room of its own for requests that are not shed with those of clients."""

    __slots__ = ("limit", "running")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0


class Standing:
    """Tells a queue that does not drain from a burst, by how late a timer is: the least lag of
    STANDING_SECONDS decides, as in CoDel (Nichols, Jacobson 2012, `Controlling Queue Delay`)."""

    __slots__ = ("_above_since", "_limit", "_over_until")

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._above_since = math.inf
        self._over_until = -math.inf

    def note(self, lag: float, now: float) -> bool:
        """True while the queue stands. `lag`: what the look at `now` found (both seconds)."""
        if lag <= self._limit:
            self._above_since = math.inf
            return False
        self._above_since = min(self._above_since, now)
        if now < self._above_since + STANDING_SECONDS and now >= self._over_until:
            return False
        self._over_until = now + RELAPSE_SECONDS
        return True


class Admission:
    """The door of one node. A request is admitted, and released in any case; a connection joins, and
    leaves. It looks how late the loop is only while there is something to do.

    `running`, `bytes`: in flight. `lag`: seconds that the loop was behind at the last look.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        entropy: Callable[[int], bytes],
        metrics: Metrics,
        requests_max: int = REQUESTS_DEFAULT,
        bytes_max: int = REQUEST_BYTES_DEFAULT,
        lag_max: float = LAG_MAX,
    ) -> None:
        """`entropy`: so many random bytes. `lag_max`: seconds; infinity to take what comes."""
        self._clock = clock
        self._entropy = entropy
        self._count = metrics.count
        self._requests_max = requests_max
        self._bytes_max = bytes_max
        self.running = 0
        self.bytes = 0
        self.lag = 0.0
        self.health = Lane(HEALTH_MAX)
        self.admin = Lane(ADMIN_MAX)
        #: By address, those that have a connection: no more than there are connections.
        self._clients: dict[str, Client] = {}
        #: Below these all comes in without a look at who it is.
        self._shared_from = self._room = max(1, int(requests_max * SHARED_FROM))
        self._shared_bytes = int(bytes_max * SHARED_FROM)
        self._late = Standing(lag_max)
        self._high = Standing(min(lag_max, LAG_HIGH))
        self._is_late = False
        #: How many clients come now, as counted at that time.
        self._coming = 0
        self._counted_at = -math.inf
        self._timer: Timer | None = None
        self._due = 0.0
        #: True while nobody looks, and somebody should with the next request.
        self._sleeps = lag_max < math.inf

    def __repr__(self) -> str:
        state = (
            "late" if self._is_late else "full" if self.running >= self._requests_max else "open"
        )
        return (
            f"Admission({state} running={self.running} bytes={self.bytes}"
            f" lag={self.lag * 1000:.0f}ms clients={len(self._clients)})"
        )

    # Connections --------------------------------------------------------------------------------

    def join(self, address: str) -> Client:
        """The client of one more connection from there."""
        client = self._clients.get(address)
        if client is None:
            client = self._clients[address] = Client(address)
        client.connections += 1
        return client

    def leave(self, client: Client) -> None:
        """One of its connections has ended. What still runs of it is released all the same."""
        client.connections -= 1
        if not client.connections:
            del self._clients[client.address]

    # Requests -----------------------------------------------------------------------------------

    def admit(self, client: Client, size: int, now: float) -> None:
        """Take a request that brings so many bytes; `release` it later. Raises Overloaded and
        TooManyRequests: nothing was done, nothing is to be released."""
        if self.running >= self._room or self.bytes + size > self._shared_bytes:
            self._judge(client, size, now)
        self.running += 1
        self.bytes += size
        client.running += 1
        client.bytes += size
        client.seen = now
        if self._sleeps:
            self._watch()

    @property
    def is_crowded(self) -> bool:
        """True while requests take so much of the room there is that shares count."""
        return self.running >= self._shared_from or self.bytes > self._shared_bytes

    def release(self, client: Client, size: int) -> None:
        """A request that was admitted has ended, however it did."""
        self.running -= 1
        self.bytes -= size
        client.running -= 1
        client.bytes -= size

    def enter(self, lane: Lane) -> None:
        """Take a request in a lane of its own, then `lane.running -= 1`. Raises Overloaded."""
        if lane.running >= lane.limit:
            raise self._shed("lane")
        lane.running += 1

    def close(self) -> None:
        """Look no more."""
        self._sleeps = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _judge(self, client: Client, size: int, now: float) -> None:
        """Raises where a request must not come in. A request that is alone always may."""
        client.seen = now
        crowded = self.bytes + size > self._shared_bytes
        if self._is_over_share(client, crowded=crowded, now=now):
            raise self._shed("share")
        if self._is_late and self.running >= LATE_RUNNING_MAX:
            raise self._shed("lag")
        if self.running >= self._requests_max:
            raise self._shed("requests")
        if self.bytes and self.bytes + size > self._bytes_max:
            raise self._shed("bytes")

    def _is_over_share(self, client: Client, *, crowded: bool, now: float) -> bool:
        """True if it has more in flight than an equal part for each who comes, and is not alone."""
        if client.running < 2:
            return False
        if now >= self._counted_at + LOOK_INTERVAL:
            # All of them are counted, so not for every request that is shed.
            self._counted_at = now
            since = now - SEEN_SECONDS
            self._coming = sum(
                1 for one in self._clients.values() if one.running or one.seen >= since
            )
        if self._coming < 2:
            return False
        is_over = client.running * self._coming > SHARE_SLACK * self.running
        return is_over or (crowded and client.bytes * self._coming > SHARE_SLACK * self.bytes)

    def _shed(self, why: str) -> DynamoError:
        self._count[f"requests_shed_{why}"] += 1
        least, most = RETRY_MS
        drawn = int.from_bytes(self._entropy(_DRAW_BYTES), "big") / 256**_DRAW_BYTES
        retry_after_ms = least + int(drawn * (most - least))
        if why == "share":
            return TooManyRequests(
                "this client has more requests in flight here than its share; nothing was done",
                retry_after_ms=retry_after_ms,
            )
        return Overloaded(
            "this node has as much to do as it takes; nothing was done",
            reason=why,
            retry_after_ms=retry_after_ms,
        )

    # How late the loop is -----------------------------------------------------------------------

    def _watch(self) -> None:
        self._sleeps = False
        self._due = self._clock.monotonic() + LOOK_INTERVAL
        self._timer = self._clock.call_later(LOOK_INTERVAL, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        self.lag = lag = max(0.0, now - self._due)
        self._is_late = self._late.note(lag, now)
        is_high = self._high.note(lag, now)
        self._room = 0 if is_high else self._shared_from
        if self.running or lag > LAG_HIGH:
            self._watch()
        else:
            self.lag = 0.0
            self._sleeps = True
