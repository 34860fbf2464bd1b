"""Whether the harness itself was fit to measure: what it dropped, how late it was, what it took."""

from __future__ import annotations

from collections.abc import Iterable

from bench.findings import Health
from bench.history import Manifest, Op


def health(manifest: Manifest, operations: Iterable[Op]) -> Health:
    """`done_rate`: arrivals are not known, so it is operations that ended, a second of the phase
    measured; `asked_rate`: arrivals asked for, None of a closed loop. `cpu_share`: of one core."""
    begin, end = manifest.measured
    seconds = (end - begin) / 1e9
    done = sum(op.phase == "measure" and op.outcome == "ok" for op in operations)
    load = manifest.scenario.get("load")
    load = load if isinstance(load, dict) else {}
    asked = load.get("rate", 200.0) if load.get("loop", "open") == "open" else None
    return Health(
        operations=manifest.operations,
        dropped=manifest.dropped,
        in_flight_max=manifest.in_flight_max,
        asked_rate=float(asked) if isinstance(asked, (int, float)) else None,
        done_rate=done / seconds if seconds > 0 else 0.0,
        lag_ms_p99=manifest.lag_ms_p99,
        lag_ms_max=manifest.lag_ms_max,
        cpu_share=manifest.cpu_seconds / seconds if seconds > 0 else 0.0,
        void=manifest.void,
    )
