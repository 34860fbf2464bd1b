"""Reading a request's body: within its limit, at a bearable pace, all of it or nothing.

Knows nothing of what the bytes mean.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import HttpVersion11, hdrs
from aiohttp.web_protocol import RequestPayloadError

from dynamo.errors import ValueTooLarge
from dynamo.http.errors import Refusal
from dynamo.http.request import Request

#: Who sends a body slowly is looked at so often (seconds).
_LOOK_S: Final = 1.0


async def read_body(request: Request, limit: int | None = None) -> bytes:
    """The whole body, undecoded, of at most `limit` bytes; None for what a value may have.

    Raises ValueTooLarge, before reading anything where the length is declared; Refusal: 408 after a
    silence or below the least rate, 400 for a body that is cut off or malformed, or in a transfer
    coding other than chunked.
    """
    if request._message.chunked:
        _check_coding(request)
    payload = request._payload
    limit = request.edge.limits.value_bytes_max if limit is None else limit
    if payload.is_eof():
        if payload.total_bytes > limit:
            raise _too_large(limit)
        return payload.read_nowait()
    _check_declared(request, limit)
    if hdrs.EXPECT in request.headers:
        _send_continue(request)
    return await _read_slowly(request, limit)


def body_bytes(request: Request) -> int:
    """What the body may take, as far as its headers say: what has come of one that is there, else what
    is declared, but no more than a value may have."""
    payload = request._payload
    limit = request.edge.limits.value_bytes_max
    if payload.is_eof():
        return min(payload.total_bytes, limit)
    declared = request.headers.get(hdrs.CONTENT_LENGTH)
    return limit if declared is None else min(int(declared), limit)


def _check_coding(request: Request) -> None:
    # The parser takes any list that ends in chunked and undoes the chunks alone: what it hands on
    # of `gzip, chunked` is not what the client means to store.
    if request.headers[hdrs.TRANSFER_ENCODING].strip().lower() != "chunked":
        raise Refusal(
            400, "malformed", "the only transfer coding understood is chunked", close=True
        )


def is_awaited(request: Request) -> bool:
    """True if the client waits to be told that its body is wanted."""
    return hdrs.EXPECT in request.headers and not request._payload.is_eof()


def _check_declared(request: Request, limit: int) -> None:
    declared = request.headers.get(hdrs.CONTENT_LENGTH)
    if declared is not None and int(declared) > limit:
        raise _too_large(limit)


def _send_continue(request: Request) -> None:
    transport = request._protocol.transport
    # A client of HTTP/1.0 does not know the answer (RFC 9110, 10.1.1).
    if transport is not None and request._message.version == HttpVersion11:
        transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def _read_slowly(request: Request, limit: int) -> bytes:
    payload = request._payload
    clock, limits = request.edge.clock, request.edge.limits
    payload.set_read_chunk_size(limit)
    if request._protocol._messages:
        # What follows an unfinished body can only be the parser's error.
        raise _cut_off(request)
    began = heard = clock.monotonic()
    chunks: list[bytes] = []
    size = 0
    while True:
        # The average is asked for only after the time that a silence may last.
        due = began + limits.body_silence_s + size / limits.body_rate_min
        wait = min(heard + limits.body_silence_s, due) - clock.monotonic()
        try:
            async with asyncio.timeout(min(wait, _LOOK_S)):
                chunk = await payload.readany()
        except TimeoutError:
            if wait <= _LOOK_S or _is_in_the_way(request, began, size):
                raise _too_slow(request) from None
            continue
        except (ConnectionError, RequestPayloadError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and request._protocol.connected:
                raise
            raise _cut_off(request) from None
        if not chunk:
            return b"".join(chunks)
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if _is_in_the_way(request, began, size):
            raise _too_slow(request)
        heard = clock.monotonic()


def _is_in_the_way(request: Request, began: float, size: int) -> bool:
    """True for a body that keeps others out, and has come more slowly than one may then."""
    edge = request.edge
    if not edge.admission.is_crowded:
        return False
    due = began + edge.limits.body_hurry_s + size / edge.limits.body_hurry_rate_min
    return edge.clock.monotonic() > due


def _too_slow(request: Request) -> Refusal:
    request.edge.metrics.count["http_bodies_too_slow"] += 1
    return Refusal(408, "request_timeout", "the body did not come in time", abort=True)


def _cut_off(request: Request) -> Refusal:
    request.edge.metrics.count["http_bodies_cut_off"] += 1
    return Refusal(400, "malformed", "the body is cut off or malformed", abort=True)


def _too_large(limit: int) -> ValueTooLarge:
    return ValueTooLarge(f"a value has at most {limit} bytes here", limit=limit)
