"""Rows of keys that are written in order, and read in the opposite order: do writes become visible so?

A reader that sees a later write, and then misses an earlier one, has seen them out of order. A round of
mode "writer": one session writes key 0, 1, ... of a row, each once the one before is acknowledged
(monotonic writes, consistent prefix). Of mode "reader-writes": another session reads key 0 until it sees
the new version, and then writes key 1 (writes follow reads). Beside it readers, each a session of its
own, read the row from its last key to its first, back to back, as one group. A row has one round at a
time. Pure.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from bench.history import Op
from bench.workloads.beside import beside
from bench.workloads.finals import Written, read_all
from bench.workloads.offsets import MS
from bench.workloads.options import Options, milliseconds, whole
from bench.workloads.places import Reader, Writer, reader_place, writer_place
from bench.workloads.protocol import OWN_SESSIONS, Arrival, Client


class PairOptions(Options, frozen=True, kw_only=True):
    """`keys`: of a row. `readers`: of each round; each starts up to `horizon_ms` after it, drawn.
    `rounds`: of a row, then fresh keys are taken. `tries`: reads of who waits for key 0."""

    mode: Literal["writer", "reader-writes"] = "writer"
    keys: int = 2
    readers: int = 2
    horizon_ms: float = 10.0
    rounds: int = 50
    tries: int = 50
    writer: Writer = "any"
    reader: Reader = "any"

    def check(self, n: int) -> None:
        """Raises ValueError."""
        super().check(n)
        whole("keys", self.keys, 2, 100)
        whole("readers", self.readers, 1, 100)
        whole("rounds", self.rounds, 1)
        whole("tries", self.tries, 1, 10_000)
        milliseconds("horizon_ms", self.horizon_ms)
        if self.mode == "reader-writes" and self.keys != 2:
            raise ValueError(f'keys = {self.keys}: mode "reader-writes" has 2')


class _Row:
    """Some keys, the sessions that use them, and what the writers know of them."""

    def __init__(self, number: int, *, keys: int, readers: int) -> None:
        self.keys = tuple(f"p{number}-{key}" for key in range(keys))
        first = OWN_SESSIONS + number * (readers + 2)
        self.writer, self.follower = first, first + 1
        self.readers = tuple(range(first + 2, first + 2 + readers))
        self.newest: dict[str, Op] = {}
        self.rounds = 0


class Pairs:
    """The workload of one run."""

    def __init__(self, name: str, options: PairOptions) -> None:
        self.name = name
        self._options = options
        self._written = Written(options.final_keys)
        #: Rows that no round is using: never more than there were arrivals at once.
        self._free: list[_Row] = []
        self._made = 0

    def keys_to_load(self) -> Sequence[str]:
        """None: a row that was not written has no order."""
        return ()

    async def act(self, arrival: Arrival, client: Client, chance: random.Random) -> None:
        """One round."""
        options = self._options
        row = self._free.pop() if self._free else self._new_row()
        for key in row.keys:
            self._written.add(key, chance)
        write = self._write_row if options.mode == "writer" else self._write_and_follow
        begin = client.now()
        offsets = [round(chance.random() * options.horizon_ms * MS) for _ in row.readers]
        done = await beside(
            [
                write(arrival, client, row, chance),
                *(
                    self._read_row(arrival, client, row, session, begin + offset, chance)
                    for session, offset in zip(row.readers, offsets, strict=True)
                ),
            ]
        )
        row.rounds += 1
        # What may or may not have been written leaves a row whose order nobody knows.
        if done[0] and row.rounds < options.rounds:
            self._free.append(row)

    def _new_row(self) -> _Row:
        self._made += 1
        return _Row(self._made, keys=self._options.keys, readers=self._options.readers)

    async def _write_row(
        self, arrival: Arrival, client: Client, row: _Row, chance: random.Random
    ) -> bool:
        """All keys in their order. False if one was not acknowledged: those after it are left out."""
        group, due = client.new_group(), arrival.due
        for key in row.keys:
            if not await self._write(arrival, client, row, key, row.writer, group, due, chance):
                return False
            due = client.now()
        return True

    async def _write_and_follow(
        self, arrival: Arrival, client: Client, row: _Row, chance: random.Random
    ) -> bool:
        """Key 0, and once another session has seen that, its write to key 1."""
        first, second = row.keys
        group = client.new_group()
        due = arrival.due
        if not await self._write(arrival, client, row, first, row.writer, group, due, chance):
            return False
        new = row.newest[first].write
        for _ in range(self._options.tries):
            place = self._reader(client, row.follower, chance)
            seen = await client.read(
                arrival,
                first,
                due=client.now(),
                coordinator=place,
                r=self._options.r,
                session=row.follower,
            )
            if new in seen.seen:
                due = client.now()
                return await self._write(
                    arrival, client, row, second, row.follower, group, due, chance
                )
        return True  # nobody has followed; the row is as before

    async def _write(
        self,
        arrival: Arrival,
        client: Client,
        row: _Row,
        key: str,
        session: int,
        group: int,
        due: int,
        chance: random.Random,
    ) -> bool:
        place = writer_place(
            self._options.writer, session=session, nodes=client.nodes, chance=chance
        )
        op = await client.write(
            arrival,
            key,
            due=due,
            after=row.newest.get(key),
            coordinator=place,
            w=self._options.w,
            group=group,
            session=session,
        )
        if op.outcome != "ok":
            return False
        row.newest[key] = op
        return True

    async def _read_row(
        self,
        arrival: Arrival,
        client: Client,
        row: _Row,
        session: int,
        due: int,
        chance: random.Random,
    ) -> bool:
        """From the last key to the first, back to back."""
        await client.sleep_until(due)
        group = client.new_group()
        for key in reversed(row.keys):
            place = self._reader(client, session, chance)
            await client.read(
                arrival,
                key,
                due=due,
                coordinator=place,
                r=self._options.r,
                group=group,
                session=session,
            )
            due = client.now()
        return True

    def _reader(self, client: Client, session: int, chance: random.Random) -> int | None:
        return reader_place(
            self._options.reader,
            written_at=None,
            session=session,
            nodes=client.nodes,
            chance=chance,
        )

    async def finish(self, client: Client, arrival: Arrival, chance: random.Random) -> None:
        """Final reads."""
        await read_all(self._written, self._options, client, arrival, chance)
