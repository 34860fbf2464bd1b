"""Frames in a byte stream."""

from __future__ import annotations

import struct
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo.rpc import frame
from dynamo.rpc.frame import HEADER_BYTES, LAST, MORE, REPLY, FrameReader, FrameWriter

SEED = 0x1234_5678

Plain = tuple[int, int, bytes]


def written(*messages: Plain, seed: int = SEED) -> bytes:
    writer = FrameWriter(seed=seed)
    out: list[bytes] = []
    size = sum(writer.write(stream, flags, payload, out) for stream, flags, payload in messages)
    data = b"".join(out)
    assert len(data) == size
    return data


def read(reader: FrameReader, *pieces: bytes) -> list[Plain]:
    found: list[Plain] = []
    for piece in pieces:
        # Views are only good until the next feed: copy at once.
        found += [(stream, flags, bytes(p)) for stream, flags, p in reader.feed(piece)]
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


@given(messages, st.data())
def test_every_chunking_gives_the_same_messages(sent: list[Plain], data: st.DataObject) -> None:
    stream = written(*sent)
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


ONE, TWO, THREE = frames_of((1, 0, b"one"), (2, 0, b"two"), (3, 0, b"three"))
FAULTS = {
    "repeated": ONE + ONE,
    "replayed later": ONE + TWO + ONE,
    "left out": ONE + THREE,
    "swapped": TWO + ONE,
    "of another connection": written((1, 0, b"one"), seed=SEED + 1),
    "other flags": changed({16: REPLY}),
    "unknown flags": changed({16: 8}),
    "LAST of a request": changed({16: LAST}),
    "other stream": changed({15: 9}),
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
    stream = written(*sent)
    assert read(FrameReader(seed=SEED), stream) == sent
    pieces = [stream[at : at + 7] for at in range(0, len(stream), 7)]
    assert read(FrameReader(seed=SEED), *pieces) == sent


def test_a_message_of_the_largest_size_passes_and_one_above_is_a_fault() -> None:
    frames = [(1, MORE, bytes(frame.FRAME_BYTES_MAX))] * 3
    reader = FrameReader(seed=SEED)
    [(_, _, payload)] = reader.feed(written(*frames, (1, 0, bytes(frame.FRAME_BYTES_MAX))))
    assert len(payload) == frame.MESSAGE_BYTES_MAX
    reader = FrameReader(seed=SEED)
    reader.feed(written(*frames, (1, MORE, bytes(frame.FRAME_BYTES_MAX)), (1, 0, b"x")))
    assert reader.fault is not None
    assert reader.held_bytes == 0


def test_a_declared_length_allocates_nothing() -> None:
    header = written((1, 0, bytes(frame.FRAME_BYTES_MAX)))[:HEADER_BYTES]
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
    out: list[bytes] = []
    writer.write(1, 0, b"last", out)
    writer.write(2, 0, b"first", out)
    assert read(reader, b"".join(out)) == [(1, 0, b"last"), (2, 0, b"first")]
