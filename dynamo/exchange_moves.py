"""How records get from one owner to another that has missed them: asked for here, delivered there.

The same for both ways: this node is one of the two, reached through the loopback. What is given is on
disk where it comes from, and it counts as moved once it is on disk where it goes. Knows nothing of how
it was found out who lacks what.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple

from dynamo.ask import ask
from dynamo.exchange_budget import Budget
from dynamo.ports import Failure, Transport
from dynamo.refill_marks import Partition
from dynamo.rpc.exchange_messages import Pull, Pulled
from dynamo.rpc.messages import Deliver, Delivered, Delivery, Refused, Reply, Request

#: For answers with records (seconds): they may be large, and wait for a sync.
MOVE_TIMEOUT: Final = 30.0


class PeerFailed(Exception):
    """The peer does not answer, or answers what cannot be: nothing more is asked of it for now."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LeftOut(Exception):
    """Nothing can be done about one partition now; of others it says nothing."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


#: Why partitions are left out; none names a node, so that they can be counted by it.
DAMAGED: Final = "some of its records are damaged"
REFUSED: Final = "it is refused: "


def check(answer: Reply | Failure) -> Reply:
    """The answer. Raises LeftOut for a refusal, PeerFailed where there is none."""
    if isinstance(answer, Refused):
        raise LeftOut(REFUSED + answer.code)
    if isinstance(answer, Failure):
        raise PeerFailed(answer.reason)
    return answer


class Carried(NamedTuple):
    """What came of the first `asked` keys. `moved`: those whose records are on the target's disk, with
    their sizes. `why`: one has not got there, "" if all have."""

    asked: int
    moved: dict[bytes, int]
    why: str


class Moves:
    """Carries records. `holds`: what is entered before a record is asked for and left once it is on disk
    where it goes, so that nobody takes it for gone meanwhile."""

    def __init__(
        self,
        *,
        transport: Transport,
        budget: Budget,
        holds: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._transport = transport
        self._budget = budget
        self._holds = holds
        #: Steps with records that are under way.
        self.in_flight = 0

    async def carry(
        self, source: str, target: str, place: Partition, epoch: int, keys: Sequence[bytes]
    ) -> Carried:
        """The records of the first of these keys have got from `source` to `target`. Raises LeftOut,
        PeerFailed."""
        await self._budget.room()
        some = tuple(keys[: self._budget.batch().count_max])
        self.in_flight += 1
        try:
            with self._holds():
                entries, asked, why = await self._pull(source, place, epoch, some)
                refused = await self._deliver(target, epoch, entries) if entries else {}
        finally:
            self.in_flight -= 1
        moved = {
            entry.key: len(entry.record) for at, entry in enumerate(entries) if at not in refused
        }
        return Carried(asked, moved, why or next(iter(refused.values()), ""))

    async def _pull(
        self, source: str, place: Partition, epoch: int, keys: tuple[bytes, ...]
    ) -> tuple[list[Delivery], int, str]:
        """Records, how many keys were answered for, and why one has no record, or ""."""
        answer = await self._ask(source, Pull(*place, epoch, int(MOVE_TIMEOUT * 1000), keys))
        if not isinstance(answer, Pulled) or not 0 < len(answer.records) <= len(keys):
            raise PeerFailed(f"{source} answers what was not asked")
        skipped = frozenset(answer.skipped)
        entries = [
            Delivery(key, *place, record)
            for at, (key, record) in enumerate(zip(keys, answer.records, strict=False))
            if record and at not in skipped
        ]
        size = sum(len(entry.record) for entry in entries)
        self._budget.spent(keys=len(answer.records), size=size)
        missing = len(entries) < len(answer.records)
        return entries, len(answer.records), DAMAGED if missing else ""

    async def _deliver(self, target: str, epoch: int, entries: list[Delivery]) -> dict[int, str]:
        """What the target refuses, and why; the rest is on its disk."""
        message = Deliver(int(MOVE_TIMEOUT * 1000), epoch, tuple(entries), True)
        answer = await self._ask(target, message)
        if not isinstance(answer, Delivered):
            raise PeerFailed(f"{target} answers what was not asked")
        if answer.busy:
            self._budget.peer_is_busy()
        return {at: REFUSED + code for at, code in answer.refused}

    async def _ask(self, node: str, message: Request) -> Reply:
        return check(await ask(self._transport, node, message, MOVE_TIMEOUT))
