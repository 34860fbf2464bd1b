"""What a node has measured of how long its requests take to and from each replica, as it is shown.

After Bailis et al., "Probabilistically Bounded Staleness" (VLDB 2012): W, from when the coordinator of
a write began until a replica has applied it; A, from then until its acknowledgement is back; R, from
when the coordinator of a read began until a replica has read; S, from then until its answer is back.
All in milliseconds. Data only.
"""

from __future__ import annotations

import msgspec


class WarsLegs(msgspec.Struct, frozen=True, kw_only=True):
    """Of one replica. `w` and `a` of one index are of one message, `r` and `s` too: a uniform sample of
    the last `seconds` of the `WarsStatus`. `writes`, `reads`: how many it is a sample of.
    `clock_offset_ms`: what its clock is proven to be ahead by now: what is subtracted from W and R,
    and added to A and S."""

    w: tuple[float, ...] = ()
    a: tuple[float, ...] = ()
    r: tuple[float, ...] = ()
    s: tuple[float, ...] = ()
    writes: int = 0
    reads: int = 0
    clock_offset_ms: float = 0.0


class WarsWrite(msgspec.Struct, frozen=True, kw_only=True):
    """One write: replica -> (W, A), of those that acknowledged. `minter`: who gave it its dot. W holds
    the way over the minter."""

    minter: str
    legs: dict[str, tuple[float, float]]


class WarsRead(msgspec.Struct, frozen=True, kw_only=True):
    """One read: replica -> (R, S), of those that answered. `body`: who was asked for the record; the
    others were asked for vector and digest."""

    body: str
    legs: dict[str, tuple[float, float]]


class WarsStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What one node measures as a coordinator. `n`: replicas of a key of the bucket type `default`
    (without one, of the first type). `sampled`: one operation in so many is measured, at random.
    `seconds`: the time that the samples are of. `peers`: by node id, this node's own copy included.
    `writes`, `reads`: a sample of whole operations of that type, where legs are of any."""

    node: str
    n: int
    sampled: int
    seconds: float
    peers: dict[str, WarsLegs]
    writes: tuple[WarsWrite, ...] = ()
    reads: tuple[WarsRead, ...] = ()
