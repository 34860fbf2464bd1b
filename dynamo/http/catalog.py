"""What there is to say of a request and its reply: parameters, headers, operations as plain data.

Two tables, of query parameters and of headers, and the types that operations are described with.
The OpenAPI document and docs/http.md are generated from them; tests hold them against what the code
reads and writes. Knows nothing of routes or of how a request is handled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from dynamo.agreement import PAIRS_SHOWN, PAIRS_SHOWN_MAX
from dynamo.keys import BUCKET_BYTES_MAX, KEY_BYTES_MAX, TYPE_BYTES_MAX
from dynamo.requests import (
    LIST_LIMIT_MAX,
    LIST_TIMEOUT_MS_DEFAULT,
    TIMEOUT_MS_DEFAULT,
    TIMEOUT_MS_MAX,
    TTL_S_MAX,
)

JSON: Final = "application/json"
TEXT: Final = "text/plain"
#: Any media type: what comes back is what was stored.
ANY: Final = "*/*"


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the path or of the query. `allowed` and `default` are for people, `schema` (JSON
    Schema) for programs; `default` is "" where there is none."""

    name: str
    schema: Mapping[str, Any]
    allowed: str
    meaning: str
    default: str = ""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """A header line. A `name` that ends in a star stands for all that begin so."""

    name: str
    meaning: str
    schema: Mapping[str, Any] = msgspec.field(default_factory=lambda: {"type": "string"})


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """What a request or a reply carries: media types, and the name of each one's schema ("" for
    bytes that mean nothing to the store)."""

    media: Mapping[str, str]
    meaning: str = ""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A reply that is no error. `headers`: names of REPLY_HEADERS, besides those of all replies."""

    status: int
    meaning: str
    headers: tuple[str, ...] = ()
    body: Body | None = None


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """What one method of a resource takes and answers.

    `query`, `headers`: names of PARAMETERS and REQUEST_HEADERS. `errors`: codes, besides those of
    all operations. `section`: where it stands in the documentation.
    """

    section: str
    summary: str
    replies: tuple[Reply, ...]
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    body: Body | None = None
    errors: tuple[str, ...] = ()


def _by_name(*rows: Parameter) -> dict[str, Parameter]:
    return {row.name: row for row in rows}


def _name(name: str, limit: int, meaning: str) -> Parameter:
    return Parameter(
        name=name,
        schema={"type": "string", "minLength": 1, "maxLength": limit},
        allowed=f"1 to {limit} bytes, any, percent-encoded",
        meaning=meaning,
    )


PATH_PARAMETERS: Final = _by_name(
    _name("type", TYPE_BYTES_MAX, "The bucket type: a replication class of the cluster file."),
    _name("bucket", BUCKET_BYTES_MAX, "The bucket."),
    _name("key", KEY_BYTES_MAX, "The key."),
)

COUNT_WORDS: Final = ("one", "quorum", "all", "default")


def _count(name: str, least: int, default: str, meaning: str) -> Parameter:
    return Parameter(
        name=name,
        schema={"anyOf": [{"type": "integer", "minimum": least}, {"enum": list(COUNT_WORDS)}]},
        allowed=f"{least} to n, {', '.join(COUNT_WORDS)}",
        default=default,
        meaning=meaning,
    )


def _flag(name: str, default: str, meaning: str) -> Parameter:
    return Parameter(
        name=name,
        schema={"enum": ["true", "false", "default"]},
        allowed="true, false, default",
        default=default,
        meaning=meaning,
    )


def _list_of(name: str) -> Parameter:
    return Parameter(
        name=name,
        schema={"enum": ["true", "stream", "false"]},
        allowed="true, stream, false",
        default="false",
        meaning=f"true: list the {name} in one JSON object; stream: in one after the other, as they "
        "are found; false: do not list.",
    )


PARAMETERS: Final = _by_name(
    _count("r", 1, "quorum", "How many replicas must answer a read."),
    _count("w", 1, "quorum", "How many replicas must have a write on disk."),
    _count("pr", 0, "0", "Of the answers to a read, how many must come from primaries."),
    _count("pw", 0, "0", "Of the acknowledgements of a write, how many must be of primaries."),
    _count("dw", 0, "0", "Durable acknowledgements. All are durable here, so it can only raise w."),
    _count("rw", 1, "quorum", "For a DELETE: stands in for the r and the w that are not given."),
    _count("node_confirms", 0, "0", "How many distinct nodes must have answered."),
    Parameter(
        name="timeout",
        schema={"type": "integer", "minimum": 1},
        allowed=f"1 to {TIMEOUT_MS_MAX}; what is above is clamped",
        default=f"{TIMEOUT_MS_DEFAULT}; of a listing, or of a wait for hints, "
        f"{LIST_TIMEOUT_MS_DEFAULT}",
        meaning="Milliseconds until the request is given up. The one in use is told in "
        "X-Dynamo-Timeout.",
    ),
    Parameter(
        name="returnbody",
        schema={"type": "boolean"},
        allowed="true, false",
        default="false",
        meaning="A write answers with what the key now holds, as a GET would, context included.",
    ),
    _flag("notfound_ok", "true", "A replica that has no record counts toward r."),
    _flag(
        "basic_quorum",
        "false",
        "With notfound_ok=false: 404 as soon as a majority of the replicas has no record.",
    ),
    Parameter(
        name="read_repair",
        schema={"enum": ["async", "blocking"]},
        allowed="async, blocking",
        default="async",
        meaning="blocking: answer only once n - r + 1 primaries have what is answered on disk, so "
        "that no later quorum read shows less.",
    ),
    Parameter(
        name="vtag",
        schema={"type": "string"},
        allowed="a vtag that a 300 named",
        meaning="Answer with this sibling alone.",
    ),
    _list_of("keys"),
    _list_of("buckets"),
    Parameter(
        name="limit",
        schema={"type": "integer", "minimum": 1},
        allowed=f"1 to {LIST_LIMIT_MAX}, of pairs {PAIRS_SHOWN_MAX}; what is above is clamped",
        default=f"all names; {PAIRS_SHOWN} pairs",
        meaning="At most so many names, or pairs of a partition and a peer. The limit in use is told in "
        "X-Dynamo-Limit; the cursor of the reply, where there is one, goes on from there.",
    ),
    Parameter(
        name="cursor",
        schema={"type": "string"},
        allowed="a cursor that a listing of the same told",
        meaning="Go on where that listing stopped.",
    ),
    Parameter(
        name="partition",
        schema={"type": "integer", "minimum": 0},
        allowed="0 to the number of partitions, less one",
        default="all",
        meaning="Tell of this partition alone.",
    ),
)


def _headers(*rows: Header) -> dict[str, Header]:
    return {row.name: row for row in rows}


_CONTEXT_SCHEMA: Final = {"type": "string", "contentEncoding": "base64"}
_TAGS_SCHEMA: Final = {"type": "string", "pattern": r'^(\*|(W/)?"[!#-~]*"(, (W/)?"[!#-~]*")*)$'}
_DATE_SCHEMA: Final = {
    "type": "string",
    "pattern": "^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-3][0-9] "
    "(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} "
    "[0-2][0-9]:[0-5][0-9]:[0-6][0-9] GMT$",
}

_EXPIRES_SCHEMA: Final = {
    "anyOf": [{"type": "integer", "minimum": 0, "maximum": TTL_S_MAX}, _DATE_SCHEMA]
}
_NS_SCHEMA: Final = {"type": "integer", "minimum": 1}
_REQUEST_ID_SCHEMA: Final = {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"}

REQUEST_HEADERS: Final = _headers(
    Header(
        name="X-Riak-Vclock",
        meaning="The context of the read that the write builds on. It replaces what that read "
        "showed, and nothing else; without one a write replaces nothing.",
        schema=_CONTEXT_SCHEMA,
    ),
    Header(name="Content-Type", meaning="Stored with the value and given back. A write needs it."),
    Header(
        name="Content-Encoding",
        meaning="Stored with the value and given back; never acted on.",
    ),
    Header(name="X-Riak-Meta-*", meaning="Metadata: stored with the value and given back."),
    Header(
        name="X-Dynamo-Expires",
        meaning=f"When the value expires: whole seconds from now, 1 to {TTL_S_MAX} (ten years), or an "
        "HTTP date, to come and no further ahead. `0`: never, whatever the bucket's `ttl` says, which "
        "goes for a write without this header.",
        schema=_EXPIRES_SCHEMA,
    ),
    Header(
        name="Link",
        meaning='Only rel="up", which clients echo, and which is ignored; any other is refused: '
        "links are not built.",
    ),
    Header(name="X-Riak-Index-*", meaning="Refused: secondary indexes are not built."),
    Header(
        name="If-Match",
        meaning="Go on only if the object's ETag is among these; `*`: if there is an object.",
        schema=_TAGS_SCHEMA,
    ),
    Header(
        name="If-None-Match",
        meaning="Go on only if the object's ETag is not among these; `*`: if there is no object.",
        schema=_TAGS_SCHEMA,
    ),
    Header(
        name="If-Modified-Since",
        meaning="A read answers 304 if the object is no newer. Of no meaning on a write.",
        schema=_DATE_SCHEMA,
    ),
    Header(
        name="If-Unmodified-Since",
        meaning="Go on only if the object is no newer. If-Match overrides it.",
        schema=_DATE_SCHEMA,
    ),
    Header(
        name="X-Riak-If-Not-Modified",
        meaning="A context: go on only if the object is there, and is what was shown with it. Else "
        "409, as Riak answers.",
        schema=_CONTEXT_SCHEMA,
    ),
    Header(
        name="Accept",
        meaning="How several siblings are told: `multipart/mixed`, else `application/json`, else "
        "`text/plain`. It never leads to a 406.",
    ),
    Header(
        name="Expect",
        meaning="`100-continue`: the body is asked for only if nothing known before speaks "
        "against the write.",
    ),
    Header(
        name="X-Request-Id",
        meaning="The client's own name for the request; taken if it is plain and short, so that "
        "its log and the node's can be put side by side.",
        schema=_REQUEST_ID_SCHEMA,
    ),
    Header(
        name="X-Dynamo-Local",
        meaning="`1`: read what this node's own copy holds, and no more; nobody else is asked, nor "
        "repaired. Counts and read_repair have no meaning then. A node that keeps no copy answers 421.",
        schema={"const": "1"},
    ),
    Header(
        name="X-Dynamo-Stamps",
        meaning="`1`: tell X-Dynamo-Coordinator, X-Dynamo-Began and X-Dynamo-Committed.",
        schema={"const": "1"},
    ),
    Header(name="Host", meaning="Exactly one, on every request of HTTP/1.1."),
    Header(name="Content-Length", meaning="Of a body that is not chunked."),
    Header(name="Transfer-Encoding", meaning="`chunked` and nothing else."),
)

#: Of REQUEST_HEADERS, what any operation takes.
COMMON_REQUEST_HEADERS: Final = ("X-Request-Id",)

REPLY_HEADERS: Final = _headers(
    Header(
        name="X-Riak-Vclock",
        meaning="The context: hand it back with the write that builds on this read.",
        schema=_CONTEXT_SCHEMA,
    ),
    Header(
        name="X-Riak-Deleted",
        meaning="`true`: there was a value, and it was deleted.",
        schema={"const": "true"},
    ),
    Header(name="ETag", meaning="Names what was answered: of one value its vtag."),
    Header(name="Last-Modified", meaning="When the latest of the values was written."),
    Header(
        name="Content-Type",
        meaning="Of one value as it was stored; of several, and of errors, what the body is.",
    ),
    Header(name="Content-Encoding", meaning="As it was stored with the value."),
    Header(name="X-Riak-Meta-*", meaning="As they were stored with the value."),
    Header(
        name="X-Dynamo-Expires",
        meaning="When the value expires, as an HTTP date; of a value that does.",
        schema=_DATE_SCHEMA,
    ),
    Header(name="Vary", meaning="`Accept`, where that decided the form of the body."),
    Header(name="Location", meaning="Path of the object that was created."),
    Header(
        name="X-Dynamo-Acks",
        meaning="`primary=P,fallback=F`: how many nodes of each kind had the write on disk when "
        "it was answered.",
        schema={"type": "string", "pattern": "^primary=[0-9]+,fallback=[0-9]+$"},
    ),
    Header(
        name="X-Dynamo-Timeout",
        meaning="Milliseconds; the timeout in use, where one was asked for.",
        schema={"type": "integer", "minimum": 1, "maximum": TIMEOUT_MS_MAX},
    ),
    Header(
        name="X-Dynamo-Limit",
        meaning="The limit in use, where one was asked for.",
        schema={"type": "integer", "minimum": 1, "maximum": LIST_LIMIT_MAX},
    ),
    Header(
        name="X-Dynamo-Coordinator",
        meaning="Id of the node that coordinated the operation. This and the next two only for who asks "
        "with X-Dynamo-Stamps; on errors too, as far as it went.",
    ),
    Header(
        name="X-Dynamo-Began",
        meaning="When the coordinator began: nanoseconds of that node's CLOCK_MONOTONIC, which all "
        "processes of its host share.",
        schema=_NS_SCHEMA,
    ),
    Header(
        name="X-Dynamo-Committed",
        meaning="When it had the acknowledgement, or the answer, that made them enough; by the same "
        "clock. Not there if it never had.",
        schema=_NS_SCHEMA,
    ),
    Header(name="Accept", meaning="The media type that a body has to have, on a 415."),
    Header(name="Allow", meaning="The methods there are, on a 405."),
    Header(name="Retry-After", meaning="Seconds after which to try again."),
    Header(
        name="X-Request-Id",
        meaning="Names the request in the node's log; on every reply.",
        schema=_REQUEST_ID_SCHEMA,
    ),
    Header(name="Date", meaning="The node's clock; on every reply."),
    Header(name="Server", meaning="`dynamo`; on every reply."),
    Header(name="Content-Length", meaning="On every reply but 204, 304 and listings."),
    Header(name="Transfer-Encoding", meaning="`chunked`, of a listing."),
    Header(name="Connection", meaning="`close` where the connection ends with the reply."),
)
#: Of REPLY_HEADERS, those that any reply may have.
COMMON_HEADERS: Final = ("X-Request-Id", "Date", "Server", "Content-Length", "Connection")
