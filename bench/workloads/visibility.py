"""Visibility: a write to a fresh key, and one read of it at a designed time after the commit.

Each key is read once: a read may repair what it finds, so a second one would measure the first. With
several probes an arrival writes as many keys, each with an offset of its own. Pure.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from bench.history import Op
from bench.workloads.beside import beside
from bench.workloads.finals import Written, read_all
from bench.workloads.offsets import Offsets, Timed
from bench.workloads.options import whole
from bench.workloads.places import Reader, Writer, reader_place, writer_place
from bench.workloads.protocol import Arrival, Client


class VisibilityOptions(Timed, frozen=True, kw_only=True):
    """`probes`: keys an arrival writes, and probes. `cells`: (r, w) taken in turn, in place of `r` and
    `w`, so that all cells of a grid meet the same weather. `origin`: the offset counts from the
    coordinator's stamp of the commit, where there is one, or always from when the client knew.
    `probe_failed`: also keys whose write did not succeed are read, so long after its end (no offset is
    noted then: there is no commit). `final`: off, unless it is asked for; a final read is a second
    one."""

    probes: int = 1
    cells: tuple[tuple[int, int], ...] = ()
    origin: str = "coordinator"
    writer: Writer = "any"
    reader: Reader = "any"
    probe_failed: bool = False
    final: bool = False

    def check(self, n: int) -> None:
        """Raises ValueError."""
        super().check(n)
        whole("probes", self.probes, 1, 1_000)
        for cell in self.cells:
            whole("r of a cell", cell[0], 1, n)
            whole("w of a cell", cell[1], 1, n)
        if self.cells and (self.r, self.w) != (None, None):
            raise ValueError("cells say r and w already")
        if self.origin not in ("client", "coordinator"):
            raise ValueError(f'origin = "{self.origin}": it must be "client" or "coordinator"')


class Visibility:
    """The workload of one run."""

    def __init__(self, name: str, options: VisibilityOptions) -> None:
        self.name = name
        self._options = options
        self._offsets = Offsets(options)
        self._written = Written(options.final_keys)
        self._made = 0
        self._probed = 0

    def keys_to_load(self) -> Sequence[str]:
        """None: all keys are fresh."""
        return ()

    async def act(self, arrival: Arrival, client: Client, chance: random.Random) -> None:
        """Write, wait, read; as many times beside each other as there are probes."""
        await beside(
            [
                self._probe(
                    arrival,
                    client,
                    key=self._fresh(),
                    writer=writer_place(
                        self._options.writer,
                        session=arrival.session,
                        nodes=client.nodes,
                        chance=chance,
                    ),
                    offset=self._offsets.next(chance),
                    chance=chance,
                )
                for _ in range(self._options.probes)
            ]
        )

    def _fresh(self) -> str:
        self._made += 1
        return f"v{self._made}"

    async def _probe(
        self,
        arrival: Arrival,
        client: Client,
        *,
        key: str,
        writer: int | None,
        offset: int,
        chance: random.Random,
    ) -> None:
        options = self._options
        reader = reader_place(
            options.reader,
            written_at=writer,
            session=arrival.session,
            nodes=client.nodes,
            chance=chance,
        )
        if options.final:
            self._written.add(key, chance)
        r, w = self._cell()
        written = await client.write(arrival, key, coordinator=writer, w=w)
        if written.outcome != "ok" and not options.probe_failed:
            return
        due = max(self._origin(written) + offset, written.end)
        await client.sleep_until(due)
        await client.read(
            arrival,
            key,
            due=due,
            coordinator=reader,
            r=r,
            offset=offset if written.outcome == "ok" else -1,
        )

    def _cell(self) -> tuple[int | None, int | None]:
        """The r and w of one probe; None for the bucket's own."""
        cells = self._options.cells
        if not cells:
            return self._options.r, self._options.w
        self._probed += 1
        return cells[self._probed % len(cells)]

    def _origin(self, written: Op) -> int:
        if self._options.origin == "coordinator" and written.committed:
            return written.committed
        return written.end

    async def finish(self, client: Client, arrival: Arrival, chance: random.Random) -> None:
        """Final reads, if they are asked for."""
        await read_all(self._written, self._options, client, arrival, chance)
