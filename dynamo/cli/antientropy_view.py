"""How far nodes agree with each other, as a table: a row for each node and peer.

Pure: reports in, rows and lines out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from dynamo.agreement import AntiEntropyStatus, PairAgreement, PeerAgreement
from dynamo.cli.tables import (
    Column,
    paragraph,
    show_bytes,
    show_names,
    show_seconds,
    table,
)

COLUMNS: Final = (
    Column("node"),
    Column("with"),
    Column("state"),
    Column("pairs", right=True),
    Column("clean", right=True),
    Column("all agreed", right=True),
    Column("exchanges", drop=4, right=True),
    Column("differing", drop=3, right=True),
    Column("pulled", drop=2, right=True),
    Column("pushed", drop=2, right=True),
    Column("bytes", drop=5, right=True),
)
PAIR_COLUMNS: Final = (
    Column("node"),
    Column("with"),
    Column("class"),
    Column("partition", right=True),
    Column("agreed", right=True),
    Column("why not since"),
)
_CAUSES: Final = {"read_repair": "read repair", "hint": "hints", "exchange": "exchange"}


class Seen(NamedTuple):
    """What came of asking one URL. `error`: why there is no status."""

    url: str
    status: AntiEntropyStatus | None
    error: str


def is_told(reports: Sequence[Seen]) -> bool:
    """True if every node that was asked has answered."""
    return all(report.status is not None for report in reports)


def render(reports: Sequence[Seen], *, pairs: bool = False, width: int | None = None) -> list[str]:
    """Lines on all of them, a row for each peer and, with `pairs`, for each pair that was told."""
    told = [report.status for report in reports if report.status is not None]
    lines = []
    for text in _headlines(told, len(reports)):
        lines += paragraph(text, width=width)
    cells = [_cells(status.node, peer) for status in told for peer in status.peers]
    if cells:
        lines += ["", *table(COLUMNS, cells, width=width)]
    cells = [_pair_cells(s.node, pair) for s in told for pair in s.oldest if pairs or pair.reason]
    if cells:
        lines += ["", *table(PAIR_COLUMNS, cells, width=width)]
    notes = _notes(reports, told, pairs=pairs)
    if notes:
        lines.append("")
    for note in notes:
        lines += paragraph(note, width=width)
    return lines


def document(reports: Sequence[Seen]) -> dict[str, Any]:
    """{"oldest_clean_s", "never_clean", "pairs", "asked": [{url, error, status}]}; of those that
    answered."""
    told = [report.status for report in reports if report.status is not None]
    return {
        "oldest_clean_s": _oldest(told),
        "never_clean": sum(status.never_clean for status in told),
        "pairs": sum(status.pairs for status in told),
        "asked": [report._asdict() for report in reports],
    }


def _oldest(told: Sequence[AntiEntropyStatus]) -> float | None:
    ages = [status.oldest_clean_s for status in told if status.pairs]
    known = [age for age in ages if age is not None]
    return max(known) if known and len(known) == len(ages) else None


def _headlines(told: Sequence[AntiEntropyStatus], asked: int) -> list[str]:
    if not told:
        return [f"none of {asked} nodes answers"]
    at = f", at {len(told)} of {asked} nodes asked"
    pairs, never = sum(s.pairs for s in told), sum(s.never_clean for s in told)
    oldest = _oldest(told)
    if oldest is not None:
        head = f"everything was in agreement {show_seconds(oldest)} ago{at}"
    elif pairs:
        head = f"{never} of {pairs} pairs have not been found in agreement yet{at}"
    else:
        head = f"no partition is shared with another node{at}"
    return [head, f"repaired since these nodes started: {_repaired(told)}"]


def _repaired(told: Sequence[AntiEntropyStatus]) -> str:
    parts = []
    for cause, name in _CAUSES.items():
        found = [status.repaired[cause] for status in told if cause in status.repaired]
        keys, size = sum(one.keys for one in found), sum(one.bytes for one in found)
        parts.append(f"{keys} by {name}" + (f" ({show_bytes(size)})" if keys else ""))
    return ", ".join(parts)


def _cells(node: str, peer: PeerAgreement) -> list[str]:
    clean = peer.partitions - peer.never_clean
    agreed = "-" if peer.oldest_clean_s is None else f"{show_seconds(peer.oldest_clean_s)} ago"
    return [
        *(node, peer.peer, peer.state, str(peer.partitions), str(clean), agreed),
        *(str(peer.exchanges), str(peer.keys_differing), str(peer.pulled), str(peer.pushed)),
        show_bytes(peer.bytes_pulled + peer.bytes_pushed),
    ]


def _pair_cells(node: str, pair: PairAgreement) -> list[str]:
    agreed = "never" if pair.clean_s is None else f"{show_seconds(pair.clean_s)} ago"
    return [node, pair.peer, pair.cls, str(pair.partition), agreed, pair.reason]


def _notes(reports: Sequence[Seen], told: Sequence[AntiEntropyStatus], *, pairs: bool) -> list[str]:
    notes = [f"no answer from {report.url}: {report.error}" for report in reports if report.error]
    for status in told:
        if status.state != "running":
            why = f" ({status.reason})" if status.reason else ""
            state = status.state.replace("_", " ")
            notes.append(f"{status.node}: no exchange begins by itself: {state}{why}")
        trees = status.trees
        if building := trees.trees - trees.ready:
            notes.append(
                f"{status.node}: {building} of {trees.trees} hash trees are not built yet; their "
                "partitions are not compared meanwhile"
            )
        if trees.wrong:
            notes.append(
                f"{status.node}: {trees.wrong} hash trees were wrong, and are right again; see its log"
            )
        if pairs and status.left_out:
            notes.append(f"{status.node}: {status.left_out} pairs more, which agreed later")
    why_not: dict[tuple[str, str], list[str]] = {}
    for status in told:
        for peer in status.peers:
            if peer.reason:
                why_not.setdefault((peer.peer, peer.reason), []).append(status.node)
    notes += [f"{show_names(ids)} with {peer}: {why}" for (peer, why), ids in why_not.items()]
    return notes
