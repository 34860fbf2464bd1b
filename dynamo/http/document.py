"""Makes docs/http.md from the tables: `python -m dynamo.http.document` prints it, `--write` keeps it.

A test compares the file with what is made. Knows nothing that is not in a table or in
`dynamo.http.prose`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from dynamo.admission import LAG_MAX
from dynamo.config import REQUEST_BYTES_DEFAULT, REQUESTS_DEFAULT
from dynamo.context import CONTEXT_BYTES_MAX
from dynamo.http import prose
from dynamo.http.catalog import (
    PARAMETERS,
    PATH_PARAMETERS,
    REPLY_HEADERS,
    REQUEST_HEADERS,
    Operation,
)
from dynamo.http.codes import COMMON_ERRORS, ERRORS
from dynamo.http.limits import (
    FIELD_BYTES_MAX,
    FIELDS_MAX,
    METADATA_BYTES_MAX,
    TARGET_BYTES_MAX,
    VALUE_BYTES_LIMIT,
    Limits,
)
from dynamo.http.operations import OBJECTS
from dynamo.http.route import Route
from dynamo.http.routes import ROUTES
from dynamo.record import RECORD_BYTES_MAX, SIBLINGS_MAX
from dynamo.requests import TIMEOUT_MS_DEFAULT, TIMEOUT_MS_MAX

PATH: Final = Path(__file__).parents[2] / "docs" / "http.md"


def page(routes: Sequence[Route] = ROUTES) -> str:
    """The whole page, as Markdown."""
    parts = {
        "paths": _paths(routes),
        "objects": _section(OBJECTS, routes).rstrip(),
        "sections": "\n".join(_section(name, routes) for name in _sections(routes)).rstrip(),
        "parameters": _parameters(),
        "request_headers": _table(
            ("header", "meaning"), ((f"`{h.name}`", h.meaning) for h in REQUEST_HEADERS.values())
        ),
        "reply_headers": _table(
            ("header", "meaning"), ((f"`{h.name}`", h.meaning) for h in REPLY_HEADERS.values())
        ),
        "errors": _errors(),
        "common_errors": _codes(COMMON_ERRORS),
        "limits": _table(("what", "limit", "above it"), _limits(Limits())),
        "reserved": str(Limits().connections_reserved),
        "siblings_max": str(SIBLINGS_MAX),
        "record_bytes_max": _bytes(RECORD_BYTES_MAX),
    }
    text = prose.PAGE
    for name, part in parts.items():
        assert f"<<{name}>>" in text, f"the page has no place for {name}"
        text = text.replace(f"<<{name}>>", part)
    return text


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in lines
    )


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _codes(codes: Iterable[str]) -> str:
    return ", ".join(f"{ERRORS[code].status} `{code}`" for code in codes)


def _paths(routes: Sequence[Route]) -> str:
    return _table(
        ("path", "methods", "what it is"),
        ((f"`{route.path}`", " ".join(route.methods), route.summary) for route in routes),
    )


def _sections(routes: Sequence[Route]) -> list[str]:
    """Those of `prose.SECTIONS`, in that order, that have a route; objects come before all."""
    used = {operation.section for route in routes for operation in route.operations.values()}
    assert used <= prose.SECTIONS.keys(), f"no text for {used - prose.SECTIONS.keys()}"
    return [name for name in prose.SECTIONS if name in used and name != OBJECTS]


def _section(name: str, routes: Sequence[Route]) -> str:
    lines = [f"## {name}", "", prose.SECTIONS[name]]
    for group in _groups(name, routes):
        lines += _operation(*group)
    return "\n".join(lines)


def _groups(section: str, routes: Sequence[Route]) -> list[tuple[list[str], list[str], Operation]]:
    """(methods, paths, operation): those that differ in their summary alone are told once."""
    groups: list[tuple[list[str], list[str], Operation]] = []
    for route in routes:
        for method, operation in route.operations.items():
            if operation.section != section:
                continue
            group = next((one for one in groups if _same(one[2], operation)), None)
            if group is None:
                group = ([], [], operation)
                groups.append(group)
            methods, paths, _ = group
            methods += [] if method in methods else [method]
            if method == "GET" and "HEAD" in route.methods and "HEAD" not in methods:
                methods.append("HEAD")
            paths += [] if route.path in paths else [route.path]
    return groups


def _same(one: Operation, other: Operation) -> bool:
    return one == msgspec.structs.replace(other, summary=one.summary)


def _operation(methods: list[str], paths: list[str], operation: Operation) -> Iterator[str]:
    yield f"### {', '.join(methods)}: {operation.summary.rstrip('.')}"
    yield ""
    yield from (f"    {path}" for path in paths)
    yield ""
    if operation.query:
        yield f"- Query: {_code(operation.query)} ([meaning](#query-parameters))."
    if operation.headers:
        yield f"- Headers: {_code(operation.headers)} ([meaning](#request-headers))."
    if operation.body is not None:
        yield f"- Body: {operation.body.meaning}"
    if operation.errors:
        codes = [code for code in ERRORS if code in operation.errors]
        yield f"- Errors: {_codes(codes)} ([meaning](#errors))."
    if operation.query or operation.headers or operation.body or operation.errors:
        yield ""
    yield _table(
        ("status", "meaning", "body", "headers"),
        (
            (
                str(reply.status),
                reply.meaning,
                _code(reply.body.media) if reply.body is not None else "",
                _code(reply.headers),
            )
            for reply in sorted(operation.replies, key=lambda reply: reply.status)
        ),
    )
    yield ""


def _parameters() -> str:
    names = _table(
        ("in the path", "allowed", "meaning"),
        ((f"`{p.name}`", p.allowed, p.meaning) for p in PATH_PARAMETERS.values()),
    )
    query = _table(
        ("in the query", "allowed", "default", "meaning"),
        ((f"`{p.name}`", p.allowed, p.default, p.meaning) for p in PARAMETERS.values()),
    )
    return f"{names}\n\n{query}"


def _errors() -> str:
    return _table(
        ("status", "code", "outcome", "when", "more fields"),
        (
            (str(error.status), f"`{error.code}`", error.outcome, error.when, _code(error.details))
            for error in ERRORS.values()
        ),
    )


def _bytes(size: int) -> str:
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size:,} bytes"


def _limits(limits: Limits) -> Iterator[tuple[str, str, str]]:
    for parameter in PATH_PARAMETERS.values():
        yield parameter.name, f"{parameter.schema['maxLength']:,} bytes", "414 `key_too_long`"
    yield (
        "value",
        f"{_bytes(limits.value_bytes_max)} (`--value-bytes-max`, at most {_bytes(VALUE_BYTES_LIMIT)})",
        "413 `value_too_large`",
    )
    yield (
        "Content-Type, Content-Encoding and metadata of an object",
        f"{_bytes(METADATA_BYTES_MAX)} together",
        "400 `invalid_argument`",
    )
    yield "siblings of a key", f"{SIBLINGS_MAX}", "409 `record_full`"
    yield "a record with all its siblings", _bytes(RECORD_BYTES_MAX), "409 `record_full`"
    yield "context", _bytes(CONTEXT_BYTES_MAX), "400 `bad_context`"
    yield "request target", _bytes(TARGET_BYTES_MAX), "400 `malformed`"
    yield "one header", _bytes(FIELD_BYTES_MAX), "400 `malformed`"
    yield "headers of a request", f"{FIELDS_MAX}", "400 `malformed`"
    yield "connections to a node", f"{limits.connections_max:,}", "503 `too_many_connections`"
    yield (
        "requests in flight at a node",
        f"{REQUESTS_DEFAULT:,}, with {_bytes(REQUEST_BYTES_DEFAULT)} of bodies",
        "503 `overloaded`",
    )
    yield "time that a node is behind", f"{LAG_MAX * 1000:g} ms", "503 `overloaded`"
    yield (
        "time for a request (`timeout`)",
        f"{TIMEOUT_MS_DEFAULT / 1000:g} s; at most {TIMEOUT_MS_MAX / 1000:g} s",
        "503 `unavailable` or `write_uncertain`",
    )
    yield "time until the end of the headers", f"{limits.header_timeout_s:g} s", "closed"
    yield (
        "silence within a body",
        f"{limits.body_silence_s:g} s; from then on {limits.body_rate_min:,} bytes/s on average",
        "408 `request_timeout`",
    )
    yield (
        "a body, while three quarters of what may be in flight are",
        f"{limits.body_hurry_s:g} s; from then on {limits.body_hurry_rate_min:,} bytes/s on average",
        "408 `request_timeout`",
    )
    yield "a client that reads nothing", f"{limits.reply_stall_s:g} s", "closed"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the page, or with --write put it where it belongs."""
    parser = argparse.ArgumentParser(prog="python -m dynamo.http.document", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {PATH.name} in docs/")
    if parser.parse_args(arguments).write:
        PATH.write_text(page())
    else:
        sys.stdout.write(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
