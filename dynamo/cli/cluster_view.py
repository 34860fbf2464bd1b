"""What several nodes say of themselves and of each other, put together: a row for each member.

A node that was asked speaks for itself; of the others, those that were asked say whether they reach
them. Pure: reports in, rows and lines out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

from dynamo.cli.tables import (
    Column,
    paragraph,
    rates,
    show_bytes,
    show_names,
    show_rate,
    show_seconds,
    table,
)
from dynamo.status import MemberStatus, NodeStatus, PeerStatus

#: A peer that has left a request unanswered for so long is stalled.
STALLED_MS: Final = 5000

State = Literal["ready", "not ready", "unreachable", "up", "doubted", "stalled", "down"]
#: A doubted node is up: it is asked last for a moment, and nothing needs to be done about it.
WELL: Final = ("ready", "up", "doubted")
_WORST_LAST: Final[tuple[State, ...]] = ("up", "doubted", "stalled", "down")

COLUMNS: Final = (
    Column("node"),
    Column("address", drop=5),
    Column("dc/rack", drop=6),
    Column("state"),
    Column("seen from", drop=2),
    Column("partitions", drop=3, right=True),
    Column("peers", drop=1, right=True),
    Column("gets/s", right=True),
    Column("puts/s", right=True),
    Column("alarms", right=True),
    Column("refill", drop=1, right=True),
    Column("disk free", drop=4, right=True),
    Column("uptime", drop=7, right=True),
    Column("start", drop=8, right=True),
    Column("heard", drop=8, right=True),
)
_RATES: Final = ("gets/s", "puts/s")


class Report(NamedTuple):
    """What came of asking one URL. `node`: its id, where it is known, if from an earlier look.
    `error`: why there is no status. `at`: when (monotonic seconds)."""

    url: str
    node: str
    status: NodeStatus | None
    error: str
    at: float


class Row(NamedTuple):
    """A member, or a URL that nobody answers at. `status`: its own, if it was asked and answered.
    `seen_from`: who says so, "itself" or ids. `notes`: why it is not well. `start`, `heard_ms`: the
    latest start of it that anyone knows, and the milliseconds since the last heartbeat of it that
    anyone has heard of, None if nobody has."""

    node: str
    address: str
    place: str
    state: State
    seen_from: tuple[str, ...]
    partitions: tuple[int, ...]
    status: NodeStatus | None
    gets: float | None
    puts: float | None
    notes: tuple[str, ...]
    start: int = 0
    heard_ms: int | None = None


def rows(reports: Sequence[Report], before: Sequence[Report] = ()) -> list[Row]:
    """Every member that anyone named, by id; then the URLs without an answer whose node is unknown."""
    answered = {r.status.node: r for r in reports if r.status is not None}
    silent = [r for r in reports if r.status is None]
    members: dict[str, MemberStatus | None] = dict.fromkeys(sorted(answered))
    for report in answered.values():
        assert report.status is not None
        members.update({member.id: member for member in report.status.members})
    earlier = {r.status.node: r for r in before if r.status is not None}
    found = []
    told = [r.status for r in answered.values() if r.status is not None]
    for name in sorted(members):
        # Of a node that has several URLs, one that answers is enough.
        unanswered = [r for r in silent if r.node == name]
        if name in answered:
            found.append(_told(answered[name], members[name], earlier.get(name)))
        else:
            found.append(_seen(name, members[name], list(answered.values()), unanswered))
        found[-1] = _with_gossip(found[-1], told)
    unknown = [r for r in silent if r.node not in members]
    return found + [_unreachable(report) for report in unknown]


def is_well(reports: Sequence[Report], found: Sequence[Row]) -> bool:
    """True if every node is ready, as far as anyone asked can tell, and all are of one cluster."""
    return (
        all(row.state in WELL for row in found)
        and all(report.status is not None for report in reports)
        and not _differences(reports)
    )


def render(
    reports: Sequence[Report],
    found: Sequence[Row],
    *,
    with_rates: bool = False,
    width: int | None = None,
) -> list[str]:
    """A line on the cluster, the table, and a paragraph for whatever is not well."""
    shown = [i for i, c in enumerate(COLUMNS) if with_rates or c.title not in _RATES]
    cells = [[_cells(row)[i] for i in shown] for row in found]
    lines = paragraph(_headline(reports, found), width=width)
    lines += ["", *table([COLUMNS[i] for i in shown], cells, width=width)]
    notes = [
        *_differences(reports),
        *(f"{row.node}: {note}" for row in found for note in row.notes),
    ]
    if notes:
        lines.append("")
    for note in notes:
        lines += paragraph(note, width=width)
    return lines


def as_json(reports: Sequence[Report], found: Sequence[Row]) -> dict[str, Any]:
    """{"well", "nodes": [the rows], "asked": [{url, node, error, status}]}; rates are a second."""
    return {
        "well": is_well(reports, found),
        "nodes": [_without(row._asdict(), "status") for row in found],
        "asked": [_without(report._asdict(), "at") for report in reports],
    }


def _without(fields: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}


def _told(report: Report, member: MemberStatus | None, earlier: Report | None) -> Row:
    """A node that speaks for itself."""
    status = report.status
    assert status is not None
    grown = None
    if earlier is not None and earlier.status is not None and earlier.status.start == status.start:
        grown = rates(status.requests, earlier.status.requests, report.at - earlier.at)
    return _row(status.node, member)._replace(
        state="ready" if status.ready else "not ready",
        seen_from=("itself",),
        status=status,
        gets=None if grown is None else grown.get("gets"),
        puts=None if grown is None else grown.get("puts"),
        notes=status.reasons,
    )


def _seen(
    name: str,
    member: MemberStatus | None,
    witnesses: Sequence[Report],
    unanswered: Sequence[Report],
) -> Row:
    """A node that others speak of. Where they differ, what is worst is what is shown."""
    views: dict[str, State] = {}
    said: dict[tuple[State, str], list[str]] = {}
    notes = [f"no answer from {report.url}: {report.error}" for report in unanswered]
    for report in witnesses:
        status = report.status
        assert status is not None
        for peer in status.peers:
            if peer.id != name:
                continue
            views[status.node] = _view(peer)
            said.setdefault((_view(peer), _details(peer)), []).append(status.node)
            if peer.refusal is not None and not peer.connected:
                notes.append(peer.refusal)
    state: State = max(views.values(), key=_WORST_LAST.index, default="down")
    if state != "up":
        notes += [
            f"{view} as {show_names(sorted(names))} {'see' if len(names) > 1 else 'sees'} it{details}"
            for (view, details), names in sorted(said.items(), key=lambda item: min(item[1]))
        ]
    if unanswered:
        state = "unreachable"
    return _row(name, member)._replace(
        state=state, seen_from=tuple(sorted(views)), notes=tuple(dict.fromkeys(notes))
    )


def _view(peer: PeerStatus) -> State:
    if not peer.connected:
        return "down"
    return "stalled" if peer.stalled_ms >= STALLED_MS else peer.state


def _details(peer: PeerStatus) -> str:
    """Since when, and what its witness goes by; "" of a peer that says nothing of it."""
    facts = [f"for {show_seconds(peer.state_s)}"] if peer.state_s else []
    if peer.phi is not None:
        facts.append(f"phi {peer.phi:.1f}")
    if peer.latency_ms:
        facts.append(f"replies take {peer.latency_ms:.1f} ms")
    return f" ({', '.join(facts)})" if facts else ""


def _with_gossip(row: Row, told: Sequence[NodeStatus]) -> Row:
    """The row with what gossip has told of the member: where it is in its latest start, above all."""
    peers = [peer for status in told for peer in status.peers if peer.id == row.node]
    ages = [peer.heard_ms for peer in peers if peer.heard_ms is not None]
    latest = max(peers, key=lambda peer: peer.start, default=None)
    start = 0 if row.status is None else row.status.start
    if latest is not None and latest.start >= start:
        row = row._replace(address=latest.address or row.address)
        start = latest.start
    return row._replace(start=start, heard_ms=min(ages, default=None))


def _unreachable(report: Report) -> Row:
    note = f"no answer from {report.url}: {report.error}"
    row = _row(report.node or "?", None)
    return row._replace(address=report.url, state="unreachable", notes=(note,))


def _row(name: str, member: MemberStatus | None) -> Row:
    return Row(
        node=name,
        address="-" if member is None else member.address,
        place="-" if member is None else f"{member.datacenter}/{member.rack}",
        state="down",
        seen_from=(),
        partitions=() if member is None else tuple(member.partitions.values()),
        status=None,
        gets=None,
        puts=None,
        notes=(),
    )


def _cells(row: Row) -> list[str]:
    status = row.status
    peers = alarms = refill = disk = uptime = "-"
    if status is not None:
        peers = f"{sum(peer.connected for peer in status.peers)}/{len(status.peers)}"
        alarms = str(status.alarms.get("alarms", 0))
        refill = str(status.refill.marked)
        if status.refill.damaged:
            refill += f" +{status.refill.damaged} records"
        disk = show_bytes(status.storage.free_bytes)
        uptime = show_seconds(status.uptime_s)
    return [
        *(row.node, row.address, row.place, row.state, ",".join(row.seen_from) or "-"),
        *("+".join(map(str, row.partitions)) or "-", peers),
        *(show_rate(row.gets), show_rate(row.puts), alarms, refill, disk, uptime),
        *(str(row.start or "-"), _show_age(row.heard_ms)),
    ]


def _show_age(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "-"
    seconds = milliseconds / 1000
    return f"{seconds:.1f}s" if seconds < 10 else show_seconds(seconds)


def _headline(reports: Sequence[Report], found: Sequence[Row]) -> str:
    status = next((report.status for report in reports if report.status is not None), None)
    if status is None:
        return f"none of {len(reports)} nodes answers"
    members = f"{len(status.members)} members" if status.members else "no ring yet"
    # Not a URL that nobody answers at: the member that it leads to has a row of its own.
    ids = {member.id for member in status.members}
    counted = [row for row in found if row.node in ids] or found
    well = sum(row.state in WELL for row in counted)
    return (
        f"cluster {status.cluster}, epoch {status.epoch}, {members}, {status.partitions} partitions: "
        f"{well} of {len(counted)} nodes well"
    )


def _differences(reports: Sequence[Report]) -> list[str]:
    """What the nodes asked should agree on and do not."""
    said = [report.status for report in reports if report.status is not None]
    lines = []
    for what, values in (
        ("cluster", {status.node: status.cluster for status in said}),
        ("epoch", {status.node: str(status.epoch) for status in said}),
    ):
        if len(set(values.values())) > 1:
            each = ", ".join(f"{node} of {what} {value}" for node, value in sorted(values.items()))
            lines.append(f"the nodes asked do not belong together: {each}")
    return lines
