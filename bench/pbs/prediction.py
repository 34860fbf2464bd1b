"""What a prediction says: the shape of `predict --json`. What it may be made from, the documents of
`/admin/wars`, is `dynamo.wars_status`.

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
