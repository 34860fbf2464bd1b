"""Peers on real sockets: meeting, losing each other, strangers at the door."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import msgspec
import pytest
from rpc_nodes import SECRET, Answers, PeerNode, running, until

from dynamo.ports import Call, Handler
from dynamo.rpc import links as links_module
from dynamo.rpc.codec import encode
from dynamo.rpc.frame import FrameWriter
from dynamo.rpc.handshake import MAGIC, SELF, VERSION, Greeting, Handshake, Hello, Refusal
from dynamo.rpc.messages import Mint, Ping, Pong, Request
from dynamo.rpc.tcp import TcpNetwork, join_address, split_address

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def together(*nodes: PeerNode) -> bool:
    return all(
        set(node.transport.connected()) == {other.node_id for other in nodes} - {node.node_id}
        for node in nodes
    )


def sockets() -> int:
    return sum(
        os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{fd}") or os.path.islink(f"/proc/self/fd/{fd}")
    )


# Meeting and losing each other ----------------------------------------------------------------


async def test_two_nodes_answer_each_other_over_one_connection() -> None:
    a, b = PeerNode("a"), PeerNode("b")
    async with running(a, b):
        a.transport.dial([a.address, b.address])
        await a.transport.first_attempts_done()
        await until(lambda: together(a, b))
        assert (await a.ping("b")).replies == [("b", Pong())]
        assert (await b.ping("a")).replies == [("a", Pong())]
        assert (await a.ping("a")).replies == [("a", Pong())]
        assert a.count["rpc_connections_opened"] == b.count["rpc_connections_opened"] == 1
        assert a.transport.is_connected("b")
        assert a.transport.is_connected("a")
        assert not a.transport.is_connected("c")
        assert "open=[b]" in repr(a.transport)


async def test_one_message_goes_to_many_and_the_unreachable_fail_at_once() -> None:
    nodes = [PeerNode(name) for name in "abc"]
    async with running(*nodes):
        nodes[0].transport.dial([node.address for node in nodes])
        await nodes[0].transport.first_attempts_done()
        answers = Answers()
        nodes[0].transport.request(["b", "z", "c", "a"], Ping(1000), answers, 1.0)
        assert answers.failures == [("z", ("not_sent", "not connected"))]
        await answers.wait(4)
        assert sorted(node for node, _ in answers.replies) == ["a", "b", "c"]


@pytest.mark.parametrize("names", ["ab", "ba"])
async def test_of_two_simultaneous_dials_exactly_one_stays(names: str) -> None:
    """Sixty times, with every offset between the two that a loop turn can make."""
    for turns in range(60):
        a, b = PeerNode(names[0]), PeerNode(names[1])
        async with running(a, b):
            a.transport.dial([b.address])
            for _ in range(turns % 12):
                await asyncio.sleep(0)
            b.transport.dial([a.address])
            await a.transport.first_attempts_done()
            await b.transport.first_attempts_done()
            await until(partial(together, a, b), 1.0)
            await asyncio.sleep(0.005)
            assert together(a, b)
            assert (a.gate.events, b.gate.events) == ([f"+{b.node_id}"], [f"+{a.node_id}"])
            assert (await a.ping(b.node_id)).replies
            assert (await b.ping(a.node_id)).replies


async def test_seven_nodes_that_all_dial_all_end_with_one_connection_a_pair() -> None:
    nodes = [PeerNode(f"n{i}") for i in range(7)]
    async with running(*nodes):
        addresses = [node.address for node in nodes]
        for node in nodes:
            node.transport.dial(addresses)
        await until(lambda: together(*nodes))
        await asyncio.sleep(0.3)
        assert together(*nodes)
        for node in nodes:
            assert len(node.gate.events) == 6
            assert len(node.transport._links._alive) == 6


async def test_a_node_under_two_addresses_is_connected_once() -> None:
    a, b = PeerNode("a"), PeerNode("b")
    async with running(a, b):
        port = split_address(b.address)[1]
        a.transport.dial([b.address, f"localhost:{port}"])
        await a.transport.first_attempts_done()
        await asyncio.sleep(0.3)
        assert a.gate.events == ["+b"]


async def test_a_lost_connection_comes_back_and_what_waited_is_lost() -> None:
    silent: Handler = lambda request, call: None  # noqa: E731
    a, b = PeerNode("a"), PeerNode("b", handlers={Ping: silent})
    async with running(a, b):
        for _ in range(3):
            a.transport.dial([b.address])
            b.transport.dial([a.address])
            await until(lambda: together(a, b))
            answers = Answers()
            a.transport.request(["b"], Ping(5000), answers, 5.0)
            await asyncio.sleep(0.02)
            b.transport.disconnect("a")
            await answers.wait(1)
            assert answers.kinds == ["lost"]
        await until(lambda: together(a, b))
        # Told in pairs, and never twice connected.
        assert a.gate.events == ["+b", "-b"] * 3 + ["+b"]


async def test_a_peer_that_starts_late_or_again_is_found_within_about_a_second() -> None:
    a, b = PeerNode("a"), PeerNode("b")
    async with running(a, b):
        address = b.address
        await b.transport.close()
        a.transport.dial([address])
        await a.transport.first_attempts_done()
        assert a.transport.connected() == ()
        assert a.count["rpc_dials_failed"] >= 1
        for start in (2, 3):
            again = PeerNode("b", start=start)
            await again.start(address)
            await until(lambda: a.transport.connected() == ("b",), 2.5)
            await again.transport.close()
            await until(lambda: a.transport.connected() == ())


async def test_a_node_that_is_connected_is_not_looked_for_where_it_is_said_to_be() -> None:
    a, b = PeerNode("a"), PeerNode("b")
    async with running(a, b):
        a.transport.dial({"127.0.0.1:1": "b", "127.0.0.1:2": ""})
        await a.transport.first_attempts_done()
        a.transport.dial({"127.0.0.1:1": "b", b.address: "b"})
        assert a.transport.attempted  # what comes later takes back nothing
        await until(lambda: a.transport.connected() == ("b",))
        await asyncio.sleep(0.1)
        dials = a.count["rpc_dials"]
        await asyncio.sleep(2.5)
        assert a.count["rpc_dials"] == dials
        # Once it is gone, it is looked for at both again.
        await b.transport.close()
        await until(lambda: a.count["rpc_dials"] >= dials + 3)


async def test_addresses_no_longer_wanted_are_not_dialed() -> None:
    a, b = PeerNode("a"), PeerNode("b")
    async with running(a, b):
        a.transport.dial([b.address, "not an address", "127.0.0.1:1"])
        await a.transport.first_attempts_done()
        assert a.transport.attempted
        a.transport.dial([])
        a.transport.disconnect()
        await asyncio.sleep(0.2)
        assert a.transport.connected() == ()
        assert a.count["rpc_dials"] <= 4


# A peer that speaks by hand ---------------------------------------------------------------------


class Yes:
    def admit(self, peer: Hello, last_session: bytes) -> Refusal | None:
        return None

    def last_session(self, node_id: str) -> bytes:
        return b""


class ByHand:
    """The dialing side of a connection, as bytes."""

    def __init__(self, stream: Stream, writer: FrameWriter) -> None:
        self.reader, self.writer = stream
        self._frames = writer

    def frames(self, *payloads: bytes) -> bytes:
        for payload in payloads:
            self._frames.add(1, 0, payload)
        return self._frames.take()

    async def ended(self) -> bool:
        """True once the other side has closed."""
        return await ended(self.reader)


async def ended(reader: asyncio.StreamReader) -> bool:
    """True once the other side has closed; what it says before does not matter."""
    async with asyncio.timeout(5):
        try:
            while await reader.read(1 << 16):
                pass
        except ConnectionError:
            return True
    return True


@asynccontextmanager
async def stranger(node: PeerNode) -> AsyncIterator[Stream]:
    host, port = split_address(node.address)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def by_hand(
    node: PeerNode, node_id: str = "z", process: bytes = b"process1"
) -> AsyncIterator[ByHand]:
    async with stranger(node) as (reader, writer):
        own = Greeting("c1", node_id, 1, 1, 1, b"", "z:1", "d", "r", "h", 1, os.urandom(16))
        handshake = Handshake(dialing=True, secret=SECRET, own=Hello(own, process), judge=Yes())
        writer.write(handshake.start())
        while handshake.outcome == "pending":
            writer.write(handshake.receive(await reader.read(4096)))
        assert handshake.keys is not None
        yield ByHand((reader, writer), FrameWriter(seed=handshake.keys.seed_out))


PING = encode(Ping(1000))


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


BAD_BYTES: dict[str, Callable[[ByHand], bytes]] = {
    "bad checksum": lambda peer: flipped(peer.frames(PING)),
    "replayed": lambda peer: peer.frames(PING, b"") and peer.frames(PING) * 2,
    "a frame of 2**32 - 1 bytes": lambda peer: b"\xff\xff\xff\xff" + peer.frames(PING)[4:],
    "a frame over 16 MiB": lambda peer: b"\x01\x00\x00\x01" + peer.frames(PING)[4:],
    "of another connection": lambda peer: _frame_of_another(PING),
    "HTTP": lambda peer: b"GET / HTTP/1.1\r\n\r\n",
    "a second handshake": lambda peer: MAGIC + bytes([VERSION, 4, 0, 0]) + bytes(20),
}


def _frame_of_another(payload: bytes) -> bytes:
    writer = FrameWriter(seed=1)
    writer.add(1, 0, payload)
    return writer.take()


@pytest.mark.parametrize("bad", BAD_BYTES.values(), ids=BAD_BYTES)
async def test_bad_bytes_on_an_open_connection_close_it_and_execute_nothing(
    bad: Callable[[ByHand], bytes],
) -> None:
    node = PeerNode("a")
    async with running(node), by_hand(node) as peer:
        await until(lambda: node.transport.connected() == ("z",))
        peer.writer.write(bad(peer))
        assert await peer.ended()
        assert node.executed == []
        assert node.transport.connected() == ()
        assert node.count["rpc_frames_bad"] == 1
        assert node.gate.events == ["+z", "-z"]


async def test_a_repeated_frame_is_not_executed_twice() -> None:
    node = PeerNode("a")
    async with running(node), by_hand(node) as peer:
        frame = peer.frames(PING)
        peer.writer.write(frame + frame)
        assert await peer.ended()
        assert len(node.executed) == 1


@pytest.mark.parametrize("process", [b"process1", b"process2"])
async def test_a_new_handshake_ends_the_older_connection_and_its_unread_frames(
    process: bytes,
) -> None:
    replaced: list[Call] = []

    def hold(request: Request, call: Call) -> None:
        replaced.append(call)

    node = PeerNode("a", handlers={Ping: hold})
    async with running(node), by_hand(node) as old:
        old.writer.write(old.frames(PING))
        await until(lambda: len(replaced) == 1)
        late = old.frames(PING, PING)
        old.writer.write(late[:20])
        await asyncio.sleep(0.05)
        async with by_hand(node, process=process) as new:
            old.writer.write(late[20:])
            assert await old.ended()
            new.writer.write(new.frames(PING))
            await until(lambda: len(replaced) == 2)
            await asyncio.sleep(0.05)
            replaced[0].reply(Pong())
            assert node.count["rpc_replies_to_the_gone"] == 1
            assert len(replaced) == 2
            assert node.gate.events == ["+z", "-z", "+z"]
            assert node.transport.connected() == ("z",)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has it")
async def test_what_no_machine_acknowledges_ends_in_twelve_seconds_at_both_ends() -> None:
    a, b = PeerNode("a"), PeerNode("b")
    async with running(a, b):
        a.transport.dial([b.address])
        await until(lambda: together(a, b))
        for node in (a, b):
            for connection in node.transport._links._alive:
                assert connection._transport is not None
                sock = connection._transport.get_extra_info("socket")
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 12_000


# Strangers and silence -------------------------------------------------------------------------

STRANGERS = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "TLS": bytes.fromhex("16030102000100"),
    "random": b"\x93\x1f\x00\x11\x5c",
    "a frame": _frame_of_another(PING),
    "a proof before the hello": MAGIC + bytes([VERSION, 3, 0, 0]),
}


async def test_strangers_are_closed_and_counted_with_one_line_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "dynamo.rpc")
    node = PeerNode("a")
    async with running(node):
        for data in STRANGERS.values():
            async with stranger(node) as (reader, writer):
                writer.write(data)
                assert await ended(reader)
        assert node.count["rpc_connections_garbage"] == len(STRANGERS)
        assert len(caplog.records) == 1


async def test_refusals_that_anybody_can_send_are_not_believed_by_who_is_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A thousand made-up refusals are one line in the log, and no reason that people are shown."""
    caplog.set_level(logging.INFO, "dynamo")
    node = PeerNode("a")
    async with running(node):
        for number in range(20):
            body = msgspec.msgpack.encode((Refusal("wrong_cluster", f"lie {number}"), b""))
            async with stranger(node) as (reader, writer):
                writer.write(MAGIC + bytes([VERSION, 5]) + len(body).to_bytes(2) + body)
                assert await ended(reader)
        assert node.count["rpc_connections_garbage"] == 20
        assert node.gate.told == []
        assert len(caplog.records) == 1
        assert "lie" not in caplog.text


