"""Predictions from what nodes have measured: each way to draw keeps what it says it keeps."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from bench.pbs.fan_out import FanOut
from bench.pbs.fits import Component, Mix, Model, constant, exponential
from bench.pbs.measured import TooFewSamples, gather
from bench.pbs.prediction import Prediction
from bench.pbs.resample import predict_measured
from bench.pbs.wars import BadQuestion, Question, grid_of, predict, times
from dynamo.wars_status import WarsLegs, WarsRead, WarsStatus, WarsWrite

NODES = ("a", "b", "c")


def _document(
    node: str, rng: random.Random, samples: int, *, w: Any = None, nodes: Sequence[str] = NODES
) -> WarsStatus:
    """A node that is a replica of all: W ~ Exp(.1) or as `w` says, A = R = S ~ Exp(1); its own copy
    takes no time."""
    operations: list[tuple[WarsWrite, WarsRead]] = []
    for _ in range(samples):
        slow = (lambda: rng.expovariate(0.1)) if w is None else w(rng)
        write = {one: (slow(), rng.expovariate(1.0)) for one in nodes} | {node: (0.0, 0.0)}
        read = {one: (rng.expovariate(1.0), rng.expovariate(1.0)) for one in nodes}
        read[node] = (0.0, 0.0)
        operations.append((WarsWrite(minter=node, legs=write), WarsRead(body=node, legs=read)))
    writes, reads = ([pair[i] for pair in operations] for i in (0, 1))
    peers = {
        one: WarsLegs(
            w=tuple(write.legs[one][0] for write in writes),
            a=tuple(write.legs[one][1] for write in writes),
            r=tuple(read.legs[one][0] for read in reads),
            s=tuple(read.legs[one][1] for read in reads),
            writes=samples,
            reads=samples,
        )
        for one in nodes
    }
    return WarsStatus(
        node=node,
        n=len(nodes),
        sampled=32,
        seconds=60.0,
        peers=peers,
        writes=tuple(writes),  # type: ignore[arg-type]
        reads=tuple(reads),  # type: ignore[arg-type]
    )


def _documents(samples: int, w: Any = None) -> list[WarsStatus]:
    rng = random.Random(3)
    return [_document(node, rng, samples, w=w) for node in NODES]


def _asked(
    documents: Sequence[WarsStatus], r: int = 1, w: int = 1, **how: Any
) -> dict[str, Prediction]:
    question = Question(3, ((r, w),), times("0,5"), 60_000, 1)
    return {one.sampling: one for one in predict_measured(documents, question, **how)}


@pytest.mark.parametrize(("r", "w"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("new_keys", [False, True])
def test_independent_legs_give_what_their_model_gives(r: int, w: int, new_keys: bool) -> None:
    legs = exponential(1.0)
    model = Model("same", exponential(0.1), legs, legs, legs)
    fan_out = FanOut("store", "replica", new_keys=new_keys)
    exact = predict(model, n=3, r=r, w=w, at=times("0,5"), trials=100_000, seed=1, fan_out=fan_out)
    found = _asked(_documents(3000), r, w, new_keys=new_keys)
    assert list(found) == ["iid", "per replica", "whole vectors"]
    for one in found.values():
        for t in ("0", "5"):
            assert one.p_fresh[t] == pytest.approx(exact.p_fresh[t], abs=0.015)
        assert one.read_latency_ms["50"] == pytest.approx(exact.read_latency_ms["50"], rel=0.05)
        assert (one.fan_out, one.coordinator) == ("store", "replica")


def _pause_for_all(rng: random.Random) -> Any:
    """One write in two is slow at all replicas at once."""
    ms = 20.0 if rng.random() < 0.5 else 1.0
    return lambda: ms


def test_whole_vectors_keep_pauses_that_hit_all_at_once() -> None:
    found = _asked(_documents(500, _pause_for_all), 1, 2)
    # With w = 2 the write has waited for the pause that the third replica has had as well.
    assert found["whole vectors"].p_fresh["5"] > 0.97
    assert found["iid"].p_fresh["5"] < 0.9
    half = Mix((Component(0.5, "constant", 20.0), Component(0.5, "constant", 1.0)))
    legs = exponential(1.0)
    model = Model("half", half, legs, legs, legs)
    independent = predict(
        model,
        n=3,
        r=1,
        w=2,
        at=times("5"),
        trials=50_000,
        seed=1,
        fan_out=FanOut("store", "replica"),
    )
    assert found["iid"].p_fresh["5"] == pytest.approx(independent.p_fresh["5"], abs=0.02)


def test_per_replica_keeps_a_replica_that_is_always_slow() -> None:
    def one_slow(rng: random.Random) -> Any:
        delays = iter([1.0, 1.0, 100.0] * 1000)
        return lambda: next(delays)

    found = _asked(_documents(400, one_slow), 1, 1)
    # Reads at c miss the writes of others for 100 ms: two in nine, both by messages and by operations.
    assert found["per replica"].p_fresh["5"] == pytest.approx(1 - 2 / 9, abs=0.01)
    assert found["whole vectors"].p_fresh["5"] == pytest.approx(1 - 2 / 9, abs=0.01)


@pytest.mark.parametrize(("pairing", "p0"), [("same", 1.0), ("different", 0.0)])
def test_coordinators_may_be_the_same_or_never(pairing: str, p0: float) -> None:
    def late(rng: random.Random) -> Any:
        return lambda: 50.0

    # Each commits at its own copy at once; the others have it after 50 ms.
    for one in _asked(_documents(200, late), pairing=pairing).values():
        assert one.p_fresh["0"] == p0


def test_what_was_asked_of_some_nodes_says_so() -> None:
    documents = _documents(200)[:1]
    one = _asked(documents)["iid"]
    assert "go through a" in one.note
    assert "not asked: b, c" in one.note
    # Who writes and reads at the same node always reads its own write.
    assert one.p_fresh["0"] == 1.0


def test_a_write_that_a_replica_never_acknowledged_is_never_there() -> None:
    documents = _documents(200)
    cut = [
        WarsWrite(minter=write.minter, legs={write.minter: (0.0, 0.0)})
        for one in documents[:1]
        for write in one.writes
    ]
    documents.append(
        WarsStatus(
            node="a",
            n=3,
            sampled=32,
            seconds=60.0,
            peers=documents[0].peers,
            writes=tuple(cut),
            reads=documents[0].reads,
        )
    )
    one = _asked(documents)["whole vectors"]
    assert "200 operations were not answered by every replica" in one.note
    # A third of the writes, read by the two others.
    assert one.t_ms["90"] is None


def test_too_few_samples_are_told_with_their_counts() -> None:
    with pytest.raises(TooFewSamples, match=r"^too few samples: .*a: 10 whole writes") as caught:
        _asked(_documents(10))
    assert "one operation in 32 is measured" in str(caught.value)
    some = _asked(_documents(40))
    assert sorted(some) == ["iid", "per replica", "whole vectors"]
    few = _asked(_documents(34)[:2])
    assert "too few samples for whole vectors: whole reads: 68" in few["iid"].note
    assert list(few) == ["iid", "per replica"]


@pytest.mark.parametrize(
    "documents", [[], [WarsStatus(node="a", n=0, sampled=32, seconds=1, peers={})]]
)
def test_nodes_that_have_measured_nothing_say_so(documents: list[WarsStatus]) -> None:
    with pytest.raises(TooFewSamples, match="no node has measured anything"):
        gather(documents)
    with pytest.raises(TooFewSamples, match="no write to all 3"):
        gather([WarsStatus(node="a", n=3, sampled=32, seconds=1, peers={})])


def test_nodes_have_to_agree_on_n() -> None:
    rng = random.Random(1)
    both = [_document("a", rng, 10), _document("b", rng, 10, nodes=("a", "b"))]
    with pytest.raises(TooFewSamples, match="2 and 3"):
        gather(both)
    question = Question(2, grid_of(2), times("0"), 10, 1)
    with pytest.raises(BadQuestion, match="have 3 replicas"):
        predict_measured(_documents(10), question)


def test_sets_of_replicas_are_told_apart_in_a_larger_cluster() -> None:
    rng = random.Random(1)
    near = _document("a", rng, 150, nodes=("a", "b", "c"))
    far = _document("d", rng, 150, nodes=("d", "e", "f"))
    measured = gather([near, far])
    assert sorted(map(tuple, measured.sets.tolist())) == [(0, 1, 2), (3, 4, 5)]
    assert measured.set_shares.tolist() == [0.5, 0.5]
    found = _asked([near, far])
    # No node has seen messages to the replicas of the other set.
    assert list(found) == ["iid", "whole vectors"]
    assert found["whole vectors"].coordinator == "mixed"


def test_nothing_is_lost_where_legs_take_no_time() -> None:
    def at_once(rng: random.Random) -> Any:
        return lambda: 0.0

    for one in _asked(_documents(100, at_once)).values():
        assert one.p_fresh == {"0": 1.0, "5": 1.0}
    assert constant(0.0) == Model("x", *(constant(0.0),) * 4).own
