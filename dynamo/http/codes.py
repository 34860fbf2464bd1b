"""The one table of error codes: status, outcome, when. What a client may meet, and no more.

Errors of the store take their code and outcome from `dynamo.errors` and their status from
`dynamo.http.errors`; those that the edge raises itself say theirs here, and a test holds both
against the code. Knows nothing of which operation meets which.
"""

from __future__ import annotations

from typing import Final

import msgspec

from dynamo.errors import (
    BadContext,
    BadCursor,
    DynamoError,
    FaultInjectionOff,
    HintsUndelivered,
    InvalidArgument,
    KeyTooLong,
    Malformed,
    Modified,
    NotAnOwner,
    NotReady,
    Outcome,
    Overloaded,
    PreconditionFailed,
    PropertiesUncertain,
    ReadUncertain,
    RecordFull,
    RepairRunning,
    StorageFull,
    StorageRefusesWrites,
    TooManyListings,
    TooManyProperties,
    TooManyRequests,
    TooManySyncs,
    Unavailable,
    UnknownBucketType,
    ValueTooLarge,
    WriteUncertain,
)
from dynamo.http.errors import STATUSES


class ErrorCode(msgspec.Struct, frozen=True, kw_only=True):
    """An error as clients see it. `details`: fields of its body besides those of all errors.
    `headers`: names of `catalog.REPLY_HEADERS` that its reply may have."""

    code: str
    status: int
    outcome: Outcome
    when: str
    details: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()


def _of(
    cls: type[DynamoError],
    when: str,
    *,
    details: tuple[str, ...] = (),
    headers: tuple[str, ...] = (),
) -> ErrorCode:
    return ErrorCode(
        code=cls.code,
        status=STATUSES[cls],
        outcome=cls.outcome,
        when=when,
        details=details,
        headers=headers,
    )


def _edge(status: int, code: str, when: str, *, headers: tuple[str, ...] = ()) -> ErrorCode:
    return ErrorCode(code=code, status=status, outcome="none", when=when, headers=headers)


_QUORUM: Final = ("required", "received", "reasons")
#: Of reads and writes.
_ACKS: Final = (*_QUORUM, "primaries", "primaries_required", "fallbacks")