SILENCES: dict[str, bytes] = {
    "nothing": b"",
    "half a header": MAGIC,
    "a header": MAGIC + bytes([VERSION, 1, 0, 50]),
}


@pytest.mark.parametrize("said", SILENCES.values(), ids=SILENCES)
async def test_a_handshake_that_is_not_finished_is_closed_after_ten_seconds(said: bytes) -> None:
    node = PeerNode("a", scale=50)
    async with running(node), stranger(node) as (reader, writer):
        writer.write(said)
        started = asyncio.get_running_loop().time()
        assert await ended(reader)
        assert asyncio.get_running_loop().time() - started >= 0.15
        assert node.count["rpc_handshakes_timed_out"] == 1


async def test_a_header_that_promises_much_earns_no_more_time() -> None:
    node = PeerNode("a", scale=50)
    async with running(node), by_hand(node) as peer:
        large = encode(Mint(b"k", 0, 0, 1, 60_000, (), 0, bytes(15 << 20)))
        peer.writer.write(peer.frames(large)[:100])
        started = asyncio.get_running_loop().time()
        assert await peer.ended()
        assert asyncio.get_running_loop().time() - started < 1
        assert node.count["rpc_frames_stalled"] == 1


@pytest.mark.parametrize("cut", [3, 25, 26])
async def test_a_frame_that_stops_half_way_is_closed_after_ten_seconds(cut: int) -> None:
    node = PeerNode("a", scale=50)
    async with running(node), by_hand(node) as peer:
        peer.writer.write(peer.frames(PING)[:cut])
        assert await peer.ended()
        assert node.count["rpc_frames_stalled"] == 1
        assert node.executed == []


