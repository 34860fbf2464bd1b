"""What the README tells a newcomer to type, word for word, against real nodes."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from client_venv import CLIENTS, client_python, run_client
from cluster_process import ClusterProcess, request
from cluster_waits import wait_until
from free_ports import LOOPBACK, HeldPorts

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DYNAMO = f"{shlex.quote(sys.executable)} -m dynamo"
BENCH = f"{shlex.quote(sys.executable)} -m bench"

#: Where the commands are that a test here runs: from one piece of text to another.
WITH_CURL = ("Store at one node", "## Kill a node")
N5_IS_DEAD = ("Kill n5 by the pid", "Start n5 again")
N5_IS_BACK = ("Start n5 again", "## Replicas converge")
CONVERGENCE = ("## Replicas converge", "## How stale is it?")
STALENESS = ("## How stale is it?", "## With a client of Riak")
OF_YOUR_OWN = ("## A cluster of your own", "Without a cluster file")
EVERYWHERE = (WITH_CURL, N5_IS_DEAD, N5_IS_BACK, CONVERGENCE, STALENESS, OF_YOUR_OWN)

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")


def indented(text: str) -> list[str]:
    """The lines to type: those that are indented, outside of pictures and programs."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [line[4:] for line in text.splitlines() if line.startswith("    ")]


def commands(place: tuple[str, str]) -> str:
    """The lines to type of one place, as a shell script."""
    first, until = place
    return "".join(
        f"{line}\n" for line in indented(README[README.index(first) : README.index(until)])
    )


