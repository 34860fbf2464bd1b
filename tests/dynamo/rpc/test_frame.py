"""Frames in a byte stream."""

from __future__ import annotations

import struct
import tracemalloc
from itertools import pairwise
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo.rpc import frame
from dynamo.rpc.frame import ENTRY_BYTES, HEADER_BYTES, LAST, MORE, REPLY, FrameReader, FrameWriter

SEED = 0x1234_5678

Plain = tuple[int, int, bytes]


def written(*messages: Plain, seed: int = SEED) -> bytes:
    """Each in a frame of its own."""
    return b"".join(turns(*([message] for message in messages), seed=seed))


def turns(*turns: list[Plain], seed: int = SEED) -> list[bytes]:
    """What is written at the end of each turn."""
    writer = FrameWriter(seed=seed)
    written = []
    for messages in turns:
        for stream, flags, payload in messages:
            writer.add(stream, flags, payload)
        written.append(writer.take())
    assert writer.take() == b""
    return written


def read(reader: FrameReader, *pieces: bytes) -> list[Plain]:
    found: list[Plain] = []
    for piece in pieces:
        # Views are only good until the next feed: copy at once.
        found += [(stream, flags, bytes(p)) for stream, flags, p, _ in reader.feed(piece)]
    return found


def fault(data: bytes) -> str | None:
    reader = FrameReader(seed=SEED)
    read(reader, data)
    return reader.fault


messages = st.lists(
    st.tuples(
        st.integers(0, 0xFFFF_FFFF),
        st.sampled_from([0, REPLY, REPLY | LAST]),
        st.binary(max_size=200),
    ),
    max_size=8,
)


@given(messages, messages, st.data())
def test_every_chunking_gives_the_same_messages(
    one: list[Plain], other: list[Plain], data: st.DataObject
) -> None:
    sent = one + other
    stream = b"".join(turns(one, other))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    reader = FrameReader(seed=SEED)
    assert read(reader, *pieces) == sent
    assert reader.fault is None
    assert not reader.unfinished


@given(messages)
def test_a_byte_at_a_time_is_enough(sent: list[Plain]) -> None:
    reader = FrameReader(seed=SEED)
    assert read(reader, *(bytes([byte]) for byte in written(*sent))) == sent


@settings(max_examples=300)
@given(st.binary(max_size=500), st.data())
def test_any_bytes_end_in_the_same_fault_however_they_are_cut(
    noise: bytes, data: st.DataObject
) -> None:
    stream = written((1, 0, b"good")) + noise
    cut = data.draw(st.integers(0, len(stream)))
    whole, halves = FrameReader(seed=SEED), FrameReader(seed=SEED)
    assert read(whole, stream) == read(halves, stream[:cut], stream[cut:])
    assert whole.fault == halves.fault
    assert whole.held_bytes == halves.held_bytes <= len(stream)


@settings(max_examples=300)
@given(messages.filter(bool), st.data())
def test_a_flipped_bit_is_never_taken_for_a_message(sent: list[Plain], data: st.DataObject) -> None:
    stream = bytearray(written(*sent))
    bit = data.draw(st.integers(0, len(stream) * 8 - 1))
    stream[bit // 8] ^= 1 << bit % 8
    reader = FrameReader(seed=SEED)
    found = read(reader, bytes(stream))
    assert found == sent[: len(found)]
    assert len(found) < len(sent)
    assert reader.fault is not None or reader.unfinished


@given(messages.filter(bool), st.data())
def test_a_cut_stream_gives_what_was_whole_and_waits(
    sent: list[Plain], data: st.DataObject
) -> None:
    stream = written(*sent)
    reader = FrameReader(seed=SEED)
    found = read(reader, stream[: data.draw(st.integers(0, len(stream) - 1))])
    assert found == sent[: len(found)]
    assert reader.fault is None


def frames_of(*sent: Plain) -> list[bytes]:
    whole = [written(*sent[: i + 1]) for i in range(len(sent))]
    return [whole[0], *(b[len(a) :] for a, b in pairwise(whole))]


def changed(header: dict[int, int]) -> bytes:
    data = bytearray(written((1, 0, b"x")))
    for at, value in header.items():
        data[at] = value
    return bytes(data)


def sealed(entries: bytes) -> bytes:
    """A frame of these bytes, all right but for what they say."""
    checked = struct.pack(">IQ", 0, 0) + entries
    return struct.pack(">II", len(entries), crc32(checked, SEED ^ len(entries))) + checked


ONE, TWO, THREE = frames_of((1, 0, b"one"), (2, 0, b"two"), (3, 0, b"three"))
FAULTS = {
    "repeated": ONE + ONE,
    "replayed later": ONE + TWO + ONE,
    "left out": ONE + THREE,
    "swapped": TWO + ONE,
    "of another connection": written((1, 0, b"one"), seed=SEED + 1),
    "other flags": changed({24: REPLY}),
    "unknown flags": sealed(struct.pack(">IBI", 1, 8, 0)),
    "LAST of a request": sealed(struct.pack(">IBI", 1, LAST, 0)),
    "other stream": changed({23: 9}),
    "of nothing": sealed(b""),
    "a message cut short by its frame": sealed(struct.pack(">IBI", 1, 0, 2) + b"x"),
    "a message of 2**32 - 1 bytes": sealed(struct.pack(">IBI", 1, 0, 0xFFFF_FFFF) + b"x"),
    "half a header of a message": sealed(struct.pack(">IBI", 1, 0, 1) + b"x" + b"\0\0\0\1"),
    "other length": written((1, 0, b"xy"))[:4] + ONE[4:],
    "over the frame limit": struct.pack(">I", frame.FRAME_BYTES_MAX + 1) + ONE[4:],
    "2**32 - 1 bytes": b"\xff" * 4 + ONE[4:],
    "another message inside one of several frames": written((1, MORE, b"a"), (2, 0, b"b")),
    "a reply that goes on as a request": written((1, REPLY | MORE, b"a"), (1, 0, b"b")),
}


@pytest.mark.parametrize("data", FAULTS.values(), ids=FAULTS)
def test_a_bad_frame_is_a_fault(data: bytes) -> None:
    assert fault(data) is not None


def test_nothing_is_read_after_a_fault() -> None:
    reader = FrameReader(seed=SEED)
    assert read(reader, ONE + THREE, TWO, THREE) == [(1, 0, b"one")]
    assert reader.held_bytes == 0


def test_a_message_above_a_frame_travels_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "FRAME_BYTES_MAX", 1000)
    sent = [(1, 0, b"a"), (2, REPLY | LAST, b"b" * 4500), (3, 0, b"c" * 1000), (4, 0, b"d" * 2000)]
    [stream] = turns(sent)
    assert len(stream) > sum(len(payload) for _, _, payload in sent)
    assert read(FrameReader(seed=SEED), stream) == sent
    pieces = [stream[at : at + 7] for at in range(0, len(stream), 7)]
    assert read(FrameReader(seed=SEED), *pieces) == sent