async def test_connections_of_one_host_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_module, "GREETINGS_PER_HOST_MAX", 8)
    node = PeerNode("a")
    async with running(node):
        host, port = split_address(node.address)
        open_ = [await asyncio.open_connection(host, port) for _ in range(200)]
        await until(lambda: node.count["rpc_connections_capped"] == 192)
        await until(lambda: len(node.transport._links._alive) == 8)
        async with by_hand(node):  # a node on that host still finds its way in
            await until(lambda: node.transport.connected() == ("z",))
        assert node.count["rpc_connections_capped"] == 193
        for _, writer in open_:
            writer.transport.abort()
        await until(lambda: not node.transport._links._alive)
        async with by_hand(node):
            await until(lambda: node.transport.connected() == ("z",))


@pytest.mark.skipif(sys.platform != "linux", reason="loopback is one address")
async def test_many_hosts_that_say_nothing_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_module, "CONNECTIONS_MAX", 20)
    node = PeerNode("a")
    async with running(node), by_hand(node, "y") as peer:
        host, port = split_address(node.address)
        silent = []
        for number in range(60):
            source = (f"127.0.1.{number}", 0)
            silent.append(await asyncio.open_connection(host, port, local_addr=source))
        await until(lambda: node.count["rpc_connections_capped"] == 41)
        await until(lambda: len(node.transport._links._alive) == 20)
        async with by_hand(node):
            await until(lambda: node.transport.connected() == ("y", "z"))
        assert not peer.reader.at_eof()
        for _, writer in silent:
            writer.transport.abort()


