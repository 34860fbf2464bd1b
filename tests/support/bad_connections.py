"""What strangers and members do wrong with a connection to a real node, each a function of the town.

Rows of the table in tests/process/test_between_nodes.py: handshakes, frames, too many, too slow.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, Final

from member_by_hand import Anyone, MemberByHand, closed_after, dial, dribble, hello
from town import CONTENT, MIB, PING, Town, record

from dynamo.rpc.codec import encode
from dynamo.rpc.frame import FrameWriter
from dynamo.rpc.handshake import VERSION, Handshake, Refusal
from dynamo.rpc.messages import (
    Fetch,
    Mint,
    Pong,
    Store,
)

#: A node's patience with who says nothing, and what noticing it may take on a busy machine.
PATIENCE: Final = 10.0
SLACK: Final = 6.0
#: A member that says nothing at all is taken to be down before that.
SILENCE: Final = 4.0


# Before the handshake is done ---------------------------------------------------------------------


def says(data: Callable[[], bytes]) -> Callable[[Town], None]:
    """A stranger that says this is closed and counted."""

    def row(town: Town) -> None:
        before = town.count("rpc_connections_garbage")
        with dial(town.cluster) as sock:
            sock.sendall(data())
            assert closed_after(sock) < PATIENCE / 2
        town.wait_counted("rpc_connections_garbage", before)

    return row


def a_frame() -> bytes:
    writer = FrameWriter(seed=1)
    writer.add(1, 0, PING)
    return writer.take()


def frames_before_the_confirmation(town: Town) -> None:
    """Who has said hello and not proved anything sends a request."""
    key, routing, partition = town.place()
    store = encode(Store(routing, 0, partition, 1, 5000, record(b"v")))
    writer = FrameWriter(seed=1)
    writer.add(1, 0, store)
    before = town.count("rpc_connections_garbage")
    own = hello(town.cluster, town.name())
    shaking = Handshake(dialing=True, secret=b"", own=own, judge=Anyone())
    with dial(town.cluster) as sock:
        sock.sendall(shaking.start() + writer.take())
        assert closed_after(sock) < PATIENCE / 2
    town.wait_counted("rpc_connections_garbage", before)
    assert town.status(key) == 404


def refused(town: Town, want: str, name: str = "", **greets: Any) -> Refusal:
    """A member that greets like this is refused by this name, closed and counted."""
    before = town.count("rpc_connections_refused")
    peer = MemberByHand(town.cluster, name or town.name(), **greets)
    with closing(peer):
        assert peer.refusal is not None
        assert peer.refusal.code == want
        assert closed_after(peer.socket) < PATIENCE / 2
    town.wait_counted("rpc_connections_refused", before)
    return peer.refusal


def is_refused(want: str, **greets: Any) -> Callable[[Town], None]:
    def row(town: Town) -> None:
        refused(town, want, **greets)

    return row


def another_version(town: Town) -> None:
    own = hello(town.cluster, town.name())
    shaking = Handshake(dialing=True, secret=b"", own=own, judge=Anyone())
    said = bytearray(shaking.start())
    said[4] = VERSION + 1
    with dial(town.cluster) as sock:
        sock.sendall(said)
        while shaking.outcome == "pending":
            shaking.receive(sock.recv(4096))
        assert shaking.refusal is not None
        assert shaking.refusal.code == "wrong_version"
        assert closed_after(sock) < PATIENCE / 2


def less_than_was_shown(town: Town) -> None:
    """A start or a write number below the known one is told the known ones."""
    name = town.name()
    with MemberByHand(town.cluster, name, start=5, write_number=50):
        pass
    town.wait_gone(name)
    for start, write_number, random in ((4, 60, b""), (6, 49, b""), (5, 60, b"a copy..")):
        shown = {"start": start, "write_number": write_number, "random": random}
        refusal = refused(town, "behind", name, **shown)
        known = (refusal.known_start, refusal.known_write_number)
        assert known == (5, 50), shown
    with MemberByHand(town.cluster, name, start=6, write_number=50) as peer:
        assert isinstance(peer.answer(PING), Pong)


def silent(said: bytes, *, dribbles: bool = False) -> Callable[[Town], None]:
    """Who begins a handshake like this and does not end it is closed after ten seconds."""

    def row(town: Town) -> None:
        before = town.count("rpc_handshakes_timed_out")
        with dial(town.cluster) as sock:
            if dribbles:
                took = dribble(sock, said)
            else:
                sock.sendall(said)
                took = closed_after(sock)
        assert PATIENCE - 1 < took < PATIENCE + SLACK
        town.wait_counted("rpc_handshakes_timed_out", before)

    return row


# Frames -------------------------------------------------------------------------------------------


def too_long(length: int) -> Callable[[Town], None]:
    """A frame that says it is longer than any is closed at its header; nothing is kept for it."""

    def row(town: Town) -> None:
        before, resident = town.count("rpc_frames_bad"), town.resident_bytes()
        with town.member() as peer:
            peer.send(length.to_bytes(4) + peer.frame(PING)[4:])
            assert closed_after(peer.socket) < PATIENCE / 2
        town.wait_counted("rpc_frames_bad", before)
        assert town.resident_bytes() - resident < 8 * MIB

    return row


def frame_that_stops(town: Town) -> None:
    before = town.count("peers_convicted")
    key, routing, partition = town.place()
    with town.member() as peer:
        store = Store(routing, 0, partition, 1, 60_000, record(b"v" * MIB))
        peer.send(peer.frame(store)[:20_000])
        assert SILENCE - 1 < closed_after(peer.socket) < PATIENCE + SLACK
    town.wait_counted("peers_convicted", before)
    assert town.status(key) == 404


def frame_a_byte_a_second(town: Town) -> None:
    before = town.count("rpc_frames_stalled")
    with town.member() as peer:
        took = dribble(peer.socket, peer.frame(Mint(b"k", 0, 0, 1, 60_000, (), 0, CONTENT)))
        assert PATIENCE - 1 < took < PATIENCE + SLACK
    town.wait_counted("rpc_frames_stalled", before)


def bad_checksum(town: Town) -> None:
    before = town.count("rpc_frames_bad")
    key, routing, partition = town.place()
    with town.member() as peer:
        data = bytearray(peer.frame(Store(routing, 0, partition, 1, 5000, record(b"v"))))
        data[-1] ^= 1
        peer.send(bytes(data))
        assert closed_after(peer.socket) < PATIENCE / 2
    town.wait_counted("rpc_frames_bad", before)
    assert town.status(key) == 404


# Many, and slow -----------------------------------------------------------------------------------


def a_thousand_connections(town: Town) -> None:
    """Those of one address are capped; nodes at others, and at the same one, get in all the same."""
    before, resident = town.count("rpc_connections_capped"), town.resident_bytes()
    many = [dial(town.cluster, source="127.0.0.9") for _ in range(1000)]
    try:
        for source in ("127.0.0.1", "127.0.0.9"):
            began = time.monotonic()
            with town.member(source=source) as peer:
                assert isinstance(peer.answer(PING), Pong)
            assert time.monotonic() - began < 3, source
        town.wait_counted("rpc_connections_capped", before, 1000 - 128)
        assert town.resident_bytes() - resident < 32 * MIB
    finally:
        for sock in many:
            sock.close()


def never_reads(town: Town) -> None:
    before = town.count("peers_convicted"), town.count("rpc_replies_unwritable")
    key, routing, partition = town.place()
    assert town.cluster.put(0, key, os.urandom(MIB - 1000)).status == 204
    with town.member(receive_bytes=1 << 14) as peer:
        for _ in range(70):
            peer.send(peer.frame(Fetch(routing, 0, partition, 1, 60_000, True)))
        town.wait_counted("rpc_replies_unwritable", before[1])
        began = time.monotonic()
        town.wait_gone(peer.name)
        assert SILENCE - 2 < time.monotonic() - began < PATIENCE + SLACK
    town.wait_counted("peers_convicted", before[0])
