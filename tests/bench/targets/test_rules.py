"""What each node is told while faults are on: both sides of a cut, and of delays the newest first."""

from __future__ import annotations

from bench.faults import Fault, Slow
from bench.scenario import Cluster
from bench.targets.http import are_equal
from bench.targets.nodes import flags_of, needs_injection
from bench.targets.rules import rules_of
from dynamo.cli import build_parser

NODES = ("n1", "n2", "n3")
MS = [[1, "constant", 1]]
MORE = [[1, "constant", 9]]


def slow(*nodes: int, peers: tuple[int, ...] = ()) -> Fault:
    return Fault(do="slow", at=0.0, nodes=nodes, peers=peers, slow=Slow(legs={"W": MORE}))


def delay(mix: list[list[object]], *peers: str) -> dict[str, object]:
    return {"peers": list(peers), "leg": "W", "delay": mix}


def test_without_faults_there_is_what_holds_from_the_begin() -> None:
    assert rules_of((), NODES, {}) == {node: [] for node in NODES}
    assert rules_of((), NODES, {"W": MS}) == {node: [delay(MS)] for node in NODES}


def test_a_partition_is_cut_at_both_sides() -> None:
    rules = rules_of([Fault(do="partition", at=0.0, nodes=(2,))], NODES, {})
    assert rules["n3"] == [{"peers": ["n1", "n2"], "drop": True}]
    assert rules["n1"] == rules["n2"] == [{"peers": ["n3"], "drop": True}]


def test_of_delays_the_last_to_begin_goes_first() -> None:
    rules = rules_of([slow(0, peers=(0, 1)), slow()], NODES, {"W": MS})
    assert rules["n1"] == [delay(MORE), delay(MORE, "n2"), delay(MS)]
    assert rules["n2"] == rules["n3"] == [delay(MORE), delay(MS)]


def told(unready: int = 0, **roots: dict[str, str]) -> dict[str, object]:
    return {"node": "n", "unready": unready, "roots": roots}


def test_trees_are_equal_where_two_nodes_keep_the_same_partition() -> None:
    one = told(default={"0": "aa", "1": "bb"})
    assert are_equal([one, one, told(default={"1": "bb", "2": "cc"})])
    assert not are_equal([one, told(default={"1": "b0"})])
    assert are_equal([one, told(other={"1": "b0"})])
    assert not are_equal([one, told(1, default={"0": "aa"})])


def test_a_cluster_says_by_flags_what_it_is_to_be_without() -> None:
    assert flags_of(Cluster(), injection=False) == ()
    without = Cluster(repair=False, hints=False, exchange=False, flags=("--reap-after", "5"))
    assert flags_of(without, injection=True) == (
        *("--fault-injection", "--no-read-repair", "--no-hints"),
        *("--exchange-interval", "0", "--exchange-interval-remote", "0", "--reap-after", "5"),
    )
    arguments = build_parser().parse_args(["serve", *flags_of(without, injection=True)])
    assert (arguments.read_repair, arguments.hints, arguments.fault_injection) == (
        *(False, False),
        True,
    )


def test_faults_of_messages_need_nodes_that_allow_them() -> None:
    assert not needs_injection(Cluster(), [Fault(do="crash", at=0.0)])
    assert needs_injection(Cluster(slow={"W": MS}), ())
    assert needs_injection(Cluster(), [Fault(do="partition", at=0.0, nodes=(1,))])
