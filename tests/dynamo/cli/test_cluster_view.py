"""The table of `dynamo status`: what it makes of what nodes say."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dynamo.cli.cluster_view import Report, is_well, render, rows
from dynamo.status import MemberStatus, NodeStatus, PeerStatus, RefillStatus, StorageStatus

NAMES = ("n1", "n2", "n3")


def peer(
    name: str,
    *,
    up: bool = True,
    stalled_ms: int = 0,
    refusal: str | None = None,
    address: str = "",
    start: int = 0,
    heard_ms: int | None = None,
) -> PeerStatus:
    return PeerStatus(
        id=name,
        connected=up,
        stalled_ms=stalled_ms,
        refusal=refusal,
        address=address,
        start=start,
        heard_ms=heard_ms,
    )


def status(
    name: str,
    *,
    peers: Sequence[PeerStatus] | None = None,
    reasons: tuple[str, ...] = (),
    cluster: str = "c1",
    start: int = 1,
    gets: int = 0,
    alarms: int = 0,
    marked: int = 0,
) -> NodeStatus:
    return NodeStatus(
        node=name,
        cluster=cluster,
        start=start,
        uptime_s=3725.0,
        ready=not reasons,
        reasons=reasons,
        epoch=1,
        partitions=64,
        members=tuple(
            MemberStatus(
                id=member,
                address=f"10.0.0.{index}:7400",
                datacenter="dc1",
                rack=f"r{index}",
                host="",
                weight=1,
                partitions={"default": 64},
            )
            for index, member in enumerate(NAMES, 1)
        ),
        peers=tuple(peer(other) for other in NAMES if other != name)
        if peers is None
        else tuple(peers),
        refusals={},
        refill=RefillStatus(unserved=marked, marked=marked, owed=(), damaged=0),
        storage=StorageStatus(
            opened="clean", refusal=None, free_bytes=150 << 30, write_number=9, synced_number=9
        ),
        requests={"gets": gets, "puts": 0, "deletes": 0},
        alarms={"alarms": alarms},
    )


def report(told: NodeStatus, *, url: str = "", at: float = 0.0) -> Report:
    return Report(url or f"http://{told.node}:8098", told.node, told, "", at)


def silent(name: str = "", *, url: str = "http://n3:8098") -> Report:
    return Report(url, name, None, "connection refused", 0.0)


def shown(*reports: Report, width: int | None = None) -> str:
    return "\n".join(render(reports, rows(reports), width=width))


def test_nodes_that_are_asked_speak_for_themselves_and_of_the_others() -> None:
    lost = peer("n3", up=False, refusal="n3 shows another ring")
    n1 = status("n1", peers=(peer("n2"), lost), alarms=2)
    n2 = status("n2", reasons=("12 partitions are being refilled",), marked=12)
    assert shown(report(n1), report(n2), width=105) == (
        """\
cluster c1, epoch 1, 3 members, 64 partitions: 1 of 3 nodes well

node  address        dc/rack  state      seen from  partitions  peers  alarms  refill  disk free  uptime
n1    10.0.0.1:7400  dc1/r1   ready      itself             64    1/2       2       0    150 GiB   1h 2m
n2    10.0.0.2:7400  dc1/r2   not ready  itself             64    2/2       0      12    150 GiB   1h 2m
n3    10.0.0.3:7400  dc1/r3   down       n1,n2              64      -       -       -          -       -

