"""The plan of a seed: the same for ever, on every machine.

Each kind of fault and each other matter has a random stream of its own, so that a new kind leaves the
others where they are. Clients come in bursts, and most faults fall near one: what happens at once is
where the bugs are. Knows nothing of how a plan is carried out.
"""

from __future__ import annotations

import random
from typing import Final, Literal, TypedDict

from dynamo.sim.chance import stream
from dynamo.sim.combined import SCENES
from dynamo.sim.kinds import DRAWN, LOSING, Drawn, Kind
from dynamo.sim.plan import CRASH_POINTS, Burst, Fault, Plan

#: (nodes, replicas of a key)
SHAPES: Final = ((3, 3), (5, 3), (5, 3), (5, 5), (4, 3))
SECONDS: Final = 20.0
OPERATIONS: Final = 400
#: Enough that a refill needs several pages for a partition, or none.
BALLAST: Final = (0, 0, 0, 0, 0, 16)


#: Seconds; 0: hours, as nodes have it by themselves.
HINT_WINDOWS: Final = (0, 0, 0, 0, 0, 0, 1, 3)
#: One or two hints, or a few; 0: all that there are.
HINT_BYTES: Final = (0, 0, 0, 0, 0, 0, 300, 2000)

#: Seconds between two exchanges of a node, and between two looks.
EXCHANGES: Final = (0, 1, 1, 1, 2, 2)
STRAGGLERS: Final = (0.2, 0.5, 2.0)
REAP_AFTER: Final = (-1, 0, 1, 1, 2)
#: Percent of the puts.
EXPIRED: Final = (0, 0, 0, 10, 30)


class _Upkeep(TypedDict):
    exchange: int
    straggler: float
    reap_after: int
    expired: int


class _HintBytes(TypedDict):
    hint_bytes: int
    hint_bytes_at: tuple[str, ...]


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
        hint_window=stream(seed, "hint window").choice(HINT_WINDOWS),
        **_draw_hint_bytes(stream(seed, "hint bytes"), names),
        **_draw_upkeep(stream(seed, "upkeep")),
    )


def _draw_upkeep(rng: random.Random) -> _Upkeep:
    """In most runs nodes exchange, and reap; where they do not, reads have to repair."""
    return {
        "exchange": rng.choice(EXCHANGES),
        "straggler": rng.choice(STRAGGLERS),
        "reap_after": rng.choice(REAP_AFTER),
        "expired": rng.choice(EXPIRED),
    }


def _draw_hint_bytes(rng: random.Random, names: tuple[str, ...]) -> _HintBytes:
    """In some runs a few nodes, or all, have next to no room for hints."""
    hint_bytes = rng.choice(HINT_BYTES)
    if not hint_bytes:
        return {"hint_bytes": 0, "hint_bytes_at": ()}
    few = sorted(rng.sample(names, rng.randint(1, len(names))))
    return {"hint_bytes": hint_bytes, "hint_bytes_at": tuple(few)}


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
                point=rng.choice(CRASH_POINTS[kind]) if kind in CRASH_POINTS else None,
            )
        )
        chance /= 2
    return faults


def _near(rng: random.Random, burst: Burst) -> float:
    if rng.random() < 0.3:
        return round(rng.uniform(0.0, SECONDS), 3)
    return round(max(0.0, burst.at + rng.uniform(-0.3, burst.seconds)), 3)
