"""Differences between real processes, found and mended, whether somebody asks for it or not."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cluster_process import ClusterProcess
from cluster_waits import wait_connected, wait_until

from dynamo.cli import main

AWAY = 2
KEYS = [f"k{number}" for number in range(120)]
JSON = {"Content-Type": "application/json"}
SECONDS = 60.0


def differing(*more: str) -> ClusterProcess:
    """Three nodes that keep no hints, of which the last has missed what was written."""
    flags = ("--hint-window", "0", "--exchange-interval", "0", "--exchange-deadline", "3")
    return ClusterProcess(nodes=3, partitions=16, extra_args=(*flags, *more))


def write_while_one_is_away(cluster: ClusterProcess) -> None:
    wait_connected(cluster)
    for key in KEYS[:20]:
        assert cluster.put(0, key, b"old", query="w=3").status == 204
    cluster.kill9(AWAY)
    wait_until(lambda: "n3" not in cluster.stats(0)["connected_nodes"], "it is missed")
    contexts = {key: cluster.get(0, key).context for key in KEYS[:20]}
    for key in KEYS:
        assert cluster.put(0, key, b"new", context=contexts.get(key), query="w=2").status == 204
    assert cluster.delete(0, KEYS[0], query="w=2").status == 204
    cluster.start(AWAY)
    wait_connected(cluster)


def repairs_by_read(cluster: ClusterProcess) -> int:
    return sum(int(cluster.stats(i).get("read_repairs", 0)) for i in range(len(cluster)))


def check_agreement(cluster: ClusterProcess) -> None:
    """No read of all replicas finds one behind."""
    before = repairs_by_read(cluster)
    assert cluster.get(AWAY, KEYS[0], query="r=3&pr=3").status == 404
    for key in KEYS[1:]:
        assert cluster.get(AWAY, key, query="r=3&pr=3").body == b"new"
    assert repairs_by_read(cluster) == before


def antientropy(cluster: ClusterProcess, i: int, query: str = "") -> dict[str, Any]:
    return cluster.http(i, "GET", "/admin/antientropy" + query).json()


@pytest.fixture
def cluster() -> Iterator[ClusterProcess]:
    with differing() as cluster:
        write_while_one_is_away(cluster)
        yield cluster


def test_a_repair_brings_what_was_missed_and_says_so(
    cluster: ClusterProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    url = ["--node", cluster.url(AWAY)]
    assert main(["repair", *url]) == 0
    shown = capsys.readouterr().out
    found = re.search(r"(\d+) keys looked at, (\d+) differed; (\d+) records pulled", shown)
    assert found is not None, shown
    assert [int(number) for number in found.groups()][1:] == [len(KEYS), len(KEYS)]
    assert "n3: 32 pairs compared, all agree" in shown
    check_agreement(cluster)
    assert main(["antientropy", *url]) == 0
    assert capsys.readouterr().out.startswith("everything was in agreement ")
    metrics = cluster.http(AWAY, "GET", "/metrics").body.decode()
    assert f'dynamo_repaired_keys_total{{cause="exchange"}} {len(KEYS)}\n' in metrics
    # Once more: nothing differs, so nothing is looked at, and it takes no time.
    began = time.monotonic()
    assert main(["repair", *url, "--json"]) == 0
    progress = json.loads(capsys.readouterr().out)["asked"][0]["repair"]["progress"]
    assert (progress["state"], progress["keys_compared"], progress["passes"]) == ("done", 0, 1)
    assert time.monotonic() - began < 5.0


def test_one_bucket_is_repaired_and_the_others_are_left(
    cluster: ClusterProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["repair", "--node", cluster.url(0), "--bucket", "other", "--peer", "n3"]) == 0
    assert " 0 pushed" in capsys.readouterr().out
    assert main(["repair", "--node", cluster.url(0), "--bucket", "b", "--peer", "n3"]) == 0
    assert f"{len(KEYS)} pushed" in capsys.readouterr().out
    check_agreement(cluster)


def test_ctrl_c_stops_it_and_started_again_a_terminal_shows_a_bar(
    cluster: ClusterProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "dynamo", "repair", "--node", cluster.url(AWAY)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: state(cluster) == "running", "it runs")
    assert main(["repair", "--node", cluster.url(AWAY)]) == 3
    assert "a repair runs there already" in capsys.readouterr().out
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=SECONDS)
    assert (process.returncode, error) == (130, "")
    assert "n3: stopped at " in output
    assert state(cluster) == "stopped"
    code, shown = on_a_terminal(command)
    assert re.search(rb"n3  \[[#.]{20}\]  +\d+ %  \d+ of 32 pairs", shown)
    assert b"all agree" in shown
    assert code == 0
    check_agreement(cluster)


def on_a_terminal(command: list[str]) -> tuple[int, bytes]:
    """(exit code, all that a terminal got)."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65_536):
            shown += part
    except OSError:  # its other end is closed
        pass
    finally:
        os.close(ours)
    return process.wait(SECONDS), shown


def state(cluster: ClusterProcess) -> str | None:
    progress = cluster.http(AWAY, "GET", "/admin/repair").json()["progress"]
    return None if progress is None else str(progress["state"])


