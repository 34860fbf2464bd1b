"""What members do wrong with requests and replies at a real node, each a function of the town.

Rows of the table in tests/process/test_between_nodes.py: the connection stays, nothing is stored.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
from cluster_waits import wait_until
from member_by_hand import MemberByHand
from town import CONTENT, MEMBERS, MIB, PARTITIONS, PING, Place, Town, code, record

from dynamo.rpc.codec import encode
from dynamo.rpc.messages import (
    AskRing,
    Body,
    Deliver,
    Fetch,
    Mint,
    Minted,
    Owe,
    Ping,
    Pong,
    Refused,
    RingIs,
    Store,
    Synced,
)
from ring.ring import Ring

# Requests and replies -----------------------------------------------------------------------------


def unknown_operation(town: Town) -> None:
    before = town.count("rpc_requests_unknown")
    with town.member() as peer:
        for tag in (0, 63, 127, 60_000, 1 << 40):
            answer = peer.answer(msgspec.msgpack.encode((tag, b"what", 1)))
            assert code(answer) == ("unknown_operation", True)
        assert isinstance(peer.answer(PING), Pong)
    town.wait_counted("rpc_requests_unknown", before, 5)


def replies_that_nobody_waits_for(town: Town) -> None:
    """To nothing, a second one, one that is no reply at all: the connection stays."""
    with town.member() as peer:
        names = ("rpc_replies_to_nothing", "rpc_replies_late", "rpc_replies_malformed")
        before = [town.count(name) for name in names]
        peer.reply(0x7FFF_0000, Pong())
        stream = peer.next_ping()
        peer.reply(stream, Pong())
        peer.reply(stream, Pong())
        peer.reply(peer.next_ping(), b"\xc1")
        for name, count in zip(names, before, strict=True):
            town.wait_counted(name, count)
        assert isinstance(peer.answer(PING), Pong)


def reply_after_the_timeout(town: Town) -> None:
    with town.member() as peer:
        stream = peer.next_ping()
        # A heartbeat waits five seconds. Who says nothing for so long would be taken to be down.
        for _ in range(7):
            assert isinstance(peer.answer(PING), Pong)
            time.sleep(0.9)
        before = town.count("rpc_replies_late")
        peer.reply(stream, Pong())
        town.wait_counted("rpc_replies_late", before)
        assert isinstance(peer.answer(PING), Pong)


def deadline_past(town: Town) -> None:
    """One that waits no longer as it is sent, and one that was on its way for too long."""
    before = town.count("rpc_requests_past_deadline")
    key, routing, partition = town.place()
    with town.member() as peer:
        assert isinstance(peer.answer(PING), Pong)
        store = Store(routing, 0, partition, 1, 0, record(b"v"))
        assert code(peer.answer(store)) == ("deadline_past", True)
        time.sleep(1.2)
        late = Store(routing, 0, partition, 1, 1000, record(b"v"))
        assert code(peer.answer(late, age=1.1)) == ("deadline_past", True)
    town.wait_counted("rpc_requests_past_deadline", before, 2)
    assert town.status(key) == 404


# Epochs, owners, hints ----------------------------------------------------------------------------


def older_epoch(town: Town) -> None:
    key, routing, partition = town.place()
    with town.member() as peer:
        for request in (
            Store(routing, 0, partition, 0, 5000, record(b"v")),
            Mint(routing, 0, partition, 0, 5000, (), 0, CONTENT),
            Fetch(routing, 0, partition, 0, 5000, True),
        ):
            answer = peer.answer(request)
            assert code(answer) == ("stale_epoch", True)
            assert isinstance(answer, Refused)
            assert answer.epoch == town.ring.epoch
    assert town.status(key) == 404


def newer_epoch(town: Town, sends: Callable[[Ring], bytes], counter: str) -> None:
    """Served, and the peer is asked for its ring: once. What it sends is not taken."""
    before, asked = town.count(counter), town.count("later_rings_asked")
    key, routing, partition = town.place()
    with town.member() as peer:
        epoch = town.ring.epoch + 1
        stored = peer.answer(Store(routing, 0, partition, epoch, 5000, record(b"v")))
        assert isinstance(stored, Synced)
        body = peer.answer(Fetch(routing, 0, partition, epoch, 5000, True))
        assert isinstance(body, Body)
        stream, _ = peer.next_request(AskRing)
        peer.reply(stream, RingIs(sends(town.ring)))
        town.wait_counted(counter, before)
        assert isinstance(peer.answer(PING), Pong)
        assert not [request for _, request in peer.asked if isinstance(request, AskRing)]
    assert town.count("later_rings_asked") == asked + 1
    assert town.status(key) == 200
    assert town.cluster.stats(0)["epoch"] == town.ring.epoch


def of_another_seed(ring: Ring) -> bytes:
    other = Ring.build(
        ring.members, partitions=PARTITIONS, seed=ring.seed ^ 1, classes=ring.classes, epoch=2
    )
    return other.to_bytes()


def not_an_owner(town: Town) -> None:
    _, routing, partition = town.place(mine=False)
    with town.member() as peer:
        for request in (
            Store(routing, 0, partition, 1, 5000, record(b"v")),
            Mint(routing, 0, partition, 1, 5000, (), 0, CONTENT),
            Fetch(routing, 0, partition, 1, 5000, True),
            Store(routing, 1, partition, 1, 5000, record(b"v")),
            Store(routing, 0, 1 << 31, 1, 5000, record(b"v")),
        ):
            assert code(peer.answer(request)) == ("not_owner", True)


def hint_for_nobody(town: Town) -> None:
    """Whether or not this node owns the key: there is no such member, or it is this node itself."""
    this = town.ring.index("n1")
    assert this is not None
    with town.member() as peer:
        for mine in (True, False):
            for target in (MEMBERS, 10_000, 0xFFFF_FFFF, this):
                key, routing, partition = town.place(mine=mine)
                for request in (
                    Store(routing, 0, partition, 1, 5000, record(b"v"), hint_for=target),
                    Mint(routing, 0, partition, 1, 5000, (), 0, CONTENT, hint_for=target),
                ):
                    why, definite = code(peer.answer(request))
                    assert why in ("hint_refused", "not_owner"), (target, mine)
                    assert definite
                if mine:
                    assert town.status(key) == 404
        assert isinstance(peer.answer(PING), Pong)


# Dots ---------------------------------------------------------------------------------------------


def foreign_dot(town: Town) -> None:
    """A dot under the node's own incarnation that it never minted."""
    before = town.count("foreign_dots")
    with town.member() as peer:
        one, other = town.place(), town.place()
        first = minted(peer, one).birth
        forged = record(b"forged", sequence=1_000_000, incarnation=incarnation_of(first))
        peer.answer(Store(other[1], 0, other[2], 1, 5000, forged))
        town.wait_counted("foreign_dots", before)
        wait_until(
            lambda: incarnation_of(minted(peer, town.place()).birth) != incarnation_of(first),
            "a new incarnation",
        )
    assert "ALARM foreign_dots" in town.cluster.log(0)