def test_a_message_of_the_largest_size_passes_and_one_above_is_a_fault() -> None:
    part = frame.FRAME_BYTES_MAX - ENTRY_BYTES
    frames = [(1, MORE, bytes(part))] * 4
    rest = frame.MESSAGE_BYTES_MAX - 4 * part
    reader = FrameReader(seed=SEED)
    [(_, _, payload, _)] = reader.feed(written(*frames, (1, 0, bytes(rest))))
    assert len(payload) == frame.MESSAGE_BYTES_MAX
    reader = FrameReader(seed=SEED)
    reader.feed(written(*frames, (1, MORE, bytes(rest)), (1, 0, b"x")))
    assert reader.fault is not None
    assert reader.held_bytes == 0


def test_a_declared_length_allocates_nothing() -> None:
    header = written((1, 0, bytes(frame.FRAME_BYTES_MAX - ENTRY_BYTES)))[:HEADER_BYTES]
    tracemalloc.start()
    try:
        reader = FrameReader(seed=SEED)
        assert read(reader, header, b"x") == []
        assert tracemalloc.get_traced_memory()[1] < 10_000
    finally:
        tracemalloc.stop()
    assert reader.unfinished
    assert reader.held_bytes == HEADER_BYTES + 1


def test_the_running_number_goes_round() -> None:
    writer, reader = FrameWriter(seed=SEED), FrameReader(seed=SEED)
    writer._number = reader._number = 0xFFFF_FFFF
    writer.add(1, 0, b"last")
    last = writer.take()
    writer.add(2, 0, b"first")
    assert read(reader, last, writer.take()) == [(1, 0, b"last"), (2, 0, b"first")]


def test_the_messages_of_a_turn_are_one_frame() -> None:
    writer = FrameWriter(seed=SEED)
    for stream in range(20):
        writer.add(stream, 0, b"m")
    assert len(writer.take()) == HEADER_BYTES + 20 * (ENTRY_BYTES + 1)
    assert writer.frames == 1


def test_a_frame_that_is_full_makes_room_for_the_next() -> None:
    half = bytes(frame.FRAME_BYTES_MAX // 2)
    writer, reader = FrameWriter(seed=SEED), FrameReader(seed=SEED)
    for stream in range(3):
        writer.add(stream, 0, half)
    assert [stream for stream, _, _, _ in reader.feed(writer.take())] == [0, 1, 2]
    assert writer.frames == 3


def test_a_frame_has_the_stamps_that_were_set_for_it_and_a_message_those_of_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frame, "FRAME_BYTES_MAX", 100)
    writer, reader = FrameWriter(seed=SEED), FrameReader(seed=SEED)
    highest = (1 << 64) - 1
    for stamps in (7, highest, None):
        writer.add(1, 0, b"short")
        writer.add(2, 0, bytes(250))
        if stamps is not None:
            writer.stamps = stamps
        found = [(stream, said) for stream, _, _, said in reader.feed(writer.take())]
        # What filled a frame before the end of the turn was sealed then, and says nothing.
        assert found == [(1, 0), (2, stamps or 0)]


def test_what_is_dropped_was_never_sent() -> None:
    writer, reader = FrameWriter(seed=SEED), FrameReader(seed=SEED)
    writer.add(1, 0, b"dropped")
    writer.drop()
    assert writer.take() == b""
    writer.add(2, 0, b"sent")
    assert read(reader, writer.take()) == [(2, 0, b"sent")]


@given(st.lists(messages, max_size=4), st.integers(ENTRY_BYTES + 1, 100), st.data())
def test_messages_are_the_same_in_frames_of_any_size(
    sent: list[list[Plain]], size: int, data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frame, "FRAME_BYTES_MAX", size)
        stream = b"".join(turns(*sent))
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
        pieces = [stream[a:b] for a, b in pairwise([0, *cuts, len(stream)])]
        reader = FrameReader(seed=SEED)
        assert read(reader, *pieces) == [message for turn in sent for message in turn]
        assert reader.fault is None
        assert not reader.unfinished
        assert reader.held_bytes == 0
