"""After a heal: every key is read at every replica, again and again, until all show the same.

For the time to convergence: of each key the last directed read that missed its final version. Reads at
one replica repair nothing. Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from bench.history import Op
from bench.workloads.beside import beside, few_at_once
from bench.workloads.offsets import MS
from bench.workloads.protocol import Arrival, Client

#: Keys that are read beside each other, each at all replicas.
AT_ONCE: Final = 16


async def read_everywhere(
    client: Client, arrival: Arrival, key: str, *, due: int, offset: int = -1
) -> list[Op]:
    """The same read at every node at once, as one group."""
    group = client.new_group()
    return await beside(
        [
            client.read(arrival, key, due=due, replica=node, r=1, group=group, offset=offset)
            for node in range(client.nodes)
        ]
    )


class Newest:
    """The keys that were written last, at most so many."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._keys: OrderedDict[str, None] = OrderedDict()
        self.left_out = 0

    def add(self, key: str) -> None:
        """Note one that is being written."""
        self._keys[key] = None
        self._keys.move_to_end(key)
        if len(self._keys) > self._most:
            self._keys.popitem(last=False)
            self.left_out += 1

    def keys(self) -> tuple[str, ...]:
        """Those that are kept."""
        return tuple(self._keys)


class Polling:
    """Polls keys from now on: in rounds at least `every` nanoseconds apart, until `until`. A key is left
    alone once all replicas have shown the same in `calm` rounds one after the other."""

    def __init__(self, keys: Iterable[str], *, every: int, until: int, calm: int) -> None:
        self._calm = dict.fromkeys(keys, 0)
        self._every = every
        self._until = until
        self._enough = calm

    async def run(self, client: Client, arrival: Arrival) -> None:
        """Until all is calm, or the time is over, which is told. May be called again after it was cut
        short, and goes on then."""
        due = client.now()
        while self._calm and due < self._until:
            await client.sleep_until(due)
            await few_at_once((self._poll(client, arrival, key) for key in self._calm), AT_ONCE)
            for key in [key for key, count in self._calm.items() if count >= self._enough]:
                del self._calm[key]
            due = max(due + self._every, client.now())
        if self._calm:
            client.note(f"polling ended with {len(self._calm)} keys that were not calm yet")

    async def _poll(self, client: Client, arrival: Arrival, key: str) -> None:
        ops = await read_everywhere(client, arrival, key, due=client.now())
        same = all(op.outcome == "ok" and set(op.seen) == set(ops[0].seen) for op in ops)
        self._calm[key] = self._calm[key] + 1 if same else 0


class AfterHeal:
    """What a workload does once the last fault is over. `most`: of the keys written last so many are
    polled, 0 for none; in rounds `poll_ms` apart, for at most `for_ms`; a key rests after `calm` rounds
    in which all agreed."""

    def __init__(self, *, most: int, poll_ms: float, for_ms: float, calm: int) -> None:
        self._most = most
        self._newest = Newest(most)
        self._poll_ms = poll_ms
        self._for_ms = for_ms
        self._calm = calm
        self._polling: Polling | None = None
        #: Whether an arrival is at it.
        self._polls = False

    def wrote(self, key: str) -> None:
        """Note a key that is being written."""
        self._newest.add(key)

    async def take(self, client: Client, arrival: Arrival) -> bool:
        """The first arrival after the heal polls; whether this one did."""
        if not client.healed or not self._most or self._polling is not None:
            return False
        await self._poll(client, arrival)
        return True

    async def finish(self, client: Client, arrival: Arrival) -> None:
        """Poll, if there was a heal, as far as that is not done yet."""
        while self._polls:  # an arrival still does it, for a time that ends
            await client.sleep_until(client.now() + round(self._poll_ms * MS))
        if client.healed and self._most:
            await self._poll(client, arrival)

    async def _poll(self, client: Client, arrival: Arrival) -> None:
        """From the heal on; it goes on if it was cut short."""
        if self._polling is None:
            if self._newest.left_out:
                client.note(
                    f"polling: the {self._most} keys written last, "
                    f"{self._newest.left_out} older ones are left out"
                )
            self._polling = Polling(
                self._newest.keys(),
                every=round(self._poll_ms * MS),
                until=client.healed + round(self._for_ms * MS),
                calm=self._calm,
            )
        self._polls = True
        try:
            await self._polling.run(client, arrival)
        finally:
            self._polls = False