async def test_above_the_cap_of_open_connections_one_more_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(links_module, "CONNECTIONS_MAX", 2)
    node = PeerNode("a")
    async with running(node), by_hand(node, "x"), by_hand(node, "y"):
        await until(lambda: node.transport.connected() == ("x", "y"))
        async with stranger(node) as (reader, _):
            assert await ended(reader)
        assert node.count["rpc_connections_capped"] == 1
        assert node.transport.connected() == ("x", "y")


async def test_a_peer_that_stops_reading_is_closed_and_costs_bounded_memory() -> None:
    node = PeerNode("a", scale=20)
    async with running(node), by_hand(node) as peer:
        await until(lambda: node.transport.connected() == ("z",))
        peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
        answers = Answers()
        message = Mint(b"k", 0, 0, 1, 60_000, (), 0, bytes(4 << 20))
        for _ in range(40):
            node.transport.request(["z"], message, answers, 60.0)
            await asyncio.sleep(0)
        assert 0 < answers.kinds.count("not_sent") < 40
        await until(lambda: node.count["rpc_writes_stalled"] == 1)
        assert len(answers.kinds) == 40
        assert answers.kinds.count("lost") == 40 - answers.kinds.count("not_sent")


# Refusals --------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Callable[[], PeerNode], bool]] = {
    "wrong_cluster": (lambda: PeerNode("b", cluster_id="c2"), True),
    "own_node_id": (lambda: PeerNode("a"), True),
    "bad_proof": (lambda: PeerNode("b", secret=b"another"), True),
    "behind": (lambda: PeerNode("b"), False),
    "ring_differs": (lambda: PeerNode("b"), False),
}


