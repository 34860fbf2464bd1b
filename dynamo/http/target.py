"""The request target: which resource, as bytes, and the query, undecoded.

Split at every `/` first and decoded after, so that a key may hold any byte, `/` included. Nothing
is normalised: `..` is a key like any other. Knows nothing of routes.
"""

from __future__ import annotations

from urllib.parse import quote_from_bytes

from dynamo.errors import Malformed

_HEX = "0123456789ABCDEFabcdef"
_BYTES = {(a + b).encode(): bytes((int(a + b, 16),)) for a in _HEX for b in _HEX}


def split_target(target: str, host: str | None) -> tuple[str, str]:
    """(path, query) of a request target, both as sent.

    The absolute form is taken for the host the request names itself. Raises Malformed for another
    host, and for a fragment, which has no place in a request and would cut a key short.
    """
    if "#" in target:
        raise Malformed("a request target has no fragment; send # in a key as %23")
    if not target.startswith("/"):
        scheme, separator, rest = target.partition("://")
        authority, slash, path = rest.partition("/")
        authority, _, lost = authority.partition("?")
        if not separator or scheme.lower() != "http" or lost or "@" in authority:
            raise Malformed("the request target is not a path")
        if host is None or _authority(authority) != _authority(host):
            raise Malformed("the request target names another host")
        target = slash + path if slash else "/"
    path, _, query = target.partition("?")
    return path, query


def _authority(text: str) -> str:
    return text.lower().removesuffix(":80")


def decode(text: str) -> bytes:
    """The bytes of one path segment or query part; `+` is a space, as Riak reads it.

    Raises Malformed for a `%` without two hexadecimal digits.
    """
    # Asked of the text: of bytes, `in` first takes the byte string for a number, at great length.
    if "+" in text:
        text = text.replace("+", " ")
    data = text.encode("utf-8", "surrogateescape")
    if "%" not in text:
        return data
    first, *rest = data.split(b"%")
    out = [first]
    for part in rest:
        byte = _BYTES.get(part[:2])
        if byte is None:
            raise Malformed("a % in the request target is not followed by two hexadecimal digits")
        out.append(byte)
        out.append(part[2:])
    return b"".join(out)


def encode(data: bytes) -> bytes:
    """One path segment that `decode` reads back as `data`; plain ASCII, no control characters."""
    return quote_from_bytes(data, safe="").encode("ascii")
