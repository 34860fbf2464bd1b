"""Each check of last writes fires on a history that breaks it, and not on a near miss."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dynamo.sim.checks import check_all
from dynamo.sim.history import AtRest, Copy, History, Operation, OperationKind, Outcome, Shown
from dynamo.sim.last_write import check_last_writes
from dynamo.version import birth_bytes, incarnation_bytes

NODES = ("a", "b", "c")
K = b"lww0"


class Scene:
    """A run written down by hand, each operation after the other; a write's stamp is what is given."""

    def __init__(self) -> None:
        self.history = History(n=3, owners={K: NODES}, lww=frozenset((K,)))
        self.rest = AtRest()

    def put(
        self,
        stamp: int,
        *,
        past: tuple[int, ...] = (),
        beside: tuple[int, ...] = (),
        held: str = "ab",
        w: int = 2,
        outcome: Outcome = "ok",
        kind: OperationKind = "put",
    ) -> Operation:
        one = self._begin(kind, outcome, held)
        one.past, one.w = frozenset(past), w
        if stamp:
            birth = birth_bytes(incarnation_bytes(1, bytes(8)), one.id + 1)
            self.history.orders[one.id] = (stamp, birth, 1)
        one.seen = frozenset((one.id, *beside)) if outcome == "ok" else frozenset()
        return one

    def get(self, *seen: int, shown: int | None = None, r: int = 2, held: str = "") -> Operation:
        one = self._begin("get", "ok", held)
        one.seen, one.r = frozenset(seen), r
        one.shown = frozenset(()) if shown is None else frozenset((shown,))
        return one

    def lose(self, node: str) -> None:
        self.history.lose(self.history.next_id() - 0.2, node, K, why="wipe")

    def at_rest(self, *ids: int, shown: int | None = None) -> None:
        values = frozenset(()) if shown is None else frozenset((shown,))
        self.rest.at = self.history.next_id() - 0.1
        self.rest.copies[K] = dict.fromkeys(NODES, Copy(frozenset(ids), b"%r" % (ids,)))
        self.rest.reads[K] = dict.fromkeys(NODES, Shown(frozenset(ids), values))

    def _begin(self, kind: OperationKind, outcome: Outcome, held: str) -> Operation:
        id = self.history.next_id()
        one = Operation(id, kind, K, "a", start=id, timeout=1.0, outcome=outcome)
        one.end = id + 0.5
        one.holders = frozenset(held)
        return self.history.begin(one)

    def broken(self) -> set[str]:
        found = (
            *check_all(self.history, self.rest),
            *check_last_writes(self.history, self.rest),
        )
        return {finding.invariant for finding in found}


Story = Callable[[Scene], object]


def a_write_is_acknowledged_below_one_of_before(s: Scene) -> None:
    s.put(5)
    s.put(4, held="bc")


def a_write_is_acknowledged_below_what_a_read_left(s: Scene) -> None:
    s.put(5, outcome="unknown", held="ab")
    s.get(0, shown=0, held="ab")
    s.put(4, held="bc")


def a_write_is_stamped_below_what_its_client_had_seen(s: Scene) -> None:
    s.put(5, held="ab", outcome="unknown")
    s.put(4, past=(0,), outcome="unknown")


def a_write_has_no_stamp(s: Scene) -> None:
    s.put(0)


def a_write_leaves_another_beside_it(s: Scene) -> None:
    s.put(5, outcome="unknown", held="a")
    s.put(6, beside=(0,))


def a_read_shows_what_is_not_the_last(s: Scene) -> None:
    s.put(5)
    s.put(6)
    s.get(0, 1, shown=0)


def a_read_shows_nothing_of_a_live_value(s: Scene) -> None:
    s.put(5)
    s.get(0)


def a_read_shows_what_a_delete_hides(s: Scene) -> None:
    s.put(5, held="a", outcome="unknown")
    s.put(6, kind="delete")
    s.get(0, 1, shown=0)


