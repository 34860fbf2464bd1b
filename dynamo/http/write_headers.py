"""What the headers of a write say: what is stored with the value, and the context.

`X-Dynamo-Expires` says when a value goes: seconds from now, or an HTTP date. What comes of it depends
on the present time, which the caller knows.

Links and secondary indexes are not built: a request that brings them is refused by name, so that
nobody believes they were stored. Knows nothing of the body.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from typing import Final

from dynamo.errors import BadContext, InvalidArgument
from dynamo.http.dates import parse_date
from dynamo.http.limits import METADATA_BYTES_MAX
from dynamo.requests import TTL_S_MAX

_META: Final = b"x-riak-meta-"
_INDEX: Final = b"x-riak-index-"
_VCLOCK: Final = b"x-riak-vclock"
_UNMODIFIED: Final = b"x-riak-if-not-modified"
#: Of a context of 16 KiB, in base64.
_VCLOCK_BYTES_MAX: Final = 21_848
_EXPIRES: Final = b"x-dynamo-expires"
EXPIRES: Final = "X-Dynamo-Expires"
EXPIRES_ALLOWED: Final = (
    f"0 (never), 1 to {TTL_S_MAX} seconds from now, or an HTTP date no further ahead"
)
_EXPIRES_DIGITS_MAX: Final = 12


class WriteHeaders:
    """Read once from the raw headers. `content_type` is b"" if there is none. `unmodified`: the
    context of X-Riak-If-Not-Modified, b"" for none. `expires`: of X-Dynamo-Expires, b"" for none.

    Raises InvalidArgument (Link, X-Riak-Index-*, too much metadata, a second X-Dynamo-Expires, an
    empty one) and BadContext.
    """

    __slots__ = ("content_encoding", "content_type", "context", "expires", "metadata", "unmodified")

    def __init__(self, raw_headers: tuple[tuple[bytes, bytes], ...]) -> None:
        self.content_type = b""
        self.content_encoding = b""
        self.context = b""
        self.unmodified = b""
        self.expires = b""
        metadata: list[tuple[bytes, bytes]] | None = None
        size = 0
        for name, value in raw_headers:
            name = name.lower()
            if name.startswith(b"x-riak-"):
                if name == _VCLOCK:
                    if self.context:
                        raise BadContext("X-Riak-Vclock is given twice")
                    self.context = read_context(value)
                elif name == _UNMODIFIED:
                    if self.unmodified:
                        raise BadContext("X-Riak-If-Not-Modified is given twice")
                    self.unmodified = read_context(value, "X-Riak-If-Not-Modified")
                elif name.startswith(_META):
                    if metadata is None:
                        metadata = []
                    name = name[len(_META) :]
                    metadata.append((name, value))
                    size += len(name) + len(value)
                elif name.startswith(_INDEX):
                    raise InvalidArgument(
                        "secondary indexes are not supported",
                        field="X-Riak-Index-*",
                        allowed="none",
                    )
            elif name == b"content-type":
                self.content_type = value
                size += len(value)
            elif name == b"content-encoding":
                # It may come on several lines, which mean one list.
                known = self.content_encoding
                self.content_encoding = b"%b, %b" % (known, value) if known else value
                size += len(value)
            elif name == b"link":
                check_links(value)
            elif name == _EXPIRES:
                if self.expires or not value:
                    raise InvalidArgument(
                        f"{EXPIRES} is {'given twice' if self.expires else 'empty'}",
                        field=EXPIRES,
                        allowed=f"once: {EXPIRES_ALLOWED}",
                    )
                self.expires = value
        if size > METADATA_BYTES_MAX:
            raise InvalidArgument(
                "content type, encoding and metadata are too long together",
                field="X-Riak-Meta-*",
                allowed=f"{METADATA_BYTES_MAX} bytes",
            )
        self.metadata = () if metadata is None else tuple(metadata)


def read_expires(value: bytes, now_ms: int) -> tuple[int | None, int]:
    """(seconds from now or None, absolute milliseconds since 1970 or 0): one of the two, of
    X-Dynamo-Expires. `now_ms`: wall clock. Raises InvalidArgument that names the range."""
    text = value.decode("latin-1")
    if value.isdigit() and len(value) <= _EXPIRES_DIGITS_MAX:
        ttl_s = int(value)
        if ttl_s <= TTL_S_MAX:
            return ttl_s, 0
    elif not value.isdigit():
        expires_ms = _read_date(text) * 1000
        if now_ms < expires_ms <= now_ms + TTL_S_MAX * 1000:
            return None, expires_ms
        if expires_ms <= now_ms:
            raise InvalidArgument(f"{EXPIRES} is past", field=EXPIRES, allowed=EXPIRES_ALLOWED)
    raise InvalidArgument(f"{EXPIRES} is too far ahead", field=EXPIRES, allowed=EXPIRES_ALLOWED)


def _read_date(text: str) -> int:
    try:
        return parse_date(text, EXPIRES)
    except InvalidArgument:
        raise InvalidArgument(
            f"{EXPIRES} is neither seconds nor an HTTP date", field=EXPIRES, allowed=EXPIRES_ALLOWED
        ) from None


def read_context(value: bytes, field: str = "X-Riak-Vclock") -> bytes:
    """The context token of this header. Raises BadContext unless it is canonical base64."""
    if len(value) <= _VCLOCK_BYTES_MAX:
        try:
            token = a2b_base64(value, strict_mode=True)
        except Base64Error:
            token = b""
        # Two spellings of one token would let a damaged header pass.
        if token and b2a_base64(token, newline=False) == value:
            return token
    raise BadContext(f"{field} is not a context of this store")


def find_contexts(raw_headers: tuple[tuple[bytes, bytes], ...]) -> tuple[bytes, bytes]:
    """What X-Riak-Vclock and X-Riak-If-Not-Modified say in a request without content, b"" for none.
    Raises BadContext."""
    context = unmodified = b""
    for name, value in raw_headers:
        name = name.lower()
        if name == _VCLOCK:
            if context:
                raise BadContext("X-Riak-Vclock is given twice")
            context = read_context(value)
        elif name == _UNMODIFIED:
            if unmodified:
                raise BadContext("X-Riak-If-Not-Modified is given twice")
            unmodified = read_context(value, "X-Riak-If-Not-Modified")
    return context, unmodified


def check_links(value: bytes) -> None:
    """Raises InvalidArgument unless each link is rel="up", which clients of Riak echo."""
    for link in value.split(b","):
        parameters = [part.strip().lower() for part in link.split(b";")[1:]]
        if b'rel="up"' not in parameters and b"rel=up" not in parameters:
            raise InvalidArgument("links are not supported", field="Link", allowed='rel="up"')
