"""`dynamo-bench predict`: what it prints, and what it says to bad input."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.cli import main

DISK = ("--model", "LNKD-DISK", "-n", "3", "-r", "1", "-w", "1", "--trials", "2000")


def _json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["predict", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_json_of_one_cell_has_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    found = _json(capsys, *DISK)
    assert list(found["p_fresh"]) == ["0", "5", "10", "50"]
    assert list(found["t_ms"]) == ["50", "90", "99", "99.9"]
    assert {"50", "99.9"} <= found["read_latency_ms"].keys() == found["write_latency_ms"].keys()
    assert found["p_fresh"]["0"] == pytest.approx(0.4366, abs=0.05)
    shown = {name: found[name] for name in ("model", "n", "r", "w", "trials", "seed")}
    assert shown == {"model": "LNKD-DISK", "n": 3, "r": 1, "w": 1, "trials": 2000, "seed": 1}
    assert found["k_fresh"]["2"] == pytest.approx(5 / 9)
    assert "curve" not in found
    assert _json(capsys, *DISK, "--curve")["curve"][-1][1] == 1.0


def test_times_are_named_as_they_were_typed(capsys: pytest.CaptureFixture[str]) -> None:
    found = _json(capsys, *DISK, "--at", "0.5, 10,1e1,00")
    assert list(found["p_fresh"]) == ["0.5", "10", "1e1", "00"]
    assert found["p_fresh"]["10"] == found["p_fresh"]["1e1"]


def test_a_grid_has_every_cell_as_it_is_alone(capsys: pytest.CaptureFixture[str]) -> None:
    grid = _json(capsys, "--model", "lnkd-disk", "--grid", "--trials", "2000")
    assert [(one["r"], one["w"]) for one in grid["cells"]] == [
        (r, w) for r in (1, 2, 3) for w in (1, 2, 3)
    ]
    assert grid["model"] == "LNKD-DISK"
    assert grid["cells"][0] == _json(capsys, *DISK)


def test_the_seed_decides(capsys: pytest.CaptureFixture[str]) -> None:
    first, again, other = (_json(capsys, *DISK, "--seed", seed) for seed in ("7", "7", "8"))
    assert first == again
    assert first["p_fresh"] != other["p_fresh"]


def test_a_table_for_people_has_a_row_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--model", "WAN", "--grid", "--trials", "2000"]) == 0
    out = capsys.readouterr().out
    assert "WAN, n = 3" in out
    assert "2,000 trials, seed 1" in out
    for share in ("t=0", "t=50", "99.9 %"):
        assert share in out
    assert main(["predict", *DISK, "--fan-out", "store", "--coordinator", "replica"]) == 0
    assert "coordinators are replicas" in capsys.readouterr().out


def test_own_fits_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fits = tmp_path / "own.toml"
    fits.write_text('[Mine]\nW = [[1, "constant", 3]]\nARS = [[1, "constant", 1]]\n')
    cell = ("--fits", str(fits), "-r", "1", "-w", "1", "--trials", "10")
    found = _json(capsys, *cell)
    assert found["model"] == "Mine"
    assert found["p_fresh"]["0"] == 1.0
    assert found["write_latency_ms"]["50"] == 4.0
    assert _json(capsys, *cell, "--model", "mine") == found


def test_where_there_is_a_closed_form_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fits = tmp_path / "own.toml"
    fits.write_text('[x]\nW = [[1, "exponential", 0.1]]\nARS = [[1, "exponential", 1]]\n')
    cell = ("--fits", str(fits), "-w", "1", "--trials", "1000")
    told = "R = W = 1 exactly: 41.96 % fresh at t = 0, 99.9 % from 63.6 ms"
    assert _json(capsys, *cell, "-r", "1")["note"] == told
    assert _json(capsys, *cell, "-r", "2")["note"] == ""
    assert _json(capsys, *cell, "-r", "1", "--fan-out", "paper-r")["note"] == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "--model is missing; there are LNKD-DISK, LNKD-SSD, WAN, YMMR"),
        (["--model", "x", "-r1", "-w1"], "no model 'x'; there are LNKD-DISK, LNKD-SSD, WAN, YMMR"),
        (["--model", "WAN"], "-r and -w missing"),
        (["--model", "WAN", "-r1"], "-w missing"),
        ([*DISK, "-r", "4"], "r is 4"),
        ([*DISK, "-r", "0"], "r is 0"),
        ([*DISK, "-w", "0"], "w is 0"),
        ([*DISK, "-w", "-1"], "w is -1"),
        ([*DISK, "-r", "1.5"], "invalid int value"),
        ([*DISK, "-n", "0"], "n is 0"),
        ([*DISK, "-n", "51"], "n is 51"),
        (["--model", "WAN", "-n", "10", "--grid"], "a grid has n of 9"),
        ([*DISK, "--trials", "0"], "trials are 0"),
        ([*DISK, "--trials", "1000000000000"], "trials are 1000000000000"),
        ([*DISK, "--trials", "nan"], "invalid int value"),
        ([*DISK, "--seed", "-1"], "seed is -1"),
        ([*DISK, "--seed", "9" * 30], "the seed is"),
        ([*DISK, "--at", "-1"], "not -1"),
        ([*DISK, "--at=-1"], "not -1"),
        ([*DISK, "--at", "x"], "'x' is no time"),
        ([*DISK, "--at", "1,,2"], "'' is no time"),
        ([*DISK, "--at", "nan"], "not nan"),
        ([*DISK, "--at", "inf"], "not inf"),
        ([*DISK, "--at", ""], "'' is no time"),
        ([*DISK, "--fits", "/nowhere/x.toml"], "cannot read /nowhere/x.toml"),
        ([*DISK, "--fits", "/"], "cannot read /"),
        ([*DISK, "--coordinators", "same"], "--coordinator replica"),
        ([*DISK, "--new-keys"], "--fan-out store"),
        ([*DISK, "--from", "http://127.0.0.1:1"], "--model does not go with --from"),
        ([*DISK, "--fast"], "unrecognized arguments"),
    ],
)
def test_bad_usage_exits_with_2_and_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["predict", *arguments])
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1


def test_fits_that_are_none_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, data in {"text": b"[a]", "binary": b"\xff\x00", "large": b"#" * (2 << 20)}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(SystemExit) as caught:
            main(["predict", *DISK, "--fits", str(tmp_path / name)])
        assert caught.value.code == 2
        assert f"{name}: " in capsys.readouterr().err


# From nodes ---------------------------------------------------------------------------------------


def _document(node: str, samples: int = 200) -> dict[str, Any]:
    """Of a node whose writes take 10 ms to the others, and 1 ms every other way."""
    nodes = ("a", "b", "c")
    write = {one: [0.0, 1.0] if one == node else [10.0, 1.0] for one in nodes}
    read = {one: [0.0, 0.0] if one == node else [1.0, 1.0] for one in nodes}
    legs = {
        one: {
            "w": [write[one][0]] * samples,
            "a": [1.0] * samples,
            "r": [read[one][0]] * samples,
            "s": [read[one][1]] * samples,
            "writes": samples,
            "reads": samples,
        }
        for one in nodes
    }
    return {
        "node": node,
        "n": 3,
        "sampled": 32,
        "seconds": 60.0,
        "peers": legs,
        "writes": [{"minter": node, "legs": write}] * samples,
        "reads": [{"body": node, "legs": read}] * samples,
        "of_a_newer_version": 1,
    }


@contextmanager
def _node(data: bytes, code: int = 200) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/admin/wars"
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *told: Any) -> None:
            return None

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def _fails(capsys: pytest.CaptureFixture[str], origin: str) -> str:
    assert main(["predict", "--from", origin]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


def test_a_running_cluster_is_predicted_from_what_its_nodes_say(
    capsys: pytest.CaptureFixture[str],
) -> None:
    encoded = [json.dumps(_document(node)).encode() for node in ("a", "b", "c")]
    with _node(encoded[0]) as a, _node(encoded[1]) as b, _node(encoded[2]) as c:
        found = _json(capsys, "--from", f"{a},{b}/,{c}/admin/wars", "--at", "0,9", "-r1", "-w1")
        assert main(["predict", "--from", f"{a},{b},{c}", "--trials", "2000"]) == 0
    cells = found["cells"]
    assert [one["sampling"] for one in cells] == ["iid", "per replica", "whole vectors"]
    for one in cells:
        assert (one["r"], one["w"], one["fan_out"]) == (1, 1, "store")
        # It commits after 1 ms at its own copy: two readers in three miss it for 9 ms more.
        assert one["p_fresh"]["0"] == pytest.approx(1 / 3, abs=0.01)
        assert one["p_fresh"]["9"] == 1.0
    out = capsys.readouterr().out
    assert out.count("whole vectors") == 9
    assert "go through a, b, c" in " ".join(out.split())


def test_a_run_is_predicted_from_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = [_document(node) for node in ("a", "b", "c")]
    (tmp_path / "wars.json").write_text(json.dumps(documents))
    found = _json(capsys, "--from", str(tmp_path), "--trials", "2000")
    assert found == _json(capsys, "--from", str(tmp_path / "wars.json"), "--trials", "2000")
    assert len(found["cells"]) == 27
    with pytest.raises(SystemExit) as caught:
        main(["predict", "--from", str(tmp_path), "-n", "2"])
    assert caught.value.code == 2
    assert "have 3 replicas" in capsys.readouterr().err


def test_nodes_that_cannot_be_asked_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Connection refused" in _fails(capsys, "http://127.0.0.1:1")
    assert "is no http://host:port" in _fails(capsys, "ftp://127.0.0.1")
    assert "http://a b" in _fails(capsys, "http://a b:80")
    assert "http://127.0.0.1:port" in _fails(capsys, "http://127.0.0.1:port")
    with _node(b"", 404) as url:
        assert f"{url}/admin/wars: 404: it does not measure itself" in _fails(capsys, url)
    with _node(b"", 503) as url:
        assert "503: Service Unavailable" in _fails(capsys, url)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "it is not what /admin/wars says"),
        (b'{"node": "a"}', "missing required field"),
        (json.dumps(_document("a")).encode()[:-9], "it is not what"),
        (b"[]", "no node has measured anything"),
        (json.dumps(_document("a", 3)).encode(), "too few samples"),
        (json.dumps(_document("a") | {"n": 5}).encode(), "no write to all 5"),
        (json.dumps(_document("a")).replace("10.0", "-1.0").encode(), "a delay below nothing"),
        (json.dumps(_document("a")).replace("10.0", "1e999").encode(), "out of range"),
    ],
)
def test_answers_that_are_of_no_use_are_told_clearly(
    data: bytes, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with _node(data) as url:
        assert told in _fails(capsys, url)