def a_read_at_rest_shows_another(s: Scene) -> None:
    s.put(5, outcome="unknown")
    s.put(6, outcome="unknown")
    s.at_rest(0, 1, shown=0)


def a_read_misses_the_last_write(s: Scene) -> None:
    s.put(5, outcome="unknown", held="c")
    s.put(6)
    s.get(0, shown=0)


def the_last_write_is_lost(s: Scene) -> None:
    s.put(5, outcome="unknown", held="c")
    s.put(6)
    s.at_rest(0, shown=0)


def an_older_value_is_back_after_a_delete(s: Scene) -> None:
    s.put(5)
    s.put(6, kind="delete")
    s.at_rest(0, shown=0)


def a_write_is_acknowledged_where_the_copy_of_one_of_before_was_lost(s: Scene) -> None:
    s.put(5, held="ab")
    s.lose("b")
    s.put(4, held="bc")


BROKEN: tuple[tuple[Story, set[str]], ...] = (
    (a_write_is_acknowledged_below_one_of_before, {"I15"}),
    (a_write_is_acknowledged_below_what_a_read_left, {"I15"}),
    (a_write_is_acknowledged_where_the_copy_of_one_of_before_was_lost, {"I15"}),
    (a_write_is_stamped_below_what_its_client_had_seen, {"I15"}),
    (a_write_has_no_stamp, {"I15"}),
    (a_write_leaves_another_beside_it, {"I5"}),
    (a_read_shows_what_is_not_the_last, {"I5"}),
    (a_read_shows_nothing_of_a_live_value, {"I5"}),
    (a_read_shows_what_a_delete_hides, {"I5"}),
    (a_read_at_rest_shows_another, {"I5"}),
    (a_read_misses_the_last_write, {"I7"}),
    (the_last_write_is_lost, {"I1"}),
    (an_older_value_is_back_after_a_delete, {"I4"}),
)


@pytest.mark.parametrize(("story", "broken"), BROKEN, ids=lambda one: getattr(one, "__name__", ""))
def test_a_broken_promise_is_a_finding(story: Story, broken: set[str]) -> None:
    scene = Scene()
    story(scene)
    assert scene.broken() == broken


def a_write_is_below_one_that_its_replicas_did_not_have(s: Scene) -> None:
    s.put(5, w=1, held="a")
    s.put(4, w=1, held="b")


def a_write_is_below_one_that_runs_beside_it(s: Scene) -> None:
    first = s.put(5)
    s.put(4, held="bc")
    first.end = 1.2


def a_write_that_missed_w_is_below_one_of_before(s: Scene) -> None:
    s.put(5)
    s.put(4, held="c", outcome="unknown")


def a_read_shows_one_that_is_higher(s: Scene) -> None:
    s.put(6, outcome="unknown", held="")
    s.put(5)
    s.get(0, shown=0)


def what_is_hidden_stays(s: Scene) -> None:
    s.put(5, outcome="unknown", held="c")
    s.put(6)
    s.get(0, 1, shown=1)
    s.at_rest(0, 1, shown=1)


def a_deleted_key_shows_nothing(s: Scene) -> None:
    s.put(5, outcome="unknown", held="c")
    s.put(6, kind="delete")
    s.get(0, 1)


def a_value_that_expires_may_be_shown_or_not(s: Scene) -> None:
    s.put(5).expires = True
    s.get(0)
    s.get(0, shown=0)


NEAR_MISSES: tuple[Story, ...] = (
    a_write_is_below_one_that_its_replicas_did_not_have,
    a_write_is_below_one_that_runs_beside_it,
    a_write_that_missed_w_is_below_one_of_before,
    a_read_shows_one_that_is_higher,
    what_is_hidden_stays,
    a_deleted_key_shows_nothing,
    a_value_that_expires_may_be_shown_or_not,
)


@pytest.mark.parametrize("story", NEAR_MISSES, ids=lambda story: story.__name__)
def test_a_near_miss_is_no_finding(story: Story) -> None:
    scene = Scene()
    story(scene)
    assert scene.broken() == set()
