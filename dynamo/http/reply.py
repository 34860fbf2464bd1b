"""One HTTP reply, written as bytes: status line, header lines, body.

aiohttp's own response copies its headers several times over; here the handler formats the few lines
it has, and the rest is the same for all. Values from outside pass through `field_value` or are
encoded, so no reply has a header that nobody meant. Knows nothing of what it says.
"""

from __future__ import annotations

import asyncio
import json
import re
from http import HTTPStatus
from typing import Final

import orjson
from aiohttp import HttpVersion10, web

from dynamo.http.request import Request
from dynamo.http.stamps import stamps_fields

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode("ascii")
    for status in HTTPStatus
}
_COALESCED_BYTES_MAX: Final = 64 << 10
_BODYLESS: Final = (204, 304)
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
JSON_TYPE: Final = b"Content-Type: application/json\r\n"
#: Of an error. Clients made from a Smithy model (openriak) look for a class name of their own in
#: what is exactly application/json, and fail without telling the status where there is none.
ERROR_TYPE: Final = b"Content-Type: application/json; charset=utf-8\r\n"
TEXT_TYPE: Final = b"Content-Type: text/plain\r\n"


class HttpReply:
    """A reply. `fields`: header lines, each with its CRLF. `close`: the connection ends with it.

    `abort`: it ends at once, without reading what the client still sends.
    """

    __slots__ = ("_abort", "_close", "content", "fields", "keep_alive", "status")

    def __init__(
        self,
        status: int,
        fields: bytes = b"",
        body: bytes = b"",
        *,
        close: bool = False,
        abort: bool = False,
    ) -> None:
        self.status = status
        self.fields = fields
        self.content = body
        self._close = close or abort
        self._abort = abort
        #: Known once it is written: whether the connection goes on.
        self.keep_alive = False

    async def prepare(self, request: Request) -> None:
        """Write all of it. Raises ConnectionResetError if the client is gone."""
        message = request._message
        edge = request.edge
        protocol = request._protocol
        transport = protocol.transport
        self.note(request, len(self.content))
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client went away")
        if self._close or message.should_close or edge.closing or is_last(protocol):
            connection = b"Connection: close\r\n"
        else:
            self.keep_alive = True
            connection = b"Connection: keep-alive\r\n" if message.version == HttpVersion10 else b""
        status, body = self.status, self.content
        fields = self.fields
        if request.stamps is not None:
            fields += stamps_fields(request.stamps)
        head = b"%b%bX-Request-Id: %b\r\n%b%b%b\r\n" % (
            _STATUS_LINES[status],
            edge.stamp(),
            request.id,
            fields,
            b"" if status in _BODYLESS else b"Content-Length: %d\r\n" % len(body),
            connection,
        )
        if message.method == "HEAD" or status in _BODYLESS:
            transport.write(head)
        elif len(body) <= _COALESCED_BYTES_MAX:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
        if protocol.writing_paused:
            await drain(request, transport)
        if self._abort:
            protocol.force_close()

    def note(self, request: Request, body_bytes: int) -> None:
        """Count and log this reply, whoever still reads it."""
        edge = request.edge
        edge.times.note(request.operation, self.status, request.began)
        if edge.access_log is not None:
            edge.access_log(request, self.status, body_bytes)

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write. (aiohttp calls it in some cases.)"""
        assert not data


def is_last(protocol: web.RequestHandler) -> bool:
    """True if the client sends nothing more, and all it has sent is answered with this reply."""
    return getattr(protocol, "ended", False) and not protocol._messages


async def drain(request: Request, transport: asyncio.Transport) -> None:
    """Wait until the client took most of the reply; end the connection once it takes nothing."""
    edge = request.edge
    # One task, waited for in turns: aiohttp's waiter does not survive a cancelled wait.
    drained = asyncio.ensure_future(request._protocol._drain_helper())
    left = transport.get_write_buffer_size()
    try:
        while not (await asyncio.wait({drained}, timeout=edge.limits.reply_stall_s))[0]:
            before, left = left, transport.get_write_buffer_size()
            if left >= before:
                edge.metrics.count["http_replies_stalled"] += 1
                transport.abort()
                raise ConnectionResetError("the client does not read its reply")
        drained.result()
    finally:
        drained.cancel()


def json_reply(
    status: int,
    value: object,
    fields: bytes = b"",
    *,
    close: bool = False,
    abort: bool = False,
) -> HttpReply:
    """A reply with a JSON body."""
    kind = JSON_TYPE if status < 400 else ERROR_TYPE
    return HttpReply(status, kind + fields, to_json(value), close=close, abort=abort)


def to_json(value: object) -> bytes:
    """JSON of plain values; keys that are no strings, and values of other types, as their text."""
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        # A number over 64 bits, or text that is not Unicode (a lone surrogate).
        return json.dumps(value, default=str).encode("ascii")


def field_value(value: bytes) -> bytes:
    """`value` as a header may carry it: control characters as %XX, everything else untouched."""
    if _CONTROL.search(value) is None:
        return value
    return _CONTROL.sub(lambda match: b"%%%02X" % match[0][0], value)
