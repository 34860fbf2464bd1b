"""Whatever comes from another node is a value or refused as none, and costs memory by its bytes.

For all messages there are, as their types describe them; for handshakes, and frames.
"""

from __future__ import annotations

import os
from typing import Any, Final, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_peak import BYTES_AT_LEAST, allowed, peak_of
from message_strategies import KINDS, any_messages, any_object, messages_of, nearly_messages

from dynamo.errors import Malformed
from dynamo.rpc.codec import UnknownOperation, decode_reply, decode_request, encode
from dynamo.rpc.frame import FrameReader, FrameWriter
from dynamo.rpc.handshake import BODY_BYTES_MAX, MAGIC, VERSION, Greeting, Handshake, Hello, Refusal
from dynamo.rpc.messages import Request

SECRET: Final = b"secret"

REQUESTS: Final = get_args(Request)


def decoded(data: bytes, kind: type[Any] | None = None) -> Any:
    """The message, or None if it is Malformed; of whatever kind if that is not said."""
    found = None
    for decode in (decode_request, decode_reply):
        if kind is None or (decode is decode_request) == (kind in REQUESTS):
            try:
                found = decode(data)
            except Malformed:
                continue
    return found


# Messages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_message_comes_back_equal(kind: type[Any]) -> None:
    @settings(max_examples=50)
    @given(messages_of(kind))
    def check(message: Any) -> None:
        assert decoded(encode(message), kind) == message

    check()


@settings(max_examples=500)
@given(nearly_messages())
def test_what_is_nearly_a_message_is_one_or_malformed(data: bytes) -> None:
    message = decoded(data)
    if message is not None:
        assert decoded(encode(message), type(message)) == message


@given(any_object)
def test_whatever_msgpack_can_say_is_a_message_or_malformed(said: object) -> None:
    decoded(msgspec.msgpack.encode(said))


@settings(max_examples=300)
@given(nearly_messages() | any_messages().map(encode))
def test_a_message_costs_memory_by_its_bytes(data: bytes) -> None:
    peak = peak_of(lambda: decoded(data))
    assert peak <= allowed(data)


#: Ten bytes that promise 2^31 of each: an array, a map, a string, bytes.
PROMISES: Final = (b"\xdd\x80\0\0\0", b"\xdf\x80\0\0\0", b"\xdb\x80\0\0\0", b"\xc6\x80\0\0\0")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("promise", PROMISES, ids=("array", "map", "text", "bytes"))
def test_what_a_field_promises_costs_nothing(kind: type[Any], promise: bytes) -> None:
    """Each field of a message in turn says that 2^31 follow, and the message ends there."""

    @settings(max_examples=10)
    @given(messages_of(kind))
    def check(message: Any) -> None:
        fields = [encode(getattr(message, name)) for name in kind.__struct_fields__]
        head = b"\xdc" + (1 + len(fields)).to_bytes(2) + encode(kind.__struct_config__.tag)
        for before in range(len(fields)):
            data = head + b"".join(fields[:before]) + promise + b"\x90" * 9
            assert peak_of(lambda data=data: decoded(data)) <= BYTES_AT_LEAST  # type: ignore[misc]
            assert decoded(data, kind) is None

    check()


MANY: Final = {
    "pairs of nothing": b"\x94\x45\xdd\x00\x03\x00\x00" + b"\x92\xc4\x00\xc4\x00" * 0x30000,
    "keys of nothing": b"\x96\x48\xdd\x00\x03\x00\x00" + b"\xc4\x00" * 0x30000,
    "small integers": b"\x98\x0b\xc4\x01k\x00\x00\x01\x01\xdd\x00\x10\x00\x00" + b"\x01" * 0x100000,
    "deliveries of nothing": b"\x94\x0c\x01\x01\xdd\x00\x01\x00\x00"
    + b"\x94\xc4\x01k\x00\x00\xc4\x00" * 0x10000,
    "fields that nobody knows": b"\xdd\x00\x10\x00\x02\x06\x01" + b"\x01" * 0x100000,
    "nests that nobody knows": b"\x93\x06\x01" + b"\x91" * 0x100000,
}


