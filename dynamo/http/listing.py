"""The resources that list: keys of a bucket, buckets of a type, the nodes that keep a key.

Expensive, as in Riak: the work grows with all keys of the bucket, or with all buckets of the type.
Names leave as they are found; what comes last says whether they are all. JSON is ASCII throughout and
has no `}` within a name: clients cut streams at each `}`, and decode blocks of bytes one by one. Names
that are no UTF-8 are percent-encoded, in a list of their own. Knows nothing of replicas.
"""

from __future__ import annotations

import json
import logging
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Final, NamedTuple

from dynamo.cursor import CURSOR_BYTES_MAX
from dynamo.errors import BadCursor, DynamoError, InvalidArgument
from dynamo.http import parameters
from dynamo.http.objects import DEFAULT_TYPE, check_names, names, timeout_field
from dynamo.http.reply import JSON_TYPE, HttpReply, json_reply
from dynamo.http.request import Request
from dynamo.http.stream import StreamReply
from dynamo.http.target import decode, encode
from dynamo.requests import LIST_LIMIT_MAX, Listed, ListOptions

logger = logging.getLogger(__name__)

#: What `encoded_keys` of one JSON object may hold (bytes): it comes after all other names.
ENCODED_BYTES_MAX: Final = 4 << 20
_DIGITS_MAX: Final = 9
_CURSOR_TEXT_MAX: Final = (CURSOR_BYTES_MAX * 4 + 2) // 3

Parts = AsyncGenerator[Listed, None]


class _Query(NamedTuple):
    """`form`: "true", "stream" or "" (nothing is asked for). `fields`: header lines that say what was
    made of it."""

    form: str
    options: ListOptions
    fields: bytes


async def get_keys(request: Request) -> HttpReply:
    """GET, HEAD with `keys=true` or `keys=stream`: 200 with the keys of the bucket; else `{}`."""
    segments = request.segments
    if segments[1] == "types":
        bucket_type, bucket = decode(segments[2]), decode(segments[4])
    else:
        bucket_type, bucket = DEFAULT_TYPE, decode(segments[2])
    check_names(bucket_type, bucket, b"k")
    query = _read_query(request.raw_query, "keys")
    if not query.form:
        return json_reply(200, {})
    parts = request.edge.backend.list_keys(bucket_type, bucket, query.options)
    return await _listed(request, query, "keys", parts)


async def get_buckets(request: Request) -> HttpReply:
    """GET, HEAD with `buckets=true` or `buckets=stream`: 200 with the buckets of the type; else none of
    them."""
    segments = request.segments
    bucket_type = decode(segments[2]) if segments[1] == "types" else DEFAULT_TYPE
    check_names(bucket_type, b"b", b"k")
    query = _read_query(request.raw_query, "buckets")
    if not query.form:
        return json_reply(200, {"buckets": [], "complete": False})
    parts = request.edge.backend.list_buckets(bucket_type, query.options)
    return await _listed(request, query, "buckets", parts)


async def get_preflist(request: Request) -> HttpReply:
    """GET, HEAD: 200 with the nodes that keep the key, and which of them can be reached from here."""
    del request.segments[-1]
    bucket_type, bucket, key = names(request)
    preflist = [
        {
            "partition": owner.partition,
            "node": owner.node,
            "primary": owner.primary,
            "connected": owner.connected,
        }
        for owner in request.edge.backend.preflist(bucket_type, bucket, key)
    ]
    return json_reply(200, {"preflist": preflist})


async def _listed(request: Request, query: _Query, noun: str, parts: Parts) -> HttpReply:
    """Raises what the listing raises before its first part."""
    async with aclosing(parts):
        first = await anext(parts)
        reply = StreamReply(JSON_TYPE + query.fields)
        form = _stream if query.form == "stream" else _object
        await reply.send(request, form(noun, _told(request, first, parts)))
    return reply


async def _told(request: Request, first: Listed, parts: Parts) -> Parts:
    """All parts; a listing that fails in their midst ends, and says that it is not complete."""
    yield first
    part = first
    try:
        while not part.done:
            part = await anext(parts)
            yield part
    except DynamoError as error:
        request.edge.metrics.count["http_listings_failed"] += 1
        logger.warning("request %s: %s", request.id.decode("ascii"), error.message)
        yield Listed((), part.cursor, done=True)
    except Exception as error:  # logged with its traceback, told as not complete
        request.edge.metrics.count["http_listings_failed"] += 1
        logger.error("request %s failed", request.id.decode("ascii"), exc_info=error)
        yield Listed((), part.cursor, done=True)


