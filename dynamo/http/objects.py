"""The object resource: fetch, store, delete (Riak KV's HTTP API).

Turns a request into one call of the backend, and what comes back into a reply. Knows nothing of
replicas or quorums.
"""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import hdrs

from dynamo.errors import DynamoError, InvalidArgument, KeyTooLong, Modified, PreconditionFailed
from dynamo.http import parameters
from dynamo.http.body import is_awaited, read_body
from dynamo.http.conditions import is_conditional, judge_read, read_condition
from dynamo.http.dates import format_date
from dynamo.http.errors import error_body
from dynamo.http.parameters import Parameters
from dynamo.http.reply import JSON_TYPE, TEXT_TYPE, HttpReply, json_reply, to_json
from dynamo.http.request import Request
from dynamo.http.siblings import (
    accepted_form,
    content_fields,
    context_field,
    expires_field,
    multipart_body,
    siblings_json,
    text_body,
)
from dynamo.http.stamps import ASKS, LOCAL, asked_stamps, check_switch
from dynamo.http.target import decode, encode
from dynamo.http.write_headers import WriteHeaders, find_contexts, read_expires
from dynamo.keys import BUCKET_BYTES_MAX, KEY_BYTES_MAX, TYPE_BYTES_MAX
from dynamo.latency import DELETE, GET, PUT
from dynamo.record import Content, Sibling
from dynamo.requests import Found, WriteOptions, Written
from dynamo.resolve import etag

DEFAULT_TYPE: Final = b"default"
DELETED_FIELD: Final = b"X-Riak-Deleted: true\r\n"
#: Of a reply that is kept: path, header lines and body.
RENDERED_BYTES_MAX: Final = 1024


async def get_object(request: Request) -> HttpReply:
    """GET, HEAD: 200, 300 for siblings, 304, 404 (with a context if it was deleted), 412."""
    bucket_type, bucket, key = names(request)
    given = parameters.parse(request.raw_query) if request.raw_query else parameters.NONE
    request.operation = GET
    options = given.read
    if LOCAL in request.headers:
        check_switch(request.headers, LOCAL)
        options = msgspec.structs.replace(options, local=True)
    if ASKS in request.headers:
        request.stamps = asked_stamps(request.headers)
        options = msgspec.structs.replace(options, stamps=request.stamps)
    found = await request.edge.backend.get(bucket_type, bucket, key, options)
    fields = timeout_field(given)
    is_plain = given is parameters.NONE and not is_conditional(request.headers)
    if is_plain:
        rendered = request.edge.rendered.get(request._message.path, found)
        if rendered is not None:
            return HttpReply(200, *rendered)
    siblings = found.siblings
    if not siblings:
        return _nothing(request, found, fields)
    if given.vtag is not None:
        siblings = tuple(s for s in siblings if s.vtag() == given.vtag)[:1]
        if not siblings:
            return _not_found(
                request, "no sibling has this vtag", context_field(found.context) + fields
            )
    tag = etag(found.record, siblings)
    if is_conditional(request.headers):
        status = judge_read(request.headers, tag, _modified_s(siblings))
        if status == 412:
            raise PreconditionFailed("the object does not match the request's condition")
        if status == 304:
            return HttpReply(304, context_field(found.context) + _etag_field(tag) + fields)
    reply = _values(request, 200, siblings, found.context, tag, fields)
    if is_plain and len(siblings) == 1:
        _keep(request, found, reply)
    return reply


def _keep(request: Request, found: Found, reply: HttpReply) -> None:
    """Keep a small reply for the next who asks so and finds the very same."""
    path = request._message.path
    size = len(path) + len(reply.fields) + len(reply.content)
    if size <= RENDERED_BYTES_MAX:
        request.edge.rendered.put(path, found, (reply.fields, reply.content))


async def put_object(request: Request) -> HttpReply:
    """PUT: 204; with returnbody 200, or 300 for siblings."""
    return await _store(request, *names(request), created=b"")


async def post_object(request: Request) -> HttpReply:
    """POST: the same as PUT, for clients that cannot PUT; with an empty key as `create_object`."""
    if request.segments[-1]:
        return await put_object(request)
    request.segments.pop()
    return await create_object(request)