@pytest.mark.parametrize("data", MANY.values(), ids=MANY)
def test_a_message_of_many_small_things_costs_memory_by_its_bytes(data: bytes) -> None:
    assert peak_of(lambda: decoded(data)) <= allowed(data)


@given(st.integers(0, 1 << 40))
def test_a_tag_is_known_or_an_unknown_operation(tag: int) -> None:
    known = {kind.__struct_config__.tag for kind in REQUESTS}
    try:
        decode_request(msgspec.msgpack.encode((tag,)))
    except UnknownOperation:
        assert tag not in known
    except Malformed:
        assert tag in known


# Handshakes ---------------------------------------------------------------------------------------


class Anyone:
    def admit(self, peer: Hello, last_session: bytes) -> Refusal | None:
        return None

    def last_session(self, node_id: str) -> bytes:
        return b""


def side(name: str, *, dialing: bool) -> Handshake:
    greeting = Greeting(
        "c1", name, 3, 70, 1, b"digest", f"{name}:1", "d", "r", "h", 1, os.urandom(16)
    )
    own = Hello(greeting, os.urandom(8))
    return Handshake(dialing=dialing, secret=SECRET, own=own, judge=Anyone())


def packet(kind: int, body: bytes) -> bytes:
    return MAGIC + bytes([VERSION, kind]) + len(body).to_bytes(2) + body


@st.composite
def hellos(draw: st.DrawFn) -> bytes:
    """A hello of which one field, or the whole, may be anything."""
    own = side("z", dialing=True)._own
    parts = msgspec.msgpack.decode(msgspec.msgpack.encode(own))
    where = draw(st.sampled_from((parts, parts[0], parts[0])))
    where[draw(st.integers(0, len(where) - 1))] = draw(any_object)
    return msgspec.msgpack.encode(parts)


bodies = st.one_of(
    hellos(),
    any_object.map(msgspec.msgpack.encode),
    st.binary(max_size=100),
    st.tuples(hellos(), st.binary(max_size=32)).map(msgspec.msgpack.encode),
)


@settings(max_examples=300)
@given(st.booleans(), st.integers(0, 2), st.integers(0, 6), bodies.filter(lambda b: len(b) < 8000))
def test_whatever_is_said_in_a_handshake_ends_it_or_is_waited_for(
    dialing: bool, turns: int, kind: int, body: bytes
) -> None:
    """At each of its turns, and never in an open connection."""
    one, other = side("a", dialing=dialing), side("b", dialing=not dialing)
    sides = [other, one] if dialing else [one, other]
    said = (one if dialing else other).start()
    for _ in range(turns):
        said = sides[0].receive(said)
        sides.reverse()
    if one.outcome != "pending":
        return
    said = packet(kind, body)
    one.receive(said)
    confirms = (kind, body) == (4, b"") and dialing  # CONFIRM carries nothing
    assert one.outcome in ("pending", "garbage", "refused", "refused_by_peer") or confirms


@settings(max_examples=200)
@given(st.binary(max_size=BODY_BYTES_MAX) | bodies, st.integers(1, 5))
def test_a_handshake_costs_memory_by_its_bytes(body: bytes, kind: int) -> None:
    acceptor = side("a", dialing=False)
    said = packet(kind, body[:BODY_BYTES_MAX])
    peak = peak_of(lambda: acceptor.receive(said))
    assert peak <= allowed(said)


# Frames -------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=300), max_size=5), st.data())
def test_damaged_frames_cost_memory_by_their_bytes(sent: list[bytes], data: st.DataObject) -> None:
    writer = FrameWriter(seed=1)
    for stream, payload in enumerate(sent):
        writer.add(stream, 0, payload)
    stream_bytes = bytearray(writer.take() + data.draw(st.binary(max_size=60)))
    for _ in range(data.draw(st.integers(0, 3))):
        if stream_bytes:
            at = data.draw(st.integers(0, len(stream_bytes) - 1))
            stream_bytes[at] = data.draw(st.integers(0, 255))
    received = bytes(stream_bytes)
    reader = FrameReader(seed=1)
    assert peak_of(lambda: reader.feed(received)) <= BYTES_AT_LEAST + 16 * len(received)
    assert reader.held_bytes <= len(received)
