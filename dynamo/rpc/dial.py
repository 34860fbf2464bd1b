"""Keeps the addresses of peers dialed, with back-off and jitter, as long as they are not connected.

One task an address. An address whose node is connected, whoever dialed and wherever, is left alone.
Knows nothing of what a connection says.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from dynamo.metrics import Metrics
from dynamo.ports import Clock
from dynamo.rpc.connection import Connection
from dynamo.rpc.handshake import DUPLICATE, SELF
from dynamo.rpc.network import Network

BACKOFF_SECONDS_MIN: Final = 0.05
BACKOFF_SECONDS_MAX: Final = 1.0
CONNECT_SECONDS: Final = 5.0
#: A connection that lived this long is taken for a success.
STEADY_SECONDS: Final = 1.0

log = logging.getLogger("dynamo.rpc")


class _Dial:
    """One address."""

    def __init__(self, address: str, attempted: asyncio.Future[None]) -> None:
        self.address = address
        #: Who is said to be there; "" if nobody says.
        self.expected = ""
        self.attempted = attempted
        self.wake = asyncio.Event()
        #: Who is there, as far as it is known and connected.
        self.node = ""
        #: It is this very process: never dialed again.
        self.own = False
        #: Somebody was there at the last attempt, be it to end it.
        self.answered = False
        self.failures = 0
        self.last_error = ""
        self.task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        who = "self" if self.own else self.node or "?"
        return f"{self.address}={who}" + (f" failures={self.failures}" if self.failures else "")


class Dialer:
    """`open` makes the connection object for an address; `is_connected` is asked by node id."""

    def __init__(
        self,
        *,
        network: Network,
        clock: Clock,
        random: random.Random,
        metrics: Metrics,
        open: Callable[[str], Connection],
        is_connected: Callable[[str], bool],
    ) -> None:
        self._network = network
        self._clock = clock
        self._random = random
        self._count = metrics.count
        self._open = open
        self._is_connected = is_connected
        self._dials: dict[str, _Dial] = {}
        self._ending: dict[asyncio.Task[None], None] = {}

    def __repr__(self) -> str:
        return f"Dialer({', '.join(map(repr, self._dials.values()))})"

    def dial(self, addresses: Iterable[str] | Mapping[str, str]) -> None:
        """Keep exactly these addresses connected. Connections that exist stay.

        Of a mapping the values are the ids of the nodes that should be there, "" where that is not
        known: an address is left alone while its node is connected by another one.
        """
        wanted = dict(addresses) if isinstance(addresses, Mapping) else dict.fromkeys(addresses, "")
        for address in [address for address in self._dials if address not in wanted]:
            self._drop(self._dials.pop(address))
        loop = asyncio.get_running_loop()
        was_attempted = bool(self._dials) and self.attempted
        for address, expected in wanted.items():
            known = self._dials.get(address)
            if known is not None:
                known.expected = expected
                known.wake.set()
            else:
                dial = self._dials[address] = _Dial(address, loop.create_future())
                dial.expected = expected
                if was_attempted:
                    _attempted(dial)
                dial.task = loop.create_task(self._keep(dial), name=f"dial {address}")

    def opened(self, node_id: str, own_address: str, dialed: str | None) -> None:
        """A connection to a node that says it lives at `own_address` is open."""
        for dial in self._dials.values():
            if dial.address in (own_address, dialed):
                dial.node = node_id
            elif dial.expected != node_id:
                continue
            # Maybe by the other side, while an attempt of this one still hangs.
            _attempted(dial)
            dial.wake.set()

    def lost(self, node_id: str, lasted: float) -> None:
        """The connection to the node has ended after `lasted` seconds."""
        for dial in self._dials.values():
            if dial.node == node_id:
                dial.node = ""
                dial.failures = 0 if lasted >= STEADY_SECONDS else dial.failures + 1
                dial.wake.set()
            elif dial.expected == node_id:
                dial.wake.set()

    @property
    def attempted(self) -> bool:
        """True if each address dialed has been connected, or has failed once; stays so when there are
        more later."""
        return all(dial.attempted.done() for dial in self._dials.values())

    @property
    def reaching(self) -> bool:
        """True while an address that is not connected may be so soon: it has not been tried yet, or
        somebody is there, who has refused perhaps, as one does who has to tell something first."""
        return any(
            not self._settled(dial) and (dial.answered or not dial.attempted.done())
            for dial in self._dials.values()
        )

    async def first_attempts_done(self) -> None:
        """Return once each address dialed now has been connected, or has failed once."""
        waited = [dial.attempted for dial in self._dials.values() if not dial.attempted.done()]
        if waited:
            await asyncio.wait(waited)

    async def close(self) -> None:
        """Dial no more; every task has ended when this returns."""
        self.dial(())
        if self._ending:
            await asyncio.wait(list(self._ending))

    def _drop(self, dial: _Dial) -> None:
        _attempted(dial)
        assert dial.task is not None
        dial.task.cancel()
        self._ending[dial.task] = None
        dial.task.add_done_callback(lambda task: self._ending.pop(task, None))

    def _settled(self, dial: _Dial) -> bool:
        return dial.own or any(
            node != "" and self._is_connected(node) for node in (dial.node, dial.expected)
        )

    async def _keep(self, dial: _Dial) -> None:
        while True:
            dial.wake.clear()
            if self._settled(dial):
                _attempted(dial)
                await dial.wake.wait()
                await self._pause(dial)
                continue
            try:
                await self._attempt(dial)
            except (OSError, ValueError) as error:
                self._failed(dial, str(error) or type(error).__name__)
            _attempted(dial)
            if not self._settled(dial):
                await self._pause(dial)

    async def _attempt(self, dial: _Dial) -> None:
        """Connect and see the handshake through. Raises OSError, ValueError (no address)."""
        connection = self._open(dial.address)
        settled = asyncio.Event()
        connection.on_settled = settled.set
        self._count["rpc_dials"] += 1
        connected = False
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._network.connect(dial.address, lambda: connection)
            connected = True
            await settled.wait()
        finally:
            if connection.state != "open":
                connection.close("not dialed any more")
            if not connected:
                # uvloop tells a protocol nothing more when its connect is cancelled half way.
                connection.connection_lost(None)
            dial.answered = connected
        if connection.state == "open":
            dial.last_error = ""
            return
        refusal = connection.refusal
        if refusal is not None and refusal.code == SELF:
            dial.own = True
        elif (refusal is not None and refusal.code == DUPLICATE) or self._is_connected(
            connection.node_id
        ):
            dial.node = connection.node_id
        else:
            self._failed(dial, connection.reason)

    def _failed(self, dial: _Dial, error: str) -> None:
        dial.failures += 1
        self._count["rpc_dials_failed"] += 1
        if error != dial.last_error:
            log.info("cannot connect to %s: %s", dial.address, error)
        dial.last_error = error

    async def _pause(self, dial: _Dial) -> None:
        """Back off; cut short when the node gets connected."""
        longest = min(BACKOFF_SECONDS_MAX, BACKOFF_SECONDS_MIN * 2.0 ** min(dial.failures, 10))
        shortest = longest / 2 if dial.failures else 0.0
        until = self._clock.monotonic() + self._random.uniform(shortest, longest)
        while not self._settled(dial):
            left = until - self._clock.monotonic()
            if left <= 0:
                return
            dial.wake.clear()
            timer = self._clock.call_later(left, dial.wake.set)
            try:
                await dial.wake.wait()
            finally:
                timer.cancel()


def _attempted(dial: _Dial) -> None:
    if not dial.attempted.done():
        dial.attempted.set_result(None)
