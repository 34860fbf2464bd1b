"""Messages to bytes and back."""

from __future__ import annotations

import struct
import tracemalloc

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo.errors import Malformed
from dynamo.rpc.codec import UnknownOperation, decode_reply, decode_request, encode
from dynamo.rpc.exchange_messages import (
    AskHashes,
    CompareRoots,
    Hashes,
    KeyElements,
    ListElements,
    Looked,
    LookedAt,
    LookKeys,
    Pull,
    Pulled,
    RootsDiffer,
)
from dynamo.rpc.messages import (
    DEADLINE_MS_MAX,
    AskProperties,
    AskRing,
    Body,
    Buckets,
    Condition,
    Digest,
    Fetch,
    Gossip,
    Gossiped,
    Keys,
    ListBuckets,
    ListKeys,
    Mint,
    Minted,
    Page,
    Ping,
    Pong,
    Properties,
    PropertyEntry,
    Refused,
    Reply,
    Request,
    RingIs,
    Scan,
    Store,
    StoreProperties,
    Synced,
)
from dynamo.rpc.reap_messages import (
    Doomed,
    Drop,
    Dropped,
    Held,
    HintsSeen,
    Holds,
    LookHints,
    Settled,
    SettleUp,
    Shown,
)
from dynamo.version import birth_bytes, incarnation_bytes

BIRTH = birth_bytes(incarnation_bytes(1, b"12345678"), 1)
LATER = birth_bytes(incarnation_bytes(1, b"12345678"), 2)

REQUESTS: list[Request] = [
    Ping(1),
    Mint(b"k", 0, 1, 2, 3, ((BIRTH, 4), (LATER, 1)), 1, b"v"),
    Mint(b"k", 0, 1, 2, 3, (), 0, b"v", 9, b"r", Condition(("*",), ("a", "b"), 4, now_ms=5), 7),
    Mint(b"k", 0, 1, 2, 3, (), 0, b"v", 9, b"r", Condition(unmodified=((BIRTH, 4), (LATER, 1)))),
    Store(b"k", 0xFFFE, 0xFFFF_FFFF, (1 << 63) - 1, DEADLINE_MS_MAX, b"r", True, 3),
    Fetch(b"k", 0, 0, 0, 0, True),
    Fetch(b"k", 0, 0, 0, 0, False, measured=True),
    Mint(b"k", 0, 1, 2, 3, (), 1, b"v", measured=True),
    Store(b"k", 0, 1, 2, 3, b"r", measured=True),
    Scan(0, 1, 2, 3, b"", 1 << 20),
    AskRing(1),
    ListKeys(0, 1, 2, 3, b"\x01\x00\x01tb", b"", 1),
    ListBuckets(0, 1, 2, 3, b"t", b"start", b"end", 1000),
    StoreProperties(1, (PropertyEntry(b"t", b"\xff", 1 << 62, "n1", b"v"),)),
    AskProperties(1),
    AskProperties(1, b"digest", b"t", b"b"),
    Gossip(1, 2, b"ring", b"\x00\x02\x01", b"digest"),
    CompareRoots(1, 2, 1024, 0, 3, b"\x05", b"12345678abcdefgh"),
    AskHashes(0, 1, 2, 3, 1024, 1, (0, 31)),
    ListElements(0, 1, 2, 3, 1024, (0, 1023), b"", 1000),
    LookKeys(0, 1, 2, 3, (b"k", b"l")),
    Pull(0, 1, 2, 3, (b"k",)),
    Holds(1, 2, (Doomed(b"k", 0, 1, b"digest"),)),
    SettleUp(1, 2),
    LookHints(1, 2, ((0, 1), (0, 2))),
    LookHints(1, 2, ((0, 1),), (Shown(0, 1, 2),)),
    Drop(1, 2, (Doomed(b"k", 0, 1, b"digest", (BIRTH,)),)),
]
REPLIES: list[Reply] = [
    Pong(),
    Minted(b"r", BIRTH, 1),
    Minted(b"r", BIRTH, 1, 1_700_000_000_123_456_789),
    Synced(),
    Synced(3, (1 << 63) - 1),
    Body(b""),
    Body(b"r", 5),
    Digest(((BIRTH, 1),), b"d", 6),
    Digest(((BIRTH, 1),), b"d"),
    Page(((b"k", b"r"),), True, 2, b"k"),
    Refused("not_owner", True, "why", 4, b"r", "siblings"),
    RingIs(b"ring"),
    Keys((b"a",), (b"b",), ((b"c", b"digest"),), True, b"c", 1),
    Buckets(((b"b", b"k", b""), (b"c", b"l", b"digest")), b"next", 1),
    Properties(()),
    Properties((PropertyEntry(b"t", b"", 0, "n1"), PropertyEntry(b"t", b"b", 1, "n2", b"v")), True),
    Properties((), lacks=True),
    Gossiped(b"\x00\x01", b"digest"),
    RootsDiffer(b"\x05", b"\x00"),
    Hashes(b"12345678" * 32),
    KeyElements(((b"k", b"12345678"),), True, b"l", b"87654321", 2),
    Looked(
        (LookedAt(b"12345678", ((BIRTH, 1),), b"digest"), LookedAt(bytes(8), (), b"", "corrupt"))
    ),
    Pulled((b"r", b""), (1,)),
    Held((0, 2), 1),
    Held((0,), 1, ((1, "it is not here"),)),
    Settled(1),
    HintsSeen(((0, "a hint for n2"),), 1, 2, b"incarnation", (3,)),
    Dropped(((1, "changed"),)),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=repr)
