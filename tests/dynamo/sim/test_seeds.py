"""Seeds of the simulator: those that failed once, new ones for some time, and the same ones twice."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dynamo.sim.draw import draw_plan
from dynamo.sim.plan import read_plan
from dynamo.sim.run import Result, run_plan
from dynamo.sim.search import fresh_seed

ROOT = Path(__file__).parents[3]
#: Seconds of CPU for which new seeds are tried, in each of PARTS tests: under pytest-xdist a core each,
#: and as many seeds on a busy machine. `make sim` tries more of them.
SECONDS = 10.0
PARTS = os.cpu_count() or 1
#: Plans of seeds that failed once, by the code or by who judged it: what a seed means may change, a plan
#: does not.
FAILED_ONCE = sorted((ROOT / "tests" / "seeds").glob("*.json"))
TWICE = (1, 2, 3, 5, 8)


def assert_clean(result: Result) -> None:
    seed = result.plan.seed
    lines = "\n".join(map(str, result.findings))
    if result.findings:
        pytest.fail(
            f"seed {seed}: replay with `python -m dynamo.sim run --seed {seed}`, shrink with"
            f" `python -m dynamo.sim shrink --seed {seed}`; its findings:\n{lines}",
            pytrace=False,
        )


@pytest.mark.parametrize("path", FAILED_ONCE, ids=lambda path: path.stem)
def test_plans_that_failed_once(path: Path) -> None:
    result = run_plan(read_plan(path.read_bytes()))
    assert [str(finding) for finding in result.findings] == []
    assert result.injected


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
def test_new_seeds_break_no_promise(part: int) -> None:
    seed = fresh_seed() // PARTS * PARTS + part
    until = time.process_time() + SECONDS
    while time.process_time() < until:
        assert_clean(run_plan(draw_plan(seed)))
        seed += PARTS


_PRINT_HASHES = """
import sys
from dynamo.sim.draw import draw_plan
from dynamo.sim.run import run_plan
print(*(run_plan(draw_plan(int(seed))).trace for seed in sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def hashes() -> list[str]:
    """Of the traces of TWICE, run here."""
    return [run_plan(draw_plan(seed)).trace for seed in TWICE]


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_a_seed_is_one_run_in_any_process(hashes: list[str], hash_seed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PRINT_HASHES, *map(str, TWICE)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == hashes
    assert len(set(hashes)) == len(TWICE)
