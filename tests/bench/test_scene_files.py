"""Scenarios: those that come with the harness can be carried out, and what is wrong is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.scenario import BadScenario
from bench.scene_files import every, find, names
from bench.workloads import make

#: The issue that asked for them: controls, the grid, faults, and each way in which quorums fail.
ASKED = """
    control-plus control-minus null-ceiling pbs-grid healthy slow-replica pauses partition-heal
    crash-restart sloppy-quorum concurrent-writes failed-below-w restored-old-copy unlucky-timing
"""
LEAST = 'name = "x"\ntold = "y"\ntargets = ["null"]\nworkload = "session"\n'


def test_all_that_there_have_to_be_are_there() -> None:
    assert set(ASKED.split()) <= set(names())


@pytest.mark.parametrize("name", names())
def test_a_scenario_is_called_as_its_file_and_its_workload_can_be_made(name: str) -> None:
    scenario = find(name)
    assert scenario.name == name
    assert scenario.told.endswith(".")
    make(
        scenario.workload,
        scenario.options,
        n=scenario.cluster.n,
        nodes=scenario.cluster.nodes,
    )


def test_the_controls_are_the_three_that_bound_what_can_be_measured() -> None:
    controls = {one.name for one in every() if one.control}
    assert controls == {"control-plus", "control-minus", "null-ceiling"}


def test_settings_change_one_value_each() -> None:
    scenario = find(
        "healthy",
        [
            "load.rate=7",
            "options.pause_ms=1.5",
            "cluster.properties.w=2",
            "seed=9",
            "load.arrivals=constant",
            "cluster.slow.W=[[1.0, 'constant', 3.0]]",
        ],
    )
    assert (scenario.load.rate, scenario.seed, scenario.load.arrivals) == (7, 9, "constant")
    assert scenario.options["pause_ms"] == 1.5
    assert scenario.cluster.properties == {"r": 1, "w": 2}
    assert scenario.cluster.slow == {"W": [[1.0, "constant", 3.0]]}


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("load.rat=5", "rat"),
        ("laod.rate=5", "laod"),
        ("load.rate", "NAME=VALUE"),
        ("=5", "NAME=VALUE"),
        ("load..rate=5", "NAME=VALUE"),
        ("load.rate=fast", "float"),
        ("load.rate=nan", "rate"),
        ("load.rate=0", "rate"),
        ("load.rate=-1", "rate"),
        ("load.duration=inf", "duration"),
        ("load.rate.x=1", "not a table"),
        ("cluster.n=4", "cluster.n"),
        ("cluster.n=0", "cluster.n"),
        ("cluster.nodes=0", "cluster.nodes"),
        ("cluster.properties.r=4", "properties.r"),
        ("cluster.properties.w=0", "properties.w"),
        ("seed=-1", "seed"),
        ("cluster.slow.X=[[1.0, 'constant', 3.0]]", "no leg 'X'"),
        ("cluster.slow.W=[[1.0, 'gauss', 3.0]]", "kind"),
        ("cluster.slow.W=[[1.0, 'pareto', 3.0]]", "pareto takes 2"),
        ("cluster.slow.W=[[1.0, 'constant', nan]]", "finite"),
        ("cluster.slow.W=[]", "no part"),
        ("targets=['moon']", "moon"),
        ("predict=['tea leaves']", "tea leaves"),
        ("expect=[{figure = 'freshness', at_least = 1.0}]", "freshness"),
        ("expect=[{figure = 'fresh'}]", "at_least or at_most"),
        ("expect=[{figure = 'fresh', at_least = nan}]", "finite"),
        ("faults=[{do = 'explode', at = 1.0}]", "explode"),
        ("faults=[{do = 'pause', at = 1.0, nodes = [3]}]", "nodes"),
        ("faults=[{do = 'pause', at = 2.0, until = 1.0}]", "until"),
        ("faults=[{do = 'slow', at = 1.0}]", "slow"),
        ("faults=[{do = 'restore', at = 1.0}]", "image_at"),
        ("faults=[{do = 'restore', at = 1.0, image_at = 2.0}]", "image_at"),
    ],
)
def test_a_setting_that_cannot_be_is_told_in_one_line(setting: str, why: str) -> None:
    with pytest.raises(BadScenario) as caught:
        find("healthy", [setting])
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(BadScenario, match=r"no scenario 'helthy'; there are: .*healthy"):
        find("helthy")


def test_a_file_of_ones_own_is_found_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(LEAST)
    assert find(str(path)).name == "x"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "missing required field"),
        ("name = ", "Invalid value"),
        (LEAST + "colour = 3\n", "colour"),
        (LEAST.replace("null", "moon"), "moon"),
        (LEAST.replace('["null"]', "[]"), "none is named"),
        (LEAST + "[load]\nrate = 'many'\n", "rate"),
    ],
)
def test_a_file_that_is_no_scenario_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(BadScenario, match=why):
        find(str(path))


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadScenario, match="No such file"):
        find(str(tmp_path / "none.toml"))
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadScenario, match="cannot be read"):
        find(str(tmp_path / "bad.toml"))
