"""Every figure of an analysis as one flat list, so that tables and comparisons need no knowledge of it.

Pure. A figure is found again in another run by its name and its origin.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import msgspec

from bench.findings import Analysis, Convergence, Curve, Latency, Rate

#: Of the normal distribution: 95 %, two-sided.
Z95: Final = 1.959964
SHARE: Final = "share"
MS: Final = "ms"


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure. `value` None: not reached, or of none. `n`: what it is made of. `low`, `high`: 95 %,
    None where there is no interval. `unit`: "share" (0..1), "ms", "count", "1/s". `origin`: what t = 0
    is, "" where there is no such time. `count`: of a share, how many. `fine`: one of a long row
    (a bin of a curve), which overviews leave out."""

    name: str
    value: float | None
    n: int
    low: float | None = None
    high: float | None = None
    unit: str = SHARE
    origin: str = ""
    count: int | None = None
    fine: bool = False


def figures(analysis: Analysis) -> list[Figure]:
    """All of them, in the order in which a report shows them."""
    return [
        *_availability(analysis),
        *(figure for curve in analysis.curves for figure in _curve(curve)),
        *_checks(analysis),
        *_unacknowledged(analysis),
        *_staleness(analysis),
        *_zones(analysis),
        *_set_full(analysis),
        *_windows(analysis),
        *(
            _share(f"replicas agree {one.after_ms:g} ms after", one.agreed)
            for one in analysis.agreements
        ),
        *(
            figure
            for number, one in enumerate(analysis.convergence, 1)
            for figure in _convergence(one, number, len(analysis.convergence))
        ),
        *(figure for latency in analysis.latencies for figure in _latency(latency)),
        *_health(analysis),
    ]


def _share(name: str, rate: Rate, origin: str = "", *, fine: bool = False) -> Figure:
    has = rate.of > 0
    return Figure(
        name=name,
        value=rate.share,
        n=rate.of,
        low=rate.low if has else None,
        high=rate.high if has else None,
        origin=origin,
        count=rate.count,
        fine=fine,
    )


def _number(name: str, value: int, n: int) -> Figure:
    return Figure(name=name, value=value, n=n, unit="count")


def _availability(analysis: Analysis) -> Iterator[Figure]:
    for one in analysis.availability:
        yield _share(f"{one.kind}s available", one.ok)
        yield _number(f"{one.kind}s failed", one.fail, one.ok.of)
        yield _number(f"{one.kind}s unknown", one.unknown, one.ok.of)


def _curve(curve: Curve) -> Iterator[Figure]:
    cell = f"R={curve.r} W={curve.w}"
    yield _share(f"fresh {cell}", curve.fresh, curve.origin)
    for quantile in curve.quantiles:
        yield Figure(
            name=f"t{quantile.p * 100:g} {cell}",
            value=quantile.t_ms,
            n=curve.reads,
            low=quantile.low_ms,
            high=quantile.high_ms,
            unit=MS,
            origin=curve.origin,
        )
    for one in curve.plot:
        name = f"fresh from {one.from_ms:g} to {one.to_ms:g} ms {cell}"
        yield _share(name, one.fresh, curve.origin, fine=True)


def _checks(analysis: Analysis) -> Iterator[Figure]:
    for check in analysis.checks:
        yield _share(f"{check.name}: violations", check.violations)
        if check.keys.of:
            yield _share(f"{check.name}: keys violating", check.keys)


def _unacknowledged(analysis: Analysis) -> Iterator[Figure]:
    if analysis.unacknowledged_reads is not None and analysis.unacknowledged_reads.of:
        yield _share("reads of unacknowledged writes", analysis.unacknowledged_reads)


def _staleness(analysis: Analysis) -> Iterator[Figure]:
    found = analysis.staleness
    if found is None or not found.reads:
        return
    for k, number in enumerate(found.counts, 1):
        yield Figure(
            name=f"reads at k={k}",
            value=number / found.reads,
            n=found.reads,
            low=wilson(number, found.reads)[0],
            high=wilson(number, found.reads)[1],
            count=number,
        )
    yield _number(f"reads beyond k={len(found.counts)}", found.beyond, found.reads)


def _zones(analysis: Analysis) -> Iterator[Figure]:
    zones = analysis.zones
    if zones is None:
        return
    yield _share("keys atomic", zones.atomic)
    unlike = zones.atomic.of - zones.atomic.count
    for name, found in (("Delta", zones.delta_ms), ("Gamma", zones.gamma_ms)):
        for quantile, value in found.items():
            yield Figure(name=f"{name} {quantile}", value=value, n=unlike, unit=MS)


