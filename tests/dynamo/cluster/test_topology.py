"""How a ring is formed, kept and defended at the door."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from blobs import Blobs

from dynamo.cluster.topology import Known, Topology
from dynamo.cluster_file import DEVELOPMENT, ClusterFile
from dynamo.errors import ConfigError, StorageCorrupt
from dynamo.metrics import Metrics
from dynamo.ports import Failure, Waiter
from dynamo.rpc.handshake import SELF, Greeting, Refusal
from dynamo.rpc.messages import AskRing, Ping, Pong, Reply, Request, RingIs
from ring.member import Member
from ring.ring import Ring

A, B, C = (Member(id=name, address=f"{name}:1", host=name) for name in "abc")
NAMED = ClusterFile(id="named", secret=b"s" * 32, seed=7, partitions=8, members=(A, B, C))


class Wire:
    """Hands a request to the topology of its target at once."""

    def __init__(self) -> None:
        self.nodes: dict[str, Topology] = {}
        self.disconnected: list[str] = []
        self.up: set[str] = set()

    def request(
        self, targets: Sequence[str], message: Request, waiter: Waiter, timeout: float
    ) -> None:
        for target in targets:
            peer = self.nodes[target]
            if isinstance(message, AskRing):
                ring = peer.ring
                waiter.on_reply(target, RingIs(ring.to_bytes() if ring is not None else b""))

    def is_connected(self, node: str) -> bool:
        return node in self.up

    def stalled_for(self, node: str) -> float:
        return 0.0


class SlowWire(Wire):
    """Answers nothing by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def request(
        self, targets: Sequence[str], message: Request, waiter: Waiter, timeout: float
    ) -> None:
        self.asked += targets


class Asked:
    peer = "b"
    deadline = float("inf")

    def __init__(self) -> None:
        self.replies: list[Reply] = []

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        self.replies.append(reply)


def node(
    member: Member,
    *,
    cluster: ClusterFile = NAMED,
    peers: tuple[str, ...] = (),
    blobs: Blobs | None = None,
    standing: Callable[[], Known] = lambda: Known(1, 10, b"r"),
    wire: Wire | None = None,
) -> Topology:
    topology = Topology(
        own=member,
        cluster=cluster,
        peers=peers,
        blobs=blobs or Blobs(),
        standing=standing,
        metrics=Metrics(),
    )
    if wire is not None:
        wire.nodes[member.id] = topology
        topology.attach(wire)
    return topology


def meet(one: Topology, other: Topology) -> None:
    """Both let each other in."""
    for here, there in ((one, other), (other, one)):
        assert here.admit(there.greeting()) is None
    for here, there in ((one, other), (other, one)):
        here.connected(there.greeting())


def three(wire: Wire) -> list[Topology]:
    return [
        node(
            member,
            cluster=DEVELOPMENT,
            peers=tuple(m.address for m in (A, B, C) if m is not member),
            wire=wire,
        )
        for member in (A, B, C)
    ]


def ring_of(topology: Topology) -> Ring:
    assert topology.ring is not None
    return topology.ring


def test_the_members_of_the_cluster_file_are_the_ring_from_the_start() -> None:
    rings = [ring_of(node(member)) for member in (A, B, C)]
    assert len({ring.digest() for ring in rings}) == 1
    assert node(A).addresses == {"b:1": "b", "c:1": "c"}


def test_members_are_dialled_where_the_ring_says_and_where_they_were_last_and_so_are_the_seeds() -> (
    None
):
    learnt = {"b": "x:9"}

    def moved(address: str = "", peers: tuple[str, ...] = ()) -> Topology:
        return Topology(
            own=A,
            cluster=NAMED,
            peers=peers,
            blobs=Blobs(),
            standing=lambda: Known(1, 10, b"r"),
            metrics=Metrics(),
            address=address,
            learnt=learnt,
        )

    topology = moved("y:9", ("seed:1", "b:1", "y:9"))
    assert topology.addresses == {"b:1": "b", "x:9": "b", "c:1": "c", "seed:1": ""}
    assert topology.greeting().address == "y:9"
    learnt["c"] = "x:9"
    assert topology.addresses["x:9"] == ""  # one of the two is there
    learnt["c"] = "b:1"
    assert topology.addresses["b:1"] == ""
    del learnt["c"]
    # Where another is listed is this node itself today.
    assert moved("c:1").addresses == {"b:1": "b", "x:9": "b"}


