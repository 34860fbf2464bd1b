"""The detector: who is down, who is doubted, and who is not, over a transport made of numbers."""

from __future__ import annotations

import math

import pytest

from dynamo.cluster.detector import COMPARE_TICKS, RECOVERY, TICK, Detector
from dynamo.metrics import Metrics
from dynamo.ports import Timer
from ring.member import Member
from ring.ring import ReplicationClass, Ring


def ring(*names: str, far: tuple[str, ...] = ()) -> Ring:
    members = [
        Member(name, f"{name}:1", datacenter="far" if name in far else "near") for name in names
    ]
    return Ring.build(members, partitions=16, seed=1, classes=(ReplicationClass("default", 0, 3),))


class Scene:
    """A node `a` that looks at its peers every TICK; time passes in `wait`. Peers that are connected
    and not frozen answer a heartbeat each second."""

    def __init__(self, *names: str, far: tuple[str, ...] = ()) -> None:
        self.now = 100.0
        self.heard: dict[str, float] = {}
        self.frozen: dict[str, float] = {}
        self.latencies: dict[str, float] = {}
        self.unanswered: dict[str, float] = {}
        self.metrics = Metrics()
        self.detector = Detector(node_id="a", clock=self, metrics=self.metrics)
        self.detector.attach(self)
        self.detector.adopt(ring("a", *names, far=far))
        self.down, self.doubted = self.detector.down, self.detector.doubted
        for name in names:
            self.connect(name)

    # Clock and transport ------------------------------------------------------------------------

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        raise AssertionError("no opinion rests on it")

    def wall_ns(self) -> int:
        raise AssertionError("no opinion rests on it")

    def call_later(self, delay: float, callback: object) -> Timer:
        raise AssertionError("there is one timer, and it is slept on")

    def is_connected(self, node: str) -> bool:
        return node in self.heard

    def heard_at(self, node: str) -> float:
        return self.heard.get(node, -math.inf)

    def stalled_for(self, node: str) -> float:
        sent = [at for at in (self.frozen.get(node), self.unanswered.get(node)) if at is not None]
        return self.now - min(sent) if sent and node in self.heard else 0.0

    def latency_of(self, node: str) -> float:
        return self.latencies.get(node, 0.001)

    def disconnect(self, node_id: str) -> None:
        del self.heard[node_id]
        self.detector.disconnected(node_id)

    # Verbs --------------------------------------------------------------------------------------

    def connect(self, name: str) -> None:
        self.heard[name] = self.now
        self.frozen.pop(name, None)
        self.detector.connected(name)

    def freeze(self, name: str) -> None:
        self.frozen[name] = self.now

    def thaw(self, name: str) -> None:
        del self.frozen[name]
        if name in self.heard:
            self.heard[name] = self.now

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            self.tick(TICK)

    def tick(self, after: float) -> None:
        due = self.now + TICK
        before, self.now = self.now, self.now + after
        if int(before) != int(self.now):
            self.beat()
        self.detector.judge(self.detector.look(due))

    def beat(self) -> None:
        for name in self.heard:
            if name not in self.frozen:
                self.heard[name] = self.now
                self.detector.heartbeat(name)

    def stand_still(self, seconds: float) -> None:
        """This node does; what came meanwhile is read before it looks."""
        self.tick(seconds)

    def count(self, name: str) -> int:
        return self.metrics.count[name]

    def until(self, name: str, found: object) -> float:
        """Seconds until the node is in a set."""
        began = self.now
        while name not in found:  # type: ignore[operator]
            self.tick(TICK)
            assert self.now < began + 60.0
        return self.now - began


def test_members_are_down_until_connected_and_this_node_is_never_named() -> None:
    scene = Scene()
    scene.detector.adopt(ring("a", "b", "c"))
    assert scene.down == {"b", "c"}
    scene.connect("b")
    assert scene.down == {"c"}
    scene.disconnect("b")
    assert (scene.down, scene.doubted) == ({"b", "c"}, set())


def test_the_sets_are_the_same_objects_all_along() -> None:
    scene = Scene("b", "c")
    scene.freeze("b")
    scene.wait(20)
    scene.connect("b")
    scene.detector.adopt(ring("a", "b"))
    assert scene.detector.down is scene.down
    assert scene.detector.doubted is scene.doubted


def test_who_is_no_member_any_more_is_neither() -> None:
    scene = Scene("b", "c", "d")
    scene.freeze("b")
    scene.wait(1)
    scene.disconnect("c")
    assert (scene.down, scene.doubted) == ({"c"}, {"b"})
    scene.detector.adopt(ring("a", "d"))
    assert (scene.down, scene.doubted) == (set(), set())
    scene.wait(20)
    assert (scene.down, scene.doubted) == (set(), set())


def test_a_silent_peer_is_doubted_at_once_and_convicted_in_four_to_six_seconds() -> None:
    scene = Scene("b", "c")
    scene.wait(30)
    scene.freeze("b")
    assert scene.until("b", scene.doubted) <= 0.2
    assert 3.0 <= scene.until("b", scene.down) <= 6.0
    assert (scene.down, scene.doubted) == ({"b"}, set())
    assert not scene.is_connected("b")
    assert scene.count("peers_convicted") == 1
    scene.connect("b")
    scene.wait(30)
    assert (scene.down, scene.doubted) == (set(), set())
    assert scene.count("peers_convicted") == 1


