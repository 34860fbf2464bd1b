"""What happens in one run, as data: the cluster, when clients are busy, what goes wrong and when.

A plan can be printed, written to a file, edited, read again and shrunk: leaving out a fault or a burst
moves no other, nor what clients ask. Knows nothing of how it is drawn or carried out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from dynamo.errors import Malformed
from dynamo.sim.kinds import DRAWN, Kind
from dynamo.sim.points import EXCHANGE_POINTS, HINT_POINTS, POINTS, REAP_POINTS, Point
from dynamo.sim.upkeep import Upkeep

#: Faults that crash a node at a point, and which they draw from.
CRASH_POINTS: Final[dict[Kind, tuple[Point, ...]]] = {
    "crash_at": POINTS,
    "hint_crash": HINT_POINTS,
    "exchange_crash": EXCHANGE_POINTS,
    "reap_crash": REAP_POINTS,
}
#: What an edited plan may have at most: a run must end.
NODES_MAX: Final = 26
PARTITIONS: Final = (1, 2, 4, 8, 16, 32, 64)
KEYS_MAX: Final = 1_000
CLIENTS_MAX: Final = 100
OPERATIONS_MAX: Final = 10_000
SECONDS_MAX: Final = 600.0
NUMBER_MAX: Final = 10_000_000
MILLISECONDS_MAX: Final = 10_000.0
HINT_WINDOW_MAX: Final = 1_000_000
HINT_BYTES_MAX: Final = 1 << 40


class Fault(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One thing that goes wrong at `at` (seconds from the start) and is undone `seconds` later.

    `nodes`: whom it befalls (for a partition: one side). `number`: what else it needs: a factor, a
    chance in percent, milliseconds, how many. `point`: of those of CRASH_POINTS.
    """

    at: float
    kind: Kind
    nodes: tuple[str, ...] = ()
    seconds: float = 0.0
    number: int = 0
    point: Point | None = None

    def __str__(self) -> str:
        parts = [f"{self.at:8.3f} s  {self.kind:<16} {' '.join(self.nodes)}"]
        if self.seconds:
            parts.append(f"for {self.seconds:g} s")
        if self.point:
            parts.append(f"at {self.point}")
        if self.number:
            parts.append(f"({self.number})")
        return " ".join(parts)


class Burst(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`operations` of `clients` at the keys with these numbers, from `at` on, within `seconds`."""

    number: int
    at: float
    seconds: float
    clients: int
    operations: int
    keys: tuple[int, ...]

    def __str__(self) -> str:
        return (
            f"{self.at:8.3f} s  burst {self.number}: {self.operations} operations of {self.clients}"
            f" clients at keys {' '.join(map(str, self.keys))} in {self.seconds:g} s"
        )


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run. `replicas`: n of every key. `formed`: whether the ring is in the cluster file, or agreed
    in the first handshakes. `latency_ms`, `sync_ms`: usual times of a message and of a sync. `dead`:
    nodes that stay down when all else is healed. `seconds`: how long things go wrong. `apart`: the nodes
    start for the first time within so many seconds, and nobody waits for them; 0: all are ready before
    anything happens. `ballast`: large keys that are written once. `lww`: numbers of the keys whose last
    write wins. `hint_window`: seconds for which hints are taken for a node that is down, `hint_bytes`:
    bytes that hints may take at the nodes of `hint_bytes_at`; 0: as a node has them by itself.
    `exchange`, `straggler`, `reap_after`: as of `dynamo.sim.upkeep.Upkeep`; by themselves nodes neither
    exchange nor reap; where they do, some bursts end with deletes of all there is. `expired`: percent of
    the puts whose time was so long ago that their body may go about now.
    """

    seed: int
    nodes: tuple[str, ...]
    replicas: int
    partitions: int
    formed: Literal["file", "peers"]
    keys: int
    latency_ms: float
    sync_ms: float
    seconds: float
    bursts: tuple[Burst, ...]
    faults: tuple[Fault, ...]
    dead: tuple[str, ...] = ()
    apart: float = 0.0
    ballast: int = 0
    lww: tuple[int, ...] = ()
    hint_window: int = 0
    hint_bytes: int = 0
    hint_bytes_at: tuple[str, ...] = ()
    exchange: int = 0
    straggler: float = 0.0
    reap_after: int = -1
    expired: int = 0

    @property
    def upkeep(self) -> Upkeep:
        """What nodes do unasked."""
        return Upkeep(self.exchange, self.straggler, self.reap_after)

    @property
    def operations(self) -> int:
        """How many requests clients make while things go wrong."""
        return sum(burst.operations for burst in self.bursts)

    def __str__(self) -> str:
        head = (
            f"seed {self.seed}: {len(self.nodes)} nodes, n={self.replicas}, {self.keys} keys,"
            f" {self.operations} operations, {self.seconds:g} s; ring from {self.formed};"
            f" messages {self.latency_ms:g} ms, syncs {self.sync_ms:g} ms"
        )
        if self.apart:
            head += f"; started within {self.apart:g} s"
        if self.ballast:
            head += f"; {self.ballast} large keys"
        if self.lww:
            head += f"; the last write wins at keys {' '.join(map(str, self.lww))}"
        if self.hint_window:
            head += f"; hints are taken for {self.hint_window} s"
        if self.hint_bytes_at:
            head += f"; {' '.join(self.hint_bytes_at)} hold {self.hint_bytes} bytes of them"
        if self.exchange:
            head += f"; an exchange every {self.exchange} s, looks {self.straggler:g} s apart"
        if self.reap_after >= 0:
            head += f"; reaped after {self.reap_after} s"
        if self.expired:
            head += f"; {self.expired} % of the puts have expired"
        if self.dead:
            head += f"; {' '.join(self.dead)} stay dead"
        lines = sorted(
            [(b.at, str(b)) for b in self.bursts] + [(f.at, str(f)) for f in self.faults]
        )
        return "\n".join((head, *(line for _, line in lines)))


def read_plan(data: bytes) -> Plan:
    """The plan in a file's content. Raises Malformed."""
    try:
        plan = msgspec.json.decode(data, type=Plan)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"not a plan of faults: {error}") from None
    for wrong in _impossible(plan):
        raise Malformed(f"a plan that cannot be carried out: {wrong}")
    return plan


