"""A write, and at designed times after its commit the same read at every replica at once (phi).

Those reads are directed (r = 1, one replica each), so that they tell what each has, and repair nothing.
After a heal no more is written, and the keys are polled at every replica until they agree, which says
how long convergence takes. Pure.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from bench.history import Op
from bench.workloads.finals import Written, read_all
from bench.workloads.offsets import Offsets, Timed
from bench.workloads.options import milliseconds, whole
from bench.workloads.places import Writer, writer_place
from bench.workloads.polling import AfterHeal, read_everywhere
from bench.workloads.protocol import Arrival, Client


class ProbeOptions(Timed, frozen=True, kw_only=True):
    """`probes`: offsets of each key, in their order. `keys`: written in turn, again and again; 0 for a
    fresh one each time. `poll_keys`: those written last, polled from the heal on, 0 for none; in rounds
    `poll_ms` apart for at most `poll_for_ms`; a key rests after `calm` rounds in which all agreed.
    `stop_at_heal`: nothing is written after it."""

    probes: int = 1
    keys: int = 0
    poll_keys: int = 100
    poll_ms: float = 100.0
    poll_for_ms: float = 60_000.0
    calm: int = 3
    stop_at_heal: bool = True
    writer: Writer = "any"

    def check(self, n: int) -> None:
        """Raises ValueError."""
        super().check(n)
        whole("probes", self.probes, 0, 1_000)
        whole("keys", self.keys, 0)
        whole("poll_keys", self.poll_keys, 0, 100_000)
        whole("calm", self.calm, 1, 1_000)
        milliseconds("poll_ms", self.poll_ms, 1.0)
        milliseconds("poll_for_ms", self.poll_for_ms)


class Probes:
    """The workload of one run."""

    def __init__(self, name: str, options: ProbeOptions) -> None:
        self.name = name
        self._options = options
        self._offsets = Offsets(options)
        self._written = Written(options.final_keys)
        self._after_heal = AfterHeal(
            most=options.poll_keys,
            poll_ms=options.poll_ms,
            for_ms=options.poll_for_ms,
            calm=options.calm,
        )
        #: What is known of keys that are written again; never more than `keys`.
        self._known: dict[str, Op] = {}
        self._made = 0

    def keys_to_load(self) -> Sequence[str]:
        """None."""
        return ()

    async def act(self, arrival: Arrival, client: Client, chance: random.Random) -> None:
        """Write and probe; the first after the heal polls instead."""
        options = self._options
        if await self._after_heal.take(client, arrival):
            return
        if client.healed and options.stop_at_heal:
            return
        key = self._next_key()
        self._written.add(key, chance)
        self._after_heal.wrote(key)
        place = writer_place(
            options.writer, session=arrival.session, nodes=client.nodes, chance=chance
        )
        offsets = sorted(self._offsets.next(chance) for _ in range(options.probes))
        written = await client.write(
            arrival, key, after=self._known.get(key), coordinator=place, w=options.w
        )
        if written.outcome != "ok":
            return
        if options.keys:
            self._known[key] = written
        origin = written.committed or written.end
        for offset in offsets:
            due = max(origin + offset, client.now())
            await client.sleep_until(due)
            await read_everywhere(client, arrival, key, due=due, offset=offset)

    def _next_key(self) -> str:
        self._made += 1
        return f"q{self._made % self._options.keys if self._options.keys else self._made}"

    async def finish(self, client: Client, arrival: Arrival, chance: random.Random) -> None:
        """Poll, if there was a heal; then final reads, which may repair."""
        await self._after_heal.finish(client, arrival)
        await read_all(self._written, self._options, client, arrival, chance)
