"""A report: one file that shows all that was found, says what is missing, and believes no text."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import msgspec
import pytest
from made_run import empty_analysis, made_manifest, made_material, rate

from bench.findings import Check
from bench.report.material import Material
from bench.report.paint import tidy
from bench.report.render import SECTIONS, render
from bench.report_check import text_faults

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=y>&$x_1$"
VOID = {"meta", "link", "br", "img", "input"}


class Outline(HTMLParser):
    """Tags that are left open or closed twice, ids, and the text of each section."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes what is not open"


@pytest.fixture(scope="module")
def full() -> str:
    return render(made_material())


def nearly_empty(void: str = "") -> Material:
    return Material(made_manifest(), empty_analysis(void))


def test_every_section_is_there_and_the_page_is_well_formed(full: str) -> None:
    for page in (full, render(nearly_empty())):
        outline = Outline(page)
        assert outline.open == []
        assert len(outline.ids) == len(set(outline.ids))
        assert [name for name, _ in SECTIONS] == [
            one for one in outline.ids if one in dict(SECTIONS)
        ]


def test_it_asks_for_nothing_outside_itself(full: str) -> None:
    assert list(text_faults(full)) == []
    assert "http://" not in full
    assert "https://" not in full
    assert len(full) < 1_500_000


def test_what_it_would_fetch_is_found() -> None:
    for planted in (
        '<img src="picture.png">',
        '<link rel="stylesheet" href="https://example.org/a.css">',
        "<style>@import 'a.css';</style>",
        "<style>p { background: url(a.png) }</style>",
        "<script>1</script>",
        "x" * 1_500_001,
    ):
        assert len(list(text_faults(f"<body>{planted}</body>"))) == 1, planted[:60]


def test_the_same_run_gives_the_same_bytes(full: str) -> None:
    assert render(made_material()) == full


def test_no_text_from_outside_becomes_markup() -> None:
    material = made_material(key=HOSTILE)
    analysis = material.analysis
    told = Check(name=HOSTILE, verdict="fail", violations=rate(1, 2), keys=rate(1, 2), told=HOSTILE)
    events = [
        msgspec.structs.replace(one, nodes=(HOSTILE,), told=HOSTILE) for one in analysis.events
    ]
    hostile = material._replace(
        manifest=made_manifest(
            scenario_name=HOSTILE,
            target=HOSTILE,
            versions={HOSTILE: HOSTILE},
            scenario={"told": HOSTILE},
        ),
        analysis=msgspec.structs.replace(
            analysis, checks=(*analysis.checks, told), events=tuple(events)
        ),
        directory=HOSTILE,
        remarks=(HOSTILE,),
    )  # fmt: skip
    page = render(hostile)
    outline = Outline(page)
    assert not {"script", "img"} & outline.tags
    assert page.count("&lt;script&gt;alert") > 10


def test_a_section_without_data_says_so() -> None:
    page = render(nearly_empty())
    assert page.count('class="none"') >= len(SECTIONS) - 4
    assert "Not measured by this workload." in page


def test_a_void_run_says_so_in_red_and_first() -> None:
    page = render(nearly_empty("the loop lagged 212 ms"))
    assert page.index('class="void"') < page.index('<section id="verdict">')
    assert "None of the figures below may be quoted" in page
    assert "The harness kept up" not in page


def test_rates_stand_with_their_n_their_interval_and_the_rule_of_three(full: str) -> None:
    row = re.search(r'<th scope="row">read your writes</th>(.*?)</tr>', full, re.DOTALL)
    assert row is not None
    for part in ("312", "8,120", "3.8", "3.4", "4.3", "96 of 1,000"):
        assert part in row[1]
    assert "below 0.060\N{NO-BREAK SPACE}% (3/n)" in full


def test_each_origin_is_named_on_its_axis(full: str) -> None:
    assert "t from the coordinator&#x27;s commit (w-th acknowledgement)" in full or (
        "t from the coordinator's commit (w-th acknowledgement) to the read's start" in full
    )
    assert "t from the client's commit (acknowledgement in hand) to the read's start" in full


def test_an_anomaly_is_told_with_its_operations(full: str) -> None:
    assert "write 900 at n1, w=1, replacing write\N{NO-BREAK SPACE}899: acknowledged" in full
    assert "read at replica n3 alone, r=1, 6.60\N{NO-BREAK SPACE}ms after a commit" in full
    assert "outcome unknown (timeout: no answer within 0.4 s)" in full


def test_charts_take_their_colours_from_the_page(full: str) -> None:
    charts = re.findall(r"<svg.*?</svg>", full, re.DOTALL)
    assert len(charts) == 2 * 8  # wide and compact
    for chart in charts:
        assert 'role="img" aria-label="' in chart
        assert set(re.findall(r"(?:fill|stroke): (#\w+)", chart)) <= {"#000000"}


def test_ids_that_are_hashes_are_numbered_so_that_a_chart_is_the_same_again() -> None:
    drawn = """<?xml?><svg viewBox="0 0 1 1" width="1"><g id="axes_1">
    <g clip-path="url(#p1ac297b6bd)"><use xlink:href="#m0123456789"/></g>
    <clipPath id="p1ac297b6bd"/><path id="m0123456789"/></g></svg>"""
    other = drawn.replace("p1ac297b6bd", "p5823f872aa").replace("m0123456789", "mfedcba9876")
    assert tidy(drawn, "x", "a chart") == tidy(other, "x", "a chart")
    found = tidy(drawn, "x", "a chart")
    assert 'id="x-axes_1"' in found
    assert "url(#x-h1)" in found
    assert 'id="x-h1"' in found
    assert 'href="#x-h2"' in found
