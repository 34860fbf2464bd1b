"""Windows, phi, convergence, sets: what is seen of replicas one by one, and over time."""

from __future__ import annotations

from typing import Any

import pytest
from made_history import REGISTER, Made, manifest

from bench.analysis import analyse
from bench.findings import Convergence, SetFull
from bench.staleness.budget import Budget

# Inconsistency window -----------------------------------------------------------------------------


def test_the_window_ends_with_the_last_read_of_the_old_value() -> None:
    made = Made()
    made.write(1, 0, 10, bases=())
    for at, seen in ((5, 0), (12, 0), (20, 1), (30, 0), (40, 1)):
        made.read(seen, at, at + 1)
    made.write(2, 100, 110, bases=(1,))
    made.read(2, 120, 121)
    commit, start = analyse(manifest(), made.lines).windows
    assert (commit.origin, commit.writes, commit.censored) == ("client commit", 2, 0)
    assert (commit.ms["50"], commit.ms["max"]) == (0.0, 20.0)
    assert (start.origin, start.ms["max"]) == ("write start", 30.0)


def test_a_window_that_polling_did_not_outlast_is_counted_as_censored() -> None:
    made = Made()
    for number, seen in enumerate((1, 0, 0, 4), 1):
        made.write(number, 0, 10, key=str(number))
        made.read(seen, 20, 21, key=str(number))
    made.write(9, 0, 10, key="never read")
    commit, _ = analyse(manifest(), made.lines).windows
    assert (commit.writes, commit.censored) == (4, 2)
    assert commit.ms == {"50": 0.0}


# phi ----------------------------------------------------------------------------------------------


def probe(
    made: Made, at: float, seen: tuple[tuple[int, ...], ...], group: int, **rest: Any
) -> None:
    for target, versions in zip("abc", seen, strict=True):
        made.read(versions, at, at + 1, target=target, group=group, **rest)


def test_replicas_agree_if_all_show_the_same() -> None:
    made = Made()
    made.write(1, 0, 10)
    probe(made, 15, ((1,), (), (1,)), 1, offset=5)
    probe(made, 15, ((), (), ()), 2, offset=5)
    probe(made, 30, ((1,), (1,), (1,)), 3, offset=20)
    probe(made, 30, ((1,), (1,), (-1,)), 4, offset=20)
    probe(made, 30, ((1,), (1,), ()), 5, offset=20, outcome="fail")
    made.read(1, 30, 31, target="a", group=6, offset=20)
    found = analyse(manifest(), made.lines).agreements
    assert [(one.after_ms, one.agreed.count, one.agreed.of) for one in found] == [
        (5.0, 1, 2),
        (20.0, 1, 2),
    ]


def test_polling_after_a_heal_tells_of_convergence_and_not_of_phi() -> None:
    made = Made()
    made.write(1, 0, 10)
    probe(made, 15, ((1,), (), (1,)), 1, offset=5)
    made.event("heal", 100)
    probe(made, 110, ((1,), (), (1,)), 2)
    probe(made, 120, ((1,), (1,), (1,)), 3)
    analysis = analyse(manifest(), made.lines)
    assert [(one.after_ms, one.agreed.count, one.agreed.of) for one in analysis.agreements] == [
        (5.0, 0, 1)
    ]
    assert analysis.convergence[0].ms["max"] == 10.0


def test_many_offsets_are_put_into_bins() -> None:
    made = Made()
    made.write(1, 0, 10)
    for group in range(1, 300):
        probe(made, 10 + group / 3, ((1,), (1,), (1,)), group, offset=group / 3)
    found = analyse(manifest(), made.lines).agreements
    assert len(found) < 40
    assert sum(one.agreed.of for one in found) == 299


# Convergence --------------------------------------------------------------------------------------


def convergence(made: Made) -> Convergence:
    (found,) = analyse(manifest(), made.lines).convergence
    return found


def test_a_key_has_converged_after_the_last_directed_read_that_missed_its_final_version() -> None:
    made = Made()
    for number, key in enumerate(("at once", "later", "never", "written after"), 1):
        made.write(number, 0, 10, key=key)
    made.event("partition", 20, nodes=("c",))
    made.event("heal", 100)
    made.write(9, 150, 151, key="written after")
    for at in (110, 140, 190):
        made.read(1, at, at + 1, key="at once", target="c")
        made.read(2 if at > 140 else 0, at, at + 1, key="later", target="c")
        made.read(2, at, at + 1, key="later", target="a")
        made.read(3, at, at + 1, key="never", target="a")
        made.read(3 if at == 140 else 0, at, at + 1, key="never", target="c")
        made.read(0, at, at + 1, key="written after", target="c")
    made.event("trees_equal", 195)
    made.event("trees_equal", 250)
    found = convergence(made)
    assert (found.keys, found.unconverged) == (3, 1)
    assert found.points == ((0.0, 1 / 3), (40.0, 2 / 3))
    assert found.ms == {"50": 40.0}
    assert found.trees_equal_ms == 95.0