@pytest.mark.parametrize(("code", "row"), REFUSED.items(), ids=REFUSED)
@pytest.mark.parametrize("refuser_dials", [True, False])
async def test_a_node_that_does_not_belong_is_refused_by_name(
    code: str, row: tuple[Callable[[], PeerNode], bool], refuser_dials: bool
) -> None:
    make, by_greeting = row
    a, b = PeerNode("a"), make()
    if not by_greeting:
        a.gate.refusals["b"] = Refusal(code, "why", 5, 50)
    async with running(a, b):
        dialer, acceptor = (a, b) if refuser_dials else (b, a)
        dialer.transport.dial([acceptor.address])
        await dialer.transport.first_attempts_done()
        await until(lambda: a.gate.told or b.gate.told)
        told = [*a.gate.told, *b.gate.told][0]
        assert told.code == code
        if not by_greeting:
            assert b.gate.told[0] == Refusal(code, "why", 5, 50)
        assert a.transport.connected() == b.transport.connected() == ()
        counted = a.count["rpc_connections_refused"] + b.count["rpc_connections_refused"]
        assert counted >= 1
        assert a.gate.events == b.gate.events == []


async def test_a_refused_node_is_let_in_once_the_reason_is_gone() -> None:
    a, b = PeerNode("a"), PeerNode("b")
    a.gate.refusals["b"] = Refusal("behind", "why", 5, 50)
    async with running(a, b):
        b.transport.dial([a.address])
        await until(lambda: b.gate.told)
        del a.gate.refusals["b"]
        await until(lambda: together(a, b), 3.0)


