"""Sets that elements are added to, after Jepsen's set workload: which elements last, from when on?

An add reads the set, merges the siblings it finds, and writes that with its own element, which is the
id of the write. The checker is set-full's: an element is known once its add is acknowledged or somebody
has read it, and lost if no read after some moment has it. Pure.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from bench.workloads.finals import Written, read_all
from bench.workloads.options import Options, share, whole
from bench.workloads.places import Reader, Writer, reader_place, writer_place
from bench.workloads.protocol import Arrival, Client


class SetAddOptions(Options, frozen=True, kw_only=True):
    """`sets`: in use at a time. `adds`: share of arrivals that add, the others read. `elements`: of a
    set, then another takes its place, and it is only read at the end. `context`: adds hand back what
    they have read, or (False) overwrite blindly, which may lose what others add meanwhile."""

    sets: int = 4
    adds: float = 0.5
    elements: int = 200
    context: bool = True
    writer: Writer = "any"
    reader: Reader = "any"

    def check(self, n: int) -> None:
        """Raises ValueError."""
        super().check(n)
        whole("sets", self.sets, 1, 10_000)
        whole("elements", self.elements, 1, 100_000)
        share("adds", self.adds)


class _Set:
    """One place for a set, and how many adds the one that is there has seen."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._generation = 0
        self._adds = 0

    @property
    def key(self) -> str:
        """Of the set that is there now."""
        return f"set{self._number}-{self._generation}"

    def take(self, most: int) -> str:
        """The key for one more add."""
        if self._adds >= most:
            self._generation += 1
            self._adds = 0
        self._adds += 1
        return self.key


class SetAdd:
    """The workload of one run."""

    def __init__(self, name: str, options: SetAddOptions) -> None:
        self.name = name
        self._options = options
        self._sets = [_Set(number) for number in range(options.sets)]
        self._written = Written(options.final_keys)

    def keys_to_load(self) -> Sequence[str]:
        """None: a set that nobody has added to is absent."""
        return ()

    async def act(self, arrival: Arrival, client: Client, chance: random.Random) -> None:
        """An add, or a read."""
        options = self._options
        place = chance.choice(self._sets)
        adds = chance.random() < options.adds
        key = place.take(options.elements) if adds else place.key
        reader = reader_place(
            options.reader,
            written_at=None,
            session=arrival.session,
            nodes=client.nodes,
            chance=chance,
        )
        writer = writer_place(
            options.writer, session=arrival.session, nodes=client.nodes, chance=chance
        )
        read = await client.read(arrival, key, coordinator=reader, r=options.r)
        if not adds or read.outcome != "ok":
            return  # without what is there, an add would be an overwrite
        self._written.add(key, chance)
        await client.write(
            arrival,
            key,
            due=client.now(),
            after=read if options.context else None,
            coordinator=writer,
            w=options.w,
            elements=read.elements,
        )

    async def finish(self, client: Client, arrival: Arrival, chance: random.Random) -> None:
        """Final reads of all sets, also of those that are full."""
        await read_all(self._written, self._options, client, arrival, chance)
