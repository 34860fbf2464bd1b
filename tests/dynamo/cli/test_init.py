"""`dynamo init`, and what every subcommand does with wrong usage."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import pytest

from dynamo.cli import build_parser, main
from dynamo.cli.serve import load_config
from dynamo.cluster_disk import read_cluster_file
from ring.member import Member

MEMBERS = ("--member", "a=10.0.0.1:7400,dc1,r1", "--member", "b=10.0.0.2:7400,dc1,r2,box,3")


def test_init_writes_what_it_was_told(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    classes = ("--class", "default=2", "--class", "scratch=1")
    assert main(["init", "--cluster", str(path), *MEMBERS, *classes, "--partitions", "64"]) == 0
    made = read_cluster_file(path)
    assert (made.partitions, made.classes) == (64, (("default", 2), ("scratch", 1)))
    assert made.members == (
        Member("a", "10.0.0.1:7400", "dc1", "r1"),
        Member("b", "10.0.0.2:7400", "dc1", "r2", "box", 3),
    )


def test_two_clusters_have_nothing_in_common(tmp_path: Path) -> None:
    paths = tmp_path / "one.toml", tmp_path / "two.toml"
    for path in paths:
        assert main(["init", "--cluster", str(path)]) == 0
    one, two = map(read_cluster_file, paths)
    assert one.classes == two.classes == (("default", 3),)
    assert one.id != two.id
    assert one.secret != two.secret
    assert one.seed != two.seed


def test_what_init_prints_next_starts_the_nodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cluster.toml"
    assert main(["init", "--cluster", str(path), *MEMBERS, "--class", "default=2"]) == 0
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    commands = [line[1:] for line in lines if line[:2] == ["dynamo", "serve"]]
    configs = [load_config(_parse(command)) for command in commands]
    assert [config.node_id for config in configs] == ["a", "b"]
    assert [config.http for config in configs] == ["10.0.0.1:8098", "10.0.0.2:8098"]


def _parse(command: list[str]) -> argparse.Namespace:
    return build_parser().parse_args(command)


def test_the_secret_is_not_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cluster.toml"
    assert main(["init", "--cluster", str(path)]) == 0
    assert read_cluster_file(path).secret.hex() not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*MEMBERS, "--class", "default=3"), "datacenter 'dc1' has only 2"),
        (("--member", "a"), "is not ID=HOST:PORT"),
        (("--class", "x"), "is not NAME=REPLICAS"),
        (("--class", "x=1", "--class", "x=2"), "class names: x occurs twice"),
        (("--partitions", "100"), "100 is not a power of two"),
        ((*MEMBERS, *MEMBERS, "--class", "default=1"), "member ids: a, b occurs twice"),
    ],
)
def test_what_cannot_work_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    path = tmp_path / "cluster.toml"
    assert main(["init", "--cluster", str(path), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("dynamo: ")
    assert error.count("\n") == 1
    assert not path.exists()


def test_an_identity_is_never_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cluster.toml"
    assert main(["init", "--cluster", str(path)]) == 0
    before = path.read_bytes()
    assert main(["init", "--cluster", str(path)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert path.read_bytes() == before


@pytest.mark.parametrize("arguments", [[], ["fly"], ["serve", "--colour", "red"], ["get", "b"]])
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: dynamo" in capsys.readouterr().err
