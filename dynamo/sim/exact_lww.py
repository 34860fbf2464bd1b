"""The last requests of a run at keys where the last write wins, some by clocks that are set wrong.

As in `dynamo.sim.exact` each answer can be foretold: the last write is shown alone, whoever has an old
context; a clock that lags goes on from what it has seen; one far ahead makes writes that do not count,
and harms none that come after. Knows nothing of faults.
"""

from __future__ import annotations

import asyncio
from typing import Final

from dynamo.requests import Count
from dynamo.sim.cluster import Cluster
from dynamo.sim.history import History, Operation, OperationKind, some
from dynamo.sim.workload import Client, Kept

#: So that there are some with the same owner, whatever the ring.
KEYS: Final = tuple(b"lwwfresh%d" % number for number in range(16))
#: Little, so that what clocks have seen from others that were a little ahead is adopted all the same.
LAG_MS: Final = 10_000
AHEAD_MS: Final = 600_000
_ARRIVED_SECONDS: Final = 1.0


class LastWriteExam:
    """Keys that nobody knows, asked by one client when all nodes are up and their clocks agree."""

    def __init__(
        self,
        client: Client,
        cluster: Cluster,
        history: History,
        *,
        timeout: float,
        problems: list[str],
    ) -> None:
        self._client = client
        self._cluster = cluster
        self._history = history
        self._timeout = timeout
        self._problems = problems
        key = KEYS[0]
        self._wrong, self._right = cluster.owners(key)[:2]
        shared = (one for one in KEYS[1:] if {self._wrong, self._right} <= set(cluster.owners(one)))
        self._keys = (key, *shared)

    async def take(self) -> None:
        """Make the requests; what is wrong goes to `problems`."""
        key, *others = self._keys
        await self._last_wins(key)
        if others:
            await self._lagging(key, others[0])
        await self._behind(key)
        await self._ahead(key)

    async def _last_wins(self, key: bytes) -> None:
        first = await self._put(key, self._wrong)
        await self._shows(key, first)
        old = self._client.last(key)
        second = await self._put(key, self._right)
        await self._shows(key, second)
        third = await self._ask("put", key, self._wrong, kept=old)
        await self._shows(key, third)
        gone = await self._ask("delete", key, self._right, kept=old)
        await self._shows(key, gone, nothing=True)
        await asyncio.sleep(_ARRIVED_SECONDS)
        none = await self._ask("delete", key, self._wrong)
        if not none.needless:
            self._problems.append(f"[{none}] was made, though nothing was left to delete")

    async def _lagging(self, key: bytes, other: bytes) -> None:
        """What a node has seen of one key is below what it mints for another."""
        self._cluster.skew(self._wrong, ms=-LAG_MS)
        seen = await self._put(key, self._right)
        next_one = await self._put(other, self._wrong)
        self._cluster.skew(self._wrong, ms=LAG_MS)
        orders = self._history.orders
        if not orders.get(seen.id, (0,)) < orders.get(next_one.id, (0,)):
            self._problems.append(f"[{next_one}] is not stamped above [{seen}], which was there")

    async def _behind(self, key: bytes) -> None:
        """Who has missed a write and lags stamps below it, which does not count; the next one does."""
        disk = self._cluster.nodes[self._wrong].disk
        disk.fill()
        # Two: where both clocks have gone on from one stamp, the first is not above what comes.
        for _ in range(2):
            missed = await self._ask("put", key, self._right, count="quorum")
            self._expect_code(missed, "")
        disk.free()
        self._cluster.skew(self._wrong, ms=-LAG_MS)
        # With less time than those have that must succeed.
        hidden = await self._ask("put", key, self._wrong, timeout=self._timeout / 2)
        self._expect_code(hidden, "write_uncertain")
        await asyncio.sleep(_ARRIVED_SECONDS)
        told = await self._put(key, self._wrong)
        self._cluster.skew(self._wrong, ms=LAG_MS)
        await self._shows(key, told)

    async def _ahead(self, key: bytes) -> None:
        """A write that a clock from the future stamps does not count. It is there all the same, and what
        clocks that are right write next is above it."""
        self._cluster.skew(self._wrong, ms=AHEAD_MS)
        # With less time than those have that must succeed.
        refused = await self._ask("put", key, self._wrong, timeout=self._timeout / 2)
        self._expect_code(refused, "write_uncertain")
        await self._shows(key, refused)
        self._cluster.skew(self._wrong, ms=-AHEAD_MS)
        await asyncio.sleep(_ARRIVED_SECONDS)
        for node in (self._wrong, self._right):
            await self._shows(key, await self._put(key, node))

    # Requests -----------------------------------------------------------------------------------

    async def _put(self, key: bytes, node: str) -> Operation:
        one = await self._ask("put", key, node)
        self._expect_code(one, "")
        return one

    async def _ask(
        self,
        kind: OperationKind,
        key: bytes,
        node: str,
        *,
        kept: Kept | None = None,
        timeout: float | None = None,
        count: Count = "all",
    ) -> Operation:
        return await self._client.ask(
            kind, key, timeout or self._timeout, node=node, kept=kept, count=count
        )

    async def _shows(self, key: bytes, last: Operation, *, nothing: bool = False) -> None:
        """Both nodes show this write alone, or `nothing`."""
        wanted = set() if nothing else {last.id}
        for node in (self._wrong, self._right):
            found = await self._ask("get", key, node)
            self._expect_code(found, "")
            if found.outcome == "ok" and found.shown != wanted:
                self._problems.append(f"[{found}] should have shown {some(wanted)}")

    def _expect_code(self, one: Operation, code: str) -> None:
        if one.code != code or (not code and one.outcome != "ok"):
            wanted = f"have met {code}" if code else "have succeeded"
            self._problems.append(f"[{one}] should {wanted}")
