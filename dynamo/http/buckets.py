"""The properties of buckets and bucket types (Riak KV's HTTP API).

Turns a request into one call of the backend, and what comes back into a reply. Which properties there
are is the schema's to know. Knows nothing of nodes.
"""

from __future__ import annotations

from typing import Any, Final

from dynamo.errors import InvalidArgument
from dynamo.http import parameters
from dynamo.http.json_body import read_json, refuse_others
from dynamo.http.objects import DEFAULT_TYPE, check_names, timeout_field
from dynamo.http.parameters import Parameters
from dynamo.http.reply import HttpReply, json_reply
from dynamo.http.request import Request
from dynamo.http.target import decode, encode

PROPS: Final = "props"


async def get_props(request: Request) -> HttpReply:
    """GET, HEAD: 200 with all properties that apply to a bucket or a type, under `props`."""
    bucket_type, bucket = _names(request)
    given = _parameters(request)
    props = request.edge.backend.properties(bucket_type, bucket)
    return json_reply(
        200, {PROPS: {**_shown_names(bucket_type, bucket), **props}}, timeout_field(given)
    )


async def put_props(request: Request) -> HttpReply:
    """PUT: 204 once what the body gives is on disk at every node; the rest stays as it is."""
    bucket_type, bucket = _names(request)
    given = _parameters(request)
    props = _read_props(await read_json(request, "properties"))
    for field, name in _shown_names(bucket_type, bucket, all_of_them=True).items():
        # Those who send back what they were shown may; nobody can rename.
        if props.pop(field, name) != name:
            raise InvalidArgument(
                f"{field} is not that of the path", field=field, allowed="that of the path, or none"
            )
    await request.edge.backend.set_properties(bucket_type, bucket, props, given.timeout_ms)
    return HttpReply(204, timeout_field(given))


async def delete_props(request: Request) -> HttpReply:
    """DELETE: 204 once no node has any property of the bucket's, or type's, own."""
    bucket_type, bucket = _names(request)
    given = _parameters(request)
    await request.edge.backend.reset_properties(bucket_type, bucket, given.timeout_ms)
    return HttpReply(204, timeout_field(given))


def _names(request: Request) -> tuple[bytes, bytes]:
    """(bucket type, bucket) of the path, the bucket b"" for a type's. Raises InvalidArgument,
    KeyTooLong, Malformed."""
    segments = request.segments
    if segments[1] != "types":
        bucket_type, bucket = DEFAULT_TYPE, decode(segments[2])
    elif segments[3] == PROPS:
        bucket_type, bucket = decode(segments[2]), b""
    else:
        bucket_type, bucket = decode(segments[2]), decode(segments[4])
    is_type = not bucket and segments[3] == PROPS and segments[1] == "types"
    check_names(bucket_type, b"-" if is_type else bucket, b"-")
    return bucket_type, bucket


def _parameters(request: Request) -> Parameters:
    return parameters.parse(request.raw_query) if request.raw_query else parameters.NONE


def _shown_names(bucket_type: bytes, bucket: bytes, *, all_of_them: bool = False) -> dict[str, str]:
    """Whose properties they are, as far as JSON can say it; `all_of_them`: also what is left out
    of an answer for the type `default`, as Riak does."""
    names: dict[str, str] = {}
    if bucket:
        try:
            names["name"] = bucket.decode("utf-8")
        except UnicodeDecodeError:
            names["encoded_name"] = encode(bucket).decode("ascii")
    if all_of_them or not bucket or bucket_type != DEFAULT_TYPE:
        names["bucket_type"] = bucket_type.decode("utf-8", "backslashreplace")
    return names


def _read_props(body: dict[str, Any]) -> dict[str, Any]:
    """What is under `props`, which is all that there may be."""
    refuse_others(body, (PROPS,))
    props = body.get(PROPS)
    if not isinstance(props, dict):
        raise InvalidArgument(f"{PROPS} is not a JSON object", field=PROPS, allowed="an object")
    return props
