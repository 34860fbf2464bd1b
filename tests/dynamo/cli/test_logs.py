"""Log lines: one line each, with fields that can be told apart."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest

from dynamo.cli.logs import JsonFormatter, LineFormatter, start_logging

JSON = JsonFormatter("n1")


def line(
    message: str, *args: object, formatter: logging.Formatter | None = None, **extra: object
) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter or LineFormatter())
    logger = logging.Logger("dynamo.x")
    logger.addHandler(handler)
    logger.error(message, *args, extra=extra, exc_info=bool(sys.exc_info()[0]))
    return stream.getvalue()


def test_a_line_has_its_fields_in_order() -> None:
    text = line("node %s is up", "n1", peer="n2", bytes=7)
    time, rest = text.split(" ", 1)
    assert len(time) == len("time=2026-01-01T00:00:00.000Z")
    assert rest == 'level=error logger=dynamo.x msg="node n1 is up" bytes=7 peer=n2\n'


def test_no_value_can_forge_a_line_or_a_field() -> None:
    forged = 'x" level=info msg="y\nlevel=critical \x1b[31m\x7f\x85\udcff'
    text = line("%s", forged, key=forged)
    assert text.count("\n") == 1
    assert text.rstrip("\n").isprintable()
    assert text.isascii()
    quoted = json.dumps(forged).replace("\x7f", "\\u007f")
    assert text.endswith(f"msg={quoted} key={quoted}\n")


def test_a_traceback_stays_in_its_line() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        text = line("failed")
    assert text.count("\n") == 1
    assert "ValueError: no" in text


def test_a_json_line_is_one_object() -> None:
    got = json.loads(line("node %s", "n2", formatter=JSON, request_id="r1", bytes=7, ok=True))
    assert len(got.pop("time")) == len("2026-01-01T00:00:00.000Z")
    assert got == {
        "level": "error",
        "logger": "dynamo.x",
        "message": "node n2",
        "node": "n1",
        "request_id": "r1",
        "bytes": 7,
        "ok": True,
    }


def test_no_value_can_forge_a_json_line_or_a_field() -> None:
    forged = '"}\n{"level": "critical", \x1b[31m\x7f\x85\udcff'
    text = line("%s", forged, formatter=JSON, key=forged, level="debug", node="n2", time="t")
    assert text.count("\n") == 1
    assert text.isascii()
    assert text.rstrip("\n").isprintable()
    got = json.loads(text)
    assert (got["message"], got["key"]) == (forged, forged)
    assert (got["level"], got["node"]) == ("error", "n1")
    assert got["time"] != "t"


def test_a_traceback_is_one_field_of_a_json_line() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        text = line("failed", formatter=JSON)
    assert text.count("\n") == 1
    assert json.loads(text)["exception"].endswith("ValueError: no")


@pytest.fixture
def logging_untouched() -> Iterator[None]:
    root, access = logging.getLogger(), logging.getLogger("dynamo.access")
    before = root.handlers[:], root.level, access.level, logging.getLogger("asyncio").level
    yield
    root.handlers[:], root.level, access.level = before[0], before[1], before[2]
    logging.getLogger("asyncio").setLevel(before[3])


@pytest.mark.usefixtures("logging_untouched")
@pytest.mark.parametrize("access_log", [False, True])
def test_requests_are_logged_at_any_level_if_asked_for(access_log: bool) -> None:
    stream = io.StringIO()
    start_logging(stream, "error", log_format="json", node="n1", access_log=access_log)
    logging.getLogger("dynamo.access").info("request")
    logging.getLogger("dynamo.other").info("not this")
    assert [json.loads(one)["message"] for one in stream.getvalue().splitlines()] == (
        ["request"] if access_log else []
    )
