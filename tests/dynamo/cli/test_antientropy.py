"""`dynamo antientropy` against servers, one of which is not there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from memory_backend import MemoryBackend
from served import served

from dynamo.cli import main
from dynamo.status import ExchangePair

GONE = "http://127.0.0.1:9"


@pytest.fixture
def backend() -> MemoryBackend:
    backend = MemoryBackend()
    backend.pairs = tuple(
        ExchangePair(cls=0, partition=number, peer=peer, clean_s=10.0 * number, reason="")
        for number in range(1, 8)
        for peer in ("n2", "n3")
    )
    return backend


@pytest.fixture
async def url(backend: MemoryBackend) -> AsyncIterator[str]:
    async with served(backend) as url:
        yield url


async def dynamo(*arguments: str) -> int:
    return await asyncio.to_thread(main, ["antientropy", *arguments])


async def test_it_says_since_when_all_agree(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert await dynamo("--node", url) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "everything was in agreement 1m 10s ago, at 1 of 1 nodes asked"
    assert lines[1].endswith("0 by read repair, 3 by hints (300 B), 6 by exchange (60 B)")
    assert [line.split()[:5] for line in lines[4:6]] == [
        ["n1", "n2", "idle", "7", "7"],
        ["n1", "n3", "idle", "7", "7"],
    ]
    assert lines[6:] == [
        "",
        "n1: 1 of 8 hash trees are not built yet; their partitions are not compared meanwhile",
    ]


async def test_pairs_are_listed_where_they_are_asked_for(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await dynamo("--node", url, "--pairs", "3") == 0
    shown = capsys.readouterr().out
    assert [line.split()[:4] for line in shown.splitlines() if " default " in line] == [
        ["n1", "n2", "default", "7"],
        ["n1", "n3", "default", "7"],
        ["n1", "n2", "default", "6"],
    ]
    assert "n1: 11 pairs more, which agreed later" in shown
    assert await dynamo("--node", url, "--partition", "2") == 0
    assert capsys.readouterr().out.startswith("everything was in agreement 20s ago")


async def test_a_node_without_an_answer_is_named(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await dynamo("--node", url, "--node", GONE) == 3
    assert f"no answer from {GONE}: " in capsys.readouterr().out
    assert await dynamo("--node", url, "--partition", "8") == 3
    assert "no such partition" in capsys.readouterr().out


async def test_the_json_has_all_that_was_said(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert await dynamo("--node", url, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["oldest_clean_s"], shown["never_clean"], shown["pairs"]) == (70.0, 0, 14)
    assert shown["asked"][0]["status"]["peers"][0]["peer"] == "n2"


async def test_it_is_paused_and_goes_on(
    url: str, backend: MemoryBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await dynamo("pause", "--node", url, "--reason", "a backup") == 0
    assert backend.paused == "a backup"
    assert await dynamo("--node", url) == 0
    assert "n1: no exchange begins by itself: paused (a backup)" in capsys.readouterr().out
    assert await dynamo("resume", "--node", url, "--json") == 0
    assert backend.paused is None
    assert json.loads(capsys.readouterr().out)["asked"][0]["paused"] is False
    assert await dynamo("pause", "--node", url, "--node", GONE) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["pause", "--watch"],
        ["resume", "--pairs"],
        ["resume", "--reason", "x"],
        ["--reason", "x"],
        ["--pairs", "0"],
        ["--pairs", "1001"],
        ["--partition", "-1"],
    ],
)
async def test_what_makes_no_sense_is_refused(url: str, arguments: list[str]) -> None:
    assert await dynamo(*arguments, "--node", url) == 2
