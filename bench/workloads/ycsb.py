"""YCSB's core workloads A, B, C, D and F, by its property names (B. Cooper et al., SoCC 2010).

A transaction is a read, an update, an insert or a read-modify-write of one record. What a store with
versions adds: an update hands back the newest context that this run knows of the key (`context`).
Scans are not offered, so neither is E. Pure.
"""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol

from bench.history import Op
from bench.workloads.distributions import (
    Acknowledged,
    Latest,
    ScrambledZipfian,
    Uniform,
    fnv_hash,
)
from bench.workloads.finals import Written, read_all
from bench.workloads.options import Options, whole
from bench.workloads.places import Writer, writer_place
from bench.workloads.protocol import Arrival, Client

#: What each workload is, beyond YCSB's defaults.
CORE: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "ycsb-a": {"readproportion": 0.5, "updateproportion": 0.5},
        "ycsb-b": {"readproportion": 0.95, "updateproportion": 0.05},
        "ycsb-c": {"readproportion": 1.0, "updateproportion": 0.0},
        "ycsb-d": {
            "readproportion": 0.95,
            "updateproportion": 0.0,
            "insertproportion": 0.05,
            "requestdistribution": "latest",
        },
        "ycsb-f": {
            "readproportion": 0.5,
            "updateproportion": 0.0,
            "readmodifywriteproportion": 0.5,
        },
    }
)
NO_SCANS: Final = "scans are not offered: the store keeps its keys by hash, without an order"
#: Contexts that are remembered; the one that was not used for longest goes.
CONTEXTS_MAX: Final = 40_000
#: A store takes no larger value, however its nodes were started.
VALUE_BYTES_MAX: Final = 8 << 20

Distribution = Literal["uniform", "zipfian", "latest"]


class Chooser(Protocol):
    """Draws the number of a key."""

    def next(self, known: int, chance: random.Random) -> int:
        """One of 0 to known - 1."""
        ...


class YcsbOptions(Options, frozen=True, kw_only=True):
    """YCSB's properties. Proportions are weights, as in YCSB: they need not add up to 1.
    `operationcount`: transactions, after which nothing more is done; 0 for no end. `target`:
    transactions a second, 0 for what the load says; `fieldcount` x `fieldlength`: bytes of a value;
    both are the load's to carry out (`wanted`). `insertorder`: "hashed" keys, or "ordered" ones.
    `context`: "known" hands the newest context back with an update, "none" updates blindly."""

    readproportion: float = 0.95
    updateproportion: float = 0.05
    insertproportion: float = 0.0
    readmodifywriteproportion: float = 0.0
    scanproportion: float = 0.0
    requestdistribution: Distribution = "zipfian"
    recordcount: int = 1_000
    operationcount: int = 0
    target: float = 0.0
    fieldcount: int = 10
    fieldlength: int = 100
    insertorder: Literal["hashed", "ordered"] = "hashed"
    context: Literal["known", "none"] = "known"
    coordinator: Writer = "any"

    @property
    def weights(self) -> tuple[float, ...]:
        """Of reads, updates, inserts and read-modify-writes."""
        return (
            self.readproportion,
            self.updateproportion,
            self.insertproportion,
            self.readmodifywriteproportion,
        )

    def check(self, n: int) -> None:
        """Raises ValueError."""
        super().check(n)
        if self.scanproportion:
            raise ValueError(f"scanproportion = {self.scanproportion:g}: {NO_SCANS}")
        if not all(math.isfinite(weight) and weight >= 0.0 for weight in self.weights):
            raise ValueError("a proportion must be a number from 0 on")
        if not sum(self.weights) > 0.0:
            raise ValueError("all proportions are 0: there is nothing to do")
        whole("recordcount", self.recordcount, 1)
        whole("operationcount", self.operationcount, 0, 1_000_000_000)
        whole("fieldcount", self.fieldcount, 1, 10_000)
        whole("fieldlength", self.fieldlength, 1)
        size = self.fieldcount * self.fieldlength
        if size > VALUE_BYTES_MAX:
            raise ValueError(
                f"fieldcount x fieldlength = {self.fieldcount} x {self.fieldlength} = {size} bytes: a"
                f" value may have {VALUE_BYTES_MAX} (8 MiB), and above 1 MiB only where the nodes were"
                f" started with --value-bytes-max"
            )
        if not math.isfinite(self.target) or not 0.0 <= self.target <= 1e6:
            raise ValueError(
                f"target = {self.target}: it must be 0 (the load's) to 1000000 a second"
            )


