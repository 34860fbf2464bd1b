"""The query parameters of Riak KV's object resource, read strictly.

What is wrong in itself is refused here; a count above n is the coordinator's to refuse. Names that
are not in the table are ignored, as Riak ignores them. Knows nothing of routes or headers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Literal, cast

import msgspec

from dynamo.errors import InvalidArgument
from dynamo.http.target import decode
from dynamo.requests import READ, TIMEOUT_MS_MAX, WRITE, Count, ReadOptions, WriteOptions

_WORDS: Final = ("one", "quorum", "all", "default")
_COUNT_DIGITS_MAX: Final = 9
_TIMEOUT_DIGITS_MAX: Final = 12
_CACHED_QUERY_MAX: Final = 128


class Parameters(msgspec.Struct, frozen=True):
    """A query, decoded. `delete` is `write` with `rw` in place of the r and w that were not given.

    `timeout_ms`: 0 if not given, else the effective one, clamped to TIMEOUT_MS_MAX.
    """

    read: ReadOptions = READ
    write: WriteOptions = WRITE
    delete: WriteOptions = WRITE
    timeout_ms: int = 0
    returnbody: bool = False
    vtag: str | None = None


NONE: Final = Parameters()


def parse(query: str) -> Parameters:
    """The parameters of an undecoded query, without its `?`.

    Raises InvalidArgument (with `field` and `allowed`) and Malformed.
    """
    # Clients send the same few queries over and over; long ones are not kept.
    return _cached(query) if len(query) <= _CACHED_QUERY_MAX else _parse(query)


def _parse(query: str) -> Parameters:
    given: dict[str, Any] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        # Decoded even where unknown: a query is well-formed as a whole or not at all.
        field = decode(name).decode("utf-8", "replace")
        text = decode(value).decode("utf-8", "replace")
        reader = _READERS.get(field)
        if reader is None:
            continue
        if field in given:
            raise InvalidArgument(f"{field} is given twice", field=field, allowed="once")
        given[field] = reader(field, text)
    return _parameters(given)


_cached = lru_cache(maxsize=512)(_parse)


def _parameters(given: dict[str, Any]) -> Parameters:
    counts: dict[str, Count] = {name: given.get(name, "default") for name in _COUNTS}
    timeout_ms = given.get("timeout", 0)
    write = WriteOptions(
        w=counts["w"],
        pw=counts["pw"],
        dw=counts["dw"],
        node_confirms=counts["node_confirms"],
        r=counts["r"],
        pr=counts["pr"],
        timeout_ms=timeout_ms,
        returnbody=given.get("returnbody", False),
    )
    return Parameters(
        read=ReadOptions(
            r=counts["r"],
            pr=counts["pr"],
            node_confirms=counts["node_confirms"],
            notfound_ok=given.get("notfound_ok"),
            basic_quorum=given.get("basic_quorum"),
            timeout_ms=timeout_ms,
            read_repair=given.get("read_repair", "async"),
        ),
        write=write,
        delete=msgspec.structs.replace(
            write, r=given.get("r", counts["rw"]), w=given.get("w", counts["rw"])
        ),
        timeout_ms=timeout_ms,
        returnbody=given.get("returnbody", False),
        vtag=given.get("vtag"),
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _count(field: str, text: str, least: int) -> Count:
    if text in _WORDS:
        return cast(Count, text)
    if _is_number(text) and len(text) <= _COUNT_DIGITS_MAX and int(text) >= least:
        return int(text)
    allowed = f"{least} to n, or {', '.join(_WORDS)}"
    raise InvalidArgument(f"{field} must be {allowed}", field=field, allowed=allowed)


def _quorum(field: str, text: str) -> Count:
    return _count(field, text, 1)


def _extra(field: str, text: str) -> Count:
    return _count(field, text, 0)


def _timeout(field: str, text: str) -> int:
    if _is_number(text):
        if len(text) > _TIMEOUT_DIGITS_MAX:
            text = text.lstrip("0")
        if len(text) > _TIMEOUT_DIGITS_MAX:
            return TIMEOUT_MS_MAX
        if text and int(text) > 0:
            return min(int(text), TIMEOUT_MS_MAX)
    raise InvalidArgument(
        f"{field} is not a number of milliseconds above 0",
        field=field,
        allowed=f"1 to {TIMEOUT_MS_MAX}; what is above is clamped",
    )


def _boolean(field: str, text: str) -> bool:
    if text == "true":
        return True
    if text == "false":
        return False
    raise InvalidArgument(f"{field} is not a boolean", field=field, allowed="true, false")


def _flag(field: str, text: str) -> bool | None:
    """A boolean that a bucket may have too, and that `default` leaves to it."""
    if text == "default":
        return None
    if text in ("true", "false"):
        return text == "true"
    raise InvalidArgument(f"{field} is not a boolean", field=field, allowed="true, false, default")


def _repair(field: str, text: str) -> Literal["async", "blocking"]:
    if text == "async":
        return "async"
    if text == "blocking":
        return "blocking"
    raise InvalidArgument(f"{field} is unknown", field=field, allowed="async, blocking")


def _text(field: str, text: str) -> str:
    return text


_COUNTS: Final = ("r", "w", "pr", "pw", "dw", "rw", "node_confirms")
_READERS: Final[dict[str, Callable[[str, str], Any]]] = {
    "r": _quorum,
    "w": _quorum,
    "rw": _quorum,
    "pr": _extra,
    "pw": _extra,
    "dw": _extra,
    "node_confirms": _extra,
    "timeout": _timeout,
    "returnbody": _boolean,
    "notfound_ok": _flag,
    "basic_quorum": _flag,
    "read_repair": _repair,
    "vtag": _text,
}
PARAMETER_NAMES: Final = tuple(_READERS)
