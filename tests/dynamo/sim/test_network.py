"""The simulated network by itself: streams in order, and each fault as the two sides see it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from dynamo.rpc.tcp import UNACKNOWLEDGED_SECONDS
from dynamo.sim.link import Timing
from dynamo.sim.loop import Process, SimLoop, current_process, run_virtual
from dynamo.sim.network import Network, NodeNetwork
from dynamo.sim.trace import Trace


class Side(asyncio.Protocol):
    """Keeps what it was told, and when."""

    def __init__(self) -> None:
        self.data = b""
        self.chunks: list[bytes] = []
        self.ends: list[Exception | None] = []
        self.full: list[bool] = []
        self.process: Process | None = None
        self.ended_at = -1.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.process = current_process()

    def data_received(self, data: bytes) -> None:
        assert not self.ends
        assert current_process() is self.process
        self.data += data
        self.chunks.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ends.append(exc)
        self.ended_at = asyncio.get_running_loop().time()

    def pause_writing(self) -> None:
        self.full.append(True)

    def resume_writing(self) -> None:
        self.full.append(False)


class Pair:
    """Machines "a" and "b", and a stream from a to b."""

    def __init__(self, seed: int) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        self.loop = loop
        self.trace = Trace(now=loop.time)
        self.network = Network(loop=loop, seed=seed, trace=self.trace)
        self.accepted: list[Side] = []
        self.a = self.join("a")
        self.b = self.join("b")

    def join(self, name: str) -> NodeNetwork:
        process = self.loop.new_process(name)
        setattr(self, f"process_{name}", process)
        return self.network.join(name, process)

    process_a: Process
    process_b: Process

    def accept(self) -> Side:
        self.accepted.append(Side())
        return self.accepted[-1]

    async def listen(self) -> None:
        await self.process_b.spawn(self.b.listen("b:7", self.accept))

    async def connect(self) -> tuple[Side, Side]:
        """The two sides of a new stream, both open."""
        near = Side()
        await self.process_a.spawn(self.a.connect("b:7", lambda: near))
        await asyncio.sleep(0.1)
        return near, self.accepted[-1]


Scene = Callable[[Pair], Coroutine[Any, Any, None]]


def play(scene: Scene, *, seed: int = 1, listening: bool = True) -> Pair:
    async def main() -> Pair:
        pair = Pair(seed)
        if listening:
            await pair.listen()
        await scene(pair)
        return pair

    return run_virtual(main(), random=random.Random(seed))


# Streams ----------------------------------------------------------------------------------------


def test_bytes_arrive_in_order_both_ways_in_the_process_of_who_gets_them() -> None:
    async def scene(pair: Pair) -> None:
        near, far = await pair.connect()
        assert (near.process, far.process) == (pair.process_a, pair.process_b)
        assert far.transport.get_extra_info("peername")[0] == "a"
        assert near.transport.get_extra_info("peername") == ("b", 7)
        sent = [bytes([number]) * (number + 1) for number in range(200)]
        for piece in sent:
            near.transport.write(piece)
            far.transport.write(piece)
            await asyncio.sleep(0.0001)
        await asyncio.sleep(1)
        assert near.data == far.data == b"".join(sent)
        assert pair.network.counts["bytes"] == 2 * len(near.data)

    for seed in range(10):
        play(scene, seed=seed)


def test_a_close_flushes_and_both_sides_hear_of_it_once() -> None:
    async def scene(pair: Pair) -> None:
        near, far = await pair.connect()
        near.transport.write(b"x" * 3_000_000)
        near.transport.close()
        near.transport.close()
        assert near.transport.is_closing()
        near.transport.write(b"late")
        await asyncio.sleep(1)
        far.transport.abort()
        await asyncio.sleep(1)
        assert len(far.data) == 3_000_000
        assert (near.ends, far.ends) == ([None], [None])
        assert pair.network.link("a", "b").pipes == pair.network.link("b", "a").pipes == {}
        assert "0 ends" in repr(pair.network)

    play(scene)


def test_an_abort_may_lose_what_was_under_way_but_never_its_order() -> None:
    lengths = set()

    async def scene(pair: Pair) -> None:
        near, far = await pair.connect()
        sent = bytes(range(256)) * 20
        near.transport.write(sent)
        near.transport.abort()
        assert near.ends == []
        await asyncio.sleep(1)
        assert len(near.ends) == len(far.ends) == 1
        assert sent.startswith(far.data)
        lengths.add(len(far.data))

    for seed in range(20):
        play(scene, seed=seed)
    assert len(lengths) > 10


def test_a_full_buffer_pauses_the_writer_until_there_is_room() -> None:
    async def scene(pair: Pair) -> None:
        near, far = await pair.connect()
        near.transport.set_write_buffer_limits(high=1000, low=100)
        pair.process_b.pause()
        near.transport.write(b"x" * 900)
        assert near.full == []
        near.transport.write(b"x" * 200)
        assert near.full == [True]
        await asyncio.sleep(5)
        assert (near.full, far.data) == ([True], b"")
        pair.process_b.resume()
        await asyncio.sleep(1)
        assert near.full == [True, False]
        assert len(far.data) == 1100
        assert near.transport.get_write_buffer_size() == 0

    play(scene)


def test_a_connect_to_nobody_is_refused_and_one_to_no_address_is_an_error() -> None:
    async def scene(pair: Pair) -> None:
        with pytest.raises(ConnectionRefusedError):
            await pair.a.connect("b:7", Side)
        with pytest.raises(OSError, match="no such host"):
            await pair.a.connect("z:7", Side)
        with pytest.raises(ValueError, match="host:port"):
            await pair.a.connect("b", Side)
        with pytest.raises(OSError, match="this machine is a"):
            await pair.a.listen("b:7", Side)
        listener = await pair.a.listen("a:0", Side)
        with pytest.raises(OSError, match="in use"):
            await pair.a.listen(listener.address, Side)
        await listener.close()
        with pytest.raises(ConnectionRefusedError):
            await pair.b.connect(listener.address, Side)
        assert pair.network.counts["refused"] == 2

    play(scene, listening=False)


def test_a_connect_that_is_given_up_leaves_nothing() -> None:
    async def scene(pair: Pair) -> None:
        for microseconds in range(0, 3000, 50):
            task = pair.process_a.spawn(pair.a.connect("b:7", Side))
            await asyncio.sleep(microseconds / 1e6)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result().abort()
        await asyncio.sleep(1)
        assert "0 ends" in repr(pair.network)

    play(scene)


def test_a_connect_that_is_forgotten_half_way_fails_and_leaves_nothing() -> None:
    async def scene(pair: Pair) -> None:
        pair.network.timing(None, None, Timing(0.01, 0, 0, 0))
        task = pair.process_a.spawn(pair.a.connect("b:7", Side))
        await asyncio.sleep(0.015)
        pair.network.half_open("a", "b")
        with pytest.raises(ConnectionResetError):
            await task
        await asyncio.sleep(1)
        assert pair.accepted == []
        assert "0 ends" in repr(pair.network)

    play(scene)


# Faults of links --------------------------------------------------------------------------------


def test_a_cut_holds_one_way_and_the_heal_sends_again() -> None:
    async def scene(pair: Pair) -> None:
        near, far = await pair.connect()
        pair.network.cut("a", "b")
        near.transport.write(b"held")
        far.transport.write(b"free")
        await asyncio.sleep(5)
        assert (near.data, far.data) == (b"free", b"")
        assert "a>b cut" in repr(pair.network)
        pair.network.heal("a", "b")
        await asyncio.sleep(6)
        assert far.data == b"held"
        assert near.ends == far.ends == []
        assert "faults: none" in repr(pair.network)

    play(scene)


@pytest.mark.parametrize(("source", "target"), [("a", "b"), ("b", "a")])
def test_what_is_not_acknowledged_in_twelve_seconds_ends_the_stream(
    source: str, target: str
) -> None:
    async def scene(pair: Pair) -> None:
        near, far = await pair.connect()
        pair.network.cut(source, target)
        before = pair.loop.time()
        near.transport.write(b"x")
        await asyncio.sleep(30)
        assert isinstance(near.ends[0], TimeoutError)
        assert near.ended_at - before == pytest.approx(UNACKNOWLEDGED_SECONDS)
        assert far.ends == []
        pair.network.heal_all()
        far.transport.write(b"y")
        await asyncio.sleep(1)
        assert isinstance(far.ends[0], ConnectionResetError)
        assert far.data == (b"" if source == "a" else b"x")

    play(scene)


def test_heals_too_short_for_a_retransmission_do_not_save_a_stream() -> None:
    ended = 0

    async def scene(pair: Pair) -> None:
        nonlocal ended
        near, far = await pair.connect()
        pair.network.cut("a", "b")
        near.transport.write(b"x")
        for _ in range(6):
            await asyncio.sleep(2.499)
            pair.network.heal("a", "b")
            await asyncio.sleep(0.001)
            pair.network.cut("a", "b")
        assert bool(near.ends) != bool(far.data)
        ended += bool(near.ends)

    for seed in range(20):
        play(scene, seed=seed)
    assert ended > 15


def test_a_sleeping_process_with_a_machine_that_is_awake_ends_no_stream() -> None:
    async def scene(pair: Pair) -> None:
        near, far = await pair.connect()
        pair.process_b.pause()
        pair.network.cut("a", "b")
        near.transport.write(b"x")
        await asyncio.sleep(5)
        pair.network.heal("a", "b")
        await asyncio.sleep(30)
        assert near.ends == []
        pair.process_b.resume()
        await asyncio.sleep(1)
        assert far.data == b"x"

    play(scene)


def test_a_connect_through_a_cut_hangs_until_the_heal() -> None:
    async def scene(pair: Pair) -> None:
        for one, other in (("a", "b"), ("b", "a")):
            pair.network.cut(one, other)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pair.a.connect("b:7", Side), 5)
            task = pair.process_a.spawn(pair.a.connect("b:7", Side))
            await asyncio.sleep(3)
            assert not task.done()
            pair.network.heal(one, other)
            await asyncio.sleep(4)
            assert task.done()

    play(scene)


def test_a_clog_holds_and_releases_at_once() -> None:
    async def scene(pair: Pair) -> None:
        near, far = await pair.connect()
        pair.network.clog("a", "b")
        for _ in range(10):
            near.transport.write(b"held ")
        await asyncio.sleep(5)
        assert far.data == b""
        pair.network.unclog("a", "b")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert far.chunks == [b"held " * 10]

    play(scene)


def test_a_slow_link_takes_its_time() -> None:
    async def scene(pair: Pair) -> None:
        near, far = await pair.connect()
        pair.network.timing(None, None, Timing(0.01, 0, 0, 0))
        pair.network.slow("a", "b", 50)
        near.transport.write(b"x")
        far.transport.write(b"y")
        await asyncio.sleep(0.02)
        assert near.data == b"y"
        await asyncio.sleep(0.47)
        assert far.data == b""
        await asyncio.sleep(0.02)
        assert far.data == b"x"

    play(scene)


def test_a_dribble_delivers_a_few_bytes_at_a_time() -> None:
    async def scene(pair: Pair) -> None:
        near, far = await pair.connect()
        pair.network.dribble("a", "b", True)
        near.transport.write(bytes(range(100)))
        near.transport.write(b"z")
        await asyncio.sleep(1)
        assert far.data == bytes(range(100)) + b"z"
        assert 2 < len(far.chunks) <= 33

    play(scene)


# What TCP would not do ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trick", "arrives"),
    [
        ("tear", b"oldtwothree"),
        ("repeat", b"oldoneonetwothree"),
        ("swap", b"oldtwoonethree"),
        ("replay", b"oldoldonetwothree"),
    ],
)
def test_a_trick_is_played_on_the_next_chunk(trick: str, arrives: bytes) -> None:
    async def scene(pair: Pair) -> None:
        near, far = await pair.connect()
        near.transport.write(b"old")
        await asyncio.sleep(0.1)
        getattr(pair.network, trick)("a", "b")
        for piece in (b"one", b"two", b"three"):
            near.transport.write(piece)
        await asyncio.sleep(0.1)
        assert far.data == arrives
        assert pair.network.counts[trick] == 1

    play(scene)


def test_a_flip_changes_one_bit() -> None:
    async def scene(pair: Pair) -> None:
        near, far = await pair.connect()
        pair.network.flip("a", "b")
        near.transport.write(bytes(50))
        near.transport.write(bytes(50))
        await asyncio.sleep(0.1)
        assert len(far.data) == 100
        assert int.from_bytes(far.data, "big").bit_count() == 1
        assert not any(far.data[50:])

    play(scene)


def test_a_swap_without_a_second_chunk_is_none() -> None:
    async def scene(pair: Pair) -> None:
        near, far = await pair.connect()
        pair.network.swap("a", "b")
        near.transport.write(b"only")
        await asyncio.sleep(1)
        assert far.data == b"only"
        assert pair.network.counts["swap"] == 0

    play(scene)


# Faults of streams and machines -------------------------------------------------------------------


def test_a_reset_breaks_streams_at_any_byte_and_both_sides_hear_it() -> None:
    lengths = set()

    async def scene(pair: Pair) -> None:
        near, far = await pair.connect()
        sent = bytes(range(200))
        near.transport.write(sent)
        pair.network.reset("b", "a")
        near.transport.write(b"lost")
        await asyncio.sleep(0.1)
        for side in (near, far):
            assert [type(end) for end in side.ends] == [ConnectionResetError]
        assert sent.startswith(far.data)
        lengths.add(len(far.data))
        assert pair.network.link("a", "b").pipes == pair.network.link("b", "a").pipes == {}

    for seed in range(20):
        play(scene, seed=seed)
    assert len(lengths) > 10


def test_of_a_half_open_stream_the_other_side_hears_when_it_sends() -> None:
    async def scene(pair: Pair) -> None:
        near, far = await pair.connect()
        pair.network.half_open("a", "b")
        await asyncio.sleep(100)
        assert len(near.ends) == 1
        assert far.ends == []
        far.transport.write(b"anybody?")
        await asyncio.sleep(0.1)
        assert isinstance(far.ends[0], ConnectionResetError)
        assert near.data == b""

    play(scene)


def test_a_crash_resets_the_peers_and_a_power_loss_is_silent() -> None:
    async def scene(pair: Pair, silent: bool) -> None:
        near, far = await pair.connect()
        far.transport.write(b"x" * 100)
        pair.network.crash("b", silent=silent)
        pair.process_b.kill()
        await asyncio.sleep(0.2)
        assert far.ends == []
        assert silent or near.ends
        if not silent:
            assert isinstance(near.ends[0], ConnectionResetError)
            with pytest.raises(ConnectionRefusedError):
                await pair.a.connect("b:7", Side)
            return
        assert near.ends == []
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pair.a.connect("b:7", Side), 5)
        near.transport.write(b"y")
        await asyncio.sleep(3)
        assert near.ends == []
        pair.b = pair.join("b")
        await asyncio.sleep(6.1)
        assert isinstance(near.ends[0], ConnectionResetError)
        await pair.listen()
        await pair.connect()

    for seed in range(10):
        play(lambda pair: scene(pair, False), seed=seed)
        play(lambda pair: scene(pair, True), seed=seed)


def test_who_sends_to_a_machine_without_power_gives_up_in_the_end() -> None:
    async def scene(pair: Pair) -> None:
        near, _ = await pair.connect()
        pair.network.crash("b", silent=True)
        near.transport.write(b"y")
        await asyncio.sleep(11.9)
        assert near.ends == []
        await asyncio.sleep(0.2)
        assert isinstance(near.ends[0], TimeoutError)

    play(scene)


def test_a_paused_process_hears_everything_later_in_order() -> None:
    async def scene(pair: Pair) -> None:
        near, far = await pair.connect()
        pair.process_b.pause()
        near.transport.write(b"one")
        near.transport.close()
        await asyncio.sleep(20)
        assert (near.ends, far.ends, far.data) == ([None], [], b"")
        pair.process_b.resume()
        await asyncio.sleep(1)
        assert (far.data, far.ends) == (b"one", [None])

    play(scene)


@pytest.mark.parametrize("killed_first", [False, True])
def test_a_killed_process_hears_nothing_and_its_streams_answer_with_a_reset(
    killed_first: bool,
) -> None:
    async def scene(pair: Pair) -> None:
        near, far = await pair.connect()
        near.transport.write(b"under way")
        pair.process_b.pause()
        await asyncio.sleep(1)
        if killed_first:
            pair.process_b.kill()
        pair.network.crash("b", silent=False)
        pair.process_b.kill()
        with pytest.raises(OSError, match="the process is gone"):
            await pair.b.connect("a:7", Side)
        await asyncio.sleep(1)
        assert isinstance(near.ends[0], ConnectionResetError)
        assert (far.data, far.ends) == (b"", [])
        assert pair.network.link("a", "b").pipes == pair.network.link("b", "a").pipes == {}

    play(scene)
