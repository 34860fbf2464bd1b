"""`/admin/repair`: comparing what this node keeps with the other owners now, and bringing both up.

Turns a request into one call of the backend. Which partitions there are, and who owns them, is the
ring's to know. Knows nothing of how replicas are compared.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from dynamo.errors import InvalidArgument, Malformed
from dynamo.http.json_body import read_json, refuse_others
from dynamo.http.reply import HttpReply, json_reply
from dynamo.http.request import Request
from dynamo.http.target import decode
from dynamo.keys import BUCKET_BYTES_MAX, TYPE_BYTES_MAX
from dynamo.requests import RepairAsked

#: What a repair may be narrowed to, as the body says it.
FIELDS: Final = ("partition", "type", "bucket", "encoded_bucket", "peer")
_PEER_BYTES_MAX: Final = 255


async def get_repair(request: Request) -> HttpReply:
    """GET, HEAD: 200 with how far the repair is that runs here, or what became of the last."""
    return _told(200, request.edge.backend.repair())


async def start_repair(request: Request) -> HttpReply:
    """POST: 202, it runs now. Raises RepairRunning if one does already."""
    body = await read_json(request, "repairs", or_nothing=True)
    return _told(202, request.edge.backend.start_repair(read_repair(body)))


async def stop_repair(request: Request) -> HttpReply:
    """DELETE: 200 once none runs any more, with what became of the last."""
    return _told(200, await request.edge.backend.stop_repair())


def read_repair(body: dict[str, Any]) -> RepairAsked:
    """What the body of a POST asks for. Raises InvalidArgument that names the field."""
    refuse_others(body, FIELDS)
    partition = body.get("partition")
    if partition is not None and (not isinstance(partition, int) or isinstance(partition, bool)):
        raise InvalidArgument(
            "partition is not a whole number", field="partition", allowed="a partition's number"
        )
    return RepairAsked(
        partition=partition,
        bucket_type=_name(body, "type", TYPE_BYTES_MAX),
        bucket=_bucket(body),
        peer=_name(body, "peer", _PEER_BYTES_MAX).decode(),
    )


def _bucket(body: dict[str, Any]) -> bytes:
    bucket = _name(body, "bucket", BUCKET_BYTES_MAX)
    field = "encoded_bucket"
    encoded = _name(body, field, 3 * BUCKET_BYTES_MAX)
    if not encoded:
        return bucket
    if bucket:
        raise InvalidArgument(
            f"bucket and {field} are both given", field=field, allowed="one of the two"
        )
    try:
        found = decode(encoded.decode())
    except Malformed:
        found = b""
    if not 0 < len(found) <= BUCKET_BYTES_MAX:
        raise InvalidArgument(
            f"{field} is not a percent-encoded name",
            field=field,
            allowed=f"1 to {BUCKET_BYTES_MAX} bytes, percent-encoded",
        )
    return found


def _name(body: dict[str, Any], field: str, limit: int) -> bytes:
    """b"" where it is not given."""
    text = body.get(field)
    if text is None:
        return b""
    name = text.encode() if isinstance(text, str) else b""
    if not 0 < len(name) <= limit:
        raise InvalidArgument(
            f"{field} is not a name of 1 to {limit} bytes",
            field=field,
            allowed=f"a string of 1 to {limit} bytes",
        )
    return name


def _told(status: int, repair: msgspec.Struct) -> HttpReply:
    return json_reply(status, msgspec.to_builtins(repair))
