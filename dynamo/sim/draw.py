"""The plan of a seed: the same for ever, on every machine.

Each kind of fault and each other matter has a random stream of its own, so that a new kind leaves the
others where they are. Clients come in bursts, and most faults fall near one: what happens at once is
where the bugs are. Knows nothing of how a plan is carried out.
"""

from __future__ import annotations

import random
from typing import Final, Literal

from dynamo.sim.chance import stream
from dynamo.sim.kinds import DRAWN, LOSING, RANDOM, Drawn, Kind
from dynamo.sim.plan import Burst, Fault, Plan
from dynamo.sim.points import POINTS

#: (nodes, replicas of a key)
SHAPES: Final = ((3, 3), (5, 3), (5, 3), (5, 5), (4, 3))
SECONDS: Final = 20.0
OPERATIONS: Final = 400
#: Enough that a refill needs several pages for a partition, or none.
BALLAST: Final = (0, 0, 0, 0, 0, 16)


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
        lww=_draw_lww(stream(seed, "lww"), keys),
    )


def _draw_lww(rng: random.Random, keys: int) -> tuple[int, ...]:
    """In some runs the last write wins at some keys, in a few at all."""
    chance = rng.choice((0.0, 0.0, 0.0, 0.0, 0.4, 1.0))
    return tuple(number for number in range(keys) if rng.random() < chance)


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
    drawn: Drawn,
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
        Fault(round(at + third, 3), lost, (losing,), 0.01, rng.choice(RANDOM)),
        Fault(round(at + third * rng.uniform(0.9, 1.3), 3), "isolate", (leaving,), 3.0),
    ]


def _power_cut_while_syncing(
    rng: random.Random, names: tuple[str, ...], burst: Burst
) -> list[Fault]:
    """Everything stops at once while syncs are slow."""
    slow = [Fault(burst.at, "slow_sync", (name,), burst.seconds, 50) for name in names]
    at = round(burst.at + burst.seconds * rng.random(), 3)
    return [*slow, Fault(at, "crash_all", (), 0.1, rng.choice(RANDOM))]


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
        Fault(round(at + 3 * part + 0.15, 3), "crash", (node,), 0.01, rng.choice(RANDOM)),
    ]


def _lost_while_one_is_away(
    rng: random.Random, names: tuple[str, ...], burst: Burst
) -> list[Fault]:
    """A node is away for so long that another, which has lost what it had, goes on without it."""
    away, losing = rng.sample(names, 2)
    at = round(burst.at + rng.random() * burst.seconds, 3)
    return [
        Fault(at, rng.choice(("crash", "power_cut", "isolate")), (away,), 9.0, rng.choice(RANDOM)),
        Fault(round(at + 0.2, 3), rng.choice(("wipe", "lose_log")), (losing,), 0.1, 10),
    ]


def _two_disks_lose(rng: random.Random, names: tuple[str, ...], burst: Burst) -> list[Fault]:
    """A node has to read back what it had from another whose copy is damaged. Where a key has three
    replicas only one of the two comes to pass."""
    one, other = rng.sample(names, 2)
    at = round(burst.at + rng.random() * burst.seconds, 3)
    return [
        Fault(at, rng.choice(("rot", "rot_block")), (one,), 0.0, rng.choice(RANDOM)),
        Fault(round(at + 0.001, 3), "wipe", (other,), 0.05),
    ]


def _rotten_then_crashed(rng: random.Random, names: tuple[str, ...], burst: Burst) -> list[Fault]:
    """A record rots that cannot be mended while one of its owners is away, and its node starts anew."""
    node, away = rng.sample(names, 2)
    at, part = burst.at + 0.2 * burst.seconds, 0.1 * burst.seconds
    return [
        Fault(round(at, 3), "isolate", (away,), round(max(6 * part, 0.4), 3)),
        Fault(round(at + part, 3), "rot", (node,), 0.0, rng.choice(RANDOM)),
        Fault(round(at + 3 * part, 3), "crash", (node,), 0.01, rng.choice(RANDOM)),
    ]


def _lost_then_full(rng: random.Random, names: tuple[str, ...], burst: Burst) -> list[Fault]:
    """A node that has to read back what it had has no room for it."""
    node = rng.choice(names)
    at = round(burst.at + 0.3 * burst.seconds, 3)
    return [
        Fault(at, rng.choice(("wipe", "lose_log", "lose_database")), (node,), 0.01, 10),
        Fault(at, "disk_full", (node,), round(max(0.5 * burst.seconds, 0.5), 3)),
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
    (_rotten_then_crashed, 0.15),
    (_lost_then_full, 0.1),
)
