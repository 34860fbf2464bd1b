"""Lag, service and response: what they are of, how exact, and that other tools read the log."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]
from hdrh.log import HistogramLogReader  # type: ignore[import-untyped]

from bench.history import Op, Outcome, Phase
from bench.latency import HIGHEST, SECOND, Times, latencies
from bench.staleness.latencies import latencies as exact

MS = 1_000_000


def op(
    intended: int, start: int, end: int, outcome: Outcome = "ok", phase: Phase = "measure"
) -> Op:
    return Op(
        n=1,
        session=0,
        kind="read",
        key="k",
        intended=intended,
        start=start,
        end=end,
        outcome=outcome,
        phase=phase,
    )


def test_the_three_times_are_apart() -> None:
    found = latencies([op(0, 3 * MS, 10 * MS), op(0, MS, 2 * MS, phase="warmup")])
    assert {(one.measure, one.count): one.ms["max"] for one in found} == {
        ("lag", 1): 3.0,
        ("service", 1): 7.0,
        ("response", 1): 10.0,
    }


def test_the_log_and_the_analysis_are_of_the_same_operations() -> None:
    directed = msgspec.structs.replace(op(0, 1, 9), target="n1")
    lines = [op(0, 1, 9), op(0, 2, 9, "fail"), op(0, 3, 9, phase="warmup"), directed]
    found = {(one.kind, one.measure): one.count for one in latencies(lines)}
    assert found == {("read", "lag"): 2, ("read", "service"): 1, ("read", "response"): 1}
    assert {(one.kind, one.measure): one.count for one in exact(lines)} == found


def test_what_failed_is_in_the_lag_alone() -> None:
    found = {one.measure: one.count for one in latencies([op(0, 1, 9), op(0, 1, 9, "fail")])}
    assert found == {"lag": 2, "service": 1, "response": 1}


def test_quantiles_are_right_to_three_digits() -> None:
    chance = random.Random(1)
    ends = [int(chance.lognormvariate(14, 2)) for _ in range(20_000)]
    (_, service, _) = latencies([op(0, 0, end) for end in ends])
    ends.sort()
    for name, p in (("50", 0.5), ("99", 0.99), ("99.9", 0.999)):
        assert service.ms[name] == pytest.approx(ends[int(p * len(ends))] / 1e6, rel=0.01)
    percentiles = [percentile for percentile, _ in service.spectrum]
    assert percentiles == sorted(percentiles)
    times = [ms for _, ms in service.spectrum]
    assert times == sorted(times)
    assert times[-1] == pytest.approx(service.ms["max"], rel=0.001)


def test_nothing_is_too_long_or_too_early() -> None:
    (lag, service, _) = latencies([op(5, 0, 2 * HIGHEST)])
    assert lag.spectrum[-1][1] == 0.0
    assert service.spectrum[-1][1] == pytest.approx(HIGHEST / 1e6, rel=0.001)


def test_there_is_nothing_of_nothing() -> None:
    assert latencies([]) == ()
    assert "Tag=" not in Times(0).log()


def test_other_tools_read_the_log(tmp_path: Path) -> None:
    times = Times(SECOND)
    for second in range(3):
        for number in range(100):
            start = (second + 1) * SECOND + number
            times.note(op(start, start, start + (second + 1) * MS))
    path = tmp_path / "latency.hlog"
    path.write_text(times.log())
    reader = HistogramLogReader(str(path), HdrHistogram(1, HIGHEST, 3))
    found = []
    while (one := reader.get_next_interval_histogram()) is not None:
        found.append((one.get_tag(), one.get_start_time_stamp(), one.get_total_count()))
        if one.get_tag() == "read-service":
            second = one.get_start_time_stamp() // 1000
            assert one.get_max_value() == pytest.approx((second + 1) * MS, rel=0.001)
    reader.close()
    tags = ("read-lag", "read-service", "read-response")
    assert found == [(tag, second * 1000, 100) for second in range(3) for tag in tags]