def test_a_request_comes_back_equal(request_: Request) -> None:
    assert decode_request(encode(request_)) == request_
    assert decode_request(memoryview(encode(request_))) == request_


@pytest.mark.parametrize("reply", REPLIES, ids=repr)
def test_a_reply_comes_back_equal(reply: Reply) -> None:
    assert decode_reply(encode(reply)) == reply


def raw(*fields: object) -> bytes:
    return msgspec.msgpack.encode(fields)


FETCH = (4, b"k", 0, 0, 0, 1000, True)


def fetch(**changed: object) -> bytes:
    names = ("tag", "key", "cls", "partition", "epoch", "deadline_ms", "body")
    return raw(*(changed.get(name, value) for name, value in zip(names, FETCH, strict=True)))


MALFORMED_REQUESTS = {
    "empty": b"",
    "not an array": raw(1)[1:],
    "no tag": raw(),
    "a tag that is text": raw("x", 1),
    "cut off": fetch()[:-1],
    "a byte too many": fetch() + b"\0",
    "too few fields": raw(4, b"k"),
    "empty key": fetch(key=b""),
    "long key": fetch(key=b"k" * 2000),
    "key that is text": fetch(key="k"),
    "negative class": fetch(cls=-1),
    "class over 16 bit": fetch(cls=0xFFFF),
    "negative partition": fetch(partition=-1),
    "partition of 2**32": fetch(partition=1 << 32),
    "negative epoch": fetch(epoch=-1),
    "epoch of 2**63": fetch(epoch=1 << 63),
    "negative deadline": fetch(deadline_ms=-1),
    "deadline of an hour and a bit": fetch(deadline_ms=DEADLINE_MS_MAX + 1),
    "deadline that is a float": fetch(deadline_ms=1.5),
    "a bool that is 1": fetch(body=1),
    "page of nothing": raw(5, 0, 0, 0, 1, b"", 0),
    "page of a gigabyte": raw(5, 0, 0, 0, 1, b"", 1 << 30),
    "kind 2": raw(2, b"k", 0, 0, 0, 1, (), 2, b""),
    "negative expiry": raw(2, b"k", 0, 0, 0, 1, (), 0, b"", -1),
    "hint for nobody": raw(3, b"k", 0, 0, 0, 1, b"r", False, -2),
    "context with a bad birth": raw(2, b"k", 0, 0, 0, 1, ((b"x", 1),), 0, b""),
    "context not sorted": raw(2, b"k", 0, 0, 0, 1, ((LATER, 1), (BIRTH, 1)), 0, b""),
    "context with a birth twice": raw(2, b"k", 0, 0, 0, 1, ((BIRTH, 1), (BIRTH, 1)), 0, b""),
    "context with counter 0": raw(2, b"k", 0, 0, 0, 1, ((BIRTH, 0),), 0, b""),
    "text that is not UTF-8": raw(2, b"k", 0, 0, 0, 1, (), 0, b"", 0, b"", (("ZZ",),)).replace(
        b"ZZ", b"\xff\xff"
    ),
    "2**31 elements in ten bytes": b"\xdd\x80\x00\x00\x00\x04\xc4\x01k\0",
    "2**31 bytes of key": b"\x97\x04\xc6\x80\x00\x00\x00k\0\0",
    "properties of no type": raw(9, 1, ((b"", b"b", 1, "n1", b""),)),
    "properties of a long bucket": raw(9, 1, ((b"t", b"b" * 257, 1, "n1", b""),)),
    "properties without a stamp": raw(9, 1, ((b"t", b"b"),)),
    "properties numbered over 2**62": raw(9, 1, ((b"t", b"b", (1 << 62) + 1, "n1", b""),)),
    "properties of over 1 KiB": raw(9, 1, ((b"t", b"b", 1, "n1", b"v" * 1025),)),
    "properties of 501 buckets": raw(9, 1, ((b"t", b"b", 1, "n1", b""),) * 501),
    "gossip of 17 KiB": raw(13, 1, 1, b"ring", bytes((16 << 10) + 1), b""),
    "nested a million times": b"\x98" + fetch()[1:] + b"\x91" * 1_000_000,
}


