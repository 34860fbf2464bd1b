"""What it means for a write that a node refuses it.

Knows nothing of who asked, or what is done about it.
"""

from __future__ import annotations

from typing import Final

from dynamo.errors import DynamoError, InvalidArgument, Malformed, PreconditionFailed, RecordFull
from dynamo.record import EMPTY, Record, decode_record
from dynamo.rpc.messages import Refused

#: Refusals by nodes that cannot store anything now: another is asked to, if the write is short of
#: acknowledgements.
CANNOT_STORE: Final = frozenset(
    ("disk_full", "damaged", "sync_failed", "storage_error", "not_ready", "hint_refused")
)
#: Refusals by nodes that have the write, or that must not have it: it is not owed to them.
NOT_OWED: Final = frozenset(
    ("older", "refilling", "ahead", "malformed", "stale_epoch", "not_owner")
)


def error_of_mint(refused: Refused) -> DynamoError | None:
    """What the client is told, where no other node would mint it either; None where one may."""
    if refused.code == "precondition_failed":
        return PreconditionFailed(refused.detail)
    if refused.code == "record_full":
        return RecordFull(refused.detail, record=_record_of(refused), cap=refused.limit)
    if refused.code == "malformed":
        return InvalidArgument(refused.detail, field="key")
    return None


def _record_of(refused: Refused) -> Record:
    """The record that is full; an empty one if the peer sent none that can be read."""
    try:
        return decode_record(refused.record) if refused.record else EMPTY
    except Malformed:
        return EMPTY