def test_a_node_that_is_not_in_the_cluster_file_does_not_start() -> None:
    with pytest.raises(ConfigError, match="d is not a member"):
        node(Member(id="d", address="d:1"))


def test_without_members_the_ring_is_formed_once_all_peers_have_answered() -> None:
    wire = Wire()
    a, b, c = three(wire)
    formed: list[Ring] = []
    a.on_ring = formed.append
    assert a.ring is None
    assert a.missing() == ("b:1", "c:1")
    meet(a, b)
    assert a.ring is None
    assert a.missing() == ("c:1",)
    meet(a, c)
    assert formed == [a.ring]
    meet(b, c)
    assert len({ring_of(topology).digest() for topology in (a, b, c)}) == 1
    assert [member.id for member in ring_of(a).members] == ["a", "b", "c"]


def test_a_ring_is_kept_and_later_starts_need_nobody() -> None:
    wire, blobs = Wire(), Blobs()
    a, b, c = three(wire)
    meet(a, b)
    meet(a, c)
    blobs.write_blob("ring", ring_of(a).to_bytes())
    again = node(A, cluster=DEVELOPMENT, peers=("b:1", "c:1"), blobs=blobs)
    assert ring_of(again).digest() == ring_of(a).digest()


def test_a_node_without_a_ring_learns_it_from_a_peer_that_has_one() -> None:
    wire = Wire()
    a, b, c = three(wire)
    for one, other in ((a, b), (a, c), (b, c)):
        meet(one, other)
    wiped = node(C, cluster=DEVELOPMENT, peers=("a:1", "b:1"), wire=wire)
    meet(wiped, a)
    assert ring_of(wiped).digest() == ring_of(a).digest()


def test_a_ring_that_is_there_is_learnt_and_not_formed_anew_of_what_peers_say_today() -> None:
    wire = Wire()
    a, b, c = three(wire)
    for one, other in ((a, b), (a, c), (b, c)):
        meet(one, other)
    moved = msgspec.structs.replace(b.greeting(), rack="another rack")
    wiped = node(C, cluster=DEVELOPMENT, peers=("a:1", "b:1"))
    wire.nodes["c"] = wiped
    slow = SlowWire()
    wiped.attach(slow)
    wiped.connected(a.greeting())
    wiped.connected(moved)
    assert wiped.ring is None
    assert wiped.missing() == ("a:1", "b:1")
    wiped.on_failure("a", Failure("timed_out", "no answer"))
    assert slow.asked == ["a", "b", "a"]
    wiped.on_reply("a", RingIs(ring_of(a).to_bytes()))
    assert ring_of(wiped).digest() == ring_of(a).digest()


def test_a_ring_without_one_of_the_peers_is_not_learnt() -> None:
    wire = Wire()
    a = node(A, cluster=DEVELOPMENT, peers=("b:1",), wire=wire)
    b = node(B, cluster=DEVELOPMENT, peers=("a:1", "c:1"), wire=wire)
    meet(a, b)
    assert a.ring is not None
    assert b.ring is None
    assert "c:1" in b.refusals["a"]


def test_a_peer_that_comes_back_under_another_id_takes_the_place_of_the_first() -> None:
    wire = Wire()
    a, b, _ = three(wire)
    a.connected(msgspec.structs.replace(b.greeting(), node_id="typo"))
    a.connected(b.greeting())
    assert a.missing() == ("c:1",)
    assert [member.id for member in a._met.values()] == ["b"]


def test_nodes_whose_rings_differ_refuse_each_other_by_name() -> None:
    other = ClusterFile(id="named", secret=b"s" * 32, seed=7, partitions=8, members=(A, B))
    refusal = node(A).admit(node(B, cluster=other).greeting())
    assert refusal is not None
    assert refusal.code == "ring_differs"
    assert "b" in refusal.message
    assert "a" in refusal.message


def test_whoever_forms_a_ring_later_finds_out_that_its_peers_ring_differs() -> None:
    wire = Wire()
    a = node(A, cluster=DEVELOPMENT, peers=("b:1",), wire=wire)
    b = node(B, cluster=DEVELOPMENT, peers=("a:1", "c:1"), wire=wire)
    c = node(C, cluster=DEVELOPMENT, peers=("a:1", "b:1"), wire=wire)
    meet(a, b)
    assert a.ring is not None
    refused = c.admit(a.greeting()) or a.admit(c.greeting())
    assert refused is not None
    assert refused.code == "not_member"