def test_a_killed_node_forgets_its_repair_and_a_new_one_does_the_rest(
    cluster: ClusterProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["repair", "--node", cluster.url(AWAY), "--no-wait"]) == 0
    cluster.kill9(AWAY)
    cluster.start(AWAY)
    wait_connected(cluster)
    assert main(["repair", "status", "--node", cluster.url(AWAY)]) == 0
    assert "no repair since the start of the node" in capsys.readouterr().out
    assert main(["repair", "--node", cluster.url(AWAY)]) == 0
    check_agreement(cluster)


def test_a_peer_that_is_down_is_named_and_the_rest_is_repaired(
    cluster: ClusterProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.kill9(1)
    wait_until(lambda: "n2" not in cluster.stats(AWAY)["connected_nodes"], "it is missed")
    assert main(["repair", "--node", cluster.url(AWAY)]) == 1
    shown = capsys.readouterr().out
    assert "not reached: n2 " in shown
    assert f"{len(KEYS)} records pulled" in shown
    cluster.start(1)
    wait_connected(cluster)
    check_agreement(cluster)


@pytest.fixture(scope="module")
def five() -> Iterator[ClusterProcess]:
    """Five nodes, n = 3: some partitions are not everybody's."""
    extra = ("--exchange-interval", "0")
    with ClusterProcess(nodes=5, partitions=16, extra_args=extra) as cluster:
        wait_connected(cluster)
        yield cluster


def foreign_partition(five: ClusterProcess) -> tuple[int, list[str]]:
    """One that n1 does not keep, and who does."""
    for number in range(200):
        told = five.http(0, "GET", f"/types/default/buckets/b/keys/k{number}/preflist").json()
        primaries = [one for one in told["preflist"] if one["primary"]]
        names = [one["node"] for one in primaries]
        if "n1" not in names:
            return int(primaries[0]["partition"]), names
    raise AssertionError("n1 keeps everything")


def test_a_partition_of_others_names_them_and_needs_one_of_them(
    five: ClusterProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    partition, owners = foreign_partition(five)
    body = json.dumps({"partition": partition}).encode()
    refused = five.http(0, "POST", "/admin/repair", headers=JSON, body=body)
    assert (refused.status, refused.json()["owners"]) == (421, {"default": owners})
    flags = ["--partition", str(partition), "--node", five.url(0)]
    assert main(["repair", *flags]) == 3
    assert "is not kept here" in capsys.readouterr().out
    owner = int(owners[0][1:]) - 1
    assert main(["repair", *flags, "--node", five.url(owner)]) == 0
    assert capsys.readouterr().out.startswith(f"{owners[0]}: 2 pairs compared, all agree")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"partition": 16}', "partition"),
        (b'{"partition": -1}', "partition"),
        (b'{"partition": "0"}', "partition"),
        (b'{"type": "unknown"}', "type"),
        (b'{"bucket": ""}', "bucket"),
        (b'{"peer": "n9"}', "peer"),
        (b'{"peer": "n1"}', "peer"),
        (b'{"what": 1}', "what"),
        (b"{", "body"),
    ],
)
def test_bad_input_starts_nothing(five: ClusterProcess, body: bytes, field: str) -> None:
    before = five.http(0, "GET", "/admin/repair").json()
    reply = five.http(0, "POST", "/admin/repair", headers=JSON, body=body)
    assert (reply.status, reply.json()["field"]) == (400, field)
    assert five.http(0, "GET", "/admin/repair").json() == before


@pytest.mark.parametrize("query", ["?partition=16", "?partition=x", "?limit=0"])
def test_a_bad_question_about_agreement_is_refused(five: ClusterProcess, query: str) -> None:
    reply = five.http(0, "GET", "/admin/antientropy" + query)
    assert (reply.status, reply.json()["code"]) == (400, "invalid_argument")


def test_without_anybody_asking_all_agree_and_say_since_when() -> None:
    with differing("--exchange-interval", "1") as cluster:
        for i in range(3):
            assert cluster.http(i, "POST", "/admin/antientropy/pause").status == 200
        write_while_one_is_away(cluster)
        # A start ends a pause.
        wait_until(lambda: antientropy(cluster, AWAY)["oldest_clean_s"] is not None, "it agrees")
        told = antientropy(cluster, AWAY)
        assert (told["state"], told["never_clean"], told["pairs"]) == ("running", 0, 32)
        paused = antientropy(cluster, 0)
        assert (paused["state"], paused["peers"][1]["exchanges"]) == ("paused", 0)
        assert told["repaired"]["exchange"]["keys"] == len(KEYS)
        check_agreement(cluster)
        assert cluster.http(0, "POST", "/admin/antientropy/resume").status == 200
        wait_until(lambda: antientropy(cluster, 0)["oldest_clean_s"] is not None, "it agrees too")
        narrowed = antientropy(cluster, 0, "?partition=3")
        assert {(one["partition"], one["peer"]) for one in narrowed["oldest"]} == {
            (3, "n2"),
            (3, "n3"),
        }
