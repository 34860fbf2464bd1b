"""The model of how this store asks, held against the store's own read operation, and against the plain
enumeration of all that can happen."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from bench.pbs.fan_out import FanOut, Spread, spread_model
from bench.pbs.fits import Component, Mix, Model, constant, exponential
from bench.pbs.freshness import commits, fresh_from, latencies, thresholds
from bench.pbs.wars import predict, times
from dynamo.hedging import Hedged
from dynamo.known_records import KnownRecords
from dynamo.metrics import Metrics
from dynamo.read_operation import ReadOperation
from dynamo.read_tally import ReadTally
from dynamo.record import EMPTY, VALUE, Record, encode_record, mint, record_digest
from dynamo.rpc.messages import Body, Digest, Fetch
from dynamo.stale_reads import StaleReads
from dynamo.version import birth_bytes, incarnation_bytes

BIRTH = birth_bytes(incarnation_bytes(1, b"12345678"), 1)


def _written(before: Record, value: bytes) -> Record:
    counter = dict(before.vector).get(BIRTH, 0) + 1
    return mint(
        before,
        before.vector,
        birth=BIRTH,
        counter=counter,
        kind=VALUE,
        content=value,
        written_ms=1,
    )


OLD = _written(EMPTY, b"old")
NEW = _written(OLD, b"new")
NAMES = "abcd"


class _Never:
    def cancel(self) -> None:
        return None


class _World:
    """Clock, transport and hedger of one read; milliseconds as seconds, so that no timeout matters."""

    delay = 1e6

    def __init__(self, spread: Spread, start: float, before: Record) -> None:
        self._spread = spread
        self._start = start
        self._before = before
        self._now = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._asked: set[str] = set()

    def wall_ms(self) -> int:
        return 0

    def monotonic(self) -> float:
        return self._now

    def call_later(self, delay: float, callback: Callable[[], None]) -> _Never:
        return _Never()

    def watch(self, read: Hedged, begun: float) -> bool:
        return False

    def request(self, targets: Sequence[str], message: Any, waiter: Any, timeout: float) -> None:
        for node in targets:
            if isinstance(message, Fetch):
                self._send(node, message, waiter)

    def _send(self, node: str, message: Fetch, waiter: Any) -> None:
        i, spread = NAMES.index(node), self._spread
        if node in self._asked:
            assert spread.again is not None
            record, back = NEW, self._now + spread.again[0]
        else:
            self._asked.add(node)
            has_it = self._start + spread.asked[0, i] >= spread.visible[0, i]
            record, back = (NEW if has_it else self._before), self._now + spread.answered[0, i]
        data = encode_record(record) if record else b""
        reply = Body(data) if message.body else Digest(record.vector, record_digest(record))
        at = (back, next(self._number), lambda: waiter.on_reply(node, reply))
        heapq.heappush(self._queue, at)

    async def read(self, r: int) -> tuple[Record, float]:
        """What is answered, and when."""
        done: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        n = self._spread.asked.shape[1]
        assert self._spread.body is not None
        first = int(self._spread.body[0])
        nodes = [NAMES[i] for i in (first, *(i for i in range(n) if i != first))]
        world: Any = self
        metrics = Metrics()
        ReadOperation(
            fetch=Fetch(b"key", 0, 0, 1, 10**9, True),
            nodes=nodes,
            tally=ReadTally(nodes, r=r),
            holders_needed=0,
            transport=world,
            clock=world,
            metrics=metrics,
            repair=world,
            deadline=1e6,
            done=done,
            known=KnownRecords(own="a"),
            hedger=world,
            stale=StaleReads(clock=world, metrics=metrics),
        ).start()
        while not done.done():
            self._now, _, deliver = heapq.heappop(self._queue)
            deliver()
        return done.result(), self._now


def _spread(rng: np.random.Generator, n: int, coordinator: Any, *, new_keys: bool) -> Spread:
    legs = exponential(1.0)
    model = Model("x", exponential(0.3), legs, legs, legs)
    return spread_model(model, n, 1, FanOut("store", coordinator, new_keys=new_keys), rng)


@pytest.mark.parametrize("coordinator", ["replica", "outside"])
@pytest.mark.parametrize("new_keys", [False, True])
async def test_the_model_is_what_the_read_operation_does(coordinator: str, new_keys: bool) -> None:
    rng = np.random.default_rng(7)
    fresh = stale = 0
    for trial in range(300):
        n = 2 + trial % 3
        spread = _spread(rng, n, coordinator, new_keys=new_keys)
        r = 1 + trial // 3 % n
        before = EMPTY if new_keys else OLD
        since = float(fresh_from(spread, [r])[r][0])
        # Whoever asks again for a record that it has never had waits as long as it takes.
        run_by = spread if spread.again is not None else spread._replace(again=np.array([1.0]))
        for start in (0.0, since - 1e-6, since + 1e-6, float(rng.exponential(5.0))):
            found, _ = await _World(run_by, start, before).read(r)
            assert (found == NEW) == (start >= since), (trial, start, since)
            fresh, stale = fresh + (found == NEW), stale + (found != NEW)
        _, took = await _World(run_by, 1e9, before).read(r)
        assert took == pytest.approx(latencies(spread)[0, r - 1])
    assert min(fresh, stale) > 200


def _mix(*values: float) -> Mix:
    """Each with the same probability."""
    return Mix(tuple(Component(1 / len(values), "constant", value) for value in values))


@pytest.mark.parametrize(("r", "w"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_monte_carlo_meets_the_enumeration_of_all_cases(r: int, w: int) -> None:
    legs = {"w": (0.5, 4.0, 9.0), "a": (0.25, 2.0), "r": (0.1, 3.0), "s": (1.0, 1.5)}
    n, at = 2, {"0": 0.0, "1.25": 1.25, "4": 4.0}
    wanted = dict.fromkeys(at, 0)
    one_replica = list(itertools.product(*legs.values()))
    for replicas in itertools.product(one_replica, repeat=n):
        commit = sorted(w_ + a for w_, a, _, _ in replicas)[w - 1]
        first = sorted(replicas, key=lambda one: one[2] + one[3])[:r]
        for name, t in at.items():
            wanted[name] += any(r_ + t + commit >= w_ - 1e-9 for w_, _, r_, _ in first)
    mixes = {leg: _mix(*values) for leg, values in legs.items()}
    model = Model("few", mixes["w"], mixes["a"], mixes["r"], mixes["s"])
    found = predict(model, n=n, r=r, w=w, at=at, trials=300_000, seed=3)
    for name, count in wanted.items():
        assert found.p_fresh[name] == pytest.approx(count / len(one_replica) ** n, abs=0.004)


def test_what_is_equal_on_paper_is_fresh() -> None:
    # 0.3 >= 0.1 + 0.2, whatever binary fractions make of it.
    model = Model("equal", constant(0.3), constant(0.0), constant(0.1), constant(0.0))
    spread = spread_model(model, 1, 1, FanOut(), np.random.default_rng(1))
    late = thresholds(fresh_from(spread, [1])[1], commits(spread)[:, 0] - 0.1)
    assert late.tolist() == [0.0]


def test_a_read_arrives_where_the_write_arrives_at_the_same_moment() -> None:
    # Fresh if and only if R + t + commit >= W, not if it is greater.
    spread = Spread(
        *[np.array([legs]) for legs in ([1.0, 9.0], [1.0, 9.0], [9.0, 2.0], [9.0, 3.0])]
    )
    late = thresholds(fresh_from(spread, [1])[1], commits(spread)[:, 0])
    assert late.tolist() == [9.0 - 2.0 - 1.0]


def test_the_others_are_sent_what_a_coordinator_outside_has_had_minted() -> None:
    model = Model("hop", constant(1.0), constant(2.0), constant(3.0), constant(4.0))
    spread = spread_model(model, 3, 1, FanOut("store"), np.random.default_rng(1))
    # The mint's way there and back, then the record's own.
    assert spread.visible.tolist() == [[1.0, 6.0, 6.0]]
    assert spread.acked.tolist() == [[3.0, 8.0, 8.0]]
    assert spread.body is not None
    assert spread.body.tolist() == [0]


def test_the_near_replica_of_wan_is_the_coordinator_if_that_is_one() -> None:
    one = constant(1.0)
    model = Model("far", one, one, one, one, remote_ms=75.0)
    spread = spread_model(model, 3, 500, FanOut("paper", "replica"), np.random.default_rng(1))
    assert np.sort(spread.visible, axis=1)[0].tolist() == [0.0, 76.0, 76.0]
    assert np.sort(spread.answered, axis=1)[0].tolist() == [0.0, 152.0, 152.0]
    writer, reader = spread.visible.argmin(axis=1), spread.asked.argmin(axis=1)
    assert (writer == reader).mean() == pytest.approx(1 / 3, abs=0.07)


def test_a_prediction_is_the_same_again_and_another_with_another_seed() -> None:
    one = exponential(1.0)
    model = Model("x", one, one, one, one)

    def asked(seed: int) -> float:
        return predict(model, n=3, r=1, w=1, at=times("0"), trials=1000, seed=seed).p_fresh["0"]

    assert asked(1) == asked(1) != asked(2)
