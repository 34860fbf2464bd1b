"""docs/http.md is what the tables make, and has all that is in them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dynamo.http import document
from dynamo.http.catalog import PARAMETERS, PATH_PARAMETERS, REPLY_HEADERS, REQUEST_HEADERS
from dynamo.http.codes import ERRORS
from dynamo.http.routes import ROUTES

PAGE = document.page()


def test_the_page_on_disk_is_the_one_that_the_tables_make() -> None:
    assert document.PATH.read_text() == PAGE, "run python -m dynamo.http.document --write"


def test_the_page_has_every_route_operation_parameter_header_status_and_code() -> None:
    for route in ROUTES:
        assert f"| `{route.path}` | {' '.join(route.methods)} | {route.summary} |" in PAGE
        assert f"    {route.path}\n" in PAGE
        for operation in route.operations.values():
            for reply in operation.replies:
                assert f"| {reply.status} | {reply.meaning} |" in PAGE
    for name in (*PARAMETERS, *PATH_PARAMETERS, *REQUEST_HEADERS, *REPLY_HEADERS):
        assert f"| `{name}` |" in PAGE
    for error in ERRORS.values():
        assert f"| {error.status} | `{error.code}` | {error.outcome} | {error.when} |" in PAGE


def test_every_place_is_filled_every_table_is_one_and_every_link_leads_somewhere() -> None:
    assert "<<" not in PAGE
    titles = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= anchors
    columns = 0
    for line in PAGE.splitlines():
        cells = line.count("|") if line.startswith("|") else 0
        assert not (columns and cells) or cells == columns, line
        columns = cells


def test_the_command_prints_the_page_and_writes_it_where_it_belongs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dynamo.http.document"], capture_output=True, text=True, check=True
    )
    assert done.stdout == PAGE
    monkeypatch.setattr(document, "PATH", tmp_path / "http.md")
    assert document.main(["--write"]) == 0
    assert (tmp_path / "http.md").read_text() == PAGE