def test_a_peer_that_formed_another_ring_meanwhile_is_disconnected() -> None:
    wire = Wire()
    other = ClusterFile(id="development", secret=b"s" * 32, seed=8)
    a = node(A, cluster=DEVELOPMENT, peers=("b:1",), wire=wire)
    b = node(B, cluster=other, peers=("a:1",), wire=wire)
    a.on_stranger = b.on_stranger = wire.disconnected.append
    # Both dial at once: neither has a ring when it greets.
    of_a, of_b = a.greeting(), b.greeting()
    a.connected(of_b)
    b.connected(of_a)
    assert wire.disconnected
    assert "its ring differs" in (a.refusals | b.refusals)[wire.disconnected[0]]


@pytest.mark.parametrize("formed", [True, False])
def test_a_stranger_is_refused(formed: bool) -> None:
    stranger = Greeting(
        cluster_id="x",
        node_id="z",
        start=1,
        write_number=0,
        epoch=0,
        ring_digest=b"",
        address="z:1",
        datacenter="dc1",
        rack="r",
        host="z",
    )
    topology = node(A) if formed else node(A, cluster=DEVELOPMENT, peers=("b:1",))
    refusal = topology.admit(stranger)
    assert refusal is not None
    assert refusal.code == "not_member"


@pytest.mark.parametrize(
    ("shown", "behind"),
    [
        (Known(5, 100, b"r"), False),
        # An older greeting of the same process, which it sent before the other connection opened.
        (Known(5, 99, b"r"), False),
        (Known(6, 100, b"s"), False),
        (Known(6, 250, b"s"), False),
        (Known(4, 300, b"q"), True),
        (Known(6, 99, b"s"), True),
        (Known(5, 300, b"another copy"), True),
    ],
    ids=str,
)
def test_a_peer_that_shows_less_than_it_did_is_told_so(shown: Known, behind: bool) -> None:
    standing = Known(5, 100, b"r")
    a, b = node(A), node(B, standing=lambda: standing)
    assert a.admit(b.greeting()) is None
    standing = shown
    refusal = a.admit(b.greeting())
    assert (refusal is not None) == behind
    if refusal is not None:
        assert refusal.code == "behind"
        assert (refusal.known_start, refusal.known_write_number) == (5, 100)


def test_a_start_is_greeted_with_what_it_began_with_until_it_takes_another_number() -> None:
    """A disk that was put back has taken writes before it meets anybody who knows better."""
    standing = Known(6, 250, b"s")
    begun = Topology(
        own=B,
        cluster=NAMED,
        peers=(),
        blobs=Blobs(),
        standing=lambda: standing,
        metrics=Metrics(),
        begun=Known(6, 90, b"s"),
    )
    a = node(A)
    assert a.admit(node(B, standing=lambda: Known(5, 100, b"r")).greeting()) is None
    refusal = a.admit(begun.greeting())
    assert refusal is not None
    assert refusal.code == "behind"
    standing = Known(7, 251, b"t")
    assert a.admit(begun.greeting()) is None


def test_an_older_greeting_of_a_process_does_not_take_back_what_it_has_shown_since() -> None:
    standing = Known(5, 100, b"r")
    a, b = node(A), node(B, standing=lambda: standing)
    older = b.greeting()
    standing = Known(5, 120, b"r")
    assert a.admit(b.greeting()) is None
    assert a.admit(older) is None
    standing = Known(6, 110, b"s")
    refusal = a.admit(b.greeting())
    assert refusal is not None
    assert refusal.known_write_number == 120


def test_what_was_heard_in_a_heartbeat_counts_like_what_was_shown_in_a_handshake() -> None:
    a, b = node(A), node(B, standing=lambda: Known(5, 100, b"r"))
    assert a.admit(b.greeting()) is None
    asked = Asked()
    a.on_ping(Ping(1000, 200), asked)
    assert asked.replies == [Pong(10)]
    a.on_reply("b", Pong(300))
    a.on_reply("b", Pong(50))
    restored = node(B, standing=lambda: Known(6, 250, b"s"))
    refusal = a.admit(restored.greeting())
    assert refusal is not None
    assert refusal.known_write_number == 300


