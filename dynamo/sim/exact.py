"""The last requests of a run: one after the other, when all is healed and the copies agree.

Then nothing is left to chance, and each answer can be foretold: which values a write stands beside,
which condition holds, what a delete leaves. A store that refuses what it should take, which is no
broken promise while things go wrong, is found out here. Knows nothing of faults.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final

from dynamo.requests import Count
from dynamo.rpc.messages import Condition
from dynamo.sim.history import Operation, OperationKind, some
from dynamo.sim.workload import EARLY_MS, Client, Kept

NOT_THERE: Final = Condition(if_none_match=("*",))
#: A write that was acknowledged has reached the other replicas, too, after so long.
_ARRIVED_SECONDS: Final = 1.0
_LATE_MS: Final = 1 << 49
THERE: Final = Condition(if_match=("*",))


class Exam:
    """One key that nobody knows, asked by one client at any node that is up. `dead`: replicas that stay
    silent."""

    def __init__(
        self,
        client: Client,
        key: bytes,
        *,
        rng: random.Random,
        timeout: float,
        dead: int,
        problems: list[str],
        reaps: bool = False,
    ) -> None:
        """`reaps`: while a tombstone goes, one owner has it and another has not: what a delete finds
        then is as it happens."""
        self._reaps = reaps
        self._client = client
        self._key = key
        self._rng = rng
        self._timeout = timeout
        self._counts: list[Count] = ["default", "quorum"] if dead else ["default", "quorum", "all"]
        self._may_block = not dead
        self._problems = problems

    async def take(self, foreign: Kept | None) -> None:
        """Make the requests; what is wrong goes to `problems`. `foreign`: a context of another key."""
        first = await self._get()
        self._expect(first, set())
        await self._conditional(first, None)
        await self._conditional(await self._get(), self._client.last(self._key))
        await self._get()
        old = self._client.last(self._key)
        one = await self._put(old)
        self._expect_code(one, "")
        self._expect(await self._get(), {one.id})
        other = await self._put()
        self._expect_code(other, "")
        self._expect(await self._get(), {one.id, other.id})
        both = self._client.last(self._key)
        third = await self._put(old)
        self._expect_code(third, "")
        self._expect(await self._get(), {one.id, other.id, third.id})
        if foreign is not None:
            self._expect_code(await self._put(foreign), "bad_context")
        await self._deletes(both, third)

    async def without_room(self, node: str) -> None:
        """Make requests at a node that takes no writes for want of space: the others take them."""
        self._may_block = False  # it cannot be repaired
        put = await self._ask("put", None, None, at=node)
        self._expect_code(put, "")
        self._expect_code(await self._ask("get", None, None, at=node), "")
        deleted = await self._ask("delete", self._client.last(self._key), None, at=node)
        self._expect_code(deleted, "")
        self._expect_code(await self._ask("put", None, None, at=node), "")

    async def with_room_again(self, node: str) -> None:
        """Read at a node that has missed a write: it is repaired before there is an answer."""
        self._may_block = True
        for _ in range(2):
            self._expect_code(await self._ask("get", None, None, at=node), "")

    async def without_room_anywhere(self) -> None:
        """No replica takes writes for want of space: reads and deletes go on."""
        self._may_block = False
        # With less time than those have that must succeed.
        refused = await self._ask("put", None, None, timeout=self._timeout / 2)
        self._expect_code(refused, "storage_full")
        self._expect_code(await self._get(), "")
        deleted = await self._delete(self._client.last(self._key))
        self._expect_code(deleted, "")
        self._expect(await self._get(), {deleted.id}, set())

    async def while_behind(self, node: str) -> None:
        """Write at a node whose storage is behind for a moment."""
        self._expect_code(await self._ask("put", None, None, at=node), "")
        self._expect_code(await self._ask("get", None, None, at=node), "")

    async def _conditional(self, first: Operation, old: Kept | None) -> None:
        """What is there now decides."""
        wanted = "precondition_failed"
        if old is None or not first.shown:
            self._expect_code(await self._put(old, THERE), wanted)
            if not first.shown:
                self._expect_code(await self._put(old, NOT_THERE), "")
            return
        self._expect_code(await self._put(old, NOT_THERE), wanted)
        self._expect_code(await self._put(old, Condition(if_none_match=(old.tag,))), wanted)
        named = Condition(if_match=(old.tag,))
        self._expect_code(await self._put(old, named), "")
        self._expect_code(await self._put(old, named), wanted)
        self._expect_code(await self._put(old, THERE), "")
        self._expect_code(await self._put(old, Condition(unmodified_since_ms=1)), wanted)
        self._expect_code(await self._put(old, Condition(unmodified_since_ms=1 << 50)), "")

    async def _deletes(self, both: Kept | None, third: Operation) -> None:
        """One with a context of before leaves what was written since; one without leaves nothing."""
        gone = await self._delete(both)
        self._expect_code(gone, "")
        self._expect(await self._get(), {gone.id, third.id}, {third.id})
        await asyncio.sleep(_ARRIVED_SECONDS)
        again = await self._delete(both)
        if not (again.needless or self._reaps):
            self._problems.append(f"[{again}] was made, though [{gone}] had deleted all of it")
        last = await self._delete()
        self._expect(await self._get(), {last.id}, set())
        await asyncio.sleep(_ARRIVED_SECONDS)
        none = await self._delete()
        if not (none.needless or self._reaps):
            self._problems.append(f"[{none}] was made, though nothing was left to delete")
        await self._get()  # by now that may be above what was shown before
        self._expect_code(await self._put(None, THERE), "precondition_failed")
        await self._expiring()

    async def _expiring(self) -> None:
        """What has expired by any clock is not shown, and what has not by any, is."""
        gone = await self._ask("put", self._client.last(self._key), None, expires_ms=EARLY_MS)
        self._expect_code(gone, "")
        self._expect(await self._get(), {gone.id}, set())
        self._expect_code(await self._put(None, THERE), "precondition_failed")
        kept = await self._ask("put", self._client.last(self._key), None, expires_ms=_LATE_MS)
        self._expect_code(kept, "")
        self._expect(await self._get(), {kept.id})

    # Requests -----------------------------------------------------------------------------------

    async def _get(self) -> Operation:
        return await self._ask("get", None, None)

    async def _put(self, kept: Kept | None = None, condition: Condition | None = None) -> Operation:
        return await self._ask("put", kept, condition)

    async def _delete(self, kept: Kept | None = None) -> Operation:
        return await self._ask("delete", kept, None)

    async def _ask(
        self,
        kind: OperationKind,
        kept: Kept | None,
        condition: Condition | None,
        *,
        at: str | None = None,
        timeout: float | None = None,
        expires_ms: int = 0,
    ) -> Operation:
        return await self._client.ask(
            kind,
            self._key,
            timeout or self._timeout,
            node=at or self._client.any_node(self._rng),
            kept=kept,
            condition=condition,
            blocking=kind == "get" and self._may_block and self._rng.random() < 0.5,
            expires_ms=expires_ms,
            count="quorum" if at else self._rng.choice(self._counts),
        )

    # What is to come of them --------------------------------------------------------------------

    def _expect(self, get: Operation, seen: set[int], shown: set[int] | None = None) -> None:
        self._expect_code(get, "")
        shown = seen if shown is None else shown
        if get.outcome == "ok" and (get.seen != seen or get.shown != shown):
            self._problems.append(f"[{get}] should have seen {some(seen)}, shown {some(shown)}")

    def _expect_code(self, one: Operation, code: str) -> None:
        if one.code != code or (not code and one.outcome != "ok"):
            wanted = f"have met {code}" if code else "have succeeded"
            self._problems.append(f"[{one}] should {wanted}")
