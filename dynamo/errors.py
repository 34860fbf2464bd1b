"""What can go wrong, and whether it may have happened all the same.

Every error says `outcome`: "none", the operation had no effect and never will; or "unknown", it may
have taken effect on some replica or may yet. In doubt it is "unknown". `code` is stable and machine
readable; `details` holds plain JSON values. Knows nothing of HTTP: the status of each is chosen in
`dynamo.http.errors`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

Outcome = Literal["none", "unknown"]


class DynamoError(Exception):
    """Base of every error this store raises on purpose."""

    code: ClassVar[str] = "error"
    outcome: ClassVar[Outcome] = "unknown"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = details


class Malformed(DynamoError):
    """Bytes that are not what they claim to be; nothing was done with them."""

    code = "malformed"
    outcome = "none"


class InvalidArgument(DynamoError):
    """A parameter outside its range; `details` has `field` and `allowed` where they apply."""

    code = "invalid_argument"
    outcome = "none"


class BadContext(DynamoError):
    """A context that is cut, altered, too long, or of another key or cluster."""

    code = "bad_context"
    outcome = "none"


class BadCursor(DynamoError):
    """A cursor that is cut, altered, or of another listing or cluster."""

    code = "bad_cursor"
    outcome = "none"


class KeyTooLong(DynamoError):
    """Key, bucket or type over its limit; `details`: field, limit."""

    code = "key_too_long"
    outcome = "none"


class ValueTooLarge(DynamoError):
    """A value over its limit; `details`: limit."""

    code = "value_too_large"
    outcome = "none"


class UnknownBucketType(DynamoError):
    """No replication class of that name in the ring."""

    code = "unknown_bucket_type"
    outcome = "none"


class PreconditionFailed(DynamoError):
    """A conditional request whose condition does not hold at the minting replica."""

    code = "precondition_failed"
    outcome = "none"


class Modified(DynamoError):
    """A write on condition that nothing came after a context, where something did."""

    code = "modified"
    outcome = "none"


class RecordFull(DynamoError):
    """A write that would pass the cap of siblings, record bytes or context bytes.

    `details`: cap (siblings | record_bytes | context_bytes), limit. `record` holds the siblings
    that are there, so that the caller can resolve them.
    """

    code = "record_full"
    outcome = "none"

    def __init__(self, message: str, *, record: object = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.record = record


class Unavailable(DynamoError):
    """Too few replicas could be asked or answered, and nothing was written.

    `details`: required, received (or, if nobody was asked, how many could have been), of those
    primaries and fallbacks, primaries_required (if some were), alive (primaries that are up), reasons
    (node -> why).
    """

    code = "unavailable"
    outcome = "none"


class ReadUncertain(DynamoError):
    """A blocking read repair was not acknowledged by enough primaries; a read has no outcome to
    doubt, but the repair it sent may land. `details`: required, received, reasons (node -> why)."""

    code = "read_uncertain"
    outcome = "unknown"


class WriteUncertain(DynamoError):
    """Some replica was asked, and w was not reached: the write may live on.

    `details`: required, received, primaries, fallbacks, primaries_required, reasons, as Unavailable.
    """

    code = "write_uncertain"
    outcome = "unknown"


class PropertiesUncertain(DynamoError):
    """Bucket properties are not on disk at every member that is up: they may be in force at some, and
    reach the others by gossip.

    `details`: required, received, reasons (node -> why).
    """

    code = "properties_uncertain"
    outcome = "unknown"


class TooManyProperties(DynamoError):
    """As many buckets were given properties as a cluster keeps; `details`: limit."""

    code = "too_many_properties"
    outcome = "none"


class StorageFull(DynamoError):
    """Free space is below the watermark at every replica that could mint; nothing was written."""

    code = "storage_full"
    outcome = "none"


class NotReady(DynamoError):
    """This node has not formed its ring or is stopping; nothing was done."""

    code = "not_ready"
    outcome = "none"


class FaultInjectionOff(DynamoError):
    """Faults are injected only into a node that was started to let that be done."""

    code = "fault_injection_off"
    outcome = "none"


class Overloaded(DynamoError):
    """This node has as much to do as it takes, and has not begun with this.

    `details`: reason (requests, bytes, lag, lane), retry_after_ms.
    """

    code = "overloaded"
    outcome = "none"


class TooManyRequests(DynamoError):
    """This client has more in flight than its share while others come; `details`: retry_after_ms."""

    code = "too_many_requests"
    outcome = "none"


class TooManyListings(DynamoError):
    """This node lists as much as it does at a time; `details`: limit, retry_after_s."""

    code = "too_many_listings"
    outcome = "none"


class HintsUndelivered(DynamoError):
    """Hints that were there when a sync point began are not delivered yet, and stay where they are.

    `details`: undelivered (target -> {hints, state, reason}).
    """

    code = "hints_undelivered"
    outcome = "unknown"


class TooManySyncs(DynamoError):
    """As many wait for a sync point as may; `details`: limit, retry_after_s."""

    code = "too_many_syncs"
    outcome = "none"


class NotAnOwner(DynamoError):
    """What was asked for is kept by other nodes; `details`: owners (class -> member ids)."""

    code = "not_an_owner"
    outcome = "none"


class RepairRunning(DynamoError):
    """A repair runs at this node, and there is one at a time; `details`: repair (its progress)."""

    code = "repair_running"
    outcome = "none"


class StorageError(DynamoError):
    """The storage engine failed; what was in flight may or may not be on disk."""

    code = "storage_error"


class StorageCorrupt(StorageError):
    """Bytes on disk that fail their checksum. Never served, merged or read as absent."""

    code = "storage_corrupt"


class StorageRefusesWrites(StorageError):
    """The store takes no writes: `details["reason"]` is disk_full, damaged, sync_failed,
    storage_error, or storage_busy, which passes by itself.

    The refused write had no effect.
    """

    code = "storage_refuses_writes"
    outcome = "none"


class DataDirectoryError(DynamoError):
    """A data directory that is locked, of another node or cluster, or of a newer format."""

    code = "data_directory"
    outcome = "none"


class ConfigError(DynamoError):
    """A flag, file or combination of them that cannot work; the message says which and why."""

    code = "config"
    outcome = "none"
