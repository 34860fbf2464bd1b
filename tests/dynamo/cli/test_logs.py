"""Log lines: one line each, with fields that can be told apart."""

from __future__ import annotations

import io
import json
import logging
import sys

from dynamo.cli.logs import LineFormatter


def line(message: str, *args: object, **extra: object) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter())
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
    forged = 'x" level=info msg="y\nlevel=critical \x1b[31m'
    text = line("%s", forged, key=forged)
    assert text.count("\n") == 1
    assert "\x1b" not in text
    quoted = json.dumps(forged)
    assert text.endswith(f"msg={quoted} key={quoted}\n")


def test_a_traceback_stays_in_its_line() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        text = line("failed")
    assert text.count("\n") == 1
    assert "ValueError: no" in text