def test_what_is_known_of_the_peers_outlives_a_restart() -> None:
    blobs = Blobs()
    a, b = node(A, blobs=blobs), node(B, standing=lambda: Known(5, 100, b"r"))
    assert a.admit(b.greeting()) is None
    again = node(A, blobs=blobs)
    refusal = again.admit(node(B, standing=lambda: Known(1, 0, b"new")).greeting())
    assert refusal is not None
    assert refusal.code == "behind"


async def test_what_members_have_shown_of_themselves_is_kept_before_it_is_said_to_be() -> None:
    blobs = Blobs()
    a, b = node(A, blobs=blobs), node(B, standing=lambda: Known(5, 100, b"r"))
    assert a.admit(b.greeting()) is None
    assert await a.keep_shown([("a", 1, 10), ("b", 5, 400)]) == ""
    again = node(A, blobs=blobs)
    refusal = again.admit(node(B, standing=lambda: Known(6, 399, b"s")).greeting())
    assert refusal is not None
    assert (refusal.code, refusal.known_write_number) == ("behind", 400)


async def test_what_a_member_has_shown_that_was_not_met_so_is_not_taken_for_known() -> None:
    blobs = Blobs()
    a, b = node(A, blobs=blobs), node(B, standing=lambda: Known(5, 100, b"r"))
    assert await a.keep_shown([("b", 5, 100)]) == "it has not met b as it is now"
    assert a.admit(b.greeting()) is None
    assert await a.keep_shown([("b", 6, 100)]) == "it has not met b as it is now"
    # Of a start that is over nothing is learnt, nor anything taken back.
    assert await a.keep_shown([("b", 4, 900)]) == ""
    assert a.admit(b.greeting()) is None
    blobs.full = True
    assert "no space" in await a.keep_shown([("b", 5, 200)])


def test_a_full_disk_does_not_keep_peers_out() -> None:
    blobs = Blobs()
    a, b = node(A, blobs=blobs), node(B)
    blobs.full = True
    assert a.admit(b.greeting()) is None


class FewBeats(Exception):
    """The heartbeat has slept often enough."""


async def beat(topology: Topology) -> None:
    """One heartbeat."""
    left = [None]

    async def sleep(seconds: float) -> None:
        if not left:
            raise FewBeats
        left.pop()

    with pytest.raises(FewBeats):
        await topology.run_heartbeat(sleep)


async def test_a_ring_that_cannot_be_kept_is_formed_once_there_is_room() -> None:
    wire, blobs = Wire(), Blobs()
    a = node(A, cluster=DEVELOPMENT, peers=("b:1", "c:1"), blobs=blobs, wire=wire)
    _, b, c = three(wire)
    wire.nodes["a"] = a
    blobs.full = True
    meet(a, b)
    meet(a, c)
    assert a.ring is None
    assert "no space" in a.refusals["a"]
    await beat(a)
    assert a.ring is None
    blobs.full = False
    await beat(a)
    assert [member.id for member in ring_of(a).members] == ["a", "b", "c"]
    assert "a" not in a.refusals


async def test_a_ring_that_cannot_be_kept_is_learnt_once_there_is_room() -> None:
    wire, blobs = Wire(), Blobs()
    a, b, c = three(wire)
    meet(a, b)
    meet(a, c)
    meet(b, c)
    new = node(A, cluster=DEVELOPMENT, peers=("b:1", "c:1"), blobs=blobs, wire=wire)
    blobs.full = True
    new.connected(b.greeting())
    assert new.ring is None
    blobs.full = False
    wire.up = {"b"}
    await beat(new)
    assert ring_of(new).digest() == ring_of(b).digest()


def test_whoever_is_told_that_it_is_behind_tells_the_node() -> None:
    told: list[Known] = []
    b = node(B, standing=lambda: Known(1, 0, b"new"))
    b.on_behind = told.append
    a = node(A)
    assert a.admit(node(B, standing=lambda: Known(5, 100, b"r")).greeting()) is None
    refusal = a.admit(b.greeting())
    assert refusal is not None
    b.refused("a:1", refusal)
    assert told == [Known(5, 100)]


def test_a_peer_that_is_this_node_under_another_address_is_named_among_the_reasons() -> None:
    topology = node(A, cluster=DEVELOPMENT, peers=("localhost:1",))
    topology.refused("localhost:1", Refusal(SELF, "a node has dialed itself"))
    assert topology.missing() == ("localhost:1",)
    assert topology.refusals == {
        "localhost:1": f"localhost:1 is this node itself, which is {A.address} to its peers"
    }