@pytest.mark.parametrize("data", MALFORMED_REQUESTS.values(), ids=MALFORMED_REQUESTS)
def test_a_bad_request_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        decode_request(data)
    assert not isinstance(caught.value, UnknownOperation)


@pytest.mark.parametrize(
    "data",
    [
        raw(70, b"\xff\xfe", True),
        raw(65, b"r", b"birth", 1),
        raw(65, b"r", BIRTH, 0),
        raw(68, ((LATER, 1), (BIRTH, 1)), b""),
        raw(69, (), True, -1),
        b"\x93\x46\xa2\xff\xff\xc3",
        b"\x94\x45\xdd\x80\x00\x00\x00\x90",
    ],
)
def test_a_bad_reply_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode_reply(data)


@pytest.mark.parametrize("tag", [0, 63, 64, 127, 200, 60_000, 1 << 31, 1 << 40])
def test_an_unknown_operation_is_told_from_a_malformed_one(tag: int) -> None:
    with pytest.raises(UnknownOperation):
        decode_request(raw(tag, 1, 2))


def test_fields_of_a_newer_sender_are_passed_over() -> None:
    assert decode_request(raw(6, 5, "new", {"a": 1})) == AskRing(5)


@settings(max_examples=500)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    for decode in (decode_request, decode_reply):
        try:
            message = decode(data)
        except Malformed:
            continue
        assert decode(encode(message)) == message


@settings(max_examples=500)
@given(st.sampled_from(REQUESTS + REPLIES), st.data())
def test_a_damaged_message_is_a_message_or_malformed(
    message: Request | Reply, data: st.DataObject
) -> None:
    encoded = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    for decode in (decode_request, decode_reply):
        try:
            decode(bytes(encoded))
        except Malformed:
            continue


@pytest.mark.parametrize("count", [1 << 20, 1 << 31, (1 << 32) - 1])
def test_memory_follows_the_bytes_that_came_and_not_the_counts_in_them(count: int) -> None:
    data = b"\x94\x45\xdd" + struct.pack(">I", count) + b"\x92\xc4\x01k\xc4\x01r" * 10
    tracemalloc.start()
    try:
        with pytest.raises(Malformed):
            decode_reply(data)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
