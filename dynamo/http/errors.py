"""Errors to replies: the status of each, and how much of it is told.

Every error body is JSON: message, code, outcome, request_id, and the details of those that a client
can act on. What is unexpected is logged with its traceback and told only by its request id: no
reply shows a trace, a path or a stored value. Knows nothing of how the errors come about.
"""

from __future__ import annotations

import logging
from typing import Any, Final

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
from dynamo.http.reply import HttpReply, json_reply
from dynamo.http.request import Request
from dynamo.http.siblings import context_field, siblings_json
from dynamo.record import Record
from dynamo.requests import Found
from dynamo.resolve import view

logger = logging.getLogger(__name__)

#: By class, nearest base first. An error that is not here is a 500 that says nothing.
STATUSES: Final[dict[type[DynamoError], int]] = {
    InvalidArgument: 400,
    BadContext: 400,
    BadCursor: 400,
    Malformed: 400,
    FaultInjectionOff: 403,
    UnknownBucketType: 404,
    RecordFull: 409,
    Modified: 409,
    RepairRunning: 409,
    PreconditionFailed: 412,
    ValueTooLarge: 413,
    KeyTooLong: 414,
    NotAnOwner: 421,
    TooManyRequests: 429,
    Overloaded: 503,
    Unavailable: 503,
    ReadUncertain: 503,
    WriteUncertain: 503,
    PropertiesUncertain: 503,
    NotReady: 503,
    TooManyListings: 503,
    HintsUndelivered: 503,
    TooManySyncs: 503,
    StorageFull: 507,
    StorageRefusesWrites: 507,
    TooManyProperties: 507,
}


class Refusal(Exception):
    """A request that the edge itself turns down; nothing was done.

    `fields`: header lines to add. `close`: the connection ends with the reply; `abort`: at once.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        fields: bytes = b"",
        close: bool = False,
        abort: bool = False,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.fields = fields
        self.close = close
        self.abort = abort
        self.details = details


def error_body(
    request: Request, message: str, code: str, outcome: Outcome, details: dict[str, Any]
) -> dict[str, Any]:
    """The JSON of an error. Details never hide the four fields that all errors have."""
    return {
        **details,
        "message": message,
        "code": code,
        "outcome": outcome,
        "request_id": request.id.decode("ascii"),
    }


def refusal_reply(request: Request, refusal: Refusal) -> HttpReply:
    """The reply to what the edge turned down."""
    request.edge.metrics.count[f"http_refused_{refusal.code}"] += 1
    return json_reply(
        refusal.status,
        error_body(request, refusal.message, refusal.code, "none", refusal.details),
        refusal.fields,
        close=refusal.close or _client_waits_to_send(request),
        abort=refusal.abort,
    )


def error_reply(request: Request, error: DynamoError) -> HttpReply:
    """The reply to an error of the store, or of what the client sent."""
    status = next((STATUSES[cls] for cls in type(error).__mro__ if cls in STATUSES), None)
    if status is None:
        return failure_reply(request, error, error.outcome)
    request.edge.metrics.count[f"http_error_{error.code}"] += 1
    details = error.details
    fields = b""
    if isinstance(error, RecordFull):
        details, fields = _record_details(request, error)
    elif isinstance(error, (Overloaded, TooManyRequests)):
        fields = b"Retry-After: %d\r\n" % -(-error.details.get("retry_after_ms", 1000) // 1000)
    elif isinstance(error, (TooManyListings, TooManySyncs)):
        fields = b"Retry-After: %d\r\n" % error.details.get("retry_after_s", 1)
    return json_reply(
        status,
        error_body(request, error.message, error.code, error.outcome, details),
        fields,
        close=status == 413 or _client_waits_to_send(request),
    )


def failure_reply(request: Request, error: BaseException, outcome: Outcome) -> HttpReply:
    """The reply to what should not happen: a 500 whose reason is in the log alone."""
    request.edge.metrics.count["http_failures"] += 1
    request_id = request.id.decode("ascii")
    extra = {"request_id": request_id}
    logger.error("request %s failed", request_id, exc_info=error, extra=extra)
    body = error_body(
        request, "the request failed; the node's log has the reason", "internal", outcome, {}
    )
    return json_reply(500, body, close=_client_waits_to_send(request))


def _client_waits_to_send(request: Request) -> bool:
    # It asked for a 100 and got a final answer: whether a body follows is now anybody's guess.
    return "Expect" in request.headers and not request._payload.is_eof()


def _record_details(request: Request, error: RecordFull) -> tuple[dict[str, Any], bytes]:
    found = error.record
    if isinstance(found, Found):
        siblings, context = found.siblings, found.context
    elif isinstance(found, Record):
        siblings, context = view(found, request.edge.clock.wall_ms()).siblings, b""
    else:
        siblings, context = (), b""
    details = {**error.details, **siblings_json(siblings, context)}
    return details, context_field(context)
