"""Faults as data: what is done to a cluster, to whom, from when to when.

Times are seconds from the begin of the phase measured. Pure; who carries them out is a target.
"""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

import msgspec

#: "pause": SIGSTOP, then SIGCONT. "crash": kill -9, and a restart at `until` if that is given.
#: "restart": an orderly stop and start. "slow": delays of messages (below). "partition": nothing passes
#: between `nodes` and all others. "restore": crash, put back an image of the disk that was taken at
#: `image_at`, start.
Verb = Literal["pause", "crash", "restart", "slow", "partition", "restore"]
VERBS: Final[tuple[str, ...]] = get_args(Verb)

#: Of the WARS model: W carries a write to a replica, A its acknowledgement back, R a read, S its answer.
Leg = Literal["W", "A", "R", "S"]
LEGS: Final[tuple[str, ...]] = get_args(Leg)


class Slow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Delays of messages between nodes: of each leg a distribution as `wars.toml` writes it, a list of
    [weight, kind, parameters...] in milliseconds ("exponential" rate, "pareto" xm alpha, "constant" ms).
    `legs`: leg -> distribution; "*" for every message of the store that has no leg named."""

    legs: dict[str, list[list[Any]]]


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`at`, `until`: seconds; `until` None: to the end of the phase. `nodes`: indexes into the target's
    nodes, () for all. `peers`: of "slow": only what they send to these, () for all."""

    do: Verb
    at: float
    until: float | None = None
    nodes: tuple[int, ...] = ()
    peers: tuple[int, ...] = ()
    slow: Slow | None = None
    image_at: float | None = None