n2: 12 partitions are being refilled
n3: n3 shows another ring
n3: down as n1 sees it
n3: up as n2 sees it"""
    )


def test_witnesses_that_say_the_same_share_a_line() -> None:
    lost = peer("n3", up=False)
    lines = shown(report(status("n1", peers=(lost,))), report(status("n2", peers=(lost,))))
    assert lines.endswith("\n\nn3: down as n1 and n2 see it")


def test_where_a_member_is_and_when_it_was_heard_of_is_what_the_best_informed_says() -> None:
    old = peer("n3", up=False, address="old:1", start=3, heard_ms=700_000)
    new = peer("n3", address="new:1", start=4, heard_ms=1_250)
    row = rows([report(status("n1", peers=(old,))), report(status("n2", peers=(new,)))])[2]
    assert (row.node, row.address, row.start, row.heard_ms) == ("n3", "new:1", 4, 1_250)
    for heard_ms, told in ((1_250, "1.2s"), (700_000, "11m 40s"), (None, "-")):
        (line,) = render([], [row._replace(heard_ms=heard_ms, notes=())])[3:]
        assert line.endswith(f"4  {told.rjust(max(5, len(told)))}")


def test_a_narrow_terminal_gets_fewer_columns() -> None:
    text = shown(report(status("n1")), width=40)
    assert text.splitlines()[1:] == [
        "  partitions: 3 of 3 nodes well",
        "",
        "node  state  peers  alarms  refill",
        "n1    ready    2/2       0       0",
        "n2    up         -       -       -",
        "n3    up         -       -       -",
    ]


def test_one_node_tells_of_all() -> None:
    found = rows([report(status("n1"))])
    assert [(row.node, row.state, row.seen_from) for row in found] == [
        ("n1", "ready", ("itself",)),
        ("n2", "up", ("n1",)),
        ("n3", "up", ("n1",)),
    ]
    assert is_well([report(status("n1"))], found)


@pytest.mark.parametrize(
    ("reports", "states"),
    [
        ([report(status("n1", peers=(peer("n2"), peer("n3", up=False))))], ["ready", "up", "down"]),
        (
            [report(status("n1", peers=(peer("n2"), peer("n3", stalled_ms=5000))))],
            ["ready", "up", "stalled"],
        ),
        ([report(status("n1", reasons=("it stops",)))], ["not ready", "up", "up"]),
        ([report(status("n1")), silent()], ["ready", "up", "up", "unreachable"]),
        ([report(status("n1")), silent("n3")], ["ready", "up", "unreachable"]),
        ([silent(), silent("n2")], ["unreachable", "unreachable"]),
    ],
)
def test_what_is_not_well_is_not_called_well(reports: list[Report], states: list[str]) -> None:
    found = rows(reports)
    assert [row.state for row in found] == states
    assert not is_well(reports, found)
    assert shown(*reports, width=60)


def test_nodes_of_two_clusters_are_not_well() -> None:
    reports = [report(status("n1")), report(status("n2", cluster="c2"))]
    assert not is_well(reports, rows(reports))
    assert "n1 of cluster c1, n2 of cluster c2" in shown(*reports)


def test_a_node_with_two_addresses_is_one_row() -> None:
    reports = [report(status("n1")), report(status("n1"), url="http://other:1")]
    assert len(rows(reports)) == 3


def test_rates_are_of_one_start() -> None:
    before = [report(status("n1", gets=10), at=1.0)]
    assert rows([report(status("n1", gets=30), at=3.0)], before)[0].gets == 10.0
    assert rows([report(status("n1", gets=30, start=2), at=3.0)], before)[0].gets is None
    assert rows([report(status("n1", gets=30), at=3.0)])[0].gets is None


def test_a_url_without_an_answer_is_no_further_member() -> None:
    n1 = status("n1", peers=(peer("n2"), peer("n3", up=False)))
    [headline, *_] = shown(report(n1), silent()).splitlines()
    assert headline.endswith("3 members, 64 partitions: 2 of 3 nodes well")


def test_a_doubted_node_is_well_and_the_reasons_stand_below() -> None:
    slow = PeerStatus(
        id="n3",
        connected=True,
        stalled_ms=0,
        refusal=None,
        state="doubted",
        state_s=12.5,
        phi=0.31,
        latency_ms=120.4,
    )
    reports = [report(status("n1", peers=(peer("n2"), slow)))]
    found = rows(reports)
    assert [row.state for row in found] == ["ready", "up", "doubted"]
    assert is_well(reports, found)
    assert "n3: doubted as n1 sees it (for 12s, phi 0.3, replies take 120.4 ms)" in shown(*reports)
