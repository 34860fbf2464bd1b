"""What the store's answers mean to a history, as a table, and how requests are spelt."""

from __future__ import annotations

import pytest

from bench.targets.client import Answer
from bench.targets.dialect import Dialect
from bench.targets.value import encode_value

RUN = "run"
ONE = encode_value(RUN, 1, (), 60)
TWO = encode_value(RUN, 2, (5,), 60)


def dialect(*, stamps: bool = False) -> Dialect:
    return Dialect(run=RUN, bucket="b/1", stamps=stamps)


def error(status: int, code: str, outcome: str) -> Answer:
    body = f'{{"code":"{code}","outcome":"{outcome}","message":"so it is","required":2}}'
    return Answer(status, {}, body.encode())


def siblings(*values: bytes) -> Answer:
    parts = b"".join(b"\r\n--x\r\nContent-Type: a/b\r\nEtag: t\r\n\r\n" + v for v in values)
    fields = {b"content-type": b"multipart/mixed; boundary=x", b"x-riak-vclock": b"abc="}
    return Answer(300, fields, parts + b"\r\n--x--\r\n")


@pytest.mark.parametrize(
    ("answer", "outcome", "seen", "foreign"),
    [
        (Answer(200, {}, ONE), "ok", (1,), 0),
        (Answer(200, {}, b"of somebody else"), "ok", (), 1),
        (siblings(ONE, TWO), "ok", (1, 2), 0),
        (siblings(ONE, b"x", b""), "ok", (1,), 2),
        (Answer(300, {b"content-type": b"multipart/mixed"}, b""), "ok", (), 1),
        (error(404, "not_found", "none"), "ok", (), 0),
        (error(404, "unknown_bucket_type", "none"), "fail", (), 0),
        (error(503, "unavailable", "none"), "fail", (), 0),
        (error(503, "read_uncertain", "unknown"), "fail", (), 0),
        (Answer(502, {}, b"<html>"), "fail", (), 0),
    ],
)
def test_of_a_read(answer: Answer, outcome: str, seen: tuple[int, ...], foreign: int) -> None:
    reply = dialect().read_answer(answer, "n1")
    assert (reply.outcome, reply.seen, reply.foreign) == (outcome, seen, foreign)
    assert reply.coordinator == "n1"
    assert bool(reply.why) == (outcome == "fail")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Answer(204, {}, b""), "ok"),
        (Answer(200, {}, ONE), "ok"),
        (siblings(ONE, TWO), "ok"),
        (error(503, "unavailable", "none"), "fail"),
        (error(503, "write_uncertain", "unknown"), "unknown"),
        (error(500, "internal", "unknown"), "unknown"),
        (error(429, "too_many_requests", "none"), "fail"),
        (error(409, "record_full", "none"), "fail"),
        (Answer(502, {}, b"<html>"), "unknown"),
        (Answer(400, {}, b""), "fail"),
        (Answer(503, {}, b'{"outcome": "cut'), "unknown"),
    ],
)
def test_of_a_write(answer: Answer, outcome: str) -> None:
    assert dialect().write_answer(answer, "n1").outcome == outcome


def test_context_stamps_fallbacks_and_elements_come_along() -> None:
    fields = {
        b"x-riak-vclock": b"abc=",
        b"x-dynamo-began": b"12",
        b"x-dynamo-committed": b"34",
        b"x-dynamo-acks": b"primary=1,fallback=2",
    }
    reply = dialect().write_answer(Answer(200, fields, TWO), "n1")
    assert (reply.context, reply.began, reply.committed) == (b"abc=", 12, 34)
    assert (reply.fallbacks, reply.elements, reply.seen) == (2, (5,), (2,))


def test_what_is_no_stamp_counts_as_none() -> None:
    fields = {b"x-dynamo-began": b"soon", b"x-dynamo-committed": b""}
    reply = dialect().read_answer(Answer(200, fields, ONE), "n1")
    assert (reply.began, reply.committed) == (0, 0)


def test_a_request_names_all_that_it_asks_for() -> None:
    read = dialect(stamps=True).read("k 1", r=1, timeout=0.25, local=True)
    assert read.startswith(b"GET /buckets/b%2F1/keys/k%201?timeout=250&r=1 HTTP/1.1\r\n")
    assert b"\r\nX-Dynamo-Stamps: 1\r\nX-Dynamo-Local: 1\r\n" in read
    write = dialect().write("k", b"v", context=b"abc=", w=2, timeout=10.0)
    assert write.startswith(b"PUT /buckets/b%2F1/keys/k?timeout=10000&w=2&returnbody=true HTTP/1.1")
    assert write.endswith(b"\r\nX-Riak-Vclock: abc=\r\n\r\nv")
    assert b"X-Dynamo" not in write
