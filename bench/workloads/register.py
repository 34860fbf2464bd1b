"""Registers that several sessions write and read at once: are reads regular, or atomic even?

With `writers` above 1 a write is several beside each other, each of a session of its own and at a node
of its own. A key is used for some operations, then another takes its place: what checks a key takes time
with the square of them. Pure.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from bench.history import Op
from bench.workloads.beside import beside
from bench.workloads.finals import Written, read_all
from bench.workloads.options import Options, share, whole
from bench.workloads.places import Reader, Writer, reader_place, writer_place
from bench.workloads.protocol import OWN_SESSIONS, Arrival, Client


class RegisterOptions(Options, frozen=True, kw_only=True):
    """`keys`: in use at a time. `writes`: share of arrivals that write. `writers`: beside each other, of
    each of those. `operations`: of a key. `context`: a write hands back what its session "known" last
    of the key, what it has just "read", or nothing ("none": blind)."""

    keys: int = 8
    writes: float = 0.5
    writers: int = 1
    operations: int = 200
    context: Literal["known", "read", "none"] = "known"
    writer: Writer = "any"
    reader: Reader = "any"

    def check(self, n: int) -> None:
        """Raises ValueError."""
        super().check(n)
        whole("keys", self.keys, 1, 10_000)
        whole("writers", self.writers, 1, 100)
        whole("operations", self.operations, 1)
        share("writes", self.writes)


class _Register:
    """One place for a key: which it is now, and what sessions know of that."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._generation = 0
        self._used = 0
        self._known: dict[int, Op] = {}

    @property
    def key(self) -> str:
        """The one that is there now."""
        return f"r{self._number}-{self._generation}"

    def take(self, operations: int, most: int) -> str:
        """The key for so many more operations; another one if this has had its share."""
        if self._used >= most:
            self._generation += 1
            self._used = 0
            self._known = {}
        self._used += operations
        return self.key

    def newest(self, session: int, key: str) -> Op | None:
        """What a session has seen last of a key; nothing if another has taken its place."""
        return self._known.get(session) if key == self.key else None

    def remember(self, op: Op) -> None:
        """What a session has seen last."""
        if op.outcome == "ok" and op.key == self.key:
            self._known[op.session] = op


class Registers:
    """The workload of one run."""

    def __init__(self, name: str, options: RegisterOptions) -> None:
        self.name = name
        self._options = options
        self._registers = [_Register(number) for number in range(options.keys)]
        self._written = Written(options.final_keys)

    def keys_to_load(self) -> Sequence[str]:
        """None: a register that nobody has written is absent."""
        return ()

    async def act(self, arrival: Arrival, client: Client, chance: random.Random) -> None:
        """One read, or a write, or several of those beside each other."""
        options = self._options
        register = chance.choice(self._registers)
        if chance.random() >= options.writes:
            key = register.take(1, options.operations)
            await self._read(arrival, client, register, key, arrival.session, arrival.due, chance)
            return
        key = register.take(options.writers, options.operations)
        self._written.add(key, chance)
        first = OWN_SESSIONS + arrival.session * options.writers
        sessions = (arrival.session, *range(first + 1, first + options.writers))
        begin = chance.randrange(client.nodes)
        await beside(
            [
                self._write(
                    arrival,
                    client,
                    register,
                    key,
                    session,
                    self._writer(session, begin + index, client, chance),
                    chance,
                )
                for index, session in enumerate(sessions)
            ]
        )

    def _writer(
        self, session: int, index: int, client: Client, chance: random.Random
    ) -> int | None:
        """Writes beside each other are at different nodes, as far as there are enough."""
        if self._options.writer == "any" and self._options.writers > 1:
            return index % client.nodes
        return writer_place(
            self._options.writer, session=session, nodes=client.nodes, chance=chance
        )

    async def _read(
        self,
        arrival: Arrival,
        client: Client,
        register: _Register,
        key: str,
        session: int,
        due: int,
        chance: random.Random,
    ) -> Op:
        place = reader_place(
            self._options.reader,
            written_at=None,
            session=session,
            nodes=client.nodes,
            chance=chance,
        )
        op = await client.read(
            arrival,
            key,
            due=due,
            coordinator=place,
            r=self._options.r,
            session=session,
        )
        register.remember(op)
        return op

    async def _write(
        self,
        arrival: Arrival,
        client: Client,
        register: _Register,
        key: str,
        session: int,
        place: int | None,
        chance: random.Random,
    ) -> None:
        context, due = self._options.context, arrival.due
        after = register.newest(session, key) if context == "known" else None
        if context == "read":
            after = await self._read(arrival, client, register, key, session, due, chance)
            due = client.now()
            if after.outcome != "ok":
                return  # nothing was read that could be replaced
        op = await client.write(
            arrival,
            key,
            due=due,
            after=after,
            coordinator=place,
            w=self._options.w,
            session=session,
        )
        register.remember(op)

    async def finish(self, client: Client, arrival: Arrival, chance: random.Random) -> None:
        """Final reads."""
        await read_all(self._written, self._options, client, arrival, chance)
