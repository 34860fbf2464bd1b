"""What a node tells of exchanges, and the one repair at a time, over exchanges that only say so."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest
from memory_backend import repair_progress

from dynamo.errors import InvalidArgument, NotAnOwner, NotReady, RepairRunning
from dynamo.exchange_what import RepairWhat
from dynamo.exchanges import Exchanges
from dynamo.metrics import Metrics
from dynamo.repairs import Repairs
from dynamo.requests import RepairAsked
from dynamo.status import ExchangePair, ExchangeStatus, RepairProgress, TreesStatus
from dynamo.trees import Trees
from ring.member import Member
from ring.replication import ReplicationClass
from ring.ring import Ring

RING = Ring.build(
    [Member(f"n{i}", f"10.0.0.{i}:7400") for i in range(1, 6)],
    partitions=16,
    seed=1,
    classes=[ReplicationClass("default", 0, 3)],
)


class Run:
    """A repair that runs until it is stopped."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.state: Any = "running"

    def progress(self) -> RepairProgress:
        return repair_progress(self.number, self.state)

    def stop(self) -> None:
        self.state = "stopping"

    async def ended(self) -> None:
        self.state = "stopped"


class Told:
    """Exchanges of which nothing is there but what they tell."""

    def __init__(self) -> None:
        self.asked: list[RepairWhat] = []
        self.runs: list[Run] = []
        self.ages: tuple[float | None, ...] = ()

    def status(self) -> ExchangeStatus:
        return ExchangeStatus(
            node="n1",
            state="running",
            reason="",
            interval_s=10.0,
            interval_remote_s=60.0,
            agreed_s=None,
            never_clean=0,
            peers=(),
            pairs=tuple(
                ExchangePair(cls=0, partition=number, peer="n2", clean_s=age, reason="")
                for number, age in enumerate(self.ages)
            ),
        )

    def start_repair(self, what: RepairWhat) -> Run:
        self.asked.append(what)
        self.runs.append(Run(len(self.runs) + 1))
        return self.runs[-1]


class SomeTrees:
    """Three trees, of which one is ready."""

    def status(self) -> TreesStatus:
        return TreesStatus(trees=3, ready=1, leaves=16, built=0, verified=0, wrong=0)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def repairs(told: Told) -> Repairs:
    repairs = Repairs(
        node_id="n1",
        exchanges=cast(Exchanges, told),
        trees=cast(Trees, SomeTrees()),
        metrics=Metrics(),
    )
    repairs.adopt(RING)
    return repairs


def test_before_there_is_a_ring_nothing_can_be_repaired(told: Told) -> None:
    repairs = Repairs(
        node_id="n1",
        exchanges=cast(Exchanges, told),
        trees=cast(Trees, SomeTrees()),
        metrics=Metrics(),
    )
    with pytest.raises(NotReady):
        repairs.start(RepairAsked())
    assert repairs.status().progress is None
    assert repairs.antientropy(None, 5).pairs == 0


def test_agreement_is_told_by_the_names_of_classes(repairs: Repairs, told: Told) -> None:
    told.ages = (3.0, None, 9.0)
    status = repairs.antientropy(None, 2)
    assert [(one.cls, one.partition) for one in status.oldest] == [("default", 1), ("default", 2)]
    assert (status.pairs, status.never_clean, status.left_out) == (3, 1, 1)
    assert (status.trees.ready, status.trees.trees) == (1, 3)
    assert repairs.antientropy(2, 5).oldest_clean_s == 9.0
    with pytest.raises(InvalidArgument) as caught:
        repairs.antientropy(16, 5)
    assert caught.value.details == {"field": "partition", "allowed": "0 to 15"}


async def test_one_runs_at_a_time_and_says_what_it_was_narrowed_to(
    repairs: Repairs, told: Told
) -> None:
    status = repairs.start(RepairAsked(bucket=b"\xff", peer="n2"))
    assert (status.encoded_bucket, status.bucket, status.peer) == ("%FF", None, "n2")
    assert told.asked[0].peers == ("n2",)
    with pytest.raises(RepairRunning) as caught:
        repairs.start(RepairAsked())
    assert caught.value.details["repair"] == msgspec.to_builtins(status)
    assert repairs.status() == status
    stopped = await repairs.stop()
    assert stopped.progress is not None
    assert stopped.progress.state == "stopped"
    assert repairs.start(RepairAsked()).encoded_bucket is None
    assert len(told.runs) == 2


def test_what_cannot_be_gone_over_starts_nothing(repairs: Repairs, told: Told) -> None:
    foreign = next(p for p in range(16) if not RING.owns("n1", 0, p))
    with pytest.raises(NotAnOwner):
        repairs.start(RepairAsked(partition=foreign))
    assert not told.asked
    assert repairs.status().progress is None
