"""What a prediction says, and what it is made from: the shapes of `predict --json` and `/admin/wars`.

Data only. Milliseconds, except where a name says otherwise.
"""

from __future__ import annotations

import msgspec


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """One cell (R, W). `p_fresh`: t ("0", "5", ...) -> probability that a read that starts t after
    commit is fresh. `t_ms`: "50", "90", "99", "99.9" -> the first t with that share, None if it
    is never reached. `sampling`: "iid", "per replica" or "whole vectors". `fan_out`: how reads and
    writes spread: "paper", "paper-r", or "store". `coordinator`: "outside" the replicas, "replica", or
    "mixed" (some are, some are not). `curve`: (t, p) for plots. `k_fresh`: k ("1", "2", ...) ->
    probability that a read returns one of the k newest versions, if writes stayed where they went first
    (a closed form, of n, r and w alone)."""

    model: str
    n: int
    r: int
    w: int
    sampling: str
    fan_out: str
    coordinator: str
    trials: int
    seed: int
    p_fresh: dict[str, float]
    t_ms: dict[str, float | None]
    read_latency_ms: dict[str, float]
    write_latency_ms: dict[str, float]
    curve: tuple[tuple[float, float], ...] = ()
    note: str = ""
    k_fresh: dict[str, float] = {}


class Legs(msgspec.Struct, frozen=True, kw_only=True):
    """Of one peer: reservoirs (milliseconds) of each leg, a uniform sample of the last `seconds`;
    `count`: how many there were. A write's W and A of one message have the same index, a read's R
    and S too."""

    w: tuple[float, ...] = ()
    a: tuple[float, ...] = ()
    r: tuple[float, ...] = ()
    s: tuple[float, ...] = ()
    writes: int = 0
    reads: int = 0
    #: What was subtracted from W and R, and added to A and S, for two clocks that differ.
    clock_offset_ms: float = 0.0


class WriteSample(msgspec.Struct, frozen=True, kw_only=True):
    """One real write: peer -> (W, A), for those that have answered. W counts from when the coordinator
    began, so it holds the way over the minter; the coordinator's own copy is among them, under its
    own name. `minter`: who gave it its dot."""

    minter: str
    legs: dict[str, tuple[float, float]]


class ReadSample(msgspec.Struct, frozen=True, kw_only=True):
    """One real read: peer -> (R, S); `body`: who was asked for the record, all others for a digest."""

    body: str
    legs: dict[str, tuple[float, float]]


class Wars(msgspec.Struct, frozen=True, kw_only=True):
    """What one node has measured, as a coordinator; the JSON of `GET /admin/wars`. `sampled`: one
    operation in so many is measured. `peers`: by node id, this node's own copy included."""

    node: str
    n: int
    sampled: int
    seconds: float
    peers: dict[str, Legs]
    writes: tuple[WriteSample, ...] = ()
    reads: tuple[ReadSample, ...] = ()
