"""Do the nodes of a run agree by themselves, in their time, and leave it at that? I6.

Looks at the disks only, and asks no node anything: no read may do what exchanges have to. Knows nothing
of how they agree.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Final

from dynamo.sim.cluster import Cluster
from dynamo.sim.history import AtRest, Copy, History, copy_on_disk, some

#: Seconds between two looks.
_LOOK_SECONDS: Final = 0.2
#: What is held for others is delivered in so many: a target that had no room is tried once a minute.
HINT_SECONDS: Final = 70.0
#: What the last look found is carried out in so many, and answered.
_CALM_SECONDS: Final = 1.0
#: All of them are watched for so many rounds over all peers.
_QUIET_ROUNDS: Final = 1.5
#: The last writes are over in so many seconds, and who missed them is owed them.
STRAGGLERS_SECONDS: Final = 12.0
#: What nodes count when they meet damage, and when it is mended: then they are watched anew.
_DAMAGE: Final = ("records_quarantined", "records_mended", "partitions_refilled")
_WATCHES_MAX: Final = 5


async def look_whether_they_agree(cluster: Cluster, history: History, rest: AtRest) -> None:
    """Wait until the copies of each key are the same and nothing is held for anybody; then watch that
    nothing moves any more. What is wrong is noted at rest."""
    start, upkeep = cluster.loop.time(), cluster.upkeep
    peers = len(cluster.up) - 1
    within = HINT_SECONDS + upkeep.agreed_within(peers)
    while apart := list(differences(cluster, history.owners)):
        if cluster.loop.time() >= start + within:
            rest.apart += [f"{within:g} s after all was healed, unasked, {one}" for one in apart]
            return
        await asyncio.sleep(_LOOK_SECONDS)
    rest.agreed = cluster.loop.time() - start
    seconds = _QUIET_ROUNDS * upkeep.round_seconds(peers)
    for _ in range(_WATCHES_MAX):
        damaged = sum(map(cluster.count, _DAMAGE))
        is_early = cluster.loop.time() < start + STRAGGLERS_SECONDS
        await asyncio.sleep(_CALM_SECONDS + 2 * upkeep.straggler)
        moved = await moved_within(cluster, seconds)
        if sum(map(cluster.count, _DAMAGE)) == damaged and not (moved and is_early):
            break  # or damage of before has been met, and mended; or a write was under way
    if moved:
        rest.apart.append(f"all agree, nobody asks, and in {seconds:g} s there were {moved}")


async def moved_within(cluster: Cluster, seconds: float) -> str:
    """What nodes send each other of records meanwhile, for people; "" for nothing."""
    before = cluster.moved.copy()
    await asyncio.sleep(seconds)
    moved = cluster.moved - before
    return ", ".join(f"{count} {kind}" for kind, count in sorted(moved.items()))


def differences(cluster: Cluster, keys: Iterable[bytes]) -> Iterator[str]:
    """Where the nodes that are up do not agree, and what is held for one of them, a line each."""
    for key in keys:
        forms: dict[bytes, list[str]] = {}
        storage_key = cluster.storage_key(key)
        for name in cluster.owners(key):
            if not cluster.nodes[name].is_up:
                continue
            copy = _copy(cluster, name, storage_key)
            if copy is not None:
                held = "nothing" if not copy.record else some(copy.ids or ())
                forms.setdefault(copy.form, []).append(f"{name} {held}")
        if len(forms) > 1:
            told = " / ".join(", ".join(nodes) for nodes in forms.values())
            yield f"the copies of {key!r} differ: {told}"
    yield from cluster.undelivered()


def _copy(cluster: Cluster, name: str, storage_key: bytes) -> Copy | None:
    """What a node has, if not all of it on disk: of what it let go it need not hurry to sync that. None
    for damage that nobody has met: nobody reads it."""
    disk = cluster.nodes[name].disk
    if disk.is_unreadable("records", storage_key):
        return None
    copy = copy_on_disk(disk.current("records", storage_key), storage_key)
    return None if copy.damaged else copy
