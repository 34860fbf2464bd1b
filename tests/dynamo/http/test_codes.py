"""Each error of the table, provoked: every one is JSON, and says the four things that all say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest
from memory_backend import MemoryBackend, repair_progress
from openapi_schema_validator import OAS31Validator
from raw_http import RawHttp, Reply

from dynamo.agreement import RepairStatus
from dynamo.errors import (
    DynamoError,
    FaultInjectionOff,
    HintsUndelivered,
    NotAnOwner,
    NotReady,
    Overloaded,
    PropertiesUncertain,
    ReadUncertain,
    RepairRunning,
    StorageFull,
    StorageRefusesWrites,
    TooManyListings,
    TooManyProperties,
    TooManyRequests,
    TooManySyncs,
    Unavailable,
    UnknownBucketType,
    WriteUncertain,
)
from dynamo.http.codes import ERRORS
from dynamo.http.limits import Limits
from dynamo.http.schemas import SCHEMAS
from dynamo.requests import Found, ReadOptions

KEY = "/buckets/b/keys/k"
TEXT = {"Content-Type": "text/plain"}
ALWAYS = {"message", "code", "outcome", "request_id"}


class FailingBackend(MemoryBackend):
    """A store whose reads raise `error`, as a coordinator would."""

    error: Exception | None = None

    async def get(
        self, bucket_type: bytes, bucket: bytes, key: bytes, options: ReadOptions
    ) -> Found:
        if self.error is not None:
            raise self.error
        return await super().get(bucket_type, bucket, key, options)


@pytest.fixture
def backend() -> FailingBackend:
    return FailingBackend()


@pytest.fixture
def limits(request: pytest.FixtureRequest) -> Limits:
    one = request.node.callspec.params["code"] == "too_many_connections"
    return Limits(value_bytes_max=9, body_silence_s=0.2, connections_max=1 if one else 10)


Provoke = Callable[[RawHttp, FailingBackend], Awaitable[Reply]]


def _sent(
    method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> Provoke:
    async def provoke(http: RawHttp, backend: FailingBackend) -> Reply:
        return await http.request(method, target, headers, body)

    return provoke


def _raised(cls: type[DynamoError], **details: object) -> Provoke:
    async def provoke(http: RawHttp, backend: FailingBackend) -> Reply:
        backend.error = cls("too bad", **details)
        return await http.request("GET", KEY)

    return provoke


async def _no_body(http: RawHttp, backend: FailingBackend) -> Reply:
    await http.send(
        b"PUT %b HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\nContent-Length: 9\r\n\r\n"
        % KEY.encode()
    )
    return await http.reply()


async def _a_failure(http: RawHttp, backend: FailingBackend) -> Reply:
    backend.error = ZeroDivisionError()
    return await http.request("GET", KEY)


async def _a_second_connection(http: RawHttp, backend: FailingBackend) -> Reply:
    await http.request("GET", "/ping")
    async with RawHttp(f"127.0.0.1:{http.writer.get_extra_info('peername')[1]}") as second:
        return await second.request("GET", KEY)


async def _many_siblings(http: RawHttp, backend: FailingBackend) -> Reply:
    for _ in range(100):
        assert (await http.request("PUT", KEY, TEXT, b"v")).status == 204
    return await http.request("PUT", KEY, TEXT, b"v")


async def _written_since(http: RawHttp, backend: FailingBackend) -> Reply:
    await http.request("PUT", KEY, TEXT, b"v")
    context = (await http.request("GET", KEY)).headers["x-riak-vclock"]
    await http.request("PUT", KEY, TEXT, b"w")
    return await http.request("PUT", KEY, {**TEXT, "X-Riak-If-Not-Modified": context}, b"x")


QUORUM = {"required": 2, "received": 1, "reasons": {"n2": "timed out"}}
ACKS = {**QUORUM, "primaries": 1, "primaries_required": 2, "fallbacks": 0}
PROVOKED: dict[str, Provoke] = {
    "malformed": _sent("GET", "/buckets/b/keys/%zz"),
    "invalid_argument": _sent("GET", KEY + "?r=0"),
    "bad_cursor": _sent("GET", "/buckets/b/keys?keys=true&cursor=AAAA"),
    "bad_context": _sent("PUT", KEY, {**TEXT, "X-Riak-Vclock": "AAAA"}),
    "fault_injection_off": _raised(FaultInjectionOff),
    "unknown_bucket_type": _raised(UnknownBucketType),
    "not_found": _sent("GET", KEY),
    "no_such_resource": _sent("GET", "/nothing"),
    "method_not_allowed": _sent("PATCH", KEY),
    "request_timeout": _no_body,
    "record_full": _many_siblings,
    "modified": _written_since,
    "precondition_failed": _sent("PUT", KEY, {**TEXT, "If-Match": "*"}),
    "value_too_large": _sent("PUT", KEY, TEXT, b"0123456789"),
    "key_too_long": _sent("GET", KEY + "k" * 1024),
    "expectation_failed": _sent("GET", KEY, {"Expect": "tea"}),
    "internal": _a_failure,
    "unavailable": _raised(Unavailable, alive=1, **ACKS),
    "read_uncertain": _raised(ReadUncertain, **QUORUM),
    "write_uncertain": _raised(WriteUncertain, **ACKS),
    "not_ready": _raised(NotReady),
    "properties_uncertain": _raised(PropertiesUncertain, **QUORUM),
    "too_many_properties": _raised(TooManyProperties, limit=4),
    "unsupported_media_type": _sent("PUT", "/buckets/b/props", {"Content-Type": "a/b"}, b"{}"),
    "too_many_listings": _raised(TooManyListings, limit=4, retry_after_s=1),
    "hints_undelivered": _raised(
        HintsUndelivered,
        undelivered={"n2": {"hints": 4, "state": "down", "reason": "not connected"}},
    ),
    "too_many_syncs": _raised(TooManySyncs, limit=4, retry_after_s=1),
    "not_an_owner": _raised(NotAnOwner, owners={"default": ["n2", "n3"]}),
    "repair_running": _raised(
        RepairRunning,
        repair=msgspec.to_builtins(RepairStatus(node="n1", progress=repair_progress(1, "running"))),
    ),
    "overloaded": _raised(Overloaded, reason="requests", retry_after_ms=1500),
    "too_many_requests": _raised(TooManyRequests, retry_after_ms=1500),
    "too_many_connections": _a_second_connection,
    "storage_full": _raised(StorageFull, reasons={"n2": "disk full"}),
    "storage_refuses_writes": _raised(StorageRefusesWrites, reason="disk_full"),
}


def test_every_error_of_the_table_is_provoked() -> None:
    assert set(PROVOKED) == set(ERRORS)


@pytest.mark.parametrize("code", ERRORS)
async def test_an_error_is_json_and_says_what_the_table_tells(
    code: str, http: RawHttp, backend: FailingBackend
) -> None:
    reply = await PROVOKED[code](http, backend)
    error, body = ERRORS[code], reply.json()
    assert (reply.status, body["code"], body["outcome"]) == (error.status, code, error.outcome)
    assert reply.headers["content-type"].partition(";")[0] == "application/json"
    assert body["request_id"] == reply.headers["x-request-id"]
    assert body["message"]
    assert set(body) - ALWAYS == set(error.details)
    schema = {"$ref": "#/components/schemas/Error", "components": {"schemas": SCHEMAS}}
    OAS31Validator(schema).validate(body)
