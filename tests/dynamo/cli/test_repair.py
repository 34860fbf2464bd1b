"""`dynamo repair` against servers whose repairs go as the test says."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from memory_backend import MemoryBackend, repair_progress
from served import served

from dynamo.agreement import RepairStatus
from dynamo.cli import main
from dynamo.errors import NotAnOwner
from dynamo.requests import RepairAsked
from dynamo.status import RepairProgress

SECONDS = 30.0


class Scripted(MemoryBackend):
    """A node whose repair is, look by look, as `script` says; its last line stays."""

    def __init__(self, *script: RepairProgress) -> None:
        super().__init__()
        self.script = list(script)
        self.looks = 0
        self.stops = 0

    def repair(self) -> RepairStatus:
        self.looks += 1
        if self.script and self.repaired.is_running:
            self.repaired = RepairStatus(node="n1", progress=self.script.pop(0))
        return self.repaired

    async def stop_repair(self) -> RepairStatus:
        self.stops += 1
        return await super().stop_repair()


class Stranger(MemoryBackend):
    """A node that does not keep what it is asked for."""

    def start_repair(self, asked: RepairAsked) -> RepairStatus:
        owners = {"default": ["n2", "n3"]}
        raise NotAnOwner("partition 3 is not kept here, but by n2, n3", owners=owners)


@pytest.fixture
async def done() -> AsyncIterator[str]:
    async with served(Scripted(repair_progress(1, "running"), repair_progress(1, "done"))) as url:
        yield url


async def dynamo(*arguments: str) -> int:
    return await asyncio.to_thread(main, ["repair", *arguments])


async def test_a_repair_that_ends_well_says_what_it_did(
    done: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await dynamo("--node", done) == 0
    assert capsys.readouterr().out == (
        "n1: 16 pairs compared, all agree; 100 keys looked at, 5 differed; 3 records pulled (30 B), "
        "2 pushed (20 B); 1 pass, 2s\n"
    )


async def test_the_json_is_one_line_at_the_end(
    done: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await dynamo("--node", done, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["state"], shown["asked"][0]["error"]) == ("done", None)
    assert shown["asked"][0]["repair"]["progress"]["keys_differing"] == 5


async def test_peers_that_were_not_reached_are_named_and_it_is_a_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ending = msgspec.structs.replace(
        repair_progress(1, "incomplete"), unreached={"n3": "not connected"}
    )
    async with served(Scripted(ending)) as url:
        assert await dynamo("--node", url) == 1
    assert "not reached: n3 (not connected)" in capsys.readouterr().out


async def test_what_it_is_narrowed_to_is_sent(capsys: pytest.CaptureFixture[str]) -> None:
    backend = Scripted(repair_progress(1, "done"))
    async with served(backend) as url:
        flags = ["--partition", "3", "--type", "pairs", "--bucket", "b\udcff", "--peer", "n2"]
        assert await dynamo("--node", url, *flags, "--no-wait") == 0
    assert backend.repair_asked == RepairAsked(
        partition=3, bucket_type=b"pairs", bucket=b"b\xff", peer="n2"
    )
    assert "it runs, 4 of 16 pairs" in capsys.readouterr().out
    assert backend.looks == 0


async def test_of_several_nodes_those_that_do_not_keep_a_partition_are_not_missed(
    done: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(Stranger()) as stranger:
        both = ["--node", stranger, "--node", done]
        assert await dynamo(*both, "--partition", "3") == 0
        assert stranger not in capsys.readouterr().out
        assert await dynamo("--node", stranger, "--partition", "3") == 3
    assert "is not kept here, but by n2, n3" in capsys.readouterr().out


async def test_a_node_that_has_one_running_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    backend = Scripted()
    backend.repaired = RepairStatus(node="n1", progress=repair_progress(1, "running"))
    async with served(backend) as url:
        assert await dynamo("--node", url) == 3
        assert "a repair runs there already, 4 of 16 pairs" in capsys.readouterr().out
        assert await dynamo("status", "--node", url) == 0
        assert "n1: it runs, 4 of 16 pairs" in capsys.readouterr().out
        assert await dynamo("stop", "--node", url) == 0
        assert "n1: stopped at 4 of 16 pairs" in capsys.readouterr().out


async def test_a_node_that_starts_anew_meanwhile_is_no_success(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Forgetful(Scripted):
        def repair(self) -> RepairStatus:
            return RepairStatus(node="n1")

    async with served(Forgetful()) as url:
        assert await dynamo("--node", url) == 3
    assert "the node was started anew meanwhile" in capsys.readouterr().out


async def test_ctrl_c_stops_what_was_started() -> None:
    backend = Scripted()
    async with served(backend) as url:
        process = await asyncio.to_thread(
            subprocess.Popen,
            [sys.executable, "-m", "dynamo", "repair", "--node", url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        async with asyncio.timeout(SECONDS):
            while not backend.looks:
                await asyncio.sleep(0.02)
        process.send_signal(signal.SIGINT)
        output, error = await asyncio.to_thread(process.communicate, timeout=SECONDS)
    assert (process.returncode, error, backend.stops) == (130, "", 1)
    assert "stopped at 4 of 16 pairs; start it again at any time" in output


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--partition", "x"], 2),
        (["--bucket", ""], 2),
        (["--type", ""], 2),
        (["--peer", "\x07"], 2),
        (["status", "--peer", "n2"], 2),
        (["stop", "--no-wait"], 2),
        (["nonsense"], 2),
        (["--node", "ftp://x"], 2),
        (["--partition", "-1000000000000000000000000"], 2),
        (["--node", "http://127.0.0.1:9"], 3),
    ],
)
async def test_what_makes_no_sense_is_refused(
    done: str, arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    node: list[str] = [] if "--node" in arguments else ["--node", done]
    try:
        ended: object = await dynamo(*arguments, *node)
    except SystemExit as error:  # as argparse does it
        ended = error.code
    assert ended == code
    shown: Any = capsys.readouterr()
    assert shown.err or shown.out
