"""What people see of a node's hints: how many for whom, how old, how fast they go, and why not.

Pure: the account of what is held, and of how its delivery goes, in; a status out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from antientropy.hints import Held
from dynamo.lane import Lane
from dynamo.status import HintTarget, TargetState


def target_status(
    lane: Lane,
    held: Held | None,
    *,
    connected: bool,
    down: bool,
    now: float,
    now_ms: int,
    off: bool = False,
) -> HintTarget:
    """Of one target. `held`: None for nothing. `down`: it is held to be. `now`: monotonic seconds;
    `now_ms`: as of `HintStore`, milliseconds since 1970. `off`: none are delivered by this node."""
    count = 0 if held is None else held.count
    age_ms = now_ms - held.oldest_ms if held is not None and count else 0
    hints_per_s, bytes_per_s = lane.recent.rates(now)
    state, reason = _state(lane, count, connected=connected, down=down)
    if off and count:
        state, reason = "waiting", "this node was started with --no-hints"
    return HintTarget(
        target=lane.target,
        hints=count,
        bytes=0 if held is None else held.bytes,
        oldest_s=max(0, age_ms) / 1000,
        state=state,
        reason=reason,
        refused=dict(lane.refused),
        delivered=lane.delivered,
        bytes_delivered=lane.bytes_delivered,
        hints_per_s=round(hints_per_s, 1),
        bytes_per_s=round(bytes_per_s, 1),
    )


def undelivered(
    targets: Collection[HintTarget], names: Collection[str]
) -> dict[str, dict[str, object]]:
    """Of those that are named and have any left: how many, and why."""
    return {
        one.target: {"hints": one.hints, "state": one.state, "reason": one.reason}
        for one in targets
        if one.target in names and one.hints
    }


def delivered_since(lanes: Collection[Lane], before: Mapping[str, int]) -> dict[str, int]:
    """How many were delivered since the counts were `before`, by target; those that got any."""
    since = {lane.target: lane.delivered - before.get(lane.target, 0) for lane in lanes}
    return {target: count for target, count in sorted(since.items()) if count}


def _state(lane: Lane, count: int, *, connected: bool, down: bool) -> tuple[TargetState, str]:
    if not count:
        return "done", ""
    if not connected:
        return "down", "not connected"
    if down:
        return "down", "connected, and held to be down"
    if lane.why:
        return ("refused" if lane.refused else "waiting"), lane.why
    return "delivering", ""
