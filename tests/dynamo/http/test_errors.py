"""Which status each error has, what its body says, and what no body says."""

from __future__ import annotations

import inspect
import logging

import pytest
from memory_backend import MemoryBackend
from raw_http import RawHttp

from dynamo import errors
from dynamo.errors import (
    BadContext,
    BadCursor,
    ConfigError,
    DataDirectoryError,
    DynamoError,
    FaultInjectionOff,
    HintsUndelivered,
    InvalidArgument,
    KeyTooLong,
    Malformed,
    Modified,
    NotAnOwner,
    NotReady,
    Overloaded,
    PreconditionFailed,
    PropertiesUncertain,
    ReadUncertain,
    RecordFull,
    RepairRunning,
    StorageCorrupt,
    StorageError,
    StorageFull,
    StorageRefusesWrites,
    TooManyListings,
    TooManyProperties,
    TooManyRequests,
    TooManySyncs,
    Unavailable,
    UnknownBucketType,
    ValueTooLarge,
    WriteUncertain,
)
from dynamo.record import Content
from dynamo.requests import WriteOptions, Written

KEY = "/buckets/secret-bucket/keys/secret-key"
TEXT = {"Content-Type": "text/plain"}

STATUSES: dict[type[DynamoError], int] = {
    DynamoError: 500,
    Malformed: 400,
    InvalidArgument: 400,
    BadContext: 400,
    BadCursor: 400,
    KeyTooLong: 414,
    NotAnOwner: 421,
    ValueTooLarge: 413,
    FaultInjectionOff: 403,
    UnknownBucketType: 404,
    Modified: 409,
    RepairRunning: 409,
    PreconditionFailed: 412,
    RecordFull: 409,
    Unavailable: 503,
    ReadUncertain: 503,
    WriteUncertain: 503,
    PropertiesUncertain: 503,
    TooManyProperties: 507,
    StorageFull: 507,
    NotReady: 503,
    Overloaded: 503,
    TooManyRequests: 429,
    TooManyListings: 503,
    HintsUndelivered: 503,
    TooManySyncs: 503,
    StorageError: 500,
    StorageCorrupt: 500,
    StorageRefusesWrites: 507,
    DataDirectoryError: 500,
    ConfigError: 500,
}


class FailingBackend(MemoryBackend):
    """A store whose next writes raise `error`, as a coordinator would."""

    error: Exception | None = None

    async def put(
        self,
        bucket_type: bytes,
        bucket: bytes,
        key: bytes,
        content: Content,
        context: bytes,
        options: WriteOptions,
    ) -> Written:
        if self.error is not None:
            raise self.error
        return await super().put(bucket_type, bucket, key, content, context, options)


@pytest.fixture
def backend() -> FailingBackend:
    return FailingBackend()


def test_every_error_of_the_store_is_in_the_table() -> None:
    classes = {
        value
        for _, value in inspect.getmembers(errors, inspect.isclass)
        if issubclass(value, DynamoError)
    }
    assert classes == set(STATUSES)


@pytest.mark.parametrize("cls", STATUSES, ids=lambda cls: cls.__name__)
async def test_each_error_has_its_status(
    cls: type[DynamoError], http: RawHttp, backend: FailingBackend
) -> None:
    backend.error = cls("/var/lib/secret-path", required=3, received=2, reasons={"n2": "timed out"})
    reply = await http.request("PUT", KEY, TEXT, b"secret-value")
    body = reply.json()
    assert reply.status == STATUSES[cls]
    assert (body["outcome"], body["request_id"]) == (cls.outcome, reply.headers["x-request-id"])
    if reply.status == 500:
        assert body["code"] == "internal"
        assert b"secret" not in reply.body
        assert "reasons" not in body
    else:
        assert body["code"] == cls.code
        assert (body["required"], body["received"]) == (3, 2)
        assert body["reasons"] == {"n2": "timed out"}
    backend.error = None
    if reply.status != 413:
        assert (await http.request("PUT", KEY, TEXT, b"v")).status == 204


async def test_what_is_unexpected_is_told_by_id_and_logged_with_its_trace(
    http: RawHttp, backend: FailingBackend, caplog: pytest.LogCaptureFixture
) -> None:
    backend.error = ZeroDivisionError("secret-detail")
    with caplog.at_level(logging.ERROR):
        reply = await http.request("PUT", KEY, TEXT, b"secret-value")
    assert (reply.status, reply.json()["outcome"]) == (500, "unknown")
    assert b"secret" not in reply.body
    assert b"Traceback" not in reply.body
    assert reply.headers["x-request-id"] in caplog.text
    assert "ZeroDivisionError: secret-detail" in caplog.text
    assert "secret-key" not in caplog.text
    assert "secret-value" not in caplog.text


async def test_details_that_json_cannot_say_do_not_hide_the_error(
    http: RawHttp, backend: FailingBackend
) -> None:
    backend.error = Unavailable("few", number=1 << 80, text="\udcff", by_number={1: b"x"}, code=1)
    reply = await http.request("PUT", KEY, TEXT, b"v")
    assert (reply.status, reply.json()["code"]) == (503, "unavailable")


async def test_the_reply_to_a_head_that_fails_has_no_body(http: RawHttp) -> None:
    assert (await http.request("HEAD", KEY + "?r=0")).status == 400
    assert (await http.request("GET", "/ping")).body == b"OK"


async def test_the_type_of_an_error_is_not_the_bare_one_that_hides_its_status(
    http: RawHttp,
) -> None:
    for method, path, status in (
        ("GET", KEY, 404),
        ("GET", KEY + "?r=0", 400),
        ("GET", "/nothing", 404),
        ("PATCH", KEY, 405),
        ("GET", "/buckets/b/keys/" + "k" * 1025, 414),
    ):
        reply = await http.request(method, path)
        assert (reply.status, reply.json()["outcome"]) == (status, "none")
        assert reply.headers["content-type"] == "application/json; charset=utf-8"
    assert (await http.request("GET", "/")).headers["content-type"] == "application/json"
