"""`dynamo-bench check-report`: is a report what it says, one file that shows everything, everywhere?

Opens it in a headless Chromium without a network, wide as a desk and narrow as a telephone, and
looks: nothing asked for, nothing complained about, each section there, charts with something in
them, no text that is clipped, covered or beyond the page.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from bench.browser import BINARIES, BrowserFailed, Page, find_browser, opened
from bench.parser import FAILED, Parser
from bench.report.render import SECTIONS
from bench.report_command import ReportFailed, rendered
from bench.run_directory import ANALYSIS

#: Run where no directory is given: its report has charts of nearly every kind.
SCENE: Final = "partition-heal"
#: Pixels: a desk, a telephone.
WIDTHS: Final = (1280, 390)
HEIGHT: Final = 900
BYTES_MAX: Final = 1_500_000
#: Elements of a chart below which it is taken for an empty frame.
DRAWN_MIN: Final = 10

_ADDRESS: Final = re.compile(r"""(?:src|href|srcset|action)\s*=\s*["']?\s*(?!#|data:)[^"'\s>]+""")
_CSS_ADDRESS: Final = re.compile(r"@import|url\(\s*['\"]?(?!#|data:)")

#: What a page is asked, at each width; see `_layout`.
_LOOK: Final = """
(() => {
  const seen = e => e.getClientRects().length > 0;
  const name = e => (e.textContent || "").trim().slice(0, 60);
  const root = document.documentElement;
  const charts = [...document.querySelectorAll("main svg")].filter(seen).map(svg => {
    const box = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].filter(t => name(t)).map(t => {
      const b = t.getBoundingClientRect();
      return {name: name(t), left: b.left, right: b.right, top: b.top, bottom: b.bottom};
    });
    const over = [];
    texts.forEach((a, i) => texts.slice(i + 1).forEach(b => {
      const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (x > 2 && y > 4) over.push(a.name + " / " + b.name);
    }));
    const out = texts.filter(t => t.left < box.left - 2 || t.right > box.right + 2
      || t.top < box.top - 2 || t.bottom > box.bottom + 2).map(t => t.name);
    const drawn = [...svg.querySelectorAll("path, use, text, rect")].filter(e => {
      const b = e.getBoundingClientRect(); return b.width > 0 || b.height > 0; }).length;
    const small = Math.min(...[...svg.querySelectorAll("text")].map(t =>
      parseFloat(getComputedStyle(t).fontSize) * box.width / svg.viewBox.baseVal.width));
    return {label: svg.getAttribute("aria-label") || "", drawn, over, out, small};
  });
  const beyond = [...document.body.querySelectorAll("*")].filter(e =>
    seen(e) && !e.closest(".scroll > *, svg, .skip")
    && e.getBoundingClientRect().right > root.clientWidth + 1).map(name);
  const clipped = [...document.querySelectorAll("td, th, dd, p, h1, h2, h3, summary, figcaption")]
    .filter(e => seen(e) && e.scrollWidth > e.clientWidth + 1
      && getComputedStyle(e).display !== "inline").map(name);
  return {
    width: root.clientWidth, content: root.scrollWidth,
    sections: [...document.querySelectorAll("main > section")].filter(seen)
      .filter(e => e.querySelector("h2") && name(e).length > e.querySelector("h2").textContent.length)
      .map(e => e.id),
    empty: [...document.querySelectorAll("figure")].filter(e => !e.querySelector("svg, table")).length,
    charts, beyond, clipped,
  };
})()
"""


def text_faults(page: str) -> Iterator[str]:
    """What is wrong with the file as text: its size, and addresses that it would fetch from."""
    size = len(page.encode())
    if size > BYTES_MAX:
        yield f"the file has {size:,} bytes, more than {BYTES_MAX:,}"
    # What people have written (keys, errors) is text by now: it has no tags and no attributes.
    tags = re.findall(r"<[a-zA-Z][^>]*>", page)
    for tag in tags:
        if found := _ADDRESS.search(tag):
            yield f"an address outside the file: {found[0][:120]}"
        if tag.lower().startswith("<script"):
            yield "a script: a report needs none"
    for style in re.findall(r"<style[^>]*>(.*?)</style>", page, flags=re.DOTALL):
        if _CSS_ADDRESS.search(style):
            yield "the style sheet asks for another file"


def layout_faults(found: dict[str, Any]) -> Iterator[str]:
    """What is wrong with what `_LOOK` saw at one width."""
    if found["content"] > found["width"]:
        yield f"the page is {found['content']} pixels wide"
    missing = [name for name, _ in SECTIONS if name not in found["sections"]]
    if missing:
        yield f"sections missing or empty: {', '.join(missing)}"
    if found["empty"]:
        yield f"{found['empty']} figures without a chart"
    for text in found["beyond"][:5]:
        yield f"beyond the right edge: {text!r}"
    for text in found["clipped"][:5]:
        yield f"clipped: {text!r}"
    for chart in found["charts"]:
        where = f"chart {chart['label'][:40]!r}"
        if not chart["label"]:
            yield "a chart without a label"
        if chart["drawn"] < DRAWN_MIN:
            yield f"{where} has only {chart['drawn']} elements"
        if chart["small"] is not None and chart["small"] < 8:
            yield f"{where} has text of {chart['small']:.1f} pixels"
        for text in chart["over"][:3]:
            yield f"{where}: text over text: {text}"
        for text in chart["out"][:3]:
            yield f"{where}: text beyond its edge: {text}"


async def browser_faults(binary: str, address: str, shots: Path | None) -> list[str]:
    """What is wrong with the page at `address` once it is open; pictures go to `shots`, if given.
    Raises BrowserFailed, OSError."""
    faults = []
    async with opened(binary) as page:
        for width in WIDTHS:
            await page.resize(width, HEIGHT)
            await page.open(address)
            faults += [
                f"{width} px: {fault}" for fault in layout_faults(await page.evaluate(_LOOK))
            ]
            if shots is not None:
                await _shoot(page, shots, width)
        faults += [f"asked for {address}" for address in dict.fromkeys(page.requests)]
        faults += dict.fromkeys(page.complaints)
    return faults


async def _shoot(page: Page, shots: Path, width: int) -> None:
    for dark in (False, True):
        await page.resize(width, HEIGHT, dark=dark)
        path = shots / f"report-{width}{'-dark' if dark else ''}.png"
        path.write_bytes(await page.screenshot())
        print(path)
    await page.resize(width, HEIGHT)


def check(page: str, binary: str, shots: Path | None = None) -> list[str]:
    """All that is wrong with a report, [] if nothing is. Raises BrowserFailed, OSError."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "report.html"
        file.write_text(page, "utf-8")
        return [*text_faults(page), *asyncio.run(browser_faults(binary, file.as_uri(), shots))]


def _page(directory: Path | None) -> str:
    """The report of this run, or of one that is made for it. Raises ReportFailed, OSError."""
    if directory is not None:
        return rendered(directory)
    with tempfile.TemporaryDirectory() as made:
        run = Path(made) / "run"
        done = subprocess.run(  # noqa: S603 - this program itself
            [sys.executable, "-m", "bench", "run", SCENE, "--target", "sim", "--out", str(run)],
            capture_output=True,
            text=True,
            check=False,
        )
        if not (run / ANALYSIS).exists():
            # The last line is what ended it, also of a traceback.
            said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise ReportFailed(f"{SCENE} could not be run: {said[-1]}")
        return rendered(run)


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 if nothing is wrong, 1 if something is or there is no browser."""
    parser = Parser(
        prog="dynamo-bench check-report", description=__doc__.split("\n")[0], allow_abbrev=False
    )
    parser.add_argument(
        "directory",
        metavar="DIR",
        nargs="?",
        type=Path,
        help=f"of a run that was analysed; without it {SCENE} is run in the simulator",
    )
    parser.add_argument("--screenshot", metavar="DIR", type=Path, help="write pictures there")
    asked = parser.parse_args(arguments)
    binary = find_browser()
    if binary is None:
        return parser.failed(
            f"no Chromium found: none of {', '.join(BINARIES)} is on PATH; "
            "install one, for instance with `apt-get install chromium`"
        )
    try:
        if asked.screenshot is not None:
            asked.screenshot.mkdir(parents=True, exist_ok=True)
        faults = check(_page(asked.directory), binary, asked.screenshot)
    except (BrowserFailed, ReportFailed, OSError) as error:
        return parser.failed(error)
    for fault in faults:
        parser.failed(fault)
    if not faults:
        widths = " and ".join(str(width) for width in WIDTHS)
        print(f"check-report: nothing is wrong at {widths} pixels, without a network")
    return FAILED if faults else 0
