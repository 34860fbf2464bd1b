"""What several nodes keep for others, as a table: a row for each holder and target.

Pure: reports in, rows and lines out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from dynamo.cli.tables import (
    Column,
    paragraph,
    show_bytes,
    show_names,
    show_rate,
    show_seconds,
    table,
)
from dynamo.status import HintsStatus, HintTarget

COLUMNS: Final = (
    Column("held by"),
    Column("for"),
    Column("hints", right=True),
    Column("size", drop=2, right=True),
    Column("oldest", drop=1, right=True),
    Column("state"),
    Column("hints/s", right=True),
    Column("bytes/s", drop=3, right=True),
    Column("delivered", drop=4, right=True),
)


class Held(NamedTuple):
    """What came of asking one URL. `error`: why there is no status."""

    url: str
    status: HintsStatus | None
    error: str


class Synced(NamedTuple):
    """What came of a sync point at one URL. `delivered`: by target. `undelivered`: what is left, by
    target. `error`: why it is not synced, "" if it is."""

    url: str
    delivered: Mapping[str, int]
    undelivered: Mapping[str, Mapping[str, Any]]
    error: str


def is_told(reports: Sequence[Held]) -> bool:
    """True if every node that was asked has answered."""
    return all(report.status is not None for report in reports)


def render(reports: Sequence[Held], *, width: int | None = None) -> list[str]:
    """A line on all of them, the table of what is held, and a paragraph for whatever is amiss."""
    told = [report.status for report in reports if report.status is not None]
    lines = paragraph(_headline(told, len(reports)), width=width)
    cells = [_cells(status, target) for status in told for target in status.targets if target.hints]
    if cells:
        lines += ["", *table(COLUMNS, cells, width=width)]
    notes = [f"no answer from {report.url}: {report.error}" for report in reports if report.error]
    why: dict[tuple[str, str], list[str]] = {}
    for status in told:
        if not status.counted:
            notes.append(f"{status.node}: the hints of an earlier start are still being counted")
        for target in status.targets:
            if target.hints and target.reason:
                why.setdefault((target.target, target.reason), []).append(status.node)
    notes += [f"{show_names(names)} for {name}: {reason}" for (name, reason), names in why.items()]
    if notes:
        lines.append("")
    for note in notes:
        lines += paragraph(note, width=width)
    return lines


def render_synced(answers: Sequence[Synced], *, width: int | None = None) -> list[str]:
    """A line a node: what was delivered, or what was not and why."""
    lines = []
    for answer in answers:
        if not answer.error:
            delivered = ", ".join(f"{count} to {name}" for name, count in answer.delivered.items())
            text = f"{answer.url}: nothing is left; delivered {delivered or 'nothing'}"
        else:
            left = "".join(
                f"; {fields.get('hints', '?')} left for {name}, {fields.get('state', '?')}"
                + (f" ({fields['reason']})" if fields.get("reason") else "")
                for name, fields in answer.undelivered.items()
            )
            text = f"{answer.url}: {answer.error}{left}"
        lines += paragraph(text, width=width)
    return lines


def document(reports: Sequence[Held]) -> dict[str, Any]:
    """{"hints", "bytes", "asked": [{url, error, status}]}; the totals are of those that answered."""
    told = [report.status for report in reports if report.status is not None]
    return {
        "hints": sum(status.hints for status in told),
        "bytes": sum(status.bytes for status in told),
        "asked": [report._asdict() for report in reports],
    }


def _headline(told: Sequence[HintsStatus], asked: int) -> str:
    if not told:
        return f"none of {asked} nodes answers"
    hints = sum(status.hints for status in told)
    held = "no hints"
    if hints:
        held = f"{hints} hints" if hints > 1 else "1 hint"
        held += f", {show_bytes(sum(status.bytes for status in told))}"
    first = told[0]
    return (
        f"{held}, at {len(told)} of {asked} nodes asked; a node takes {show_bytes(first.bytes_max)} of "
        f"them, for {show_seconds(first.window_s)} of absence, and delivers "
        f"{show_bytes(first.rate_max)} a second at most"
    )


def _cells(status: HintsStatus, target: HintTarget) -> list[str]:
    return [
        *(status.node, target.target, str(target.hints), show_bytes(target.bytes)),
        *(show_seconds(target.oldest_s), target.state, show_rate(target.hints_per_s)),
        *(show_bytes(int(target.bytes_per_s)), str(target.delivered)),
    ]
