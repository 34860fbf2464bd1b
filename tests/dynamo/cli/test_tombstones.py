"""`dynamo tombstones` against a server, and one that is not there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from memory_backend import MemoryBackend
from served import served

from dynamo.cli import main

GONE = "http://127.0.0.1:9"


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with served(MemoryBackend()) as url:
        yield url


async def dynamo(*arguments: str) -> int:
    return await asyncio.to_thread(main, ["tombstones", *arguments])


async def test_it_says_how_many_wait_and_what_for(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await dynamo("--node", url) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "7 tombstones are kept, all copies counted, at 1 of 1 nodes asked; they are left alone for 1m 0s"
    )
    assert lines[3].split() == ["n1", "7", "1m", "30s", "2", "1", "6", "3", "11", "30"]
    assert lines[4:] == [
        "",
        "1 record at n1 waits: n2: it owes writes of the partition to others (hints)",
        "5 records at n1 wait: n3 cannot be reached",
    ]


async def test_a_node_without_an_answer_is_named(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await dynamo("--node", url, "--node", GONE) == 3
    assert f"no answer from {GONE}: " in capsys.readouterr().out
    assert await dynamo("--node", GONE) == 3
    assert capsys.readouterr().out.startswith("none of 1 nodes answers")


async def test_the_json_has_all_that_was_said(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert await dynamo("--node", url, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["tombstones"], shown["births"], shown["reaped"]) == (7, 2, 11)
    assert shown["asked"][0]["status"]["waiting"][1]["records"] == 1


async def test_what_is_no_number_of_seconds_is_refused(url: str) -> None:
    assert await dynamo("--node", url, "--watch", "x") == 2