def _set_full(analysis: Analysis) -> Iterator[Figure]:
    found = analysis.set_full
    if found is None:
        return
    yield _share("elements lost", found.lost)
    yield _share("elements stale", found.stale)
    yield _number("elements never read", found.never_read, found.attempted)
    for quantile, value in found.stable_ms.items():
        yield Figure(name=f"elements stable {quantile}", value=value, n=found.known, unit=MS)


def _windows(analysis: Analysis) -> Iterator[Figure]:
    for window in analysis.windows:
        for quantile, value in window.ms.items():
            yield Figure(
                name=f"inconsistency window {quantile}",
                value=value,
                n=window.writes,
                unit=MS,
                origin=window.origin,
            )
        yield _number("inconsistency windows cut off", window.censored, window.writes)


def _convergence(one: Convergence, number: int, of: int) -> Iterator[Figure]:
    which = f" (heal {number})" if of > 1 else ""
    yield _number(f"keys not converged{which}", one.unconverged, one.keys)
    for quantile, value in one.ms.items():
        name = f"converged {quantile}{which}"
        yield Figure(name=name, value=value, n=one.keys, unit=MS, origin="heal")
    yield Figure(name=f"trees equal{which}", value=one.trees_equal_ms, n=1, unit=MS, origin="heal")


def _latency(latency: Latency) -> Iterator[Figure]:
    for quantile, value in latency.ms.items():
        low, high = quantile_interval(latency, quantile)
        yield Figure(
            name=f"{latency.kind} {latency.measure} {_percentile_name(quantile)}",
            value=value,
            n=latency.count,
            low=low,
            high=high,
            unit=MS,
        )


def _percentile_name(quantile: str) -> str:
    return f"p{quantile}" if quantile[:1].isdigit() else quantile


def _health(analysis: Analysis) -> Iterator[Figure]:
    health = analysis.health
    yield Figure(
        name="operations a second", value=health.done_rate, n=health.operations, unit="1/s"
    )
    yield _number("arrivals dropped", health.dropped, health.operations + health.dropped)
    for name, value in (("p99", health.lag_ms_p99), ("max", health.lag_ms_max)):
        yield Figure(name=f"harness lag {name}", value=value, n=health.operations, unit=MS)


def quantile_interval(latency: Latency, quantile: str) -> tuple[float | None, float | None]:
    """The interval of 95 % of a percentile, free of any distribution: of n operations the rank n p is
    off by z sqrt(n p (1 - p)), and the spectrum says which times these ranks have. It takes operations
    for independent of each other, which those that wait in one queue are not. None at an end that n
    does not hold, and of what is no percentile."""
    try:
        p = float(quantile) / 100
    except ValueError:
        return None, None
    if not 0 < p < 1 or not latency.count or len(latency.spectrum) < 2:
        return None, None
    off = Z95 * math.sqrt(p * (1 - p) / latency.count)
    low, high = (_at(latency.spectrum, rank * 100) for rank in (p - off, p + off))
    # The spectrum has fewer steps than the histogram, whose value stands between its ends.
    value = latency.ms[quantile]
    return None if low is None else min(low, value), None if high is None else max(high, value)


def _at(spectrum: tuple[tuple[float, float], ...], percentile: float) -> float | None:
    """Between the two points around it, linearly."""
    if not 0 <= percentile < 100:
        return None
    before = spectrum[0]
    for after in spectrum:
        if after[0] >= percentile:
            width = after[0] - before[0]
            part = (percentile - before[0]) / width if width else 1.0
            return before[1] + max(0.0, part) * (after[1] - before[1])
        before = after
    return None


def wilson(number: int, of: int) -> tuple[float, float]:
    """Wilson's interval of 95 % of a share. (E. B. Wilson, JASA 22, 1927.)"""
    if not of:
        return 0.0, 1.0
    share, square = number / of, Z95 * Z95
    middle = share + square / (2 * of)
    half = Z95 * math.sqrt(share * (1 - share) / of + square / (4 * of * of))
    scale = 1 + square / of
    low = 0.0 if number == 0 else max(0.0, (middle - half) / scale)
    high = 1.0 if number == of else min(1.0, (middle + half) / scale)
    return low, high
