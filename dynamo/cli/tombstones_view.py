"""What waits to be reaped at several nodes, as a table: a row for each node.

Pure: reports in, rows and lines out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from dynamo.cli.tables import Column, paragraph, show_names, show_seconds, table
from dynamo.status import TombstonesStatus

COLUMNS: Final = (
    Column("node"),
    Column("tombstones", right=True),
    Column("oldest", right=True),
    Column("long vectors", drop=3, right=True),
    Column("under way", drop=2, right=True),
    Column("waiting", right=True),
    Column("others'", drop=4, right=True),
    Column("reaped", right=True),
    Column("dropped here", drop=1, right=True),
)


class Seen(NamedTuple):
    """What came of asking one URL. `error`: why there is no status."""

    url: str
    status: TombstonesStatus | None
    error: str


def is_told(reports: Sequence[Seen]) -> bool:
    """True if every node that was asked has answered."""
    return all(report.status is not None for report in reports)


def render(reports: Sequence[Seen], *, width: int | None = None) -> list[str]:
    """A line on all of them, a row for each node, and a paragraph for whatever is waited for."""
    told = [report.status for report in reports if report.status is not None]
    lines = paragraph(_headline(told, len(reports)), width=width)
    if told:
        lines += ["", *table(COLUMNS, [_cells(status) for status in told], width=width)]
    notes = [f"no answer from {report.url}: {report.error}" for report in reports if report.error]
    why: dict[str, list[tuple[str, int]]] = {}
    for status in told:
        if not status.counted:
            notes.append(f"{status.node}: the tombstones of an earlier start are still counted")
        for wait in status.waiting:
            why.setdefault(wait.why, []).append((status.node, wait.records))
    for reason, nodes in sorted(why.items()):
        names = show_names([name for name, _ in nodes])
        count = sum(count for _, count in nodes)
        notes.append(f"{_records(count)} at {names} {'waits' if count == 1 else 'wait'}: {reason}")
    if notes:
        lines.append("")
    for note in notes:
        lines += paragraph(note, width=width)
    return lines


def document(reports: Sequence[Seen]) -> dict[str, Any]:
    """{"tombstones", "births", "reaped", "asked": [{url, error, status}]}; the totals are of those that
    answered."""
    told = [report.status for report in reports if report.status is not None]
    return {
        "tombstones": sum(status.tombstones for status in told),
        "births": sum(status.births for status in told),
        "reaped": sum(status.reaped for status in told),
        "asked": [report._asdict() for report in reports],
    }


def _headline(told: Sequence[TombstonesStatus], asked: int) -> str:
    if not told:
        return f"none of {asked} nodes answers"
    count = sum(status.tombstones for status in told)
    kept = f"{count} tombstones are kept" if count != 1 else "1 tombstone is kept"
    after = show_seconds(told[0].after_s)
    return (
        f"{kept if count else 'no tombstones are kept'}, all copies counted, at {len(told)} of {asked}"
        f" nodes asked; they are left alone for {after}"
    )


def _records(count: int) -> str:
    return f"{count} records" if count != 1 else "1 record"


def _cells(status: TombstonesStatus) -> list[str]:
    oldest = "-" if status.oldest_s is None else show_seconds(status.oldest_s)
    return [
        *(status.node, str(status.tombstones), oldest, str(status.births), str(status.trying)),
        *(str(sum(wait.records for wait in status.waiting)), str(status.elsewhere)),
        *(str(status.reaped), str(status.dropped)),
    ]
