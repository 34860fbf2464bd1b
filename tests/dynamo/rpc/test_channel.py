"""Requests and replies on one connection and on the loopback, without sockets and real time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from rpc_nodes import Answers, ManualClock

from dynamo.metrics import Metrics
from dynamo.ports import Call, Handler, Prompt
from dynamo.rpc import channel as channel_module
from dynamo.rpc import frame as frame_module
from dynamo.rpc import pending as pending_module
from dynamo.rpc.channel import FRAME_BYTES_A_SECOND, Channel
from dynamo.rpc.codec import encode
from dynamo.rpc.frame import LAST, MORE, REPLY, FrameWriter
from dynamo.rpc.loopback import Loopback
from dynamo.rpc.messages import Fetch, Mint, Minted, Ping, Pong, Refused, Reply, Request, Synced
from dynamo.version import birth_bytes, incarnation_bytes

MINTED = Minted(b"r", birth_bytes(incarnation_bytes(1, b"12345678"), 1), 1)


class Wire:
    """One end of a connection whose bytes go where the test says."""

    def __init__(self, clock: ManualClock, handlers: dict[type, Handler], *, dialer: bool) -> None:
        self.metrics = Metrics()
        self.count = self.metrics.count
        self.writes: list[bytes] = []
        self.soon: list[Callable[[], None]] = []
        self.closed: list[str] = []
        self.channel = Channel(
            peer="b" if dialer else "a",
            seed_out=1 if dialer else 2,
            seed_in=2 if dialer else 1,
            writer=self,
            close=self.close,
            clock=clock,
            call_soon=lambda callback: self.soon.append(callback),
            metrics=self.metrics,
            handlers=handlers,
        )

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def close(self, reason: str) -> None:
        self.closed.append(reason)
        self.channel.shut(reason)

    def turn(self) -> bytes:
        """End a turn of the loop: what is written then."""
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()
        data, self.writes = b"".join(self.writes), []
        return data


class Pair:
    """Two ends, `a` (asks) and `b` (answers with `handler`)."""

    def __init__(self, handler: Handler | None = None) -> None:
        self.clock = ManualClock()
        self.calls: list[Call] = []
        chosen = handler or (lambda request, call: self.calls.append(call))
        self.a = Wire(self.clock, {}, dialer=True)
        self.b = Wire(self.clock, {Ping: chosen, Mint: chosen}, dialer=False)
        self.answers = Answers()

    def ask(self, message: Request | None = None, timeout: float = 1.0) -> None:
        payload = encode(message or Ping(1000))
        now = self.clock.now
        self.a.channel.request(payload, self.answers, now, now + timeout)

    def carry(self) -> None:
        """Carry what was written, until nothing is."""
        while True:
            to_b, to_a = self.a.turn(), self.b.turn()
            if not to_a and not to_b:
                return
            if to_b:
                self.b.channel.receive(to_b)
            if to_a:
                self.a.channel.receive(to_a)


def test_replies_reach_who_asked() -> None:
    pair = Pair(lambda request, call: call.reply(Pong()))
    pair.ask()
    pair.carry()
    assert pair.answers.replies == [("b", Pong())]
    assert len(pair.a.channel.pending) == 0
    assert "in_flight=0" in repr(pair.a.channel)


def test_all_frames_of_a_turn_leave_in_one_write() -> None:
    pair = Pair()
    for _ in range(100):
        pair.ask()
    assert pair.a.writes == []
    for callback in pair.a.soon:
        callback()
    assert len(pair.a.writes) == 1
    assert pair.a.count["rpc_frames_sent"] == 1


def test_a_mint_is_answered_twice() -> None:
    pair = Pair()
    pair.ask(Mint(b"k", 0, 0, 1, 1000, (), 0, b"v"))
    pair.carry()
    pair.calls[0].reply(MINTED, last=False)
    pair.carry()
    assert pair.a.channel.pending.stalled_for() == 0.0
    pair.calls[0].reply(Synced())
    pair.carry()
    assert [reply for _, reply in pair.answers.replies] == [MINTED, Synced()]
    assert len(pair.a.channel.pending) == 0


def test_only_a_mint_is_answered_twice_and_never_more_often() -> None:
    """A peer that calls no reply its last would count as several acknowledgements."""
    pair = Pair()
    pair.ask(Mint(b"k", 0, 0, 1, 1000, (), 0, b"v"))
    pair.ask()
    pair.carry()
    mint, ping = pair.calls
    for reply in (MINTED, MINTED, Synced(1)):
        mint.reply(reply, last=False)
    mint.reply(Synced(2))
    ping.reply(Synced(3), last=False)
    ping.reply(Synced(4), last=False)
    ping.reply(Synced(5))
    pair.carry()
    assert [reply for _, reply in pair.answers.replies] == [MINTED, Synced(2), Synced(3)]
    assert pair.a.count["rpc_replies_excessive"] == 3
    assert pair.a.count["rpc_replies_late"] == 2
    assert len(pair.a.channel.pending) == 0


def test_a_request_expires_and_its_late_reply_is_dropped() -> None:
    pair = Pair()
    pair.ask(Ping(60_000), timeout=1.0)
    pair.carry()
    pair.clock.advance(0.9)
    assert pair.answers.kinds == []
    pair.clock.advance(0.2)
    assert pair.answers.kinds == ["timed_out"]
    pair.calls[0].reply(Pong())
    pair.carry()
    assert pair.answers.replies == []
    assert pair.a.count["rpc_replies_late"] == 1
    assert pair.clock.armed == 0


def test_a_request_expires_though_a_mint_that_was_half_answered_has_longer() -> None:
    pair = Pair()
    pair.ask(Mint(b"k", 0, 0, 1, 60_000, (), 0, b"v"), timeout=60.0)
    pair.carry()
    pair.calls[0].reply(MINTED, last=False)
    pair.carry()
    pair.ask(timeout=1.0)
    pair.ask(timeout=3.0)
    pair.clock.advance(1.1)
    assert pair.answers.kinds == ["timed_out"]
    pair.clock.advance(2.0)
    assert pair.answers.kinds == ["timed_out", "timed_out"]
    pair.clock.advance(57.0)
    assert pair.answers.kinds == ["timed_out"] * 3
    assert pair.clock.armed == 0


def test_a_mint_whose_last_word_is_its_record_fails() -> None:
    """Whether it is on disk was not said, and nothing more will come that could say it."""
    pair = Pair(lambda request, call: call.reply(MINTED))
    pair.ask(Mint(b"k", 0, 0, 1, 1000, (), 0, b"v"))
    pair.carry()
    assert pair.answers.replies == []
    assert pair.answers.kinds == ["lost"]
    assert len(pair.a.channel.pending) == 0


def test_a_second_last_reply_and_one_past_the_deadline_are_dropped() -> None:
    pair = Pair()
    pair.ask()
    pair.ask(timeout=5.0)
    pair.carry()
    first, second = pair.calls
    first.reply(Pong())
    first.reply(Pong())
    pair.carry()
    pair.clock.advance(1.5)
    second.reply(Pong())
    pair.carry()
    assert len(pair.answers.replies) == 1
    assert pair.b.count["rpc_replies_after_last"] == 1
    assert pair.b.count["rpc_replies_past_deadline"] == 1


REPLIES_NOBODY_WAITS_FOR = {
    "to nothing": ([(99, encode(Pong()))], "rpc_replies_to_nothing", 0),
    "second": ([(0, encode(Pong())), (0, encode(Pong()))], "rpc_replies_late", 1),
    "malformed": ([(0, b"\xc1")], "rpc_replies_malformed", 0),
    "of an unknown kind": ([(0, b"\x91\x7e")], "rpc_replies_malformed", 0),
}


@pytest.mark.parametrize(
    ("replies", "counter", "heard"),
    REPLIES_NOBODY_WAITS_FOR.values(),
    ids=REPLIES_NOBODY_WAITS_FOR,
)
def test_a_reply_that_is_no_use_is_counted_and_the_connection_stays(
    replies: list[tuple[int, bytes]], counter: str, heard: int
) -> None:
    pair = Pair()
    pair.ask()
    writer = FrameWriter(seed=2)
    for stream, payload in replies:
        writer.add(stream, REPLY | LAST, payload)
    pair.a.channel.receive(writer.take())
    assert pair.a.count[counter] == 1
    assert len(pair.answers.replies) == heard
    assert pair.a.closed == []
    if counter == "rpc_replies_malformed":
        assert pair.answers.kinds == ["lost"]


def fail(request: Request, call: Call) -> None:
    raise ValueError("a bug")


REFUSED_REQUESTS = {
    "unknown operation": (b"\x92\x3f\x05", "unknown_operation", True),
    "not served here": (encode(Fetch(b"k", 0, 0, 1, 9, True)), "unknown_operation", True),
    "malformed": (b"\x92\x01\xff", "malformed", True),
    "deadline past": (encode(Ping(0)), "deadline_past", True),
    "handler with a bug": (encode(Ping(9)), "internal", False),
}


@pytest.mark.parametrize(
    ("payload", "code", "definite"), REFUSED_REQUESTS.values(), ids=REFUSED_REQUESTS
)
def test_a_request_that_cannot_be_served_is_refused_and_the_connection_stays(
    payload: bytes, code: str, definite: bool
) -> None:
    pair = Pair(fail)
    pair.a.channel.request(payload, pair.answers, pair.clock.now, pair.clock.now + 1)
    pair.carry()
    [(_, reply)] = pair.answers.replies
    assert isinstance(reply, Refused)
    assert (reply.code, reply.definite) == (code, definite)
    counters = ("unknown", "malformed", "past_deadline")
    counted = sum(pair.b.count[f"rpc_requests_{name}"] for name in counters)
    assert counted + pair.b.count["rpc_handlers_failed"] == 1
    assert pair.b.closed == []


def test_a_request_whose_deadline_passed_behind_slow_ones_is_not_executed() -> None:
    def slow(request: Request, call: Call) -> None:
        executed.append(request)
        pair.clock.now += 0.6

    executed: list[Request] = []
    pair = Pair(slow)
    for _ in range(5):
        pair.ask(timeout=9.0)
    pair.carry()
    assert len(executed) == 2
    assert pair.b.count["rpc_requests_past_deadline"] == 3


def test_what_was_read_long_after_it_was_sent_is_not_executed() -> None:
    """Of a node that stood still: what its peer asked meanwhile lay in the socket, with its times."""
    pair = Pair()
    pair.ask()
    pair.carry()
    queued = b""
    for _ in range(4):
        pair.ask(timeout=9.0)
        queued += pair.a.turn()
        pair.clock.advance(0.4)
    pair.b.channel.receive(queued)
    assert pair.b.count["rpc_requests_past_deadline"] == 2
    assert len(pair.calls) == 3
    pair.clock.advance(0.3)
    for call in pair.calls[1:]:
        call.reply(Pong())
    assert pair.b.count["rpc_replies_past_deadline"] == 1
    pair.carry()
    assert [type(reply).__name__ for _, reply in pair.answers.replies] == ["Refused"] * 2 + ["Pong"]


def test_a_long_message_is_as_late_as_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_module, "FRAME_BYTES_MAX", 100)
    pair = Pair()
    pair.ask()
    pair.carry()
    for seconds, executed in ((0.5, 2), (1.5, 2), (0.9, 3)):
        pair.ask(Mint(b"k", 0, 0, 1, 1000, (), 0, bytes(300)))
        sent = pair.a.turn()
        pair.b.channel.receive(sent[:150])
        pair.clock.advance(seconds)
        pair.b.channel.receive(sent[150:])
        assert len(pair.calls) == executed, seconds


def test_a_bad_frame_closes_and_is_not_executed() -> None:
    pair = Pair()
    pair.ask()
    data = bytearray(pair.a.turn())
    pair.ask()
    pair.ask()
    data += pair.a.turn()
    data[-1] ^= 1
    pair.b.channel.receive(bytes(data))
    assert len(pair.calls) == 1
    assert pair.b.closed == ["bad checksum"]
    assert pair.b.count["rpc_frames_bad"] == 1
    pair.calls[0].reply(Pong())
    assert pair.b.count["rpc_replies_to_the_gone"] == 1


def test_what_waits_when_the_connection_goes_is_lost() -> None:
    pair = Pair()
    pair.ask()
    pair.ask(Mint(b"k", 0, 0, 1, 1000, (), 0, b"v"))
    pair.carry()
    pair.calls[1].reply(MINTED, last=False)
    pair.carry()
    pair.a.close("reset")
    assert pair.answers.kinds == ["lost", "lost"]
    assert pair.clock.armed == 0
    pair.ask()
    assert pair.answers.kinds[2:] == ["not_sent"]


def test_nothing_is_executed_after_shut_not_even_of_the_same_bytes() -> None:
    def replace(request: Request, call: Call) -> None:
        executed.append(request)
        pair.b.close("replaced")

    executed: list[Request] = []
    pair = Pair(replace)
    for _ in range(3):
        pair.ask()
    data = pair.a.turn()
    pair.b.channel.receive(data)
    assert len(executed) == 1
    assert pair.b.count["rpc_messages_unread"] == 2


def test_requests_in_flight_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_module, "IN_FLIGHT_MAX", 3)
    pair = Pair()
    for _ in range(5):
        pair.ask()
    assert pair.answers.kinds == ["not_sent", "not_sent"]
    assert pair.a.count["rpc_requests_not_sent"] == 2


def test_a_full_write_buffer_refuses_and_then_closes() -> None:
    pair = Pair()
    pair.ask(timeout=60)
    pair.carry()
    pair.b.channel.pause_writing()
    pair.calls[0].reply(Pong())
    assert pair.b.count["rpc_replies_past_deadline"] + pair.b.count["rpc_replies_unwritable"] == 1
    pair.a.channel.pause_writing()
    pair.ask()
    assert pair.answers.kinds == ["not_sent"]
    pair.clock.advance(9.9)
    pair.a.channel.resume_writing()
    pair.clock.advance(0.2)
    assert pair.a.closed == []
    assert len(pair.b.closed) == 1
    assert pair.b.count["rpc_writes_stalled"] == 1


def test_a_message_too_large_is_refused_before_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "MESSAGE_BYTES_MAX", 100)
    pair = Pair(lambda request, call: call.reply(Minted(b"r" * 200, MINTED.birth, 1)))
    pair.ask(Mint(b"k", 0, 0, 1, 1000, (), 0, bytes(200)))
    assert pair.answers.kinds == ["not_sent"]
    pair.ask()
    pair.carry()
    [(_, reply)] = pair.answers.replies
    assert reply == Refused("internal", False, "the reply is too large")


def test_a_frame_that_does_not_come_to_its_end_closes_after_ten_seconds() -> None:
    pair = Pair()
    pair.ask()
    data = pair.a.turn()
    for byte in data[:9]:  # a byte a second is no excuse
        pair.b.channel.receive(bytes([byte]))
        pair.clock.advance(1)
    assert pair.b.closed == []
    pair.clock.advance(2)
    assert len(pair.b.closed) == 1
    assert pair.b.count["rpc_frames_stalled"] == 1
    assert pair.calls == []


def test_a_message_in_ever_more_frames_gets_no_more_time() -> None:
    pair = Pair()
    writing = FrameWriter(seed=1)
    for _ in range(20):  # a frame a second, each with a byte
        writing.add(1, MORE, b"x")
        pair.b.channel.receive(writing.take())
        pair.clock.advance(1)
        if pair.b.closed:
            break
    assert pair.clock.now <= 1012
    assert pair.b.count["rpc_frames_stalled"] == 1


def test_a_big_frame_that_flows_has_its_time() -> None:
    pair = Pair()
    pair.ask(Mint(b"k", 0, 0, 1, 60_000, (), 0, bytes(3_000_000)), timeout=60)
    data = pair.a.turn()
    for at in range(0, len(data), FRAME_BYTES_A_SECOND):
        pair.b.channel.receive(data[at : at + FRAME_BYTES_A_SECOND])
        pair.clock.advance(1)
    assert pair.b.closed == []
    assert len(pair.calls) == 1
    pair.clock.advance(2)
    assert pair.clock.armed == 1  # the asker's sweep only


def test_a_silent_peer_stalls_until_it_says_something() -> None:
    pair = Pair()
    assert pair.a.channel.pending.stalled_for() == 0.0
    pair.ask(Ping(60_000), timeout=2)
    pair.carry()
    pair.clock.advance(1.0)
    pair.ask(Ping(60_000), timeout=60)
    pair.carry()
    pair.clock.advance(0.5)
    assert pair.a.channel.pending.stalled_for() == pytest.approx(1.5)
    pair.clock.advance(1.5)
    assert pair.answers.kinds == ["timed_out"]
    assert pair.a.channel.pending.stalled_for() == pytest.approx(3.0)
    pair.calls[1].reply(Pong())
    pair.carry()
    assert pair.a.channel.pending.stalled_for() == 0.0


class Buggy(Answers):
    def on_reply(self, node: str, reply: object) -> None:
        raise ValueError("a bug")

    def on_failure(self, node: str, failure: object) -> None:
        raise ValueError("a bug")


def test_a_waiter_with_a_bug_harms_nobody_else() -> None:
    pair = Pair()
    pair.a.channel.request(encode(Ping(1000)), Buggy(), pair.clock.now, pair.clock.now + 1)
    pair.a.channel.request(encode(Ping(1000)), Buggy(), pair.clock.now, pair.clock.now + 1)
    pair.ask()
    pair.ask()
    pair.carry()
    pair.calls[0].reply(Pong())
    pair.calls[2].reply(Pong())
    pair.carry()
    pair.a.close("reset")
    assert pair.a.count["rpc_waiters_failed"] == 2
    assert len(pair.answers.replies) == 1
    assert pair.answers.kinds == ["lost"]


# Loopback -----------------------------------------------------------------------------------------


class Alone:
    """A node that asks itself."""

    def __init__(self, handler: Handler) -> None:
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.count = self.metrics.count
        self.loopback = Loopback(
            node="a", clock=self.clock, metrics=self.metrics, handlers={Ping: handler}
        )
        self.answers = Answers()

    def ask(self, message: Request, timeout: float = 1.0) -> None:
        self.loopback.request(message, self.answers, self.clock.now, self.clock.now + timeout)


def test_the_loopback_answers_before_it_returns() -> None:
    alone = Alone(lambda request, call: call.reply(Pong()))
    alone.ask(Ping(1000))
    assert alone.answers.replies == [("a", Pong())]


@pytest.mark.parametrize("code", ["unknown_operation", "deadline_past", "internal"])
def test_the_loopback_refuses_as_a_peer_would(code: str) -> None:
    messages: dict[str, Request] = {
        "unknown_operation": Fetch(b"k", 0, 0, 1, 9, True),
        "deadline_past": Ping(0),
    }
    alone = Alone(fail)
    alone.ask(messages.get(code, Ping(9)))
    [(_, reply)] = alone.answers.replies
    assert isinstance(reply, Refused)
    assert (reply.code, reply.definite) == (code, code != "internal")


def test_the_loopback_times_out_and_drops_late_and_double_replies() -> None:
    calls: list[Call] = []
    alone = Alone(lambda request, call: calls.append(call))
    alone.ask(Ping(5000), timeout=1.0)
    alone.ask(Ping(500), timeout=9.0)
    alone.ask(Ping(5000), timeout=9.0)
    alone.clock.advance(1.1)
    assert alone.answers.kinds == ["timed_out"]
    for call in calls:
        call.reply(Pong())
    calls[2].reply(Pong())
    assert len(alone.answers.replies) == 1
    assert alone.count["rpc_replies_late"] == 1
    assert alone.count["rpc_replies_past_deadline"] == 1
    assert alone.count["rpc_replies_after_last"] == 1
    alone.loopback.close("stopping")
    assert alone.answers.kinds == ["timed_out", "lost"]
    alone.ask(Ping(1000))
    assert alone.answers.kinds[2:] == ["not_sent"]
    assert alone.clock.armed == 0


def test_a_message_given_to_the_loopback_is_the_very_object() -> None:
    seen: list[Request] = []
    alone = Alone(lambda request, call: seen.append(request))
    message = Ping(1000)
    alone.ask(message)
    assert seen[0] is message
    assert isinstance(message, msgspec.Struct)


@pytest.mark.parametrize(
    ("at_once", "heard", "calls"),
    [
        (lambda request: Pong(7), [Pong(7)], 0),
        (lambda request: None, [], 1),
    ],
)
def test_who_can_answer_at_once_is_asked_first(
    at_once: Callable[[Any], Reply | None], heard: list[Reply], calls: int
) -> None:
    pair = Pair()
    pair.b.channel._handlers = {Ping: Prompt(at_once, lambda _, call: pair.calls.append(call))}
    pair.ask()
    pair.carry()
    assert [reply for _, reply in pair.answers.replies] == heard
    assert len(pair.calls) == calls


def test_a_bug_of_who_answers_at_once_is_told_and_counted() -> None:
    def at_once(request: Request) -> Reply | None:
        raise ValueError("a bug")

    pair = Pair()
    pair.b.channel._handlers = {Ping: Prompt(at_once, lambda _, call: pair.calls.append(call))}
    pair.ask()
    pair.carry()
    assert [reply for _, reply in pair.answers.replies] == [Refused("internal", False)]
    assert pair.b.count["rpc_handlers_failed"] == 1
    assert pair.calls == []


def test_the_loopback_asks_who_can_answer_at_once_and_keeps_nothing_of_it() -> None:
    clock, metrics, answers, calls = ManualClock(), Metrics(), Answers(), list[Call]()
    heard: list[Reply | None] = [Pong(1), None]
    prompt = Prompt(lambda request: heard.pop(0), lambda _, call: calls.append(call))
    loopback = Loopback(node="a", clock=clock, metrics=metrics, handlers={Ping: prompt})
    for _ in range(2):
        loopback.request(Ping(1000), answers, clock.now, clock.now + 1)
    assert answers.replies == [("a", Pong(1))]
    assert len(calls) == len(loopback.pending) == 1
    loopback.close("the end")