async def test_a_peer_that_is_there_and_refuses_is_still_being_reached() -> None:
    a, b = PeerNode("a"), PeerNode("b")
    a.gate.refusals["b"] = Refusal("behind", "why", 5, 50)
    async with running(a, b):
        b.transport.dial([a.address])
        assert b.transport.reaching
        await b.transport.first_attempts_done()
        assert b.transport.attempted
        assert b.transport.reaching
        del a.gate.refusals["b"]
        await until(lambda: together(a, b), 3.0)
        assert not b.transport.reaching


async def test_where_nobody_listens_nobody_is_being_reached_once_that_was_tried() -> None:
    a, b = PeerNode("a"), PeerNode("b")
    async with running(a):
        async with running(b):
            gone = b.address
        a.transport.dial([a.address, gone])
        assert a.transport.reaching
        await until(lambda: not a.transport.reaching)
        assert a.transport.connected() == ()


async def test_a_node_that_dials_itself_finds_out_and_stops() -> None:
    a = PeerNode("a")
    async with running(a):
        a.transport.dial([a.address])
        await a.transport.first_attempts_done()
        await asyncio.sleep(0.3)
        assert a.count["rpc_dials"] == 1
        assert a.gate.told == []
        assert a.transport.connected() == ()
        a.transport.dial([f"localhost:{split_address(a.address)[1]}"])
        await a.transport.first_attempts_done()
        assert [refusal.code for refusal in a.gate.told] == [SELF]


# The end ----------------------------------------------------------------------------------------


async def test_nothing_is_left_after_close() -> None:
    before = sockets()
    nodes = [PeerNode(name) for name in "abcd"]
    async with running(*nodes):
        for node in nodes:
            node.transport.dial([*(other.address for other in nodes), "127.0.0.1:1"])
        await until(lambda: together(*nodes))
        host, port = split_address(nodes[0].address)
        half_open = await asyncio.open_connection(host, port)
    half_open[1].transport.abort()
    await asyncio.sleep(0.05)
    assert sockets() == before


async def test_close_in_the_middle_of_dialing_leaves_nothing() -> None:
    before = sockets()
    for turns in range(15):
        a, b = PeerNode("a"), PeerNode("b")
        async with running(a, b):
            a.transport.dial([b.address])
            b.transport.dial([a.address])
            for _ in range(turns):
                await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    assert sockets() == before


async def test_answers_given_before_close_still_arrive() -> None:
    a, b = PeerNode("a"), PeerNode("b")
    async with running(a, b):
        a.transport.dial([b.address])
        await a.transport.first_attempts_done()
        answers = Answers()
        a.transport.request(["b"] * 50, Ping(5000), answers, 5.0)
        await until(lambda: len(b.executed) == 50)
        await b.transport.close()
        await answers.wait(50)
        assert len(answers.replies) == 50


# Addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1:7400", "[::1]:7400", "node-1.example:1", "h:0"])
def test_an_address_comes_apart_and_together(address: str) -> None:
    assert join_address(*split_address(address)) == address


@pytest.mark.parametrize("address", ["", "host", "host:", ":1", "h:x", "h:-1", "h:65536", "::1:7"])
def test_what_is_no_address_says_so(address: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        split_address(address)


async def test_ipv6_and_names_work_where_the_machine_has_them() -> None:
    for host in ("[::1]", "localhost"):
        listener = await TcpNetwork().listen(f"{host}:0", asyncio.Protocol)
        assert split_address(listener.address)[1] > 0
        transport = await TcpNetwork().connect(listener.address, asyncio.Protocol)
        transport.close()
        await listener.close()
        await asyncio.sleep(0.01)
