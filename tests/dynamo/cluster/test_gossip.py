"""Gossip: how fast news spreads and what it costs in a crowd, and what a node makes of bad gossip."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import msgspec
import pytest

from bench.gossip import ROUNDS, Crowd, spread
from dynamo.cluster.gossip import (
    DELTA_BYTES_MAX,
    DIGEST_BYTES_MAX,
    FRESH_BYTES_MAX,
    ROUND_BYTES_MAX,
    GossipService,
)
from dynamo.cluster.rumour import encode_digest
from dynamo.cluster.view import Entry, View
from dynamo.rpc.handshake import Greeting
from dynamo.rpc.messages import Gossip, Gossiped, Refused, Reply
from ring.ring import ReplicationClass, Ring


@pytest.fixture
def no_pauses() -> Iterator[None]:
    """A crowd is millions of objects that all live: looking through them again and again is half the
    time."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize(
    ("members", "seed"),
    [pytest.param(1000, 0, marks=pytest.mark.long), (200, 1), (200, 2), (50, 3), (10, 4)],
)
def test_news_is_known_everywhere_within_twelve_rounds_at_twenty_kilobytes(
    members: int, seed: int
) -> None:
    crowd = Crowd(members, seed=seed, loss=0.05)
    crowd.grow_old(3_000)
    told, agreed, average, most = spread(crowd, rounds_max=ROUNDS + 1)
    print(f"{told} and {agreed} rounds, {average:.0f} bytes, {most} at most")
    assert told <= ROUNDS
    assert agreed <= ROUNDS
    assert average < 20_000
    assert most <= 20_000


@pytest.mark.usefixtures("no_pauses")
def test_a_crowd_that_starts_together_and_all_elsewhere_knows_where_all_are() -> None:
    crowd = Crowd(60, seed=1)
    for number, person in enumerate(crowd.people.values()):
        person.restart(f"10.8.0.{number}:7400")
    for _ in range(16):
        crowd.make_round()
        assert crowd.costs()[1] <= 20_000
    for number, (name, person) in enumerate(crowd.people.items()):
        assert crowd.knowing(name, person.start, f"10.8.0.{number}:7400") == 60


def test_in_a_round_of_turns_every_peer_is_met_once() -> None:
    crowd = Crowd(10, seed=1, loss=0)
    person = crowd.people["node0003"]
    met = []
    for _ in range(18):
        person.out = []
        person.gossip.make_round()
        met.append(person.out[0][0])
    others = {name for name in crowd.people if name != "node0003"}
    assert set(met[:9]) == set(met[9:]) == others


class Asked:
    deadline = float("inf")

    def __init__(self, peer: str = "node0001") -> None:
        self.peer = peer
        self.replies: list[Reply] = []

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        self.replies.append(reply)


class Pair:
    """Node 0 of a crowd of three, and what node 1 says to it."""

    def __init__(self) -> None:
        crowd = Crowd(3, seed=1)
        crowd.grow_old(100)
        self.ring = crowd.ring
        self.person = crowd.people["node0000"]
        self.gossip: GossipService = self.person.gossip
        self.gossip.view.set(1, Entry(7, 100, ""))
        self.gossip.view.set(2, Entry(7, 100, ""))
        self.own = self.gossip.view.entry(0)
        self.count = self.person.metrics.count

    def say(self, digest: bytes, *, ring: Ring | None = None) -> Reply:
        ring = ring or self.ring
        call = Asked()
        self.gossip.on_gossip(Gossip(1000, ring.epoch, ring.digest(), digest), call)
        assert len(call.replies) == 1
        return call.replies[0]

    def show(self, *entries: Entry) -> Reply:
        return self.say(encode_digest(View(["?"] * len(entries), entries), 0, 1 << 20)[0])


def test_ten_thousand_unknown_nodes_are_refused_with_an_alarm_and_the_rest_is_taken() -> None:
    pair = Pair()
    known = [pair.own, Entry(7, 101, ""), Entry(8, 1, None)]
    assert isinstance(pair.show(*known, *[Entry(1, 1, "")] * 10_000), Gossiped)
    assert pair.count["gossip_absurd"] == pair.count["alarms"] == 10_000
    assert pair.gossip.view.entries() == known
    assert len(pair.gossip.view) == 3


def test_a_heartbeat_that_jumps_is_refused_with_an_alarm_and_the_rest_is_taken() -> None:
    pair = Pair()
    pair.show(pair.own, Entry(7, 10**12, ""), Entry(7, 102, ""))
    assert pair.gossip.view.entry(1) == Entry(7, 100, "")
    assert pair.gossip.view.entry(2) == Entry(7, 102, "")
    pair.show(pair.own, Entry(10**12, 1, ""), Entry(7, 103, ""))
    assert pair.gossip.view.entry(1) == Entry(7, 100, "")
    assert pair.gossip.view.entry(2) == Entry(7, 103, "")
    assert pair.count["gossip_absurd"] == 2