def incarnation_of(birth: bytes) -> bytes:
    """Start number (one byte in a test) and eight random bytes."""
    assert birth[0] < 0x80
    return birth[:9]


def minted(peer: MemberByHand, place: Place) -> Minted:
    _, routing, partition = place
    answer = peer.ask(Mint(routing, 0, partition, 1, 5000, (), 0, CONTENT))[0]
    assert isinstance(answer, Minted), answer
    return answer


def one_dot_with_two_values(town: Town) -> None:
    before = town.count("dots_with_two_values")
    key, routing, partition = town.place()
    with town.member() as peer:
        for value in (b"one", b"other"):
            answer = peer.answer(Store(routing, 0, partition, 1, 5000, record(value)))
            assert isinstance(answer, Synced), answer
    town.wait_counted("dots_with_two_values", before)
    assert town.cluster.get(0, key).siblings == [b"one", b"other"]
    assert "ALARM dots_with_two_values" in town.cluster.log(0)


# What is no message -------------------------------------------------------------------------------


def malformed(town: Town) -> None:
    before, resident = town.count("rpc_requests_malformed"), town.resident_bytes()
    key, routing, partition = town.place()
    with town.member() as peer:
        store = encode(Store(routing, 0, partition, 1, 5000, record(b"v")))
        bad = (
            b"",
            store[:-1],
            store + b"\0",
            store[:1] + b"\xff" + store[2:],
            encode(Ping(1))[:-1] + b"\xff",
            msgspec.msgpack.encode((3, routing, 0, partition, -1, 5000, record(b"v"))),
            b"\xdd\x80\x00\x00\x00\x03" + store[2:],
            b"\x97\x03\xc6\x80\x00\x00\x00" + store[2:],
            b"\x98" + store[1:] + b"\x91" * 1_000_000,
            msgspec.msgpack.encode((9, 1000, ((b"t", b"b", 1, "ZZ", b""),))).replace(
                b"ZZ", b"\xff\xfe"
            ),
            msgspec.msgpack.encode((12, 1000, 1, ((routing, 0, partition, b""),) * 1001)),
        )
        for data in bad:
            assert code(peer.answer(data)) == ("malformed", True), data[:40]
        for data in (b"", b"\x93\x01", record(b"v")[:-1], record(b"v") + b"\0"):
            answer = peer.answer(Store(routing, 0, partition, 1, 5000, data))
            assert code(answer) == ("malformed", True), data[:40]
        assert isinstance(peer.answer(PING), Pong)
    town.wait_counted("rpc_requests_malformed", before, len(bad))
    assert town.status(key) == 404
    assert town.resident_bytes() - resident < 16 * MIB


def nothing_to_deliver_or_owe(town: Town) -> None:
    """Messages about hints that make no sense are answered, and the connection stays."""
    _, routing, partition = town.place(mine=False)
    with town.member() as peer:
        for request in (
            Owe(routing, 0, partition, 1, 5000, (0xFFFF_FFFF,)),
            Owe(routing, 0, partition, 1, 5000, ()),
            Deliver(5000, 1, ()),
        ):
            assert not isinstance(peer.answer(request), Synced)
        assert isinstance(peer.answer(PING), Pong)
