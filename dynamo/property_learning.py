"""How a node learns the bucket properties that it missed.

Whoever has any asks each peer that is connected, and every 10 s the next one; a digest spares the
answer where both have the same. Who is asked and has not the same asks back. So what an uncertain
change has left at some reaches all, and nodes that nobody gave any properties say nothing of them.
A node that may have lost some asks in any case, and lacks them until one peer has told all it has.
Knows nothing of disks, nor of what properties say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

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
#: Seconds between two comparisons, each with the next peer.
COMPARE_INTERVAL: Final = 10.0


class PropertyLearner:
    """Merges what peers have into a keeper, and tells them what that has."""

    def __init__(
        self,
        *,
        node_id: str,
        keeper: PropertyKeeper,
        clock: Clock,
        metrics: Metrics,
        lacks: bool,
    ) -> None:
        """`lacks`: this node may have lost properties that it had."""
        #: Properties may be in force elsewhere that this node has had, and does not know of.
        self.lacks = lacks
        #: Not only maybe: a peer has said so.
        self.has_lost = False
        self._node_id = node_id
        self._keeper = keeper
        self._clock = clock
        self._count = metrics.count
        self._transport: Transport | None = None
        self._peers: tuple[str, ...] = ()
        #: Who is to be asked, in order, and when each was asked last.
        self._due: dict[str, None] = {}
        self._asked_at: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._turn = 0

    def attach(self, transport: Transport) -> None:
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

    def note_loss(self) -> None:
        """A peer has said that this node has lost some of what it had: it is to learn all again."""
        self.lacks = self.has_lost = True
        for node in self._peers:
            self.on_connected(node)

    def on_ask(self, message: AskProperties, call: Call) -> None:
        """Show a page of what is on disk here, or nothing where the peer has the same; and where it
        has not, ask it back."""
        table = self._keeper.table
        if message.digest == table.digest():
            call.reply(Properties(()))
            return
        asked_at = self._asked_at.get(call.peer, -COMPARE_INTERVAL)
        # Not over and over: two tables may differ for long, say by what one has no room for.
        if self._clock.monotonic() - asked_at >= COMPARE_INTERVAL:
            self._ask_soon(call.peer)
        after = (message.after_type, message.after_bucket)
        entries, more = table.page(after, count_max=PROPERTY_ENTRIES_MAX)
        call.reply(Properties(entries, more))

    def _ask_soon(self, node: str) -> None:
        if node != self._node_id:
            self._due[node] = None
            self._wake.set()

    async def run_comparing(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Now and then, have the next connected peer asked; for ever."""
        assert self._transport is not None
        while True:
            await sleep(COMPARE_INTERVAL)
            up = [node for node in self._peers if self._transport.is_connected(node)]
            if up:
                self._turn += 1
                self.on_connected(up[self._turn % len(up)])

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
                    self._asked_at[node] = self._clock.monotonic()
                    await self._learn_from(node, self._transport)

    async def _learn_from(self, node: str, transport: Transport) -> None:
        """Merge what the peer has, page by page; what does not come, comes at the next comparison."""
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
            self.lacks = not all(map(self._keeper.table.has, taken))
            self.has_lost = self.has_lost and self.lacks
