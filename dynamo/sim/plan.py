"""What happens in one run, as data: the cluster, when clients are busy, what goes wrong and when.

Drawn from a seed; each kind of fault and each other matter has a random stream of its own, so that a
new kind leaves the others where they are. A plan can be printed, written to a file, edited, read again
and shrunk: leaving out a fault or a burst moves nothing else. Knows nothing of how it is carried out.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

import msgspec

from dynamo.errors import Malformed
from dynamo.sim.chance import stream
from dynamo.sim.points import POINTS, Point

Kind = Literal[
    # Links between nodes.
    "partition",
    "isolate",
    "one_way",
    "bridge",
    "flap",
    "clog",
    "reset",
    "half_open",
    "slow_link",
    "dribble",
    "flip",
    "tear",
    "repeat",
    "swap",
    "replay",
    # Whole messages.
    "lose_messages",
    "double_messages",
    "late_messages",
    "replay_messages",
    # Processes.
    "crash",
    "power_cut",
    "stop",
    "crash_all",
    "crash_at",
    "pause",
    "slow_node",
    # Disks.
    "wipe",
    "restore",
    "rot",
    "rot_block",
    "lose_log",
    "lose_database",
    "slow_sync",
    "fail_sync",
    "fail_write",
    "disk_full",
    "disk_end",
    "busy_disk",
    # Clocks.
    "jump",
    "drift",
]
#: Faults that take from a disk what was synced: one disk at a time.
LOSING: Final[tuple[Kind, ...]] = (
    "wipe",
    "restore",
    "rot",
    "rot_block",
    "lose_log",
    "lose_database",
)


class Fault(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One thing that goes wrong at `at` (seconds from the start) and is undone `seconds` later.

    `nodes`: whom it befalls (for a partition: one side). `number`: what else it needs: a factor, a
    chance in percent, milliseconds, how many. `point`: of `crash_at`.
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
    anything happens. `ballast`: large keys that are written once.
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
    if not (0 < plan.latency_ms <= MILLISECONDS_MAX and 0 < plan.sync_ms <= MILLISECONDS_MAX):
        yield f"messages take {plan.latency_ms} ms, syncs {plan.sync_ms} ms"
    if not (0 < plan.seconds <= SECONDS_MAX and 0 <= plan.apart <= plan.seconds):
        yield f"{plan.seconds} s, nodes that start within {plan.apart} s"
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
    if (fault.kind == "crash_at") != (fault.point is not None):
        yield "crash_at has a point, nothing else has"
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


#: What an edited plan may have at most: a run must end.
NODES_MAX: Final = 26
PARTITIONS: Final = (1, 2, 4, 8, 16, 32, 64)
KEYS_MAX: Final = 1_000
CLIENTS_MAX: Final = 100
OPERATIONS_MAX: Final = 10_000
SECONDS_MAX: Final = 600.0
NUMBER_MAX: Final = 10_000_000
MILLISECONDS_MAX: Final = 10_000.0

# Drawing ------------------------------------------------------------------------------------------

#: (nodes, replicas of a key)
SHAPES: Final = ((3, 3), (5, 3), (5, 3), (5, 5), (4, 3))
SECONDS: Final = 20.0
OPERATIONS: Final = 400
#: Enough that a refill needs several pages for a partition, or none.
BALLAST: Final = (0, 0, 0, 0, 0, 16)


class _Drawn(NamedTuple):
    """How often a kind comes in a run, how many nodes it names, how long it lasts, its numbers."""

    chance: float
    nodes: int  # 0: none; -1: some, but not all
    seconds: tuple[float, ...]
    numbers: tuple[int, ...] = (0,)


_BRIEF: Final = (0.05, 0.3, 1.0)
_LONG: Final = (0.3, 1.0, 2.0, 5.0)
_RANDOM: Final = tuple(range(64))

DRAWN: Final[dict[Kind, _Drawn]] = {
    "partition": _Drawn(0.35, -1, _LONG),
    "isolate": _Drawn(0.35, 1, _LONG),
    "one_way": _Drawn(0.25, 2, _LONG),
    "bridge": _Drawn(0.15, -1, _LONG),
    "flap": _Drawn(0.2, 2, (2.0, 4.0), (3, 8, 20)),
    "clog": _Drawn(0.25, -1, _BRIEF, _RANDOM),
    "reset": _Drawn(0.5, 2, (0.0,)),
    "half_open": _Drawn(0.25, 2, (0.0,)),
    "slow_link": _Drawn(0.3, 2, _LONG, (5, 30, 100)),
    "dribble": _Drawn(0.1, 2, (0.1, 0.5)),
    "flip": _Drawn(0.25, 2, (0.0,), (1, 1, 3)),
    "tear": _Drawn(0.25, 2, (0.0,), (1, 1, 3)),
    "repeat": _Drawn(0.25, 2, (0.0,), (1, 1, 3)),
    "swap": _Drawn(0.25, 2, (0.0,), (1, 1, 3)),
    "replay": _Drawn(0.25, 2, (0.0,), (1, 1, 3)),
    "lose_messages": _Drawn(0.35, 0, _LONG, (2, 10, 30)),
    "double_messages": _Drawn(0.25, 0, _LONG, (10, 40)),
    "late_messages": _Drawn(0.35, 0, _LONG, (5, 20)),
    "replay_messages": _Drawn(0.2, 0, _LONG, (5, 20)),
    "crash": _Drawn(0.8, 1, _LONG, _RANDOM),
    "power_cut": _Drawn(0.35, 1, _LONG, _RANDOM),
    "stop": _Drawn(0.3, 1, _LONG, (0, 1)),
    "crash_all": _Drawn(0.3, 0, _BRIEF, _RANDOM),
    "crash_at": _Drawn(1.2, 1, (0.3, 1.0, 2.0), (0, 0, 1, 2, 5)),
    "pause": _Drawn(0.4, 1, (0.3, 1.0, 3.0)),
    "slow_node": _Drawn(0.25, 1, _LONG, (10, 100)),
    "wipe": _Drawn(0.4, 1, _BRIEF),
    "restore": _Drawn(0.3, 1, (0.3, 1.0, 3.0, 6.0)),
    "rot": _Drawn(0.7, 1, (0.0,), _RANDOM),
    "rot_block": _Drawn(0.25, 1, (0.0,), _RANDOM),
    "lose_log": _Drawn(0.15, 1, _BRIEF, (1, 3, 10)),
    "lose_database": _Drawn(0.1, 1, _BRIEF),
    "slow_sync": _Drawn(0.4, 1, _LONG, (10, 50)),
    "fail_sync": _Drawn(0.25, 1, _BRIEF),
    "fail_write": _Drawn(0.15, 1, _BRIEF),
    "disk_full": _Drawn(0.25, 1, _LONG),
    "disk_end": _Drawn(0.4, 1, _BRIEF),
    "busy_disk": _Drawn(0.25, 1, (0.02, 0.2, 2.0)),
    "jump": _Drawn(0.3, 1, (0.0,), (-600_000, 600_000, -3_000, 3_000)),
    "drift": _Drawn(0.2, 1, _LONG, (50, 90, 110, 200)),
}


def draw_plan(seed: int) -> Plan:
    """The plan of this seed: the same for ever, and on every machine."""
    rng = stream(seed, "plan")
    nodes, replicas = rng.choice(SHAPES)
    names = tuple("abcdefg"[:nodes])
    keys = rng.choice((1, 2, 3, 5))
    bursts = _draw_bursts(stream(seed, "bursts"), keys)
    #: Some seeds are nearly calm: a bug that needs no fault should be found in one.
    harshness = rng.choice((0.15, 0.5, 0.8, 1.0))
    faults: list[Fault] = []
    for kind, drawn in DRAWN.items():
        faults += _draw_faults(stream(seed, "fault", kind), kind, drawn, names, bursts, harshness)
    for scene, likely in SCENES:
        chance = stream(seed, "scene", scene.__name__)
        if chance.random() < likely:
            longest = sorted(bursts, key=lambda burst: burst.seconds)[-3:]
            faults += scene(chance, names, chance.choice(longest))
    dead: tuple[str, ...] = ()
    lots = stream(seed, "dead")
    if lots.random() < 0.2:
        dead = tuple(sorted(lots.sample(names, lots.randint(1, (replicas - 1) // 2))))
        # What else had a copy that was lost may be down for good.
        faults = [fault for fault in faults if fault.kind not in LOSING]
    apart = stream(seed, "apart").choice((0.0,) * 6 + (0.3, 3.0))
    formed: Literal["file", "peers"] = "peers" if rng.random() < 0.2 else "file"
    if apart and formed == "peers":
        dead = ()  # without one of them the ring might never be formed
    return Plan(
        seed=seed,
        nodes=names,
        replicas=replicas,
        partitions=4,
        formed=formed,
        keys=keys,
        latency_ms=rng.choice((0.5, 2.0, 10.0)),
        sync_ms=rng.choice((1.0, 3.0, 20.0)),
        seconds=SECONDS,
        bursts=bursts,
        faults=tuple(sorted(faults, key=lambda fault: (fault.at, fault.kind))),
        dead=dead,
        apart=apart,
        ballast=stream(seed, "ballast").choice(BALLAST),
    )


def _draw_bursts(rng: random.Random, keys: int) -> tuple[Burst, ...]:
    """Clients come in bursts: what happens at once is where the bugs are."""
    sizes: list[int] = []
    while (left := OPERATIONS - sum(sizes)) > 0:
        sizes.append(min(left, rng.choice((10, 20, 30, 50))))
    return tuple(
        Burst(
            number=number,
            at=round(rng.uniform(0.0, SECONDS * 0.95), 3),
            seconds=rng.choice((0.05, 0.2, 0.5, 1.0)),
            clients=rng.choice((2, 4, 6)),
            operations=size,
            keys=tuple(sorted(rng.sample(range(keys), rng.randint(1, min(2, keys))))),
        )
        for number, size in enumerate(sizes)
    )


def _draw_faults(
    rng: random.Random,
    kind: Kind,
    drawn: _Drawn,
    names: tuple[str, ...],
    bursts: tuple[Burst, ...],
    harshness: float,
) -> list[Fault]:
    faults = []
    chance = drawn.chance * harshness
    while rng.random() < chance:
        count = drawn.nodes if drawn.nodes >= 0 else rng.randint(1, max(1, len(names) // 2))
        count += kind == "bridge"
        faults.append(
            Fault(
                at=_near(rng, rng.choice(bursts)),
                kind=kind,
                nodes=tuple(rng.sample(names, min(count, len(names)))),
                seconds=rng.choice(drawn.seconds),
                number=rng.choice(drawn.numbers),
                point=rng.choice(POINTS) if kind == "crash_at" else None,
            )
        )
        chance /= 2
    return faults


def _near(rng: random.Random, burst: Burst) -> float:
    if rng.random() < 0.3:
        return round(rng.uniform(0.0, SECONDS), 3)
    return round(max(0.0, burst.at + rng.uniform(-0.3, burst.seconds)), 3)


# Faults that only together do harm ------------------------------------------------------------------


def _missed_then_lost(rng: random.Random, names: tuple[str, ...], burst: Burst) -> list[Fault]:
    """One node misses writes, another loses its copy, a third that has them goes away; clients go on."""
    missing, losing, leaving = rng.sample(names, 3)
    at, third = burst.at, burst.seconds / 3
    lost = rng.choice(LOSING[:3])
    return [
        Fault(at, "isolate", (missing,), round(third, 3)),
        Fault(round(at + third, 3), lost, (losing,), 0.01, rng.choice(_RANDOM)),
        Fault(round(at + third * rng.uniform(0.9, 1.3), 3), "isolate", (leaving,), 3.0),
    ]


def _power_cut_while_syncing(
    rng: random.Random, names: tuple[str, ...], burst: Burst
) -> list[Fault]:
    """Everything stops at once while syncs are slow."""
    slow = [Fault(burst.at, "slow_sync", (name,), burst.seconds, 50) for name in names]
    at = round(burst.at + burst.seconds * rng.random(), 3)
    return [*slow, Fault(at, "crash_all", (), 0.1, rng.choice(_RANDOM))]


def _disk_ends_while_syncing(
    rng: random.Random, names: tuple[str, ...], burst: Burst
) -> list[Fault]:
    """A node meets the end of its disk while syncs are slow, and goes on without a restart."""
    node = rng.choice(names)
    at = round(burst.at + burst.seconds * rng.random(), 3)
    return [
        Fault(burst.at, "slow_sync", (node,), burst.seconds, 50),
        Fault(at, "disk_end", (node,), 0.1),
    ]


def _stopped_one_by_one(rng: random.Random, names: tuple[str, ...], burst: Burst) -> list[Fault]:
    """Nodes are stopped and started again one after the other in the middle of a burst."""
    times = sorted(rng.uniform(0.05, 1.0) for _ in range(3))
    return [
        Fault(round(burst.at + part * burst.seconds, 3), "stop", (name,), 0.05, rng.randrange(2))
        for part, name in zip(times, rng.sample(names, 3), strict=True)
    ]


def _every_disk_is_full(rng: random.Random, names: tuple[str, ...], burst: Burst) -> list[Fault]:
    """All nodes fall below the watermark: nothing is written, but deletes go on."""
    return [Fault(burst.at, "disk_full", (name,), burst.seconds * 0.6) for name in names]


def _lost_then_crashed(rng: random.Random, names: tuple[str, ...], burst: Burst) -> list[Fault]:
    """A node loses what it had, reaches nobody who could give it back, and starts once more."""
    node = rng.choice(names)
    at, part = burst.at + 0.3 * burst.seconds, 0.1 * burst.seconds
    return [
        Fault(round(at, 3), rng.choice(("lose_log", "wipe")), (node,), 0.01, 10),
        Fault(round(at + 2 * part + 0.15, 3), "isolate", (node,), round(3 * part, 3)),
        Fault(round(at + 3 * part + 0.15, 3), "crash", (node,), 0.01, rng.choice(_RANDOM)),
    ]


def _lost_while_one_is_away(
    rng: random.Random, names: tuple[str, ...], burst: Burst
) -> list[Fault]:
    """A node is away for so long that another, which has lost what it had, goes on without it."""
    away, losing = rng.sample(names, 2)
    at = round(burst.at + rng.random() * burst.seconds, 3)
    return [
        Fault(at, rng.choice(("crash", "power_cut", "isolate")), (away,), 9.0, rng.choice(_RANDOM)),
        Fault(round(at + 0.2, 3), rng.choice(("wipe", "lose_log")), (losing,), 0.1, 10),
    ]


def _two_disks_lose(rng: random.Random, names: tuple[str, ...], burst: Burst) -> list[Fault]:
    """A node has to read back what it had from another whose copy is damaged. Where a key has three
    replicas only one of the two comes to pass."""
    one, other = rng.sample(names, 2)
    at = round(burst.at + rng.random() * burst.seconds, 3)
    return [
        Fault(at, rng.choice(("rot", "rot_block")), (one,), 0.0, rng.choice(_RANDOM)),
        Fault(round(at + 0.001, 3), "wipe", (other,), 0.05),
    ]


SCENES: Final = (
    (_missed_then_lost, 0.35),
    (_power_cut_while_syncing, 0.15),
    (_disk_ends_while_syncing, 0.2),
    (_stopped_one_by_one, 0.25),
    (_every_disk_is_full, 0.1),
    (_two_disks_lose, 0.25),
    (_lost_then_crashed, 0.15),
    (_lost_while_one_is_away, 0.15),
)
