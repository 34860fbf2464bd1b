"""How many answers are enough: what is asked for, where it stands, and how it is told.

A tally (`WriteTally`, `ReadTally`) says PENDING, MET or LOST, and LOST as soon as it is certain, not
at the timeout. After Dynamo 4.5 and Riak's get and put cores. Knows nothing of what is counted.
"""

from __future__ import annotations

import enum

from dynamo.errors import InvalidArgument
from dynamo.requests import Count


class State(enum.Enum):
    """Where a quorum stands."""

    PENDING = "pending"
    MET = "met"
    LOST = "lost"


PENDING, MET, LOST = State.PENDING, State.MET, State.LOST


def resolve_count(field: str, value: Count, n: int, *, lowest: int, default: int) -> int:
    """The number that a count or a word stands for, among `n` replicas.

    Raises InvalidArgument naming the allowed range for anything else.
    """
    if value == "default":
        return default
    if value == "quorum":
        return n // 2 + 1
    if value == "all":
        return n
    if value == "one":
        return min(1, n)
    if isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= n:
        return value
    allowed = f"{lowest} to {n}, or one, quorum, all, default"
    raise InvalidArgument(f"{field} must be {allowed}", field=field, allowed=allowed)


def counts_of(needed: int, primaries_needed: int, primaries: int, fallbacks: int) -> dict[str, int]:
    """What was needed and what came, by the names that errors give them."""
    counts = {
        "required": needed,
        "received": primaries + fallbacks,
        "primaries": primaries,
        "fallbacks": fallbacks,
    }
    if primaries_needed:
        counts["primaries_required"] = primaries_needed
    return counts


def tell_counts(counts: dict[str, int], did: str) -> str:
    """What was too little, for people: of nodes, of primaries, or of both."""
    short = []
    if counts["received"] < counts["required"]:
        short.append(f"{counts['received']} of {counts['required']} nodes {did}")
    if counts["primaries"] < counts.get("primaries_required", 0):
        short.append(f"{counts['primaries']} of {counts['primaries_required']} primaries {did}")
    return " and ".join(short)


def too_few(
    *, needed: int, primaries_needed: int, primaries: int, fallbacks: int
) -> dict[str, int] | None:
    """What can be reached and what is needed, if that is more; None if it may be enough."""
    if primaries >= primaries_needed and primaries + fallbacks >= needed:
        return None
    counts = counts_of(needed, primaries_needed, primaries, fallbacks)
    counts["alive"] = primaries
    return counts
