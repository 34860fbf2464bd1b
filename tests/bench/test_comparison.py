"""Two runs side by side: what chance explains is not told apart, and what cannot be compared is said."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import msgspec
import pytest
from made_directory import write_run
from made_run import made_analysis, made_manifest, made_material, rate

from bench.cli import main
from bench.comparison import compare, newcombe, pair, two_proportions
from bench.figures import Figure, figures
from bench.findings import Availability


def share(count: int, of: int) -> Figure:
    found = rate(count, of)
    if not of:
        return Figure(name="x", value=None, n=0)
    return Figure(name="x", value=found.share, n=of, low=found.low, high=found.high, count=count)


def time(value: float | None, low: float | None, high: float | None) -> Figure:
    return Figure(name="t", value=value, n=9, low=low, high=high, unit="ms")


def test_newcombes_own_examples() -> None:
    # Newcombe 1998, table II, method 10: p1 - p2 for 56/70 and 48/80, and for 9/10 and 3/10.
    assert newcombe(share(48, 80), share(56, 70)) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert newcombe(share(3, 10), share(9, 10)) == pytest.approx((0.1705, 0.8090), abs=5e-5)


def test_two_proportions_is_the_pooled_z_test() -> None:
    p = two_proportions(share(48, 80), share(56, 70))
    z = (0.8 - 0.6) / math.sqrt((104 / 150) * (46 / 150) * (1 / 70 + 1 / 80))
    assert p == pytest.approx(math.erfc(z / math.sqrt(2)))
    assert two_proportions(share(0, 10), share(0, 20)) is None


def test_runs_of_one_rate_are_told_apart_one_time_in_twenty() -> None:
    chance = random.Random(7)
    unlike = 0
    for _ in range(1_000):
        counts = [sum(chance.random() < 0.1 for _ in range(300)) for _ in range(2)]
        unlike += pair(share(counts[0], 300), share(counts[1], 300)).told == "unlike"
    assert 25 <= unlike <= 75


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        (share(10, 1_000), share(60, 1_000), "unlike"),
        (share(10, 1_000), share(12, 1_000), "alike"),
        (share(0, 0), share(1, 10), "open"),
        (time(5, 4, 6), time(8, 7, 9), "unlike"),
        (time(5, 4, 6), time(7, 5.5, 9), "alike"),
        (time(5, 4, 6), time(None, 7, None), "unlike"),
        (time(5, 4, None), time(8, 7, None), "open"),
        (time(5, None, None), time(500, None, None), "open"),
        (time(5, 4, 6), None, "only A"),
        (None, time(5, 4, 6), "only B"),
    ],
)
def test_what_is_told_apart(a: Figure | None, b: Figure | None, told: str) -> None:
    assert pair(a, b).told == told


def test_a_run_compared_with_itself_differs_in_nothing() -> None:
    run = made_manifest(), made_analysis()
    found = compare(run, run)
    assert found.warnings == ()
    assert found.notes == ()
    assert len(found.pairs) == len(figures(run[1]))
    assert {one.told for one in found.pairs} == {"alike", "open"}
    assert found.judged > 50


def test_names_of_figures_are_each_there_once() -> None:
    found = [(one.name, one.origin) for one in figures(made_analysis())]
    assert len(found) == len(set(found))


def test_what_makes_a_comparison_worthless_is_said() -> None:
    manifest, analysis = made_manifest(), made_analysis()
    machine = msgspec.structs.replace(manifest.machine, cores=64)
    other = made_manifest(
        scenario_name="healthy",
        seed=8,
        machine=machine,
        clock="virtual",
        target="sim",
        scenario={"load": {"rate": 9.0}},
        commit="abc",
    )
    of_client = msgspec.structs.replace(analysis, curves=analysis.curves[1:])
    void = msgspec.structs.replace(
        of_client, health=msgspec.structs.replace(analysis.health, void="it lagged")
    )
    found = compare((manifest, analysis), (other, void))
    text = "\n".join(found.warnings)
    for part in (
        "B is void: it lagged",
        "scenarios differ: partition-heal, healthy",
        "load.rate",
        "targets differ: nodes, sim",
        "machines differ: cores 8, 64",
        "clocks differ: CLOCK_MONOTONIC, virtual",
        "seeds differ: 7, 8",
        "origins of t differ",
    ):
        assert part in text
    assert any("commits" in note for note in found.notes)


def test_compare_prints_and_exits_0_even_where_all_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    material = made_material()
    worse = msgspec.structs.replace(
        material.analysis,
        availability=(
            Availability(kind="read", ok=rate(1, 24_000), fail=23_999, unknown=0, reasons={}),
        ),
    )
    write_run(tmp_path / "a", material)
    write_run(tmp_path / "b", material._replace(analysis=worse))
    both = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert main(["compare", *both]) == 0
    assert "reads available" in capsys.readouterr().out
    assert main(["compare", *both, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    told = {one["name"]: one["told"] for one in found["pairs"]}
    assert told["reads available"] == "unlike"
    assert told["writes available"] == "only A"
