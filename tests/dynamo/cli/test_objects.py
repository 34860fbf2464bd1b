"""`dynamo get|put|delete` against two real nodes."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from cluster_process import ClusterProcess

from dynamo.cli import main


class Ran(NamedTuple):
    code: int
    out: bytes
    err: str

    def json(self) -> dict[str, Any]:
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterProcess]:
    with ClusterProcess(nodes=2, replicas=2, classes=[("single", 1)]) as cluster:
        yield cluster


@pytest.fixture
def run(
    cluster: ClusterProcess,
    capsysbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Runs a subcommand against node 0, or that of `node`."""

    def run(command: str, *arguments: str, node: int = 0, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main([command, "--node", cluster.url(node), *arguments])
        out, err = capsysbinary.readouterr()
        return Ran(code, out, err.decode())

    return run


def test_a_value_comes_back_as_it_was_put(run: Run) -> None:
    assert run("put", "b", "greeting", "hello") == (0, b"", "stored (primary=2,fallback=0)\n")
    assert run("get", "b", "greeting", node=1) == (0, b"hello", "")


def test_any_bytes_go_in_by_standard_input(run: Run) -> None:
    value = bytes(range(256)) * 100 + b"\r\n"
    assert run("put", "b", "binary", "-", stdin=value).code == 0
    assert run("get", "b", "binary", node=1).out == value
    shown = run("get", "--json", "b", "binary").json()["siblings"][0]
    assert shown["content_type"] == "application/octet-stream"
    assert "value" not in shown
    assert "value_base64" in shown


@pytest.mark.parametrize("key", ["a/b", "..", "%2F", "ключ", "a b+c?d#e", "\udcff\udcfe", "\n"])
def test_any_key_is_one_key(run: Run, key: str) -> None:
    assert run("put", "b", key, key.encode("utf-8", "replace").hex()).code == 0
    assert run("get", "b", key, node=1).out == key.encode("utf-8", "replace").hex().encode()


def test_a_put_replaces_what_is_there_unless_it_is_blind(run: Run) -> None:
    for value in ("one", "two"):
        assert run("put", "b", "replaced", value).code == 0
    assert run("get", "b", "replaced").out == b"two"
    assert run("put", "--blind", "b", "replaced", "three", node=1).code == 0

    several = run("get", "b", "replaced")
    assert (several.code, several.out) == (4, b"")
    assert "2 values" in several.err
    shown = run("get", "--json", "b", "replaced").json()
    assert sorted(one["value"] for one in shown["siblings"]) == ["three", "two"]
    for sibling in shown["siblings"]:
        assert sibling["vtag"] in several.err
        one = run("get", "--vtag", sibling["vtag"], "b", "replaced")
        assert one.out == sibling["value"].encode()

    assert "replacing 2 siblings" in run("put", "b", "replaced", "both").err
    assert run("get", "b", "replaced").out == b"both"


def test_a_value_with_an_end_says_so(run: Run) -> None:
    assert run("put", "--ttl", "600", "b", "ends", "soon").code == 0
    shown = run("get", "b", "ends", node=1)
    assert (shown.code, shown.out) == (0, b"soon")
    assert re.fullmatch(r"expires \w{3}, .* GMT\n", shown.err)
    (sibling,) = run("get", "--json", "b", "ends").json()["siblings"]
    assert shown.err == f"expires {sibling['expires']}\n"

    assert run("put", "--expires", "Fri, 01 Jan 2032 00:00:00 GMT", "b", "ends", "later").code == 0
    assert run("get", "b", "ends").err == "expires Thu, 01 Jan 2032 00:00:00 GMT\n"
    run("put", "--blind", "b", "ends", "never")
    several = run("get", "b", "ends")
    assert (several.code, several.err.count("expires Thu, 01 Jan 2032")) == (4, 1)
    assert run("put", "--ttl", "0", "b", "ends", "never").code == 0
    assert run("get", "b", "ends").err == ""

    run("put", "--ttl", "1", "b", "ends", "gone")
    limit = time.monotonic() + 10
    while run("get", "b", "ends").code == 0:
        assert time.monotonic() < limit
        time.sleep(0.05)
    gone = run("get", "--json", "b", "ends")
    assert (gone.code, gone.json()["deleted"]) == (1, True)


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (["--ttl", "-1"], 2, "whole number"),
        (["--ttl", "1h"], 2, "whole number"),
        (["--ttl", ""], 2, "whole number"),
        (["--ttl", "99999999999"], 3, "too far ahead"),
        (["--expires", "tomorrow"], 3, "neither seconds nor an HTTP date"),
        (["--expires", "Sun, 06 Nov 1994 08:49:37 GMT"], 3, "past"),
        (["--expires", "x\ny"], 2, "printable ASCII"),
    ],
)
def test_an_end_that_is_none_is_refused(run: Run, flags: list[str], code: int, says: str) -> None:
    refused = run("put", *flags, "b", "endless", "v")
    assert (refused.code, says in refused.err) == (code, True), refused.err
    assert run("get", "b", "endless").code == 1


def test_a_put_with_a_context_replaces_what_that_showed_and_no_more(run: Run) -> None:
    run("put", "b", "ctx", "one")
    context = run("get", "--json", "b", "ctx").json()["context"]
    run("put", "--blind", "b", "ctx", "two", node=1)
    assert run("put", "--context", context, "b", "ctx", "three").code == 0
    shown = run("get", "--json", "b", "ctx").json()["siblings"]
    assert sorted(one["value"] for one in shown) == ["three", "two"]


