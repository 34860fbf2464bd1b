"""Keys that were written, and the last reads of them. Bounded: of very many keys a sample is kept."""

from __future__ import annotations

import random
from typing import Final

from bench.history import Op
from bench.workloads.beside import few_at_once
from bench.workloads.options import Options
from bench.workloads.protocol import Arrival, Client

#: Final reads that go on beside each other.
AT_ONCE: Final = 16
#: A final read that gets no answer is made again so often, after so many nanoseconds: nodes may be
#: about to find each other again.
TRIES_MAX: Final = 5
AGAIN_AFTER: Final = 500_000_000


class Written:
    """Keys that were written. Of more than `most` a sample is kept, each key alike likely."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[str, None] = {}
        self._order: list[str] = []
        self.seen = 0

    def add(self, key: str, chance: random.Random) -> None:
        """Note a key that is written for the first time, or once more. Where keys are written again
        after they fell out of a full sample they count as new ones."""
        if key in self._kept:
            return
        self.seen += 1
        if len(self._order) < self._most:
            self._order.append(key)
            self._kept[key] = None
            return
        place = chance.randrange(self.seen)
        if place < self._most:
            del self._kept[self._order[place]]
            self._order[place] = key
            self._kept[key] = None

    @property
    def keys(self) -> tuple[str, ...]:
        """Those that are kept."""
        return tuple(self._order)


async def read_all(
    written: Written, options: Options, client: Client, arrival: Arrival, chance: random.Random
) -> None:
    """Read each key once with an answer, and say so if some are left out."""
    if not options.final:
        return
    keys = written.keys
    if written.seen > len(keys):
        client.note(f"final reads: a sample of {len(keys)} of {written.seen} keys written")
    places = [chance.randrange(client.nodes) for _ in keys]
    await few_at_once(
        (
            read_surely(client, arrival, key, r=options.final_r or client.replicas, first=place)
            for key, place in zip(keys, places, strict=True)
        ),
        AT_ONCE,
    )


async def read_surely(client: Client, arrival: Arrival, key: str, *, r: int, first: int) -> Op:
    """A read that is made again, at the next node, while it gets no answer; at most TRIES_MAX times."""
    for number in range(TRIES_MAX):
        place = (first + number) % client.nodes
        op = await client.read(arrival, key, due=client.now(), coordinator=place, r=r)
        if op.outcome == "ok":
            break
        await client.sleep_until(client.now() + AGAIN_AFTER)
    return op