_ROWS: Final = (
    _of(
        Malformed,
        "Not well-formed HTTP; a `%` without two hexadecimal digits; another host or a fragment "
        "in the target; a body that is cut off.",
    ),
    _of(
        InvalidArgument,
        "A parameter, header or name that is out of range. `field` names it, `allowed` says what "
        "would do.",
        details=("field", "allowed"),
    ),
    _of(
        BadContext,
        "An X-Riak-Vclock that is cut, altered, too long, or of another key or cluster.",
        details=("limit",),
    ),
    _of(BadCursor, "A cursor that is cut, altered, or of another listing or cluster."),
    _of(
        FaultInjectionOff,
        "The node was not started with `--fault-injection`: nobody does anything to its messages.",
    ),
    _of(UnknownBucketType, "The cluster has no bucket type of this name."),
    ErrorCode(
        code="not_found",
        status=404,
        outcome="none",
        when="There is no value under this key; with X-Riak-Deleted and a context if there was "
        "one. Or none with this vtag.",
        headers=("X-Riak-Vclock", "X-Riak-Deleted", "X-Dynamo-Timeout"),
    ),
    _edge(404, "no_such_resource", "Nothing is at this path."),
    ErrorCode(
        code="method_not_allowed",
        status=405,
        outcome="none",
        when="The resource does not have this method. `allowed` and Allow list those it has.",
        details=("allowed",),
        headers=("Allow",),
    ),
    _edge(408, "request_timeout", "The body stood still, or came too slowly."),
    _of(
        RecordFull,
        "The write would leave more siblings, or a larger record or context, than there may be. "
        "The body holds the siblings: resolve them with the context.",
        details=("cap", "limit", "siblings", "context"),
        headers=("X-Riak-Vclock",),
    ),
    _of(
        Modified,
        "A condition of a write that brings X-Riak-If-Not-Modified does not hold: the object was "
        "written or deleted since, or is not there. Nothing was done.",
    ),
    _of(
        RepairRunning,
        "A repair runs at this node already, and there is one at a time. `repair` says how far it is.",
        details=("repair",),
    ),
    _of(
        PreconditionFailed,
        "If-Match, If-None-Match or If-Unmodified-Since does not hold; nothing was done.",
    ),
    _of(ValueTooLarge, "The value is over the node's limit.", details=("limit",)),
    _of(KeyTooLong, "Type, bucket or key is over its limit.", details=("field", "limit")),
    ErrorCode(
        code="unsupported_media_type",
        status=415,
        outcome="none",
        when="A body whose Content-Type is not JSON where JSON is due.",
        details=("field", "allowed"),
        headers=("Accept",),
    ),
    _of(
        NotAnOwner,
        "The partition, or with X-Dynamo-Local the key, is not kept here: ask one of its `owners`, "
        "which are named by class.",
        details=("owners",),
    ),
    _edge(417, "expectation_failed", "An Expect other than 100-continue."),
    _of(
        TooManyRequests,
        "The client, by its address, has more requests in flight than its share while others come. "
        "Nothing was done; `retry_after_ms` says when to try again.",
        details=("retry_after_ms",),
        headers=("Retry-After",),
    ),
    ErrorCode(
        code="internal",
        status=500,
        outcome="unknown",
        when="What should not happen. The node's log has the reason, under the request id.",
    ),
    _of(
        Overloaded,
        "The node has as much to do as it takes: `reason` says of what (requests, bytes, lag, lane). "
        "Nothing was done; `retry_after_ms` says when to try again, or ask another node.",
        details=("reason", "retry_after_ms"),
        headers=("Retry-After",),
    ),
    _of(
        Unavailable,
        "Too few replicas could be reached, or answered in time; nothing was written.",
        details=(*_ACKS, "alive"),
    ),
    _of(
        ReadUncertain,
        "With read_repair=blocking: too few primaries have acknowledged what was read.",
        details=_QUORUM,
    ),
    _of(
        WriteUncertain,
        "Some replica may have the write, but w have not acknowledged it. It may be read later, "
        "or be gone. Read before you write again.",
        details=_ACKS,
    ),
    _of(
        PropertiesUncertain,
        "The properties are not on disk at every member that is up: they may be in force at some, and "
        "reach the others by gossip. `reasons` names who has not confirmed.",
        details=_QUORUM,
    ),
    _of(NotReady, "The node has no ring yet, or has been away, or is stopping; ask another."),
    _of(
        TooManyListings,
        "The node lists as much as it does at a time.",
        details=("limit", "retry_after_s"),
        headers=("Retry-After",),
    ),
    _of(
        HintsUndelivered,
        "At the timeout, hints that were there when the request came are not delivered. They stay, and "
        "are delivered later. `undelivered` says how many are left for whom, and why.",
        details=("undelivered",),
    ),
    _of(
        TooManySyncs,
        "As many wait until hints are delivered as may.",
        details=("limit", "retry_after_s"),
        headers=("Retry-After",),
    ),
    _edge(
        503,
        "too_many_connections",
        "The node has as many connections as it takes.",
        headers=("Retry-After",),
    ),
    _of(StorageFull, "Every replica that answered is out of disk space.", details=("reasons",)),
    _of(
        TooManyProperties,
        "As many buckets have properties of their own as a cluster keeps.",
        details=("limit",),
    ),
    _of(StorageRefusesWrites, "The node's storage takes no writes.", details=("reason",)),
)

ERRORS: Final = {row.code: row for row in _ROWS}
#: What any operation may answer.
COMMON_ERRORS: Final = ("malformed", "expectation_failed", "internal", "too_many_connections")
