"""A report in a headless Chromium without a network: whole, and readable wherever it is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from made_directory import write_run
from made_run import empty_analysis, made_manifest, made_material

from bench.browser import find_browser
from bench.cli import main
from bench.report.material import Material
from bench.report.render import render
from bench.report_check import check

BINARY = find_browser() or ""

browser = pytest.mark.skipif(not BINARY, reason="no Chromium on PATH: reports were not looked at")

LONG = "k" * 300


@pytest.fixture(scope="module")
def full() -> str:
    return render(made_material())


@browser
@pytest.mark.parametrize(
    "material",
    [
        made_material(),
        made_material(key="<script>alert(1)</script>"),
        made_material(key=LONG)._replace(directory=LONG, remarks=(LONG,)),
        Material(made_manifest(), empty_analysis("the loop lagged 212 ms")),
    ],
    ids=["full", "hostile", "long", "nearly empty"],
)
def test_nothing_is_wrong_with_a_report(material: Material) -> None:
    assert check(render(material), BINARY) == []


def _wide(page: str) -> str:
    return page.replace("<main>", '<main><div style="width:2000px">far</div>')


def _no_section(page: str) -> str:
    return page.replace('<section id="latency">', '<section id="gone">')


def _emptied_chart(page: str) -> str:
    start = page.index(">", page.index("<svg")) + 1
    return page[:start] + page[page.index("</svg>") :]


def _request(page: str) -> str:
    return page.replace("<main>", '<main><img alt="" src="https://example.org/a.png">')


def _error(page: str) -> str:
    return page.replace("<main>", "<main><script>nothing.at.all()</script>")


def _text_over_text(page: str) -> str:
    return page.replace(
        "</svg>", '<text x="50" y="50">one</text><text x="52" y="52">two</text></svg>', 1
    )


@browser
@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (_wide, "pixels wide"),
        (_no_section, "sections missing or empty: latency"),
        (_emptied_chart, "has only 0 elements"),
        (_request, "asked for https://example.org/a.png"),
        (_error, "exception: Uncaught"),
        (_text_over_text, "text over text: one / two"),
    ],
)
def test_a_planted_fault_is_found(break_it: Callable[[str], str], said: str, full: str) -> None:
    assert any(said in fault for fault in check(break_it(full), BINARY))


@browser
def test_the_command_takes_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "run")
    shots = tmp_path / "shots"
    assert main(["check-report", str(tmp_path / "run"), "--screenshot", str(shots)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "check-report: nothing is wrong at 1280 and 390 pixels, without a network"
    for line in said[:-1]:
        assert Path(line).read_bytes().startswith(b"\x89PNG")
    assert len(said) == 5


def test_without_a_browser_the_command_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["check-report", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("dynamo-bench check-report: no Chromium found")
