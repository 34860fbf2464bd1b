"""How a node learns the bucket properties that it missed.

Gossip carries a digest of what each has: whoever meets another one asks for what is behind it, and who
is asked and has not the same asks back. So what a change has left at some reaches all, and nodes that
nobody gave any properties say nothing of them.

A change does not wait for who is down. So a node that starts lacks what it may have missed: it asks each
peer as it is connected, until one that was not away itself has told all it has, or all that are
connected have told.
Knows nothing of disks, nor of what properties say.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from dynamo.ask import ask
from dynamo.metrics import Metrics
from dynamo.ports import Call, Clock, Transport
from dynamo.property_keeper import PropertyKeeper
from dynamo.property_table import Name
from dynamo.rpc.messages import (
    PROPERTY_ENTRIES_MAX,
    AskProperties,
    Properties,
    PropertyEntry,
)

ASK_TIMEOUT: Final = 5.0
#: Seconds before a peer that shows the same digest as before, another one than this node's, is asked
#: again: two that differ for long, say by what one has no room for, do not go on about it.
AGAIN_INTERVAL: Final = 10.0


class Reach(Transport, Protocol):
    """A transport that says whether it has tried to reach everybody."""

    @property
    def attempted(self) -> bool:
        """True once each peer has been connected, or has failed to be once."""
        ...


class PropertyLearner:
    """Merges what peers have into a keeper, and tells them what that has."""

    def __init__(
        self,
        *,
        node_id: str,
        keeper: PropertyKeeper,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        #: Properties may be in force elsewhere that this node does not know of.
        self.lacks = True
        #: Not only maybe: a peer has said so.
        self.has_lost = False
        self._node_id = node_id
        self._keeper = keeper
        self._clock = clock
        self._count = metrics.count
        self._transport: Reach | None = None
        self._peers: tuple[str, ...] = ()
        #: Who is to be asked, in order; and when each was asked last for what it showed.
        self._due: dict[str, None] = {}
        self._asked_for: dict[str, tuple[float, bytes]] = {}
        #: Who has told all it has since this node began to lack some.
        self._told: dict[str, None] = {}
        self._wake = asyncio.Event()

    def attach(self, transport: Reach) -> None:
        """Ask by this transport."""
        self._transport = transport

    def adopt(self, members: tuple[str, ...]) -> None:
        """Learn from these nodes, this one aside."""
        self._peers = tuple(node for node in members if node != self._node_id)
        self.lacks = self.lacks and bool(self._peers)
        for node in self._peers:
            self.on_connected(node)
        self._wake.set()

    def on_connected(self, node: str) -> None:
        """Ask a peer soon, if there is anything here that it may not have, or the other way round."""
        if self.lacks or len(self._keeper.table):
            self._ask_soon(node)

    def note_away(self) -> None:
        """This node may have been held for down, and missed changes: it asks at once. Meanwhile it goes
        by what it has, as it did while it was cut off: were clients refused by who is only late, an
        overload would make its own work."""
        for node in self._connected():
            self._ask_soon(node)

    def note_loss(self) -> None:
        """A peer has said that this node has lost some of what it had: it is to learn all again."""
        self.lacks = self.has_lost = True
        self._told = {}
        self.note_away()

    def on_digest(self, node: str, digest: bytes) -> None:
        """A peer shows what it has: where it is not what is here, or that is to be told, it is asked."""
        if self.lacks and node not in self._told:
            self._ask_soon(node)
        elif self.lacks and not self.withholds:
            self.lacks = self.has_lost = False  # nobody is left who could tell
        if digest != self._keeper.table.digest():
            asked_at, shown = self._asked_for.get(node, (-AGAIN_INTERVAL, b""))
            if digest != shown or self._clock.monotonic() - asked_at >= AGAIN_INTERVAL:
                self._asked_for[node] = (self._clock.monotonic(), digest)
                self._ask_soon(node)

    @property
    def withholds(self) -> bool:
        """True while what is here cannot be gone by: somebody may still tell more."""
        transport = self._transport
        if not self.lacks or transport is None:
            return False
        up = self._connected()
        if self.has_lost and not up:
            return True
        return not transport.attempted or any(node not in self._told for node in up)

    def _connected(self) -> list[str]:
        transport = self._transport
        if transport is None:
            return []
        return [node for node in self._peers if transport.is_connected(node)]

    def on_ask(self, message: AskProperties, call: Call) -> None:
        """Show a page of what is on disk here, or nothing where the peer has the same; and where it
        has not, ask it back."""
        table = self._keeper.table
        if message.digest == table.digest():
            call.reply(Properties((), False, self.lacks))
            return
        self.on_digest(call.peer, message.digest)
        after = (message.after_type, message.after_bucket)
        entries, more = table.page(after, count_max=PROPERTY_ENTRIES_MAX)
        call.reply(Properties(entries, more, self.lacks))

    def _ask_soon(self, node: str) -> None:
        if node != self._node_id:
            self._due[node] = None
            self._wake.set()

    async def run(self) -> None:
        """Ask those who are to be asked, one after the other; for ever."""
        assert self._transport is not None
        while True:
            await self._wake.wait()
            self._wake.clear()
            # Without a ring nothing could be taken: then it is asked once there is one.
            while self._due and self._keeper.classes:
                node = next(iter(self._due))
                del self._due[node]
                if self._transport.is_connected(node):
                    await self._learn_from(node, self._transport)

    async def _learn_from(self, node: str, transport: Reach) -> None:
        """Merge what the peer has, page by page; what does not come is asked for at its next digest."""
        told = self._told
        after: Name = (b"", b"")
        taken: list[PropertyEntry] = []
        while True:
            digest = self._keeper.table.digest()
            message = AskProperties(int(ASK_TIMEOUT * 1000), digest, *after)
            answer = await ask(transport, node, message, ASK_TIMEOUT)
            if not isinstance(answer, Properties):
                self._count["properties_asked_in_vain"] += 1
                return
            taken += self._keeper.merge(answer.entries)
            if not answer.more:
                break
            last = answer.entries[-1].name if answer.entries else after
            if last <= after:
                self._count["properties_pages_malformed"] += 1
                return
            after = last
        if self.lacks:
            await self._keeper.settled()
            # Those that could not be kept are not in force: they are asked for again.
            if all(map(self._keeper.table.has, taken)) and told is self._told:
                self._note_told(node, answer)

    def _note_told(self, node: str, answer: Properties) -> None:
        """What the peer has is in force here, too."""
        self._told[node] = None
        if not answer.lacks or not self.withholds:
            self.lacks = self.has_lost = False
