"""A peer that names a later epoch than this node's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from rpc_nodes import ManualClock

from dynamo.cluster.later_ring import ASK_SECONDS, LaterRing
from dynamo.metrics import Metrics
from dynamo.ports import Failure, Waiter
from dynamo.rpc.messages import AskRing, Pong, Request, RingIs
from ring.member import Member
from ring.ring import ReplicationClass, Ring

CLASS = ReplicationClass("default", 0, 2)
MEMBERS = [Member(name, f"{name}:1") for name in "abc"]
RING = Ring.build(MEMBERS, partitions=8, seed=7, classes=[CLASS])
LATER = RING.successor(MEMBERS[:2])


class Asked:
    """Keeps what was asked of whom; answers nothing by itself."""

    def __init__(self) -> None:
        self.targets: list[str] = []

    def request(
        self, targets: Sequence[str], message: Request, waiter: Waiter, timeout: float
    ) -> None:
        assert isinstance(message, AskRing)
        self.targets += targets

    def is_connected(self, node: str) -> bool:
        return True

    def stalled_for(self, node: str) -> float:
        return 0.0


class Scene:
    def __init__(self, node_id: str = "a", ring: Ring | None = RING) -> None:
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.asked = Asked()
        self.later = LaterRing(
            node_id=node_id,
            ring=lambda: ring,
            transport=self.asked,
            clock=self.clock,
            metrics=self.metrics,
        )

    def count(self, name: str) -> int:
        return self.metrics.count[f"later_rings_{name}"]


def test_a_peer_is_asked_once_an_epoch_and_only_now_and_then() -> None:
    scene = Scene()
    for epoch in (2, 2, 3, 1, 4):
        scene.later.note("b", epoch)
    assert scene.asked.targets == ["b"]
    scene.later.note("c", 2)
    assert scene.asked.targets == ["b", "c"]
    scene.clock.advance(ASK_SECONDS)
    scene.later.note("b", 2)
    scene.later.note("b", 3)
    assert scene.asked.targets == ["b", "c", "b"]
    assert scene.count("asked") == 3


def test_a_peer_that_did_not_answer_is_asked_again_later() -> None:
    scene = Scene()
    for end in (Failure("lost", ""), Pong()):
        scene.later.note("b", 2)
        if isinstance(end, Failure):
            scene.later.on_failure("b", end)
        else:
            scene.later.on_reply("b", end)
        scene.later.note("b", 2)
        scene.clock.advance(ASK_SECONDS)
    assert scene.asked.targets == ["b", "b"]
    assert scene.count("not_sent") == 2


def test_nobody_is_asked_while_there_is_no_ring() -> None:
    scene = Scene(ring=None)
    scene.later.note("b", 2)
    assert scene.asked.targets == []


def test_a_later_ring_of_the_cluster_is_left_alone_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene()
    scene.later.note("b", 2)
    scene.later.on_reply("b", RingIs(LATER.to_bytes()))
    assert (scene.count("not_taken"), scene.count("refused")) == (1, 0)
    assert "no change of the ring has been agreed on" in caplog.text


def other(**changed: int) -> Ring:
    given = {"partitions": 8, "seed": 7} | changed
    return Ring.build(MEMBERS, **given, classes=[CLASS]).successor(MEMBERS[:2])


BAD: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "no ring": lambda: b"\x93\xc0" * 9,
    "no later one": RING.to_bytes,
    "of another seed": lambda: other(seed=8).to_bytes(),
    "of other partitions": lambda: other(partitions=16).to_bytes(),
    "without this node": lambda: RING.successor(MEMBERS[1:]).to_bytes(),
    "with the class under another name": lambda: RING.successor(
        MEMBERS, classes=[ReplicationClass("other", 0, 2)]
    ).to_bytes(),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_a_ring_that_is_not_of_this_cluster_is_refused(
    data: Callable[[], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene()
    scene.later.note("b", 2)
    scene.later.on_reply("b", RingIs(data()))
    assert (scene.count("not_taken"), scene.count("refused")) == (0, 1)
    assert len(caplog.records) == 1