async def _stream(noun: str, parts: Parts) -> AsyncGenerator[bytes, None]:
    """An object a part that has names, and one at the end."""
    async with aclosing(parts):
        async for part in parts:
            plain, encoded = _split(part.names)
            if plain or encoded:
                more = f',"encoded_{noun}":[{_joined(encoded)}]' if encoded else ""
                yield f'{{"{noun}":[{_joined(plain)}]{more}}}'.encode("ascii")
            if part.done:
                yield f'{{"{noun}":[]{_ending(part.complete, part.cursor)}}}'.encode("ascii")
            elif not part.names:
                yield b""


async def _object(noun: str, parts: Parts) -> AsyncGenerator[bytes, None]:
    """One object for all parts."""
    kept: list[str] = []
    kept_bytes = 0
    yield f'{{"{noun}":['.encode("ascii")
    separator = ""
    async with aclosing(parts):
        async for part in parts:
            plain, encoded = _split(part.names)
            kept += encoded
            kept_bytes += sum(map(len, encoded))
            yield f"{separator if plain else ''}{_joined(plain)}".encode("ascii")
            separator = "," if plain else separator
            # More of them than may be kept to the end: whoever asks goes on from here.
            if part.done or kept_bytes > ENCODED_BYTES_MAX:
                more = f',"encoded_{noun}":[{_joined(kept)}]' if kept else ""
                complete = part.done and part.complete
                yield f"]{more}{_ending(complete, part.cursor)}}}".encode("ascii")
                return


def _ending(complete: bool, cursor: bytes) -> str:
    told = f',"complete":{"true" if complete else "false"}'
    if cursor:
        told += f',"cursor":"{urlsafe_b64encode(cursor).rstrip(b"=").decode("ascii")}"'
    return told


def _split(listed: Iterable[bytes]) -> tuple[list[str], list[str]]:
    """Names that are UTF-8, and the others, percent-encoded."""
    plain: list[str] = []
    encoded: list[str] = []
    for name in listed:
        try:
            plain.append(name.decode("utf-8"))
        except UnicodeDecodeError:
            encoded.append(encode(name).decode("ascii"))
    return plain, encoded


def _joined(texts: list[str]) -> str:
    """The elements of a JSON list, without its brackets."""
    return json.dumps(texts, separators=(",", ":"))[1:-1].replace("}", "\\u007d")


# The query -----------------------------------------------------------------------------------------


def _read_query(query: str, noun: str) -> _Query:
    """Raises InvalidArgument, BadCursor and Malformed. Names that are not in the table are ignored."""
    readers: dict[str, Callable[[str, str], str | int | bytes]] = {
        noun: _form,
        "limit": _limit,
        "cursor": _cursor,
    }
    given: dict[str, str | int | bytes] = {}
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        field = decode(name).decode("utf-8", "replace")
        reader = readers.get(field)
        if reader is None:
            continue
        if field in given:
            raise InvalidArgument(f"{field} is given twice", field=field, allowed="once")
        given[field] = reader(field, decode(value).decode("utf-8", "replace"))
    common = parameters.parse(query) if query else parameters.NONE
    limit, cursor, form = given.get("limit", 0), given.get("cursor", b""), given.get(noun, "")
    assert isinstance(limit, int)
    assert isinstance(cursor, bytes)
    assert isinstance(form, str)
    fields = timeout_field(common)
    if limit:
        fields += b"X-Dynamo-Limit: %d\r\n" % limit
    return _Query(form, ListOptions(limit, cursor, common.timeout_ms), fields)


def _form(field: str, text: str) -> str:
    if text not in ("true", "stream", "false"):
        allowed = "true, stream, false"
        raise InvalidArgument(f"{field} must be one of {allowed}", field=field, allowed=allowed)
    return "" if text == "false" else text


def _limit(field: str, text: str) -> int:
    if text.isascii() and text.isdigit():
        digits = text.lstrip("0")
        if len(digits) > _DIGITS_MAX:
            return LIST_LIMIT_MAX
        if digits:
            return min(int(digits), LIST_LIMIT_MAX)
    raise InvalidArgument(
        f"{field} is not a number above 0",
        field=field,
        allowed=f"1 to {LIST_LIMIT_MAX}; what is above is clamped",
    )


def _cursor(field: str, text: str) -> bytes:
    """Raises BadCursor unless it is spelled as `_ending` spells cursors."""
    token = b""
    if text.isascii() and len(text) <= _CURSOR_TEXT_MAX:
        try:
            token = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except Base64Error:
            token = b""
        # Two spellings of one token would let a damaged one pass.
        if token and urlsafe_b64encode(token).rstrip(b"=").decode("ascii") == text:
            return token
    raise BadCursor("the cursor is not one of this store")