async def create_object(request: Request) -> HttpReply:
    """POST to the keys of a bucket: 201 with the Location of a generated key."""
    segments = request.segments
    if segments[1] == "types":
        bucket_type, bucket = decode(segments[2]), decode(segments[4])
    else:
        bucket_type, bucket = DEFAULT_TYPE, decode(segments[2])
    key = request.edge.ids.key()
    check_names(bucket_type, bucket, key)
    # Both names are encoded anew: a Location has no byte that a header could not carry.
    if segments[1] == "riak":
        location = b"/riak/%b/%b" % (encode(bucket), key)
    elif segments[1] == "types":
        location = b"/types/%b/buckets/%b/keys/%b" % (encode(bucket_type), encode(bucket), key)
    else:
        location = b"/buckets/%b/keys/%b" % (encode(bucket), key)
    return await _store(request, bucket_type, bucket, key, created=b"Location: %b\r\n" % location)


async def delete_object(request: Request) -> HttpReply:
    """DELETE: 204 once a tombstone is stored, 404 if there was nothing to delete."""
    bucket_type, bucket, key = names(request)
    given = parameters.parse(request.raw_query) if request.raw_query else parameters.NONE
    context, unmodified = find_contexts(request.raw_headers)
    options = _with_headers(request, given.delete, unmodified)
    request.operation = DELETE
    try:
        outcome = await request.edge.backend.delete(bucket_type, bucket, key, context, options)
    except PreconditionFailed as error:
        raise _refused(error, unmodified) from None
    fields = timeout_field(given)
    if isinstance(outcome, Found):
        if outcome.siblings:
            return HttpReply(204, fields)  # what the context names is gone; others came since
        return _nothing(request, outcome, fields)
    return HttpReply(204, acks_field(outcome) + fields)


async def _store(
    request: Request, bucket_type: bytes, bucket: bytes, key: bytes, *, created: bytes
) -> HttpReply:
    given = parameters.parse(request.raw_query) if request.raw_query else parameters.NONE
    headers = WriteHeaders(request.raw_headers)
    if not headers.content_type:
        raise InvalidArgument("a write names its Content-Type", field="Content-Type")
    options = _with_headers(request, given.write, headers.unmodified)
    if headers.expires:
        ttl_s, expires_ms = read_expires(headers.expires, request.edge.clock.wall_ms())
        options = msgspec.structs.replace(options, ttl_s=ttl_s, expires_ms=expires_ms)
    request.operation = PUT
    if is_awaited(request):
        # A body that would be refused all the same is not asked for.
        request.edge.backend.check_put(bucket_type, bucket, key, headers.context, options)
    value = await read_body(request)
    content = Content(value, headers.content_type, headers.content_encoding, headers.metadata)
    try:
        written = await request.edge.backend.put(
            bucket_type, bucket, key, content, headers.context, options
        )
    except PreconditionFailed as error:
        raise _refused(error, headers.unmodified) from None
    fields = created + acks_field(written) + timeout_field(given)
    siblings = written.siblings
    if not given.returnbody or not siblings:
        # No context here: it would cover siblings that the client was never shown.
        return HttpReply(201 if created else 204, fields + _etag_field(written.vtag))
    tag = etag(written.record, siblings)
    status = 201 if created else 200
    return _values(request, status, siblings, written.context, tag, fields)


def _refused(error: PreconditionFailed, unmodified: bytes) -> DynamoError:
    # Riak's clients know a context that is no longer the latest by another status.
    return Modified(error.message) if unmodified else error


def _with_headers(request: Request, options: WriteOptions, unmodified: bytes) -> WriteOptions:
    """`options` with what headers add to them: the context, a condition, stamps to fill in."""
    if unmodified:
        options = msgspec.structs.replace(options, unmodified=unmodified)
    if ASKS in request.headers:
        request.stamps = asked_stamps(request.headers)
        options = msgspec.structs.replace(options, stamps=request.stamps)
    if not is_conditional(request.headers):
        return options
    condition = read_condition(request.headers)
    return options if condition is None else msgspec.structs.replace(options, condition=condition)