def test_a_damaged_ring_is_an_error_and_not_a_first_start() -> None:
    blobs = Blobs()
    blobs.files["ring"] = b"rubbish"
    with pytest.raises(StorageCorrupt, match="Move that file away"):
        node(A, blobs=blobs)


@pytest.mark.parametrize(
    ("edited", "named"),
    [
        ({"members": (A, B)}, "member c"),
        ({"members": (A, B, C, Member(id="d", address="d:1"))}, "member d"),
        ({"members": (A, msgspec.structs.replace(B, address="b:2"), C)}, "member b"),
        ({"members": (msgspec.structs.replace(A, rack="r9"), B, C)}, "member a"),
        ({"classes": (("default", 2),)}, "class default"),
        ({"classes": (("default", 3), ("more", 3))}, "class more"),
    ],
)
def test_a_cluster_file_that_was_edited_after_the_first_start_is_refused(
    edited: dict[str, Any], named: str
) -> None:
    blobs = Blobs()
    node(A, blobs=blobs)
    other = msgspec.structs.replace(NAMED, **edited)
    own = other.member("a")
    assert own is not None
    with pytest.raises(ConfigError, match=f"it: {named}\\. Nothing"):
        node(own, cluster=other, blobs=blobs)
    reordered = msgspec.structs.replace(NAMED, members=(C, A, B))
    assert ring_of(node(A, cluster=reordered, blobs=blobs)).epoch == 1


def test_classes_of_a_cluster_file_without_members_are_held_to_as_well() -> None:
    blobs = Blobs()
    alone = msgspec.structs.replace(NAMED, members=(), classes=(("default", 1),))
    node(A, cluster=alone, blobs=blobs)
    other = msgspec.structs.replace(alone, classes=(("default", 2),))
    with pytest.raises(ConfigError, match="it: class default"):
        node(A, cluster=other, blobs=blobs)


def test_flags_that_the_ring_on_disk_overrules_are_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    blobs = Blobs()
    node(A, cluster=DEVELOPMENT, blobs=blobs)
    node(A, cluster=DEVELOPMENT, blobs=blobs)
    assert not caplog.messages
    node(msgspec.structs.replace(A, rack="r9"), cluster=DEVELOPMENT, blobs=blobs)
    assert "rack='rack1'" in caplog.text
    fewer = msgspec.structs.replace(DEVELOPMENT, classes=(("default", 1), ("more", 2)))
    node(A, cluster=fewer, blobs=blobs)
    assert "the classes default=3," in caplog.text


def test_a_ring_that_has_changed_since_its_first_epoch_may_differ_from_the_cluster_file() -> None:
    blobs = Blobs()
    first = ring_of(node(A, blobs=blobs))
    blobs.files["ring"] = first.successor(members=(A, B)).to_bytes()
    assert ring_of(node(A, blobs=blobs)).epoch == 2


def test_without_what_was_known_of_the_peers_a_node_starts_all_the_same() -> None:
    blobs = Blobs()
    blobs.files["peers"] = b"rubbish"
    assert node(A, blobs=blobs).admit(node(B).greeting()) is None


def test_what_a_peer_acknowledged_a_write_with_counts_as_shown() -> None:
    a, b = node(A), node(B, standing=lambda: Known(5, 100, b"r"))
    assert a.admit(b.greeting()) is None
    a.acknowledged["b"] = 400
    restored = node(B, standing=lambda: Known(6, 399, b"s"))
    refusal = a.admit(restored.greeting())
    assert refusal is not None
    assert (refusal.code, refusal.known_write_number) == ("behind", 400)


def test_a_second_process_under_the_name_of_one_that_answers_is_refused_and_not_told_to_refill() -> (
    None
):
    wire = Wire()
    a, b = node(A, wire=wire), node(B, standing=lambda: Known(5, 100, b"r"))
    assert a.admit(b.greeting()) is None
    wire.up.add("b")
    second = node(B, standing=lambda: Known(1, 0, b"second"))
    refusal = a.admit(second.greeting())
    assert refusal is not None
    assert refusal.code == "in_use"
    wire.up.clear()
    refusal = a.admit(second.greeting())
    assert refusal is not None
    assert refusal.code == "behind"