def _impossible(plan: Plan) -> Iterator[str]:
    """What an edited plan says that no run can do, or that would never end."""
    names, nodes = set(plan.nodes), len(plan.nodes)
    if len(names) < nodes or not all(re.fullmatch("[a-z][a-z0-9]{0,15}", name) for name in names):
        yield f"nodes called {' '.join(plan.nodes)}: each another name, of small letters and digits"
    if not 1 <= plan.replicas <= nodes <= NODES_MAX:
        yield f"{plan.replicas} replicas on {nodes} nodes, of which there may be {NODES_MAX}"
    if plan.partitions not in PARTITIONS:
        yield f"{plan.partitions} partitions: a power of two, at most {PARTITIONS[-1]}"
    if not (1 <= plan.keys <= KEYS_MAX and 0 <= plan.ballast <= KEYS_MAX):
        yield f"{plan.keys} keys and {plan.ballast} large ones: at least 1, at most {KEYS_MAX}"
    if len(set(plan.lww)) < len(plan.lww) or not set(plan.lww) <= set(range(plan.keys)):
        yield f"the last write wins at keys {plan.lww}: numbers below {plan.keys}, each once"
    if not (0 < plan.latency_ms <= MILLISECONDS_MAX and 0 < plan.sync_ms <= MILLISECONDS_MAX):
        yield f"messages take {plan.latency_ms} ms, syncs {plan.sync_ms} ms"
    if not (0 < plan.seconds <= SECONDS_MAX and 0 <= plan.apart <= plan.seconds):
        yield f"{plan.seconds} s, nodes that start within {plan.apart} s"
    if not (0 <= plan.hint_window <= HINT_WINDOW_MAX and 0 <= plan.hint_bytes <= HINT_BYTES_MAX):
        yield f"hints for {plan.hint_window} s, of {plan.hint_bytes} bytes"
    if not (0 <= plan.exchange <= SECONDS_MAX and 0 <= plan.straggler <= SECONDS_MAX):
        yield f"an exchange every {plan.exchange} s, looks {plan.straggler} s apart"
    if not (-1 <= plan.reap_after <= SECONDS_MAX and 0 <= plan.expired <= 100):
        yield f"reaped after {plan.reap_after} s; {plan.expired} % of the puts have expired"
    if not set(plan.hint_bytes_at) <= names:
        yield f"hints are few at none of these nodes: {' '.join(plan.hint_bytes_at)}"
    if not set(plan.dead) <= names or len(set(plan.dead)) > (plan.replicas - 1) // 2:
        yield f"too many stay dead, or none of these nodes: {' '.join(plan.dead)}"
    for burst in plan.bursts:
        if not (1 <= burst.clients <= CLIENTS_MAX and 0 <= burst.operations <= OPERATIONS_MAX):
            yield f"{burst}: at least one client, at most {CLIENTS_MAX}, and {OPERATIONS_MAX} operations"
        if not (0 <= burst.at <= plan.seconds and 0 <= burst.seconds <= plan.seconds):
            yield f"{burst}: it is not within {plan.seconds:g} s"
        if not burst.keys or not all(0 <= number < plan.keys for number in burst.keys):
            yield f"{burst}: it needs keys, whose numbers are below {plan.keys}"
    for fault in plan.faults:
        yield from (f"{fault}: {why}" for why in _impossible_fault(plan, fault))


def _impossible_fault(plan: Plan, fault: Fault) -> Iterator[str]:
    drawn = DRAWN[fault.kind]
    least, count = abs(drawn.nodes) + (fault.kind == "bridge"), len(fault.nodes)
    if count < least or (drawn.nodes >= 0 and count > least):
        yield f"it befalls {least} nodes{' or more' * (drawn.nodes < 0)}"
    if not set(fault.nodes) <= set(plan.nodes) or len(set(fault.nodes)) < count:
        yield "no such nodes"
    if (fault.kind in CRASH_POINTS) != (fault.point is not None):
        yield f"{' and '.join(CRASH_POINTS)} have a point, nothing else has"
    if not (0 <= fault.at <= plan.seconds + 1 and 0 <= fault.seconds <= SECONDS_MAX):
        yield f"it is not within {plan.seconds:g} s, or lasts over {SECONDS_MAX:g} s"
    least, most = min(drawn.numbers), 10 * max(map(abs, drawn.numbers))
    if least > 0 and not 1 <= fault.number <= most:
        yield f"its number is not in 1..{most}"
    if abs(fault.number) > NUMBER_MAX:
        yield f"its number is over {NUMBER_MAX}"


def write_plan(plan: Plan) -> bytes:
    """The content of its file: JSON that a person can edit."""
    return msgspec.json.format(msgspec.json.encode(plan), indent=1) + b"\n"