class Ycsb:
    """The workload of one run."""

    def __init__(self, name: str, options: YcsbOptions) -> None:
        self.name = name
        self._options = options
        self._left = options.operationcount or math.inf
        self._inserts = Acknowledged(options.recordcount)
        self._chooser = _chooser(options)
        self._newest: OrderedDict[str, Op] = OrderedDict()
        self._written = Written(options.final_keys)

    def keys_to_load(self) -> Sequence[str]:
        """So many records as `recordcount` says."""
        return [self._key(number) for number in range(self._options.recordcount)]

    async def act(self, arrival: Arrival, client: Client, chance: random.Random) -> None:
        """One transaction."""
        if self._left <= 0:
            return
        self._left -= 1
        kinds = (self._read, self._update, self._insert, self._read_modify_write)
        kind = chance.choices(kinds, self._options.weights)[0]
        await kind(arrival, client, chance)

    async def _read(self, arrival: Arrival, client: Client, chance: random.Random) -> None:
        key = self._choose(chance)
        place = self._place(arrival, client, chance)
        self._remember(await client.read(arrival, key, coordinator=place, r=self._options.r))

    async def _update(self, arrival: Arrival, client: Client, chance: random.Random) -> None:
        key = self._choose(chance)
        self._written.add(key, chance)
        known = self._newest.get(key) if self._options.context == "known" else None
        place = self._place(arrival, client, chance)
        self._remember(
            await client.write(arrival, key, coordinator=place, after=known, w=self._options.w)
        )

    async def _insert(self, arrival: Arrival, client: Client, chance: random.Random) -> None:
        number = self._inserts.take()
        key = self._key(number)
        self._written.add(key, chance)
        place = self._place(arrival, client, chance)
        try:
            self._remember(await client.write(arrival, key, coordinator=place, w=self._options.w))
        finally:
            self._inserts.settle(number)

    async def _read_modify_write(
        self, arrival: Arrival, client: Client, chance: random.Random
    ) -> None:
        key = self._choose(chance)
        place = self._place(arrival, client, chance)
        read = await client.read(arrival, key, coordinator=place, r=self._options.r)
        if read.outcome != "ok":
            return  # nothing was read that could be modified
        self._written.add(key, chance)
        self._remember(
            await client.write(
                arrival,
                key,
                due=client.now(),
                coordinator=place,
                after=read,
                w=self._options.w,
            )
        )

    async def finish(self, client: Client, arrival: Arrival, chance: random.Random) -> None:
        """Final reads of what was written since the load."""
        await read_all(self._written, self._options, client, arrival, chance)

    def _key(self, number: int) -> str:
        return f"user{fnv_hash(number) if self._options.insertorder == 'hashed' else number}"

    def _choose(self, chance: random.Random) -> str:
        return self._key(self._chooser.next(self._inserts.known, chance))

    def _place(self, arrival: Arrival, client: Client, chance: random.Random) -> int | None:
        return writer_place(
            self._options.coordinator, session=arrival.session, nodes=client.nodes, chance=chance
        )

    def _remember(self, op: Op) -> None:
        """The context that came last is the one to hand back."""
        if op.outcome != "ok" or self._options.context != "known":
            return
        before = self._newest.get(op.key)
        if before is None or before.end <= op.start or before.start <= op.start:
            self._newest[op.key] = op
            self._newest.move_to_end(op.key)
            if len(self._newest) > CONTEXTS_MAX:
                self._newest.popitem(last=False)


def _chooser(options: YcsbOptions) -> Chooser:
    if options.requestdistribution == "uniform":
        return Uniform()
    if options.requestdistribution == "latest":
        return Latest(options.recordcount)
    # As YCSB does: room for twice the inserts that are expected.
    total = sum(options.weights)
    expected = options.operationcount * options.insertproportion / total * 2.0
    return ScrambledZipfian(options.recordcount + int(expected))
