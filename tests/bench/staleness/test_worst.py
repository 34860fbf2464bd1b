"""The worst anomalies: so many operations, each told once with all that it broke."""

from __future__ import annotations

from made_history import Made, manifest

from bench.analysis import analyse
from bench.findings import Anomaly
from bench.staleness.checks import Tally


def test_the_worst_of_each_kind_is_among_the_worst_anomalies() -> None:
    made = Made()
    made.write(1, 0, 1)
    for number in range(40):
        made.read(0, 1_000 + number, 1_100 + number, session=2 + number)
    made.read(0, 2, 3)
    found = analyse(manifest(), made.lines).anomalies
    assert len(found) == 20
    assert [one.severity_ms for one in found] == sorted(
        (one.severity_ms for one in found), reverse=True
    )
    assert {kind for one in found for kind in one.kind.split(", ")} >= {
        *("regular", "safe", "read your writes")
    }
    assert len({one.op for one in found}) == 20, "an operation is told once"
    worst = next(one for one in found if one.kind == "regular, safe")
    assert (worst.key, worst.severity_ms, worst.evidence) == ("k", 1_038.0, (1, 41))
    assert worst.told.count("write 1 had been acknowledged") == 1


def test_an_operation_that_breaks_one_property_twice_is_one_of_the_worst_once() -> None:
    tally = Tally("writes follow reads", examples=2)
    for op, severity in ((1, 5.0), (1, 9.0), (2, 7.0), (3, 6.0)):
        tally.chance("k")
        tally.broken(
            Anomaly(
                kind=tally.name,
                op=op,
                key="k",
                at=op,
                severity_ms=severity,
                told="",
                evidence=(op,),
            )
        )
    assert [(one.op, one.severity_ms) for one in tally.worst()] == [(1, 9.0), (2, 7.0)]
    assert tally.check().violations.count == 4
