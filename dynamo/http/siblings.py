"""How values look in replies: header lines of one, and the bodies of several.

Riak's forms: `text/plain` names the siblings, `multipart/mixed` holds them all; `application/json`
is ours. Knows nothing of how they came to be.
"""

from __future__ import annotations

from base64 import b64encode
from binascii import b2a_base64
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final, Literal

from dynamo.http.dates import format_date
from dynamo.http.reply import field_value
from dynamo.record import Content, Sibling

META_PREFIX: Final = b"X-Riak-Meta-"
Form = Literal["multipart", "json", "text"]


def context_field(context: bytes) -> bytes:
    """The header line that carries a context; b"" for none (it may be too long to give)."""
    if not context:
        return b""
    return b"X-Riak-Vclock: %b\r\n" % b2a_base64(context, newline=False)


def expires_field(sibling: Sibling) -> bytes:
    """The header line that says when the value goes, in whole seconds; b"" for never."""
    if not sibling.expires_ms:
        return b""
    return b"X-Dynamo-Expires: %b\r\n" % format_date(sibling.expires_ms // 1000)


def content_fields(content: Content) -> bytes:
    """The header lines that a client stored with its value."""
    fields = b"Content-Type: %b\r\n" % field_value(
        content.content_type or b"application/octet-stream"
    )
    if content.content_encoding:
        fields += b"Content-Encoding: %b\r\n" % field_value(content.content_encoding)
    for name, value in content.metadata:
        fields += b"%b%b: %b\r\n" % (META_PREFIX, field_name(name), field_value(value))
    return fields


def field_name(name: bytes) -> bytes:
    """`name` as a header name may spell it: what is no token character as %XX."""
    if name.translate(None, _TOKEN):
        return b"".join(bytes((byte,)) if byte in _TOKEN else b"%%%02X" % byte for byte in name)
    return name


_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def accepted_form(accept: Sequence[str]) -> Form:
    """The form of several siblings for these Accept headers: what they name, `text` otherwise.

    `*/*` names nothing. A client that names both multipart and JSON gets multipart, as Riak answers
    its own clients.
    """
    forms: set[str] = set()
    for header in accept:
        for item in header.lower().split(","):
            media, *parameters = (part.strip() for part in item.split(";"))
            if not any(_is_zero(parameter) for parameter in parameters):
                forms.add(media)
    if "multipart/mixed" in forms or "multipart/*" in forms:
        return "multipart"
    return "json" if "application/json" in forms else "text"


def _is_zero(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and value.strip().rstrip("0") in ("", "0.", "0", ".")


def text_body(siblings: Sequence[Sibling]) -> bytes:
    """The siblings' names, one a line; `?vtag=` fetches one."""
    return "".join(["Siblings:\n", *(f"{s.vtag()}\n" for s in siblings)]).encode("ascii")


def multipart_body(siblings: Sequence[Sibling]) -> tuple[bytes, bytes]:
    """(boundary, body) with a part for each sibling (RFC 2046, 5.1)."""
    vtags = [s.vtag().encode("ascii") for s in siblings]
    contents = [s.read() for s in siblings]
    boundary = _boundary(vtags, contents)
    out: list[bytes] = []
    for sibling, vtag, content in zip(siblings, vtags, contents, strict=True):
        out.append(
            b"\r\n--%b\r\n%bEtag: %b\r\nLast-Modified: %b\r\n%b\r\n"
            % (
                boundary,
                content_fields(content),
                vtag,
                format_date(sibling.written_ms // 1000),
                expires_field(sibling),
            )
        )
        out.append(content.value)
    out.append(b"\r\n--%b--\r\n" % boundary)
    return boundary, b"".join(out)


def _boundary(vtags: Sequence[bytes], contents: Sequence[Content]) -> bytes:
    attempt = 0
    while True:
        digest = blake2b(b",".join(vtags), digest_size=14, salt=attempt.to_bytes(8))
        boundary = digest.hexdigest().encode("ascii")
        if not any(boundary in content.value for content in contents):
            return boundary
        attempt += 1


def siblings_json(siblings: Sequence[Sibling], context: bytes) -> dict[str, Any]:
    """All siblings and the context (base64) that covers them, as plain JSON values."""
    return {
        "siblings": [_sibling_json(sibling) for sibling in siblings],
        "context": b64encode(context).decode("ascii"),
    }


def _sibling_json(sibling: Sibling) -> dict[str, Any]:
    content = sibling.read()
    out: dict[str, Any] = {
        "vtag": sibling.vtag(),
        "content_type": _text(content.content_type),
        "last_modified": format_date(sibling.written_ms // 1000).decode("ascii"),
    }
    if sibling.expires_ms:
        out["expires"] = format_date(sibling.expires_ms // 1000).decode("ascii")
    if content.content_encoding:
        out["content_encoding"] = _text(content.content_encoding)
    if content.metadata:
        out["metadata"] = [[_text(name), _text(value)] for name, value in content.metadata]
    try:
        out["value"] = content.value.decode("utf-8")
    except UnicodeDecodeError:
        out["value_base64"] = b64encode(content.value).decode("ascii")
    return out


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
