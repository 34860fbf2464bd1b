"""What the keys of a plan are called.

Knows nothing of who asks for them.
"""

from __future__ import annotations

from dynamo.sim.cluster import LWW_PREFIX
from dynamo.sim.plan import Plan


def key_names(plan: Plan) -> list[bytes]:
    """The keys of a plan, by number: `k0`, or `lww0` where the last write wins."""
    lww = frozenset(plan.lww)
    return [(LWW_PREFIX if number in lww else b"k") + b"%d" % number for number in range(plan.keys)]


def ballast_names(plan: Plan) -> list[bytes]:
    """The large keys of a plan."""
    return [b"large%d" % number for number in range(plan.ballast)]
