"""Who is asked in place of the owners of a key that are down (Dynamo 4.6, sloppy quorum).

Pure: a plan and a node's opinion of who is down say who is there. Stand-ins are of the key's datacenter,
distinct, in the order of the preference list, so that nodes which agree on who is down choose the
same. Knows nothing of requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Final, NamedTuple

from ring.preference import Plan

#: Why, for people, of a node that is not asked.
DOWN: Final = "down"


class Standing(NamedTuple):
    """`live`: primaries that are up, in the plan's order. `absent`: those that are down. `spare`: as
    many fallbacks that are up as there are absent primaries, or fewer."""

    live: tuple[str, ...]
    absent: tuple[str, ...]
    spare: tuple[str, ...]


def standing(plan: Plan, down: AbstractSet[str], *, hints: bool = True) -> Standing:
    """Who is there to ask for a key. `hints`: False, and nobody stands in."""
    live = tuple([node for node in plan.primaries if node not in down])
    absent = tuple([node for node in plan.primaries if node in down])
    spares = tuple(islice(spare(plan, down), len(absent))) if hints else ()
    return Standing(live, absent, spares)


def spare(plan: Plan, down: AbstractSet[str]) -> Iterator[str]:
    """Who can stand in, best first: so many that a write which meets refusals has some choice."""
    up = (node for node in plan.fallbacks if node not in down)
    return islice(up, 2 * len(plan.primaries))
