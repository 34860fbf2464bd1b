"""Faults that only together do harm: each draws some that befall one burst of clients.

Knows nothing of how often they come, but for the table at the end.
"""

from __future__ import annotations

import random
from typing import Final

from dynamo.sim.kinds import LOSING, RANDOM, Kind
from dynamo.sim.plan import CRASH_POINTS, Burst, Fault


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
    """A record rots that cannot be mended while one of its owners is away, and its node starts anew.
    Then a third may leave, and the one that was away is back, without what it has missed."""
    node, away, *others = rng.sample(names, len(names))
    at, part = burst.at + 0.2 * burst.seconds, 0.1 * burst.seconds
    leaving = [
        Fault(round(at + max(6 * part, 0.4), 3), "isolate", (name,), 2.0)
        for name in others[:1]
        if rng.random() < 0.5
    ]
    return [
        *leaving,
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


def _holder_lost(rng: random.Random, names: tuple[str, ...], burst: Burst) -> list[Fault]:
    """A node is away, and one that holds writes for it loses them, or goes away as it returns."""
    away, holder = rng.sample(names, 2)
    seconds = round(burst.seconds * rng.uniform(0.5, 1.0) + 0.2, 3)
    gone: Kind = rng.choice(("wipe", "crash", "power_cut", "restore", "lose_log"))
    when = rng.choice((0.7, 1.0, 1.02, 1.1))
    return [
        Fault(burst.at, rng.choice(("crash", "power_cut")), (away,), seconds, rng.choice(RANDOM)),
        Fault(round(burst.at + when * seconds, 3), gone, (holder,), 2.0, rng.choice(RANDOM) + 1),
    ]


def _holder_in_trouble(rng: random.Random, names: tuple[str, ...], burst: Burst) -> list[Fault]:
    """A node is away; as it returns, its disk or that of a holder fails, is full or slow."""
    away, holder = rng.sample(names, 2)
    seconds = round(burst.seconds * rng.uniform(0.5, 1.0) + 0.2, 3)
    node = rng.choice((away, holder))
    trouble: Kind = rng.choice(
        ("fail_sync", "fail_write", "disk_full", "disk_end", "slow_sync", "busy_disk")
    )
    number = 50 if trouble == "slow_sync" else 0
    at = round(burst.at + seconds * rng.choice((0.5, 0.9, 1.0)) + rng.choice((0.0, 0.1, 0.3)), 3)
    return [
        Fault(burst.at, "crash", (away,), seconds, rng.choice(RANDOM)),
        Fault(at, trouble, (node,), 2.0, number),
    ]


def _owners_away_again(rng: random.Random, names: tuple[str, ...], burst: Burst) -> list[Fault]:
    """All owners of a key are away, so that others mint in their place; and soon once more."""
    part, number = burst.seconds / 4, rng.choice(RANDOM)
    return [
        Fault(round(burst.at + start * part, 3), "owners_away", (), round(part, 3), number)
        for start in (0.0, rng.choice((1.5, 2.5)))
    ]


def _crash_while_delivering(
    rng: random.Random, names: tuple[str, ...], burst: Burst
) -> list[Fault]:
    """A node is away, and it or a holder crashes somewhere on the way of what is delivered."""
    away = rng.choice(names)
    seconds = round(burst.seconds * rng.uniform(0.3, 1.0) + 0.1, 3)
    crashes = [
        Fault(
            round(burst.at + 0.01, 3),
            "hint_crash",
            (name,),
            6.0,
            rng.choice((0, 0, 1, 5)),
            rng.choice(CRASH_POINTS["hint_crash"]),
        )
        for name in names
        if rng.random() < 0.4
    ]
    return [Fault(burst.at, "crash", (away,), seconds, rng.choice(RANDOM)), *crashes]


def _written_while_delivered(
    rng: random.Random, names: tuple[str, ...], burst: Burst
) -> list[Fault]:
    """A node returns in the middle of a burst, while messages come late and twice: a hint changes while
    it is on its way."""
    away = rng.choice(names)
    half = round(burst.seconds / 2, 3)
    messages: Kind = rng.choice(("late_messages", "double_messages", "replay_messages"))
    return [
        Fault(burst.at, "crash", (away,), half, rng.choice(RANDOM)),
        Fault(round(burst.at + half, 3), messages, (), 2.0, 20),
        Fault(round(burst.at + half, 3), "slow_sync", (away,), 1.0, 50),
    ]


def _late_fallback(rng: random.Random, names: tuple[str, ...], burst: Burst) -> list[Fault]:
    """One that holds writes for a node that was away goes away itself as that returns, and comes back
    when what covers them may have been reaped."""
    away, holder = rng.sample(names, 2)
    seconds = round(burst.seconds * rng.uniform(0.3, 1.2) + 0.1, 3)
    gone: Kind = rng.choice(("crash", "power_cut", "isolate", "pause"))
    start = round(burst.at + seconds * rng.choice((0.7, 0.95, 1.0)), 3)
    return [
        Fault(burst.at, "crash", (away,), seconds, rng.choice(RANDOM)),
        Fault(start, gone, (holder,), rng.choice((2.0, 4.0, 8.0)), 0),
    ]


def _held_up_while_reaped(rng: random.Random, names: tuple[str, ...], burst: Burst) -> list[Fault]:
    """A node misses writes; what another sends, a repair of it say, is held up until what covers that
    may have been reaped."""
    missing, sending = rng.sample(names, 2)
    part = burst.seconds / 4
    return [
        Fault(burst.at, "isolate", (missing,), round(part, 3)),
        Fault(
            round(burst.at + part * rng.uniform(1.0, 3.0), 3),
            "clog",
            (sending,),
            rng.choice((6.0, 12.0, 20.0)),
            rng.choice(RANDOM),
        ),
    ]


def _missed_and_compared(rng: random.Random, names: tuple[str, ...], burst: Burst) -> list[Fault]:
    """A node misses writes, and is compared with the others while writes go on and messages are late."""
    missing = rng.choice(names)
    half = round(burst.seconds / 2, 3)
    messages: Kind = rng.choice(("late_messages", "double_messages", "lose_messages"))
    return [
        Fault(burst.at, "isolate", (missing,), half),
        Fault(round(burst.at + half, 3), messages, (), 3.0, 20),
    ]


def _trees_kept_then_crashed(
    rng: random.Random, names: tuple[str, ...], burst: Burst
) -> list[Fault]:
    """A node is stopped as it should be, so that it keeps what it knows of its records, and crashes soon
    after it has started."""
    name = rng.choice(names)
    at = round(burst.at + burst.seconds * rng.random(), 3)
    later = round(at + 0.05 + rng.choice((0.12, 0.2, 0.5, 1.5)), 3)
    return [
        Fault(at, "stop", (name,), 0.05, 1),
        Fault(later, rng.choice(("crash", "lose_partition")), (name,), 0.1, rng.choice(RANDOM)),
    ]


def _crash_while_reaping(rng: random.Random, names: tuple[str, ...], burst: Burst) -> list[Fault]:
    """Nodes crash somewhere on the way of what is reaped, soon after a burst."""
    return [
        Fault(
            round(burst.at + burst.seconds, 3),
            "reap_crash",
            (name,),
            6.0,
            rng.choice((0, 0, 1, 3)),
            rng.choice(CRASH_POINTS["reap_crash"]),
        )
        for name in names
        if rng.random() < 0.5
    ]


def _set_back_after_reaping(
    rng: random.Random, names: tuple[str, ...], burst: Burst
) -> list[Fault]:
    """An image of a disk is put back that was taken before what is on it was deleted and reaped."""
    seconds = rng.choice((3.0, 6.0, 10.0))
    return [
        Fault(round(burst.at + burst.seconds * 0.5, 3), "restore", (rng.choice(names),), seconds)
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
    (_rotten_then_crashed, 0.2),
    (_lost_then_full, 0.2),
    (_holder_lost, 0.25),
    (_holder_in_trouble, 0.25),
    (_owners_away_again, 0.35),
    (_crash_while_delivering, 0.3),
    (_written_while_delivered, 0.25),
    (_late_fallback, 0.3),
    (_held_up_while_reaped, 0.25),
    (_missed_and_compared, 0.3),
    (_trees_kept_then_crashed, 0.2),
    (_crash_while_reaping, 0.25),
    (_set_back_after_reaping, 0.2),
)