def test_a_peer_that_pauses_300_ms_again_and_again_is_never_down() -> None:
    scene = Scene("b", "c")
    for _ in range(50):
        scene.freeze("b")
        scene.wait(0.3)
        scene.thaw("b")
        scene.wait(1.2)
        assert (scene.down, scene.doubted) == (set(), set())
    assert scene.count("peers_convicted") == 0
    assert scene.count("peers_doubted") == 50


def test_busy_traffic_does_not_make_a_silence_more_suspicious() -> None:
    scene = Scene("b")
    for _ in range(300):
        scene.heard["b"] = scene.now
        scene.wait(0.1)
    scene.freeze("b")
    assert scene.until("b", scene.down) >= 4.0


@pytest.mark.parametrize("seconds", [1.0, 3.0, 8.0, 600.0])
def test_time_in_which_this_node_stood_still_counts_against_nobody(seconds: float) -> None:
    scene = Scene("b", "c")
    scene.wait(10)
    scene.freeze("b")
    scene.wait(2)
    scene.stand_still(seconds)
    assert scene.down == set()
    # The silence of before and after counts.
    assert 1.0 <= scene.until("b", scene.down) <= 4.0
    assert scene.down == {"b"}
    assert scene.count("own_pauses") == 1
    scene.freeze("c")
    assert 3.0 <= scene.until("c", scene.down) <= 6.0


def test_one_request_that_waits_makes_a_talking_peer_doubted_after_a_quarter_second() -> None:
    scene = Scene("b", "c")
    scene.unanswered["b"] = scene.now
    for _ in range(20):
        scene.heard["b"] = scene.now + 0.09
        scene.wait(0.1)
        assert ("b" in scene.doubted) == (scene.now - scene.unanswered["b"] > 0.25)
    scene.unanswered.clear()
    scene.wait(RECOVERY / 2)
    assert scene.doubted == {"b"}
    scene.wait(RECOVERY)
    assert scene.doubted == set()
    assert scene.down == set()


def test_a_peer_that_always_takes_long_is_given_longer() -> None:
    scene = Scene("b", far=("b",))
    scene.latencies["b"] = 0.1
    scene.freeze("b")
    assert scene.until("b", scene.doubted) >= 0.4


def test_a_slow_peer_is_doubted_until_it_is_fair_again() -> None:
    scene = Scene("b", "c", "d")
    steps = COMPARE_TICKS * TICK
    for latency, doubted in ((0.004, False), (0.012, True), (0.007, True), (0.003, False)):
        scene.latencies["b"] = latency
        scene.wait(steps + RECOVERY + TICK)
        assert ("b" in scene.doubted) == doubted, latency
    assert scene.doubted == set()


def test_the_far_are_compared_with_the_far() -> None:
    scene = Scene("b", "c", "d", "e", "f", far=("e", "f"))
    scene.latencies |= {"e": 0.08, "f": 0.09}
    scene.wait(5)
    assert scene.doubted == set()
    scene.latencies["f"] = 0.8
    scene.wait(5)
    assert scene.doubted == {"f"}


def test_all_slow_is_nobody_slow() -> None:
    scene = Scene("b", "c", "d")
    scene.latencies |= {"b": 0.5, "c": 0.5, "d": 0.5}
    scene.wait(5)
    assert scene.doubted == set()


def test_a_silent_connection_of_a_peer_that_has_restarted_is_closed_early() -> None:
    scene = Scene("b", "c")
    scene.wait(5)
    scene.freeze("b")
    scene.detector.restarted("b")
    scene.detector.restarted("c")
    assert scene.until("b", scene.down) <= 1.7
    scene.wait(10)
    assert scene.down == {"b"}
    assert (scene.count("connections_stale"), scene.count("peers_convicted")) == (1, 0)


def test_an_opinion_says_what_it_is_made_of() -> None:
    scene = Scene("b", "c")
    scene.wait(9.5)
    up = scene.detector.opinion_of("b")
    assert (up.state, up.latency) == ("up", 0.001)
    assert up.phi is not None
    assert up.phi < 1.0
    assert up.lasted == pytest.approx(9.5)
    scene.freeze("b")
    scene.wait(2)
    doubted = scene.detector.opinion_of("b")
    assert doubted.state == "doubted"
    assert doubted.phi is not None
    assert up.phi < doubted.phi < 8.0
    assert doubted.lasted == pytest.approx(1.9)
    scene.wait(8)
    gone = scene.detector.opinion_of("b")
    assert (gone.state, gone.phi) == ("down", None)
    assert 4.0 < gone.lasted < 7.0


async def test_it_looks_for_ever_and_reads_before_it_judges() -> None:
    scene = Scene("b", "c")
    scene.wait(3)
    slept: list[float] = []

    class Enough(Exception):
        pass

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        scene.now += seconds
        if len(slept) == 1:
            scene.freeze("b")
            scene.now += 0.2
        elif len(slept) == 2:
            scene.thaw("b")  # its answer was there already
        elif len(slept) > 4:
            raise Enough

    with pytest.raises(Enough):
        await scene.detector.run(sleep)
    assert slept == [TICK, 0, TICK, TICK, TICK]
    assert scene.doubted == set()