def sh(cluster: ClusterProcess, script: str) -> str:
    """What the script prints, with the status of every curl in brackets."""
    # The nodes are on other ports, which the command line has to be told.
    script = re.sub(r"(dynamo \w+)(?!.*--node)", r"\1 --node http://127.0.0.1:8098", script)
    for index in range(len(cluster)):
        script = script.replace(f"http://127.0.0.1:{8098 + index}", cluster.url(index))
    assert "127.0.0.1:80" not in script
    script = script.replace("curl ", "curl -sS -w '\\n[%{http_code}]\\n' ")
    done = subprocess.run(
        ["sh", "-euc", script.replace(".venv/bin/dynamo", DYNAMO)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr in ("", "stored (primary=2,fallback=0)\n", "stored (primary=3,fallback=0)\n")
    return done.stdout


def statuses(printed: str) -> list[str]:
    return re.findall(r"^\[(\d{3})\]$", printed, re.MULTILINE)


@needs_curl
def test_ten_minutes_with_curl() -> None:
    with ClusterProcess() as cluster:
        printed = sh(cluster, commands(WITH_CURL))
        objects = ["204", "200", "204", "300", "204", "200", "204", "404"]
        lists, last_write = ["200"] * 3, ["204", "200", "204", "204", "200"]
        expiring, metrics = ["204", "200"], ["200"]
        assert statuses(printed) == objects + lists + last_write + expiring + metrics
        for shown in (
            "\nbread and milk\n",
            "X-Riak-Deleted: true",
            'eggs{"keys":["bob"],"complete":true}\n',
            '{"keys":["bob"]}{"keys":[],"complete":true}\n',
            '\n{"buckets":["carts"],"complete":true}\n',
            '"allow_mult":false,"last_write_wins":true',
            "\n14C\n",
            "X-Dynamo-Expires: ",
            "\nsigned in\n",
            "3 members, 64 partitions: 3 of 3 nodes well",
            "\ndynamo_ready 1\n",
        ):
            assert shown in printed


@needs_curl
def test_a_node_is_killed() -> None:
    with ClusterProcess(nodes=5) as cluster:
        cluster.kill9(4)
        printed = sh(cluster, commands(N5_IS_DEAD).replace("kill -9 PID\n", ""))
        acks = re.findall(r"X-Dynamo-Acks: primary=(\d),fallback=(\d)", printed)
        assert len(acks) == 9
        assert set(acks) <= {("3", "0"), ("2", "1")}
        assert statuses(printed) == ["200"]
        assert "\nnot well: 3\n" in printed
        assert re.search(r"^n5: down as n1 sees it \(for \d+s\)$", printed, re.MULTILINE)
        hinted = sum(fallbacks == "1" for _, fallbacks in acks)
        assert printed.count(" n5 ") >= bool(hinted)
        assert re.search(rf"^({hinted} hints?|no hints), ", printed, re.MULTILINE)

        cluster.start(4)
        printed = sh(cluster, commands(N5_IS_BACK))
        assert printed.count(": nothing is left; delivered ") == 4
        told = [cluster.http(index, "GET", "/stats").json() for index in range(4)]
        assert sum(stats.get("hints_delivered", 0) for stats in told) == hinted
        for key in map(str, range(1, 10)):
            assert cluster.get(4, key, query="r=3").body == b"figs"


def test_replicas_converge() -> None:
    with ClusterProcess() as cluster:
        cluster.put(0, "k", b"figs", query="w=3")
        cluster.delete(0, "k", query="w=3")
        printed = sh(cluster, commands(CONVERGENCE))
        assert re.search(r"^(everything was|nothing|\d+ of \d+ pairs)", printed, re.MULTILINE)
        for node in ("n1", "n2"):
            assert f"\n{node}: 128 pairs compared, all agree; " in f"\n{printed}"
        assert "\n2 tombstones are kept, all copies counted, at 2 of 2 nodes asked; " in printed


def test_staleness_is_measured_and_predicted(tmp_path: Path) -> None:
    """With each request measured and less time: a newcomer has two minutes, and a test has not."""
    script = commands(STALENESS)
    for line, shorter in (
        (" run partition-heal ", " run healthy --duration 3 "),
        (" run healthy --out ", " run healthy --duration 2 --out "),
        (" --duration 120 ", " --duration 10 --rate 60 "),
    ):
        assert line in script
        script = script.replace(line, shorter)
    script = script.replace(" runs/", f" {tmp_path}/").replace(".venv/bin/dynamo-bench", BENCH)
    with ClusterProcess(extra_args=("--measure-one-in", "1")) as cluster:
        for index in range(3):
            script = script.replace(f"http://127.0.0.1:{8098 + index}", cluster.url(index))
        # A machine with other work makes a run void, which is 1, and says so.
        done = subprocess.run(
            ["sh", "-uc", script], capture_output=True, text=True, check=False, timeout=200
        )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    for name in ("cut", "healthy", "ours"):
        assert (tmp_path / name / "report.html").exists(), done.stderr
    assert "partition-heal" in done.stdout
    assert "whole vectors" in done.stdout
    assert "LNKD-DISK" in done.stdout


def test_a_client_of_riak_is_pointed_at_a_node(tmp_path: Path) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    python = client_python("riak", at_least=(3, 11), before=["setuptools"])
    with ClusterProcess(nodes=1, replicas=1) as cluster:
        script = tmp_path / "script.py"
        script.write_text(
            f"import sys\nsys.path.insert(0, {str(CLIENTS)!r})\nimport riak_shim\n"
            + program.replace("8098", str(cluster.port(0)))
        )
        assert run_client(python, str(script)) == "{'figs': 3} ['carol']\n"


def test_a_cluster_of_your_own(tmp_path: Path) -> None:
    """The machines are ports of this one."""
    with HeldPorts(6) as ports, contextlib.ExitStack() as running:
        script = commands(OF_YOUR_OWN).replace("cluster.toml", str(tmp_path / "cluster.toml"))
        for index in range(3):
            script = script.replace(f"10.0.0.{index + 1}:7400", f"{LOOPBACK}:{ports.first + index}")
        init, serve = re.split(r"^#.*\n", script, flags=re.MULTILINE)
        subprocess.run(["sh", "-euc", init.replace(".venv/bin/dynamo", DYNAMO)], check=True)
        web = [f"{LOOPBACK}:{ports.first + 3 + index}" for index in range(3)]
        for name, address in zip("abc", web, strict=True):
            line = serve.replace("--node-id a", f"--node-id {name}")
            line = line.replace("127.0.0.1:8098", address)
            line = line.replace("/var/lib/dynamo", str(tmp_path / name))
            running.enter_context(_node(line))
        for address in web:
            wait_until(partial(_is_ready, address), f"{address} is ready")
        text = {"Content-Type": "text/plain"}
        path = "/buckets/b/keys/k?w=3"
        assert request(web[0], "PUT", path, headers=text, body=b"here").status == 204
        assert request(web[2], "GET", "/buckets/b/keys/k").body == b"here"


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_every_make_in_it_is_one_that_there_is() -> None:
    lines = [line for line in indented(README) if line.startswith("make ")]
    targets = {shlex.split(line, comments=True)[1] for line in lines}
    assert targets >= {"run", "test", "check", "sim", "bench-floor"}
    for line in lines:
        command = shlex.split(line, comments=True)
        done = subprocess.run(
            [*command, "-n"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, (line, done.stderr)


def test_no_command_and_no_page_in_it_goes_untried() -> None:
    tried = "".join(commands(place) for place in EVERYWHERE)
    untried = [line for line in indented(README) if f"{line}\n" not in tried]
    assert [line for line in untried if not line.startswith("make ")] == []
    for page in re.findall(r"\]\(([^)#]+)", README):
        assert (ROOT / page).exists(), page
    for page, heading in re.findall(r"\]\(([^)#]+)#([^)]+)\)", README):
        headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), re.MULTILINE)
        assert heading in {each.lower().replace(" ", "-") for each in headings}


@contextlib.contextmanager
def _node(line: str) -> Iterator[None]:
    command = shlex.split(line.replace(".venv/bin/dynamo", DYNAMO))
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGKILL)


def _is_ready(address: str) -> bool:
    try:
        return request(address, "GET", "/health/ready").status == 200
    except OSError:
        return False
