"""Whether a node takes requests. Knows nothing of how that is asked."""

from __future__ import annotations

import msgspec


class Readiness(msgspec.Struct, frozen=True):
    """Whether a node takes requests, and if not, why: one short line a reason."""

    ready: bool
    reasons: tuple[str, ...] = ()
