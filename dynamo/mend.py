"""Fetches what the other primaries have of records that were found damaged here.

A record is served again once all of them have answered for it. Reaches every replica, its own
included, through the transport. Knows nothing of partitions that lack more than a record.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Literal

from dynamo.ask import ask_all
from dynamo.flights import Flights
from dynamo.keys import split_storage_key
from dynamo.metrics import Metrics
from dynamo.ports import Transport
from dynamo.refill_marks import Partition
from dynamo.replica import Replica
from dynamo.rpc.messages import Body, Fetch, Refused

#: For one damaged record: its key has one replica less while a lost answer is waited for.
MEND_TIMEOUT: Final = 5.0

#: What a peer has for a damaged record.
Given = Literal["copy", "nothing"]

#: Merges records (routing key, record) of a partition into this node's replica; True once it has all
#: of them on disk.
StoreAll = Callable[[Partition, tuple[tuple[bytes, bytes], ...]], Awaitable[bool]]


class Mend:
    """Of one node's replica."""

    def __init__(
        self,
        *,
        replica: Replica,
        transport: Transport,
        metrics: Metrics,
        flights: Flights,
        is_up: Callable[[str], bool],
        store: StoreAll,
    ) -> None:
        """`is_up`: whether a peer can be asked."""
        self._replica = replica
        self._transport = transport
        self._count = metrics.count
        self._flights = flights
        self._is_up = is_up
        self._store = store
        #: Who has answered for a damaged record, and with what.
        self._answered: dict[bytes, dict[str, Given]] = {}

    def __len__(self) -> int:
        """Damaged records that some peers have answered for, and others have not."""
        return len(self._answered)

    async def mend(self, storage_key: bytes, others: tuple[str, ...], epoch: int) -> None:
        """Merge in what the other primaries have of a damaged key; serve it again once all of them
        have answered, since any of them may be the only one that has its last write. One that is
        damaged there too has nothing to give: that is an answer. Where the past is gone everywhere,
        what has been written anew here since is all there is. `epoch`: of the ring. Raises
        StorageError."""
        cls, partition, key = split_storage_key(storage_key)
        answered = self._answered.setdefault(storage_key, {})
        up = tuple(p for p in others if p not in answered and self._is_up(p))
        timeout_ms = int(MEND_TIMEOUT * 1000)
        fetch = Fetch(key, cls, partition, epoch, timeout_ms, True)
        with self._flights.hold():
            answers = await ask_all(self._transport, up, fetch, MEND_TIMEOUT)
            for peer, answer in answers.items():
                if isinstance(answer, Body):
                    entries = ((key, answer.record),) if answer.record else ()
                    if await self._store((cls, partition), entries):
                        answered[peer] = "copy" if answer.record else "nothing"
                elif isinstance(answer, Refused) and answer.code == "corrupt":
                    answered[peer] = "nothing"
            # One that is being refilled is asked again: it may have writes from since it lost its own.
        if len(answered) < len(others):
            return
        del self._answered[storage_key]
        given = answered.values()
        if "copy" not in given:
            self._count["mends_without_a_copy"] += 1
        if not self._replica.mended(storage_key) and "copy" in given:
            self._count["mends_failed"] += 1