def test_alarms_of_one_cause_are_logged_ever_more_rarely(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pair = Pair()
    for _ in range(1_000):
        pair.show(pair.own, Entry(7, 10**12, ""))
    assert len(caplog.messages) == 10
    assert "ALARM" in caplog.text


@pytest.mark.parametrize("address", ["nowhere", "x:0", "a b:1", "h:99999", "[::]x:1", "\x00:1"])
def test_an_address_that_cannot_be_dialled_is_refused_and_the_rest_is_taken(address: str) -> None:
    pair = Pair()
    moved = View(["?"] * 3, [pair.own, Entry(8, 5, address), Entry(7, 102, "")])
    pair.say(encode_digest(moved, 0, 1000, fresh={1}, addresses_bytes_max=100)[0])
    assert pair.gossip.view.entries()[1:] == [Entry(8, 5, None), Entry(7, 102, "")]
    assert pair.count["gossip_absurd"] == 1


def test_nobody_tells_a_node_about_itself_but_that_it_has_lost_a_start() -> None:
    pair = Pair()
    behind: list[int] = []
    pair.gossip.on_behind = behind.append
    pair.show(pair.own._replace(heartbeat=pair.own.heartbeat + 5))
    pair.show(pair.own._replace(start=10**12))
    assert pair.count["gossip_absurd"] == 2
    pair.show(pair.own._replace(start=pair.own.start - 1, heartbeat=10**6))
    assert behind == []
    pair.show(pair.own._replace(start=pair.own.start + 3))
    assert behind == [pair.own.start + 3]
    assert pair.gossip.view.entry(0) == pair.own


@pytest.mark.parametrize("digest", [b"", b"\x00\x80", b"\xff" * 100])
def test_gossip_that_cannot_be_read_is_refused_and_changes_nothing(digest: bytes) -> None:
    pair = Pair()
    before = pair.gossip.view.copy()
    reply = pair.say(digest)
    assert isinstance(reply, Refused)
    assert reply.code == "malformed"
    assert pair.gossip.view == before
    pair.gossip.on_gossiped("node0001", Gossiped(b"\x80"), pair.ring, before)
    assert pair.count["gossip_malformed"] == 2
    assert pair.gossip.view == before


def test_who_has_another_ring_is_refused_and_makes_nobody_a_member() -> None:
    pair = Pair()
    strangers: list[str] = []
    pair.gossip.on_stranger = strangers.append
    other = Ring.build(
        pair.ring.members, partitions=64, seed=99, classes=[ReplicationClass("default", 0)]
    )
    before = pair.gossip.view.copy()
    digest = encode_digest(View(["?"] * 3, [Entry(9, 9, "")] * 3), 0, 1000)[0]
    reply = pair.say(digest, ring=other)
    assert isinstance(reply, Refused)
    assert reply.code == "stale_epoch"
    assert strangers == ["node0001"]
    pair.say(digest, ring=other.successor(members=other.members[:2]))
    assert strangers == ["node0001"]
    assert pair.gossip.view == before


def test_however_often_a_node_is_asked_it_sends_no_more_in_a_round() -> None:
    crowd = Crowd(300, seed=1)
    person = crowd.people["node0000"]
    person.gossip.view = View(
        person.gossip.view.members, [Entry(9, 9, "somewhere.else.example:7400")] * 300
    )
    asking = Gossip(
        1000,
        crowd.ring.epoch,
        crowd.ring.digest(),
        encode_digest(View(["?"] * 300), 0, 10_000)[0],
    )
    person.gossip.make_round()
    sent = sum(len(payload) for _, payload, _ in person.out)
    assert sent <= DIGEST_BYTES_MAX + FRESH_BYTES_MAX
    told: set[int] = set()
    for _ in range(20):
        call = Asked()
        person.gossip.on_gossip(asking, call)
        (reply,) = call.replies
        assert isinstance(reply, Gossiped)
        assert len(reply.delta) <= DELTA_BYTES_MAX
        sent += len(msgspec.msgpack.encode(reply))
        told.add(person.gossip._delta_begin)
    assert sent <= ROUND_BYTES_MAX + 20 * 40
    assert person.metrics.count["gossip_cut_short"] >= 18  # some end with the last member
    assert len(told) > 2  # each goes on where the last one stopped


def test_a_node_that_greets_is_believed_at_once_where_it_is() -> None:
    pair = Pair()
    moved: list[None] = []
    pair.gossip.on_addresses = lambda: moved.append(None)
    greeting = Greeting("c", "node0001", 8, 0, 1, b"", "10.7.7.7:1", "dc1", "r", "h")
    for _ in range(2):
        pair.gossip.on_greeted(greeting)
    assert len(moved) == 1
    assert pair.gossip.heard("node0001").address == "10.7.7.7:1"
    pair.gossip.on_greeted(
        msgspec.structs.replace(greeting, start=9, address=pair.ring.members[1].address)
    )
    assert len(moved) == 2
    assert pair.gossip.heard("node0001")[:3] == (9, 0, pair.ring.members[1].address)
