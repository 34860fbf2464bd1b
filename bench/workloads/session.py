"""Sessions that write and read few keys by turns, each operation at another coordinator.

For read-your-writes and monotonic reads: a read after an own write, and after an earlier read. An
arrival is one turn of its session: a write, then some reads of the same key, one after the other. Pure.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from bench.history import Op
from bench.workloads.finals import Written, read_all
from bench.workloads.offsets import MS
from bench.workloads.options import Options, milliseconds, share, whole
from bench.workloads.places import Reader, Writer, reader_place, writer_place
from bench.workloads.polling import AfterHeal
from bench.workloads.protocol import Arrival, Client

#: After a heal: milliseconds between two rounds, and for how long; rounds in which all must agree.
POLL_MS: Final = 50.0
POLL_FOR_MS: Final = 60_000.0
CALM: Final = 3


class SessionOptions(Options, frozen=True, kw_only=True):
    """`keys`: that a session uses, or (`shared`) all of them together. `writes`: share of turns that
    begin with a write; `reads`: of each turn. `pause_ms`: up to so long before each read, drawn.
    `context`: a write hands back what the session knows of the key, or (False) is blind. `poll_keys`:
    from the heal on nothing is written, and so many of the keys written last are polled at every
    replica until they agree, which says how long convergence takes; 0 for none of that."""

    keys: int = 2
    shared: bool = False
    writes: float = 1.0
    reads: int = 2
    pause_ms: float = 0.0
    context: bool = True
    poll_keys: int = 0
    writer: Writer = "any"
    reader: Reader = "any"

    def check(self, n: int) -> None:
        """Raises ValueError."""
        super().check(n)
        whole("keys", self.keys, 1, 10_000)
        whole("reads", self.reads, 0, 1_000)
        share("writes", self.writes)
        whole("poll_keys", self.poll_keys, 0, 100_000)
        milliseconds("pause_ms", self.pause_ms)
        if not self.reads and not self.writes:
            raise ValueError("writes = 0 and reads = 0: there is nothing to do")


class Sessions:
    """The workload of one run."""

    def __init__(self, name: str, options: SessionOptions) -> None:
        self.name = name
        self._options = options
        self._written = Written(options.final_keys)
        self._after_heal = AfterHeal(
            most=options.poll_keys, poll_ms=POLL_MS, for_ms=POLL_FOR_MS, calm=CALM
        )
        #: What each session knows of each of its keys: as many as sessions times keys.
        self._known: dict[tuple[int, str], Op] = {}

    def keys_to_load(self) -> Sequence[str]:
        """None: what was not written yet has nothing to go back to."""
        return ()

    async def act(self, arrival: Arrival, client: Client, chance: random.Random) -> None:
        """One turn."""
        options = self._options
        if await self._after_heal.take(client, arrival):
            return
        writes = not (options.poll_keys and client.healed)
        number = chance.randrange(options.keys)
        key = f"s{number}" if options.shared else f"s{arrival.session}-{number}"
        writer = None
        due = arrival.due
        if writes and chance.random() < options.writes:
            writer = writer_place(
                options.writer, session=arrival.session, nodes=client.nodes, chance=chance
            )
            await self._write(arrival, client, key, writer, chance)
            due = client.now()
        for _ in range(options.reads):
            due += round(chance.random() * options.pause_ms * MS)
            await client.sleep_until(due)
            reader = reader_place(
                options.reader,
                written_at=writer,
                session=arrival.session,
                nodes=client.nodes,
                chance=chance,
            )
            op = await client.read(arrival, key, due=due, coordinator=reader, r=options.r)
            self._remember(arrival.session, op)
            due = client.now()

    async def _write(
        self,
        arrival: Arrival,
        client: Client,
        key: str,
        place: int | None,
        chance: random.Random,
    ) -> None:
        self._written.add(key, chance)
        self._after_heal.wrote(key)
        known = self._known.get((arrival.session, key)) if self._options.context else None
        op = await client.write(arrival, key, after=known, coordinator=place, w=self._options.w)
        self._remember(arrival.session, op)

    def _remember(self, session: int, op: Op) -> None:
        """Of two turns of a session that overlap, that which ended last says what it knows."""
        if op.outcome == "ok":
            self._known[session, op.key] = op

    async def finish(self, client: Client, arrival: Arrival, chance: random.Random) -> None:
        """Poll, if that is asked for; then final reads, which may repair."""
        await self._after_heal.finish(client, arrival)
        await read_all(self._written, self._options, client, arrival, chance)
