"""What can go wrong in a simulated run: the kinds of faults, how often each comes, whom it befalls.

Knows nothing of when, nor of how it is carried out.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

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
    "flap_node",
    "hint_crash",
    "exchange_crash",
    "reap_crash",
    "owners_away",
    # Disks.
    "wipe",
    "restore",
    "rot",
    "rot_block",
    "lose_log",
    "lose_database",
    "lose_partition",
    "slow_sync",
    "fail_sync",
    "fail_write",
    "disk_full",
    "disk_end",
    "busy_disk",
    "hint_rot",
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
    "lose_partition",
    "hint_rot",
)


class Drawn(NamedTuple):
    """How often a kind comes in a run, how many nodes it names, how long it lasts, its numbers."""

    chance: float
    nodes: int  # 0: none; -1: some, but not all
    seconds: tuple[float, ...]
    numbers: tuple[int, ...] = (0,)


BRIEF: Final = (0.05, 0.3, 1.0)
LONG: Final = (0.3, 1.0, 2.0, 5.0)
RANDOM: Final = tuple(range(64))

DRAWN: Final[dict[Kind, Drawn]] = {
    "partition": Drawn(0.35, -1, LONG),
    "isolate": Drawn(0.35, 1, LONG),
    "one_way": Drawn(0.25, 2, LONG),
    "bridge": Drawn(0.15, -1, LONG),
    "flap": Drawn(0.2, 2, (2.0, 4.0), (3, 8, 20)),
    "clog": Drawn(0.25, -1, BRIEF, RANDOM),
    "reset": Drawn(0.5, 2, (0.0,)),
    "half_open": Drawn(0.25, 2, (0.0,)),
    "slow_link": Drawn(0.3, 2, LONG, (5, 30, 100)),
    "dribble": Drawn(0.1, 2, (0.1, 0.5)),
    "flip": Drawn(0.25, 2, (0.0,), (1, 1, 3)),
    "tear": Drawn(0.25, 2, (0.0,), (1, 1, 3)),
    "repeat": Drawn(0.25, 2, (0.0,), (1, 1, 3)),
    "swap": Drawn(0.25, 2, (0.0,), (1, 1, 3)),
    "replay": Drawn(0.25, 2, (0.0,), (1, 1, 3)),
    "lose_messages": Drawn(0.35, 0, LONG, (2, 10, 30)),
    "double_messages": Drawn(0.25, 0, LONG, (10, 40)),
    "late_messages": Drawn(0.35, 0, LONG, (5, 20)),
    "replay_messages": Drawn(0.2, 0, LONG, (5, 20)),
    "crash": Drawn(0.8, 1, LONG, RANDOM),
    "power_cut": Drawn(0.35, 1, LONG, RANDOM),
    "stop": Drawn(0.3, 1, LONG, (0, 1)),
    "crash_all": Drawn(0.3, 0, BRIEF, RANDOM),
    "crash_at": Drawn(1.2, 1, (0.3, 1.0, 2.0), (0, 0, 1, 2, 5)),
    "pause": Drawn(0.4, 1, (0.3, 1.0, 3.0)),
    "slow_node": Drawn(0.25, 1, LONG, (10, 100)),
    "flap_node": Drawn(0.25, 1, (1.0, 3.0), (2, 4, 8)),
    "hint_crash": Drawn(0.8, 1, (0.3, 2.0, 5.0), (0, 0, 1, 3)),
    "exchange_crash": Drawn(0.4, 1, (1.0, 3.0, 8.0), (0, 0, 1, 3, 10)),
    "reap_crash": Drawn(0.8, 1, (1.0, 3.0, 8.0), (0, 0, 1, 3)),
    "owners_away": Drawn(0.3, 0, (0.2, 0.5, 2.0), RANDOM),
    "wipe": Drawn(0.4, 1, BRIEF),
    "restore": Drawn(0.3, 1, (0.3, 1.0, 3.0, 6.0)),
    "rot": Drawn(0.7, 1, (0.0,), RANDOM),
    "rot_block": Drawn(0.25, 1, (0.0,), RANDOM),
    "lose_log": Drawn(0.15, 1, BRIEF, (1, 3, 10)),
    "lose_database": Drawn(0.1, 1, BRIEF),
    "lose_partition": Drawn(0.2, 1, BRIEF, RANDOM),
    "slow_sync": Drawn(0.4, 1, LONG, (10, 50)),
    "fail_sync": Drawn(0.25, 1, BRIEF),
    "fail_write": Drawn(0.15, 1, BRIEF),
    "disk_full": Drawn(0.25, 1, LONG),
    "disk_end": Drawn(0.4, 1, BRIEF),
    "busy_disk": Drawn(0.25, 1, (0.02, 0.2, 2.0)),
    "hint_rot": Drawn(0.3, 1, (0.0,), RANDOM),
    "jump": Drawn(0.3, 1, (0.0,), (-600_000, 600_000, -3_000, 3_000)),
    "drift": Drawn(0.2, 1, LONG, (50, 90, 110, 200)),
}