def names(request: Request) -> tuple[bytes, bytes, bytes]:
    """(bucket type, bucket, key) of an object's path. Raises as `check_names`, and Malformed."""
    segments = request.segments
    if segments[1] == "types":
        bucket_type, bucket = decode(segments[2]), decode(segments[4])
    else:
        bucket_type, bucket = DEFAULT_TYPE, decode(segments[2])
    key = decode(segments[-1])
    check_names(bucket_type, bucket, key)
    return bucket_type, bucket, key


def check_names(bucket_type: bytes, bucket: bytes, key: bytes) -> None:
    """Raises InvalidArgument for an empty name, KeyTooLong for one over its limit."""
    if (
        0 < len(key) <= KEY_BYTES_MAX
        and 0 < len(bucket) <= BUCKET_BYTES_MAX
        and 0 < len(bucket_type) <= TYPE_BYTES_MAX
    ):
        return
    for field, name, limit in (
        ("type", bucket_type, TYPE_BYTES_MAX),
        ("bucket", bucket, BUCKET_BYTES_MAX),
        ("key", key, KEY_BYTES_MAX),
    ):
        if not name:
            raise InvalidArgument(
                f"the {field} is empty", field=field, allowed=f"1 to {limit} bytes"
            )
        if len(name) > limit:
            raise KeyTooLong(f"a {field} has at most {limit} bytes", field=field, limit=limit)


def timeout_field(given: Parameters) -> bytes:
    """The header line that says which timeout was used, if one was asked for."""
    if not given.timeout_ms:
        return b""
    return b"X-Dynamo-Timeout: %d\r\n" % given.timeout_ms


def acks_field(written: Written) -> bytes:
    """The header line that says who has the write on disk."""
    return b"X-Dynamo-Acks: primary=%d,fallback=%d\r\n" % (
        written.primary_acks,
        written.fallback_acks,
    )


def _etag_field(tag: str) -> bytes:
    if not tag:
        return b""
    return b'ETag: "%b"\r\n' % tag.encode("ascii")


def _modified_s(siblings: tuple[Sibling, ...]) -> int:
    """The last change is the latest of any: what conditions go by, and what Last-Modified says."""
    return max(s.written_ms for s in siblings) // 1000


def _nothing(request: Request, found: Found, fields: bytes) -> HttpReply:
    fields = context_field(found.context) + fields
    if found.deleted:
        fields = DELETED_FIELD + fields
    return _not_found(request, "not found", fields)


def _not_found(request: Request, message: str, fields: bytes) -> HttpReply:
    return json_reply(404, error_body(request, message, "not_found", "none", {}), fields)


def _values(
    request: Request,
    status: int,
    siblings: tuple[Sibling, ...],
    context: bytes,
    tag: str,
    fields: bytes,
) -> HttpReply:
    """`status` with the one value, or 300 with all of them in the form the client accepts."""
    if len(siblings) == 1:
        sibling = siblings[0]
        content = sibling.read()
        if sibling.expires_ms:
            fields = expires_field(sibling) + fields
        head = b'%bETag: "%b"\r\nLast-Modified: %b\r\n%b%b' % (
            context_field(context),
            tag.encode("ascii"),
            format_date(sibling.written_ms // 1000),
            content_fields(content),
            fields,
        )
        return HttpReply(status, head, content.value)
    head = b"%b%bLast-Modified: %b\r\nVary: Accept\r\n%b" % (
        context_field(context),
        _etag_field(tag),
        format_date(_modified_s(siblings)),
        fields,
    )
    form = accepted_form(request.headers.getall(hdrs.ACCEPT, ()))
    if form == "multipart":
        boundary, body = multipart_body(siblings)
        return HttpReply(
            300, head + b"Content-Type: multipart/mixed; boundary=%b\r\n" % boundary, body
        )
    if form == "json":
        return HttpReply(300, head + JSON_TYPE, to_json(siblings_json(siblings, context)))
    return HttpReply(300, head + TEXT_TYPE, text_body(siblings))