def test_one_value_and_several_are_shown_in_the_same_shape(run: Run) -> None:
    run("put", "--content-type", "text/x-a", "b", "shape", "one")
    (alone,) = run("get", "--json", "b", "shape").json()["siblings"]
    run("put", "--blind", "b", "shape", "two")
    first = run("get", "--json", "b", "shape").json()["siblings"][0]
    assert alone["content_type"] == "text/x-a"
    assert set(alone) == set(first)


def test_a_deleted_key_is_not_found_and_has_a_context(run: Run) -> None:
    assert run("get", "b", "gone") == (1, b"", "not found\n")
    assert run("delete", "b", "gone").code == 1
    run("put", "b", "gone", "x")
    assert run("delete", "b", "gone", node=1) == (0, b"", "deleted\n")
    assert run("get", "b", "gone").code == 1
    shown = run("get", "--json", "b", "gone")
    assert shown.code == 1
    assert (shown.json()["found"], shown.json()["deleted"]) == (False, True)
    assert shown.json()["context"]
    assert run("put", "b", "gone", "anew").code == 0
    assert run("get", "b", "gone").out == b"anew"


def test_a_bucket_type_is_another_place(run: Run) -> None:
    assert run("put", "--type", "single", "b", "typed", "x").err == (
        "stored (primary=1,fallback=0)\n"
    )
    assert run("get", "b", "typed").code == 1
    assert run("get", "--type", "single", "b", "typed").out == b"x"


def test_counts_reach_the_store(run: Run) -> None:
    assert run("put", "--w", "2", "--pw", "all", "b", "counts", "x").code == 0
    assert run("get", "--r", "one", "--read-repair", "blocking", "b", "counts").out == b"x"
    refused = run("get", "--r", "3", "b", "counts")
    assert (refused.code, refused.err.count("\n")) == (3, 1)
    assert "1 to 2" in refused.err


def test_a_refusal_is_one_line_and_3(run: Run) -> None:
    refused = run("get", "--type", "none", "b", "k")
    assert (refused.code, refused.err) == (3, "dynamo: no such bucket type\n")
    assert run("put", "--context", "AAAA", "b", "k", "x").code == 3
    told = run("put", "--json", "--context", "AAAA", "b", "k", "x")
    assert told.json()["error"]["code"] == "bad_context"


@pytest.mark.parametrize("size", [(1 << 20) + 1, 30 << 20])
def test_a_value_over_the_limit_is_told_so_however_long_it_is(run: Run, size: int) -> None:
    refused = run("put", "b", "big", "-", stdin=bytes(size))
    assert (refused.code, refused.err) == (3, "dynamo: a value has at most 1048576 bytes here\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("get", "", "k"),
        ("get", "b", ""),
        ("get", "--type", "", "b", "k"),
        ("put", "--blind", "--context", "AAAA", "b", "k", "v"),
        ("put", "--context", "A\nX-Riak-Meta-a: b", "b", "k", "v"),
        ("delete", "--context", "AAAA\u20ac", "b", "k"),
        ("put", "--content-type", "text/plain\r\na: b", "b", "k", "v"),
        ("put", "--content-type", "text/\u65e5", "b", "k", "v"),
    ],
)
def test_wrong_usage_is_2(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).code == 2


@pytest.mark.parametrize(
    "node",
    [
        *("ftp://h:1", "http://h:x", "http://h:1/path", "h:1?q", "http://", ""),
        *("http://a..b:1", "http://" + 70 * "h", "http://\udcff"),
    ],
)
def test_a_node_that_is_no_address_is_2(node: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", "--node", node, "b", "k"]) == 2
    assert "is not http://HOST:PORT" in capsys.readouterr().err


def test_a_count_of_any_bytes_is_answered_with_what_it_may_be(run: Run) -> None:
    for count in ("\udcff", "0", "2x"):
        assert run("get", "--r", count, "b", "k") == (
            3,
            b"",
            "dynamo: r must be 1 to n, or one, quorum, all, default\n",
        )


def test_streams_that_are_closed_are_no_accident(cluster: ClusterProcess) -> None:
    def shell(command: str, streams: str) -> tuple[int, str]:
        words = ["-m", "dynamo", *command.split(), "--node", cluster.url(0)]
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {streams}', "sh", sys.executable, *words],
            stderr=subprocess.PIPE,
            text=True,
        )
        return done.returncode, done.stderr

    assert shell("put b closed -", "<&-") == (2, "dynamo: standard input is closed\n")
    assert shell("put b closed v", "<&- >&-") == (0, "stored (primary=2,fallback=0)\n")
    assert shell("get b closed", ">&-") == (0, "")
    assert shell("delete b closed", ">&- 2>&-") == (0, "")


def test_nodes_that_do_not_answer_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with ClusterProcess(nodes=2, replicas=2) as cluster:
        cluster.kill9(1)
        assert main(["put", "--node", cluster.url(0), "--w", "2", "b", "k", "v"]) == 3
        told = capsys.readouterr().err
        assert "\n  n2: " in told
        assert "--blind does not read it\n" in told
        assert main(["put", "--node", cluster.url(0), "--blind", "--w", "1", "b", "k", "v"]) == 0
        capsys.readouterr()
        assert main(["get", "--node", cluster.url(1), "b", "k"]) == 3
        assert f"no answer from {cluster.url(1)}" in capsys.readouterr().err
