"""What each resource takes and answers, method by method: what documentation is generated from.

A resource is a mapping from methods to operations, and several paths may share one. HEAD is not
here: it is GET without a body, wherever there is a GET. Knows nothing of paths or handlers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dynamo.http.catalog import ANY, JSON, TEXT, Body, Operation, Reply

Resource = Mapping[str, Operation]

OBJECTS: Final = "Objects"
PROPERTY: Final = "Properties"
LISTING: Final = "Listing"
PREFLIST: Final = "Preference lists"
NODE: Final = "The node"
REPAIRS: Final = "Anti-entropy"
FAULT_INJECTION: Final = "Fault injection"

_STAMP_HEADERS: Final = ("X-Dynamo-Coordinator", "X-Dynamo-Began", "X-Dynamo-Committed")
_VALUE_HEADERS: Final = (
    "X-Riak-Vclock",
    "ETag",
    "Last-Modified",
    "Content-Type",
    "Content-Encoding",
    "X-Riak-Meta-*",
    "X-Dynamo-Expires",
    "X-Dynamo-Timeout",
    *_STAMP_HEADERS,
)
_WRITTEN_HEADERS: Final = ("X-Dynamo-Acks", "X-Dynamo-Timeout", "ETag", *_STAMP_HEADERS)
_WRITE_QUERY: Final = ("w", "pw", "dw", "node_confirms", "r", "pr", "timeout", "returnbody")
_WRITE_CONDITIONS: Final = (
    "If-Match",
    "If-None-Match",
    "If-Unmodified-Since",
    "X-Riak-If-Not-Modified",
)
_WRITE_HEADERS: Final = (
    "Content-Type",
    "Content-Encoding",
    "X-Riak-Meta-*",
    "X-Riak-Vclock",
    "X-Dynamo-Expires",
    *_WRITE_CONDITIONS,
    "Accept",
    "Expect",
    "Link",
    "X-Riak-Index-*",
    "X-Dynamo-Stamps",
)
_SHED: Final = ("too_many_requests", "overloaded")
_NAME_ERRORS: Final = ("invalid_argument", "unknown_bucket_type", "key_too_long", *_SHED)
_WRITE_ERRORS: Final = (
    *_NAME_ERRORS,
    "bad_context",
    "record_full",
    "precondition_failed",
    "modified",
    "unavailable",
    "write_uncertain",
    "not_ready",
    "storage_full",
    "storage_refuses_writes",
)
_BODY_ERRORS: Final = ("request_timeout", "value_too_large")


def _json(schema: str) -> Body:
    return Body(media={JSON: schema})


def _siblings(headers: tuple[str, ...]) -> Reply:
    return Reply(
        status=300,
        meaning="There are several siblings, and this is all of them, or (text/plain) their vtags.",
        headers=(
            "X-Riak-Vclock",
            "ETag",
            "Last-Modified",
            "Vary",
            "Content-Type",
            *headers,
            *_STAMP_HEADERS,
        ),
        body=Body(media={"multipart/mixed": "", JSON: "Siblings", TEXT: ""}),
    )


def _one(status: int, meaning: str, headers: tuple[str, ...] = ()) -> Reply:
    return Reply(
        status=status,
        meaning=meaning,
        headers=(*_VALUE_HEADERS, *headers),
        body=Body(media={ANY: ""}),
    )


_VALUE_BODY: Final = Body(
    media={"application/octet-stream": "", TEXT: "", JSON: "", ANY: ""},
    meaning="The value: bytes, of any media type, that the store does not look at.",
)

_GET_OBJECT: Final = Operation(
    section=OBJECTS,
    summary="Read an object.",
    query=(
        *("r", "pr", "node_confirms", "notfound_ok", "basic_quorum", "read_repair"),
        *("timeout", "vtag"),
    ),
    headers=(
        *("Accept", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since"),
        *("X-Dynamo-Local", "X-Dynamo-Stamps"),
    ),
    replies=(
        _one(200, "The value."),
        _siblings(("X-Dynamo-Timeout",)),
        Reply(
            status=304,
            meaning="The client has it: If-None-Match or If-Modified-Since says so.",
            headers=("X-Riak-Vclock", "ETag", "X-Dynamo-Timeout", *_STAMP_HEADERS),
        ),
    ),
    errors=(
        *_NAME_ERRORS,
        *("not_found", "precondition_failed", "not_an_owner", "unavailable", "read_uncertain"),
        "not_ready",
    ),
)


def _store(summary: str) -> Operation:
    return Operation(
        section=OBJECTS,
        summary=summary,
        query=_WRITE_QUERY,
        headers=_WRITE_HEADERS,
        body=_VALUE_BODY,
        replies=(
            Reply(
                status=204,
                meaning="Written: w replicas have it on disk. ETag is the vtag of this write.",
                headers=_WRITTEN_HEADERS,
            ),
            _one(200, "Written; with returnbody, the value there is now.", ("X-Dynamo-Acks",)),
            _siblings(("X-Dynamo-Acks", "X-Dynamo-Timeout")),
        ),
        errors=(*_WRITE_ERRORS, *_BODY_ERRORS),
    )


_CREATE_OBJECT: Final = Operation(
    section=OBJECTS,
    summary="Store an object under a new key, which the node chooses.",
    query=_WRITE_QUERY,
    headers=_WRITE_HEADERS,
    body=_VALUE_BODY,
    replies=(
        Reply(
            status=201,
            meaning="Written; Location is the path of the new object. The body is empty or, with "
            "returnbody, the value.",
            headers=("Location", "X-Dynamo-Acks", *_VALUE_HEADERS),
        ),
    ),
    errors=(*_WRITE_ERRORS, *_BODY_ERRORS),
)
_DELETE_OBJECT: Final = Operation(
    section=OBJECTS,
    summary="Delete what the context covers or, without one, what a read at r shows.",
    query=("rw", "r", "w", "pr", "pw", "dw", "node_confirms", "timeout"),
    headers=("X-Riak-Vclock", *_WRITE_CONDITIONS, "X-Dynamo-Stamps"),
    replies=(
        Reply(
            status=204,
            meaning="Deleted: w replicas have a tombstone on disk. Or what the context covers was "
            "gone already, and others have written since; then without X-Dynamo-Acks.",
            headers=("X-Dynamo-Acks", "X-Dynamo-Timeout", *_STAMP_HEADERS),
        ),
    ),
    errors=(*_WRITE_ERRORS, "not_found"),
)

OBJECT: Final[Resource] = {
    "GET": _GET_OBJECT,
    "PUT": _store("Store an object."),
    "POST": _store("The same as PUT."),
    "DELETE": _DELETE_OBJECT,
}
_SET_ERRORS: Final = (*_NAME_ERRORS, "properties_uncertain", "too_many_properties", "not_ready")
PROPERTIES: Final[Resource] = {
    "GET": Operation(
        section=PROPERTY,
        summary="Read all properties that apply.",
        query=("timeout",),
        replies=(
            Reply(
                status=200,
                meaning="Under `props`; where nothing was given, those of the type, then the defaults.",
                headers=("Content-Type", "X-Dynamo-Timeout"),
                body=_json("Properties"),
            ),
        ),
        errors=(*_NAME_ERRORS, "not_ready"),
    ),
    "PUT": Operation(
        section=PROPERTY,
        summary="Set some properties; the others stay as they are.",
        query=("timeout",),
        headers=("Content-Type", "Expect"),
        body=Body(media={JSON: "PropertiesGiven"}, meaning='`{"props": {...}}`, read strictly.'),
        replies=(
            Reply(
                status=204,
                meaning="In force, and on disk at every member that is up.",
                headers=("X-Dynamo-Timeout",),
            ),
        ),
        errors=(*_SET_ERRORS, "unsupported_media_type", "request_timeout"),
    ),
    "DELETE": Operation(
        section=PROPERTY,
        summary="Forget all that were given here.",
        query=("timeout",),
        replies=(
            Reply(
                status=204,
                meaning="Those of the type, and the defaults, are in force at every member that is up.",
                headers=("X-Dynamo-Timeout",),
            ),
        ),
        errors=_SET_ERRORS,
    ),
}
CREATE: Final[Resource] = {"POST": _CREATE_OBJECT}


def _list(noun: str, schema: str) -> Operation:
    return Operation(
        section=LISTING,
        summary=f"List {noun}.",
        query=(noun, "limit", "cursor", "timeout"),
        replies=(
            Reply(
                status=200,
                meaning="JSON; with stream several objects, one after the other. The last, or the "
                "only one, says whether the list is complete.",
                headers=("Content-Type", "X-Dynamo-Limit", "X-Dynamo-Timeout", "Transfer-Encoding"),
                body=_json(schema),
            ),
        ),
        errors=(*_NAME_ERRORS, "bad_cursor", "not_ready", "too_many_listings"),
    )


KEYS: Final[Resource] = {"GET": _list("keys", "Keys"), **CREATE}
BUCKETS: Final[Resource] = {"GET": _list("buckets", "Buckets")}
PREFERENCE_LIST: Final[Resource] = {
    "GET": Operation(
        section=PREFLIST,
        summary="Which nodes keep a key.",
        replies=(
            Reply(
                status=200,
                meaning="The nodes, in the order in which they are asked.",
                headers=("Content-Type",),
                body=_json("Preflist"),
            ),
        ),
        errors=(*_NAME_ERRORS, "not_ready"),
    )
}


def _get(summary: str, meaning: str, body: Body, *errors: str) -> Resource:
    reply = Reply(status=200, meaning=meaning, headers=("Content-Type",), body=body)
    return {"GET": Operation(section=NODE, summary=summary, replies=(reply,), errors=errors)}


PING: Final = _get("Does the process answer?", "Exactly `OK`.", Body(media={TEXT: ""}))
STATS: Final = _get("Counters and facts of the node.", "One JSON object.", _json("Stats"))
METRICS: Final[Resource] = {
    "GET": Operation(
        section=NODE,
        summary="Counters, gauges and latencies, for Prometheus.",
        headers=("Accept",),
        replies=(
            Reply(
                status=200,
                meaning="Prometheus' text format; OpenMetrics for who prefers it in Accept.",
                headers=("Content-Type",),
                body=Body(media={TEXT: "", "application/openmetrics-text": ""}),
            ),
        ),
    )
}
STATUS: Final = _get(
    "What the node knows of itself and its peers.",
    "One JSON object; also of a node that is not ready.",
    _json("Status"),
)
HINTS: Final = _get(
    "What the node keeps for nodes that missed it, and how its delivery goes.",
    "One JSON object; also of a node that is not ready.",
    _json("Hints"),
)
SYNC_HINTS: Final[Resource] = {
    "POST": Operation(
        section=NODE,
        summary="Wait until all hints that are here now are delivered.",
        query=("timeout",),
        replies=(
            Reply(
                status=200,
                meaning="They are on disk at their targets. `delivered`: how many were meanwhile, by "
                "target.",
                headers=("Content-Type", "X-Dynamo-Timeout"),
                body=_json("HintsSynced"),
            ),
        ),
        errors=("invalid_argument", "hints_undelivered", "too_many_syncs", "not_ready"),
    )
}
TOMBSTONES: Final = _get(
    "What waits to be reaped here, how old it is, and what it waits for.",
    "One JSON object; also of a node that is not ready.",
    _json("Tombstones"),
)
WARS: Final = _get(
    "What the node measures, as a coordinator, of the ways to each replica and back.",
    "Milliseconds, of one request in `sampled`; also of a node that is not ready.",
    _json("Wars"),
)
ANTIENTROPY: Final[Resource] = {
    "GET": Operation(
        section=REPAIRS,
        summary="How far the node agrees with the others, and since when.",
        query=("partition", "limit"),
        replies=(
            Reply(
                status=200,
                meaning="One JSON object; also of a node that is not ready.",
                headers=("Content-Type", "X-Dynamo-Limit"),
                body=_json("AntiEntropy"),
            ),
        ),
        errors=("invalid_argument",),
    )
}
ROOTS: Final[Resource] = {
    "GET": Operation(
        section=REPAIRS,
        summary="What sums up each partition that is kept here, to hold against other nodes'.",
        replies=(
            Reply(
                status=200,
                meaning="One JSON object; also of a node that is not ready.",
                headers=("Content-Type",),
                body=_json("Roots"),
            ),
        ),
    )
}


def _post(summary: str, meaning: str, given: Body | None, *errors: str) -> Resource:
    reply = Reply(status=200, meaning=meaning, headers=("Content-Type",), body=_json("Paused"))
    headers = () if given is None else ("Content-Type", "Expect")
    operation = Operation(
        section=REPAIRS,
        summary=summary,
        headers=headers,
        body=given,
        replies=(reply,),
        errors=("overloaded", "not_ready", *errors),
    )
    return {"POST": operation}


_BODY: Final = ("invalid_argument", "unsupported_media_type", "request_timeout")
PAUSE: Final = _post(
    "Begin no exchange any more.",
    "It begins none by itself until it is told to, or starts anew. A repair runs all the same.",
    Body(media={JSON: "PauseGiven"}, meaning="Why, for people; or nothing. Read strictly."),
    *_BODY,
)
RESUME: Final = _post("Begin exchanges again.", "It goes on, whether it was paused or not.", None)


def _repaired(status: int, meaning: str) -> Reply:
    return Reply(status=status, meaning=meaning, headers=("Content-Type",), body=_json("Repair"))


REPAIR: Final[Resource] = {
    "GET": Operation(
        section=REPAIRS,
        summary="How far the repair is, or what became of the last.",
        replies=(_repaired(200, "`progress` is null if there was none since the node's start."),),
    ),
    "POST": Operation(
        section=REPAIRS,
        summary="Compare with the other owners now, and bring both sides up to date.",
        headers=("Content-Type", "Expect"),
        body=Body(
            media={JSON: "RepairGiven"},
            meaning="What it is narrowed to; or nothing, for all that the node keeps. Read strictly.",
        ),
        replies=(_repaired(202, "It runs."),),
        errors=(*_BODY, "overloaded", "not_an_owner", "repair_running", "not_ready"),
    ),
    "DELETE": Operation(
        section=REPAIRS,
        summary="Stop the repair that runs, if one does.",
        replies=(
            _repaired(
                200, "None runs. What was repaired stays so; another may be started at once."
            ),
        ),
        errors=("overloaded", "not_ready"),
    ),
}


def _faults(meaning: str) -> tuple[Reply, ...]:
    return (Reply(status=200, meaning=meaning, headers=("Content-Type",), body=_json("Faults")),)


FAULTS: Final[Resource] = {
    "GET": Operation(
        section=FAULT_INJECTION,
        summary="The rules in force, and how many messages are held now.",
        replies=_faults("Also of a node that is not ready."),
        errors=("fault_injection_off",),
    ),
    "PUT": Operation(
        section=FAULT_INJECTION,
        summary="Go by these rules from now on, and by none of those before.",
        headers=("Content-Type", "Expect"),
        body=Body(media={JSON: "FaultsGiven"}, meaning='`{"rules": [...]}`, read strictly.'),
        replies=_faults("They are in force. What was held before them still is."),
        errors=(*_BODY, "fault_injection_off", "overloaded"),
    ),
    "DELETE": Operation(
        section=FAULT_INJECTION,
        summary="Go by no rules any more.",
        replies=_faults("No message is delayed from now on, and nobody is cut off."),
        errors=("fault_injection_off", "overloaded"),
    ),
}
LIVE: Final = _get(
    "Should the process be left alone?",
    "As long as the process answers: a restart would not help.",
    _json("Live"),
)
READY: Final = _get("Does the node take requests?", "It does.", _json("Ready"), "not_ready")
RESOURCES: Final = _get(
    "The resource map, which clients of Riak ask for first.",
    "A URL for each resource there is.",
    _json("Resources"),
)
OPENAPI: Final = _get("This API as an OpenAPI 3.1 document.", "The document.", _json("OpenApi"))
