"""The OpenAPI document is valid, says what the table says, and is what a real server does."""

from __future__ import annotations

import json
from typing import Any

import openapi_spec_validator
import pytest
from memory_backend import MemoryBackend
from raw_http import RawHttp, Reply

from dynamo.http.catalog import COMMON_HEADERS, REPLY_HEADERS
from dynamo.http.codes import ERRORS
from dynamo.http.openapi import errors_by_status, openapi, with_head
from dynamo.http.operations import OBJECT
from dynamo.http.route import Route
from dynamo.http.routes import OPENAPI, ROUTES

DOCUMENT: dict[str, Any] = json.loads(OPENAPI)
METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "LOCK")
VALUES = {"type": "default", "bucket": "b", "key": "k"}


def test_the_document_is_valid() -> None:
    openapi_spec_validator.validate(DOCUMENT)


async def test_the_document_is_served(http: RawHttp) -> None:
    got = await http.request("GET", "/openapi.json")
    assert (got.status, got.headers["content-type"]) == (200, "application/json")
    assert got.json() == json.loads(json.dumps(openapi(ROUTES)))
    resources = (await http.request("GET", "/")).json()
    assert resources["dynamo_openapi"] == "/openapi.json"


def test_the_document_has_every_path_method_parameter_status_and_code() -> None:
    assert list(DOCUMENT["paths"]) == [route.path for route in ROUTES]
    for route in ROUTES:
        item = DOCUMENT["paths"][route.path]
        assert {method.lower() for method in route.methods} == item.keys() - {
            "summary",
            "parameters",
        }
        for method, operation in with_head(route):
            told = item[method.lower()]
            names = [p.get("name") or p["$ref"].split("/")[-1] for p in told["parameters"]]
            for name in (*operation.query, *operation.headers):
                assert name in names or f"`{name}`" in told["description"]
            statuses = {reply.status for reply in operation.replies} | set(
                errors_by_status(operation)
            )
            assert {int(status) for status in told["responses"]} == statuses
            for code in operation.errors:
                assert f"`{code}`" in told["responses"][str(ERRORS[code].status)]["description"]


def test_every_schema_is_used_and_every_operation_has_a_name_of_its_own() -> None:
    text = OPENAPI.decode()
    for kind, rows in DOCUMENT["components"].items():
        for name in rows:
            assert f'"#/components/{kind}/{name}"' in text, name
    ids = [
        operation["operationId"]
        for item in DOCUMENT["paths"].values()
        for operation in item.values()
        if isinstance(operation, dict)
    ]
    assert len(ids) == len(set(ids))


def path_of(route: Route, **values: str) -> str:
    """A path that the route takes; `values` in place of those of VALUES."""
    return route.path.format(**{**VALUES, **values})


def check_told(route: Route, method: str, reply: Reply) -> None:
    """The status, the code and the headers of a reply are those that the table tells."""
    if method not in route.methods:
        assert reply.status == 405
        assert method == "HEAD" or reply.json()["code"] == "method_not_allowed"
        expected = {"Allow", "Content-Type"}
    else:
        operation = route.operations["GET" if method == "HEAD" else method]
        by_status = {one.status: set(one.headers) for one in operation.replies}
        for status, errors in errors_by_status(operation).items():
            headers = {name for error in errors for name in error.headers}
            by_status[status] = {"Content-Type", *headers}
        assert reply.status in by_status, (method, route.path, reply)
        expected = by_status[reply.status]
        if reply.status >= 400 and method != "HEAD":
            codes = [error.code for error in errors_by_status(operation)[reply.status]]
            assert reply.json()["code"] in codes
    names = {name.lower().removesuffix("*") for name in (*expected, *COMMON_HEADERS)}
    for name in reply.headers:
        assert name in names or (name.startswith("x-riak-meta-") and "x-riak-meta-" in names), name
    assert names <= {name.lower().removesuffix("*") for name in REPLY_HEADERS}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
async def test_a_real_server_has_the_methods_that_the_table_says(
    route: Route, http: RawHttp, address: str
) -> None:
    for method in METHODS:
        async with RawHttp(address) as http:
            headers = {"Content-Type": "text/plain"} if method in ("PUT", "POST") else {}
            reply = await http.request(method, path_of(route), headers)
            check_told(route, method, reply)
            if method in route.methods:
                continue
            assert reply.headers["allow"].split(", ") == list(route.methods)
            assert method == "HEAD" or reply.json()["allowed"] == list(route.methods)


QUERIES = (
    *("r=all", "r=9", "w=all", "w=0", "timeout=5", "timeout=0", "vtag=x", "returnbody=true"),
    *("rw=one", "pr=1", "notfound_ok=false&basic_quorum=true", "read_repair=blocking", "%zz=1"),
)
HEADERS: tuple[dict[str, str], ...] = (
    {"If-Match": '"x"'},
    {"If-None-Match": "*"},
    {"If-None-Match": "x"},
    {"If-Modified-Since": "Sun, 06 Nov 2044 08:49:37 GMT"},
    {"If-Unmodified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"},
    {"X-Riak-Vclock": "AAAA"},
    {"Expect": "200-ok"},
    {"Accept": "multipart/mixed"},
    {"Accept": "application/json"},
    {"X-Riak-Meta-A": "b", "Content-Encoding": "gzip"},
    {"X-Riak-Index-a_bin": "b"},
    {"Link": "</x>; rel=x"},
)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
async def test_what_a_real_server_answers_is_what_the_table_tells(
    route: Route, address: str, backend: MemoryBackend
) -> None:
    path = path_of(route)
    targets = [path, *(f"{path}?{query}" for query in QUERIES)]
    if route.names:
        odd = ({"bucket": "b" * 257}, {"bucket": "%zz"}, {"type": "other"})
        targets += [path_of(route, **values) for values in odd]
    if "PUT" in route.methods:
        async with RawHttp(address) as http:
            await http.request("PUT", path, {"Content-Type": "text/plain"}, b"v")
    long = f"{path}?long"
    bodies = {long: b"x" * 4097}  # over the limit
    seen: set[int] = set()
    for method in route.methods:
        for target in (*targets, *(bodies if method in ("PUT", "POST") else ())):
            for headers in ({}, *HEADERS):
                async with RawHttp(address) as http:
                    sent = {"Content-Type": "text/plain", **headers}
                    reply = await http.request(method, target, sent, bodies.get(target, b""))
                check_told(route, method, reply)
                seen.add(reply.status)
    assert seen >= {200} or not route.operations.keys() & {"GET"}
    if route.operations is OBJECT:
        assert seen >= {200, 204, 300, 304, 400, 404, 412, 413, 414, 417}
    elif route.names and "POST" in route.methods:
        assert seen >= {201, 400, 412, 413, 414, 417}
