"""Whether the last write won, where it should, no matter the clocks: I15, and I5 for what is shown.

`dynamo.sim.checks` takes it for granted there that a write covers all with lower stamps: so an
acknowledged write that a later read does not see, nor one with a higher stamp, is found there. Here the
stamps themselves are judged: by what clients saw, in which order, and by what certainly lay where.
Knows nothing of nodes' insides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dynamo.sim.checks import Case, Finding
from dynamo.sim.history import AtRest, History, Operation, some


def check_last_writes(history: History, rest: AtRest) -> list[Finding]:
    """Everything wrong with the keys where the last write wins."""
    if not any(one.key in history.lww for one in history.operations):
        return []
    case = Case(history, rest)
    return [finding for key in sorted(history.lww) for finding in _check_key(case, key)]


def _check_key(case: Case, key: bytes) -> Iterator[Finding]:
    known = case.keys.get(key)
    operations = known.operations if known is not None else []
    for one in operations:
        yield from _wrongly_stamped(case, one)
        if one.outcome != "ok":
            continue
        if one.kind != "get":
            yield from _wrongly_minted(case, one)
            yield from _wrongly_acknowledged(case, one, operations)
        elif why := _wrongly_shown(case, one.seen, one.shown):
            yield Finding("I5", f"[{one}] {why}")
    for node, shown in case.rest.reads.get(key, {}).items():
        if why := _wrongly_shown(case, shown.seen, shown.values):
            yield Finding("I5", f"a read of {key!r} at {node} at rest {why}")


def _wrongly_stamped(case: Case, write: Operation) -> Iterator[Finding]:
    """A write is above all that its client had seen."""
    orders = case.history.orders
    order = orders.get(write.id)
    if order is None:
        return
    higher = [id for id in write.past if id != write.id and id in orders and orders[id] > order]
    if higher:
        yield Finding("I15", f"[{write}] is stamped below {some(higher)}, which its context covers")


def _wrongly_minted(case: Case, write: Operation) -> Iterator[Finding]:
    """A write has a stamp, and covers all that its minter had."""
    if write.id not in case.history.orders:
        yield Finding("I15", f"[{write}] has no stamp")
    beside = write.seen - {write.id}
    if beside:
        yield Finding("I5", f"[{write}] left {some(beside)} beside it, where the last write wins")


def _wrongly_acknowledged(
    case: Case, write: Operation, operations: Iterable[Operation]
) -> Iterator[Finding]:
    """A write that was acknowledged wins over all that was acknowledged or shown before it began, unless
    as many replicas as it asked for may have taken it without having that: no matter the clocks."""
    orders = case.history.orders
    order = orders.get(write.id)
    if order is None:
        return
    for earlier in operations:
        has_left = earlier.holders or earlier.hinted
        if not (earlier.answered and has_left and earlier.end < write.start):
            continue
        made = earlier.kind != "get" and not earlier.needless
        left = [id for id in ((earlier.id,) if made else earlier.seen) if id in orders]
        highest = max(left, key=orders.__getitem__, default=None)
        if highest is None or orders[highest] <= order:
            continue
        if case.keys[write.key].gone(write.end) >> highest & 1:
            continue  # nobody knows of it any more
        count, blank = case.could_take_without(earlier, write)
        # Who holds it for another cannot know what that has.
        others = len(write.hinted)
        if count + others < write.w or count < write.pw:
            text = (
                f"[{write}] was acknowledged, though {highest} is stamped above it and was there:"
                f" [{earlier}]; {count} could have taken it without that"
            )
            if count + others + len(blank) >= write.w and count + len(blank) >= write.pw:
                text += f", unless a lost copy was counted: {'; '.join(map(str, blank))}"
            yield Finding("I15", text)
            return


def _wrongly_shown(case: Case, seen: frozenset[int], shown: frozenset[int]) -> str:
    """What is wrong with what a read showed of a record, or ""."""
    orders = case.history.orders
    highest = max((id for id in seen if id in orders), key=orders.__getitem__, default=None)
    if highest is None:
        return f"shows {some(shown)} of {some(seen)}, which have no stamps" if shown else ""
    write = case.operations[highest]
    wanted = frozenset((highest,)) if write.kind == "put" else frozenset()
    if shown == wanted or (write.expires and not shown):
        return ""
    return f"shows {some(shown)} of {some(seen)}, of which {highest} is the last"
