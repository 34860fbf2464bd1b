"""The OpenAPI 3.1 document, from the table of routes.

Headers that OpenAPI keeps for itself (Accept, Content-Type), those of the protocol, and those of
which only the beginning is known (X-Riak-Meta-*) are told in the operation's description. Knows
nothing of how a request is handled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from dynamo.http.catalog import (
    COMMON_REQUEST_HEADERS,
    JSON,
    PARAMETERS,
    PATH_PARAMETERS,
    REPLY_HEADERS,
    REQUEST_HEADERS,
    Body,
    Operation,
    Reply,
)
from dynamo.http.codes import COMMON_ERRORS, ERRORS, ErrorCode
from dynamo.http.route import Route
from dynamo.http.schemas import SCHEMAS

TITLE: Final = "dynamo-kv"
#: Of the API, as the document tells it.
VERSION: Final = "1"
_DESCRIPTION: Final = (
    "A leaderless replicated key-value store that speaks Riak KV's HTTP dialect. Names in paths "
    "are bytes, percent-encoded; a + stands for a space."
)
#: OpenAPI has its own place for these, or none.
_NOT_PARAMETERS: Final = ("Accept", "Content-Type", "Expect", "Link")
_NOT_REPLY_HEADERS: Final = (
    *("Content-Type", "Content-Length", "Transfer-Encoding", "Connection", "Date", "Server"),
    "Allow",  # of a method that is no operation
)


def openapi(routes: Sequence[Route]) -> dict[str, Any]:
    """The document as plain JSON values; the same routes always give the same document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": VERSION, "description": _DESCRIPTION},
        "paths": {route.path: _path(route) for route in routes},
        "components": {
            "schemas": SCHEMAS,
            "headers": {
                header.name: {"description": header.meaning, "schema": header.schema}
                for header in REPLY_HEADERS.values()
                if _is_told(header.name, _NOT_REPLY_HEADERS)
            },
            "parameters": {
                name: {
                    "name": name,
                    "in": "query",
                    "description": _parameter_text(name),
                    "schema": parameter.schema,
                }
                for name, parameter in PARAMETERS.items()
            },
        },
    }


def _path(route: Route) -> dict[str, Any]:
    item: dict[str, Any] = {
        "summary": route.summary,
    }
    if route.names:
        item["parameters"] = [_path_parameter(name) for name in route.names]
    for method, operation in with_head(route):
        item[method.lower()] = _operation(route, method, operation)
    return item


def with_head(route: Route) -> Iterable[tuple[str, Operation]]:
    """Methods and operations of a route, HEAD beside GET where the route has it."""
    for method in route.methods:
        operation = route.operations.get("GET" if method == "HEAD" else method)
        if operation is not None:
            yield method, operation


def _path_parameter(name: str) -> dict[str, Any]:
    parameter = PATH_PARAMETERS[name]
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": f"{parameter.meaning} {parameter.allowed}.",
        "schema": parameter.schema,
    }


def _parameter_text(name: str) -> str:
    parameter = PARAMETERS[name]
    default = f" Default: {parameter.default}." if parameter.default else ""
    return f"{parameter.meaning} Allowed: {parameter.allowed}.{default}"


def _is_told(name: str, elsewhere: Iterable[str]) -> bool:
    return not name.endswith("*") and name not in elsewhere


def _operation(route: Route, method: str, operation: Operation) -> dict[str, Any]:
    headers = (*operation.headers, *COMMON_REQUEST_HEADERS)
    told = [name for name in headers if not _is_told(name, _NOT_PARAMETERS)]
    out: dict[str, Any] = {
        "operationId": _operation_id(route, method),
        "tags": [operation.section],
        "summary": operation.summary,
        "parameters": [
            *({"$ref": f"#/components/parameters/{name}"} for name in operation.query),
            *(_header(name) for name in headers if name not in told),
        ],
        "responses": _responses(method, operation),
    }
    if told:
        out["description"] = "\n".join(
            f"- `{name}`: {REQUEST_HEADERS[name].meaning}" for name in told
        )
    if operation.body is not None:
        out["requestBody"] = {
            "description": operation.body.meaning,
            "required": True,
            "content": _content(operation.body),
        }
    return out


def _operation_id(route: Route, method: str) -> str:
    words = [segment.strip("{}").replace(".", "_") for segment in route.path.split("/") if segment]
    return "_".join([method.lower(), *words])


def _header(name: str) -> dict[str, Any]:
    header = REQUEST_HEADERS[name]
    return {
        "name": name,
        "in": "header",
        "description": header.meaning,
        "schema": header.schema,
    }


def _responses(method: str, operation: Operation) -> dict[str, Any]:
    out = {str(reply.status): _reply(method, reply) for reply in operation.replies}
    for status, errors in errors_by_status(operation).items():
        assert str(status) not in out
        out[str(status)] = _errors(method, errors)
    return dict(sorted(out.items()))


def errors_by_status(operation: Operation) -> dict[int, list[ErrorCode]]:
    """The errors of an operation, those of all operations included, in the order of the table."""
    out: defaultdict[int, list[ErrorCode]] = defaultdict(list)
    for code, error in ERRORS.items():
        if code in operation.errors or code in COMMON_ERRORS:
            out[error.status].append(error)
    return dict(sorted(out.items()))


def _reply(method: str, reply: Reply) -> dict[str, Any]:
    out: dict[str, Any] = {"description": reply.meaning, "headers": _reply_headers(reply.headers)}
    if reply.body is not None and method != "HEAD":
        out["content"] = _content(reply.body)
    return out


def _errors(method: str, errors: Sequence[ErrorCode]) -> dict[str, Any]:
    headers = dict.fromkeys(name for error in errors for name in error.headers)
    out: dict[str, Any] = {
        "description": "\n".join(f"- `{error.code}`: {error.when}" for error in errors),
        "headers": _reply_headers(headers),
    }
    if method != "HEAD":
        schema = {
            "allOf": [
                {"$ref": "#/components/schemas/Error"},
                {"properties": {"code": {"enum": [error.code for error in errors]}}},
            ]
        }
        out["content"] = {JSON: {"schema": schema}}
    return out


def _reply_headers(names: Iterable[str]) -> dict[str, Any]:
    return {
        name: {"$ref": f"#/components/headers/{name}"}
        for name in (*names, "X-Request-Id")
        if _is_told(name, _NOT_REPLY_HEADERS)
    }


def _content(body: Body) -> dict[str, Any]:
    return {
        media: {"schema": {"$ref": f"#/components/schemas/{schema}"}} if schema else {}
        for media, schema in body.media.items()
    }