def test_a_heal_is_over_when_the_next_fault_begins() -> None:
    made = Made()
    made.write(1, 0, 10)
    made.event("heal", 100)
    made.read(1, 110, 111, target="a")
    made.event("crash", 120)
    made.read(0, 130, 131, target="a")
    made.event("heal", 140)
    made.event("trees_equal", 150)
    made.event("trees_differ", 160)
    made.read(0, 145, 146, target="a")
    first, second = analyse(manifest(), made.lines).convergence
    assert (first.unconverged, second.unconverged) == (0, 1)
    assert second.trees_equal_ms is None


def test_all_siblings_are_the_final_version() -> None:
    made = Made()
    made.write(1, 0, 10)
    made.write(2, 0, 10, session=2)
    made.event("heal", 100)
    made.read((1,), 110, 111, target="a")
    made.read((1, 2), 120, 121, target="a")
    assert convergence(made).ms["max"] == 10.0


def test_a_key_has_not_converged_while_a_replica_that_is_asked_gives_no_answer() -> None:
    made = Made()
    made.write(1, 0, 10)
    made.event("heal", 100)
    made.read(1, 110, 111, target="a")
    made.read(0, 110, 115, target="b", outcome="fail")
    assert convergence(made).unconverged == 1
    made.read(1, 120, 121, target="b")
    assert convergence(made).unconverged == 0


def test_what_takes_too_long_to_follow_is_counted_as_undecided() -> None:
    made = Made()
    for version in range(1, 30):
        made.write(version, version * 10, version * 10 + 9, session=version % 2)
    made.event("heal", 400)
    made.read((28,), 410, 411, target="a")
    found = analyse(manifest(), made.lines, budget=Budget(steps=1))
    assert (found.convergence[0].keys, found.convergence[0].undecided) == (0, 1)


# Sets ---------------------------------------------------------------------------------------------


def set_full(made: Made, budget: Budget | None = None) -> SetFull:
    found = analyse(manifest(), made.lines, budget=budget or Budget()).set_full
    assert found is not None
    return found


def test_elements_are_stable_stale_lost_or_never_read() -> None:
    made = Made()
    made.write(1, 0, 1, elements=(1,))  # stable
    made.write(2, 2, 3, elements=(1, 2))  # missed once
    made.write(3, 4, 5, elements=(1, 3))  # lost
    made.write(4, 4, 5, outcome="unknown", elements=(4,))  # nobody knows it
    made.write(5, 4, 5, outcome="unknown", elements=(5,))  # known when it was read, then lost
    made.write(6, 4, 5, outcome="fail", elements=(6,))
    made.write(7, 300, 301, elements=(7,))  # never read
    made.read(0, 10, 11, elements=(1, 3, 5, 99))
    made.read(0, 20, 21, elements=(1, 2, 3))
    made.read(0, 30, 31, elements=(1, 2))
    found = set_full(made)
    assert (found.attempted, found.acknowledged, found.known) == (6, 4, 5)
    assert (found.lost.count, found.lost.of, found.lost_elements) == (2, 5, (3, 5))
    assert (found.stale.count, found.never_read, found.unexpected) == (1, 1, 1)
    assert found.stable_ms["max"] == pytest.approx(7.0)
    assert (found.reads, found.thinned) == (3, 0)


def test_beyond_the_budget_reads_of_a_set_are_thinned_and_the_last_stays() -> None:
    made = Made()
    for number in range(1, 21):
        made.write(number, number, number + 0.5, elements=tuple(range(1, number + 1)))
    for number in range(100):
        made.read(0, 100 + number, 101 + number, elements=tuple(range(1, 21 - (number == 99))))
    found = set_full(made, Budget(cells=200))
    assert (found.reads, found.thinned) == (10, 90)
    assert found.lost_elements == (20,)


def test_without_sets_there_is_no_set_full() -> None:
    made = Made()
    made.write(1, 0, 1)
    assert analyse(manifest(properties=REGISTER), made.lines).set_full is None
