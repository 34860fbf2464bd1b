"""What nodes say to each other: one frozen struct a message, tagged by a small integer.

Bodies are msgpack arrays. A tag is never reused; fields are only ever added at the end, with a
default. The bounds written here are checked when a message is decoded. Knows nothing of sockets or
of how a message is carried out.

Every request about a key names `key` (the routing key of `dynamo.keys`), `cls` (id of the
replication class), `partition`, `epoch` (the sender's), and `deadline_ms`: the milliseconds the
sender still waits, counted from when it was sent (0: it waits no longer). One that is `measured` is
answered with a `stamp`: the receiver's wall clock when it was carried out, 0 where it was not asked for.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from dynamo.keys import KEY_BYTES_MAX, ROUTING_KEY_BYTES_MAX, TYPE_BYTES_MAX
from dynamo.rpc.exchange_messages import (
    AskHashes,
    CompareRoots,
    Hashes,
    KeyElements,
    ListElements,
    Looked,
    LookKeys,
    Pull,
    Pulled,
    RootsDiffer,
)
from dynamo.rpc.fields import (
    CHANGE_MAX,
    CONDITION_TAGS_MAX,
    DEADLINE_MS_MAX,
    DELIVERIES_MAX,
    INT64_MAX,
    LISTED_MAX,
    NO_HINT,
    OWED_MAX,
    PROPERTY_BYTES_MAX,
    PROPERTY_ENTRIES_MAX,
    RUMOUR_BYTES_MAX,
    SCAN_BYTES_MAX,
    Bucket,
    BucketOrNone,
    BucketType,
    ClassId,
    DeadlineMs,
    DigestBytes,
    Epoch,
    Key,
    Kind,
    ListedMax,
    MemberIndex,
    Message,
    Milliseconds,
    Partition,
    Position,
    RoutingKey,
    Rumours,
    Skipped,
    Stamp,
    Tags,
    Targets,
    WallNs,
    WriteNumber,
)
from dynamo.rpc.reap_messages import (
    Drop,
    Dropped,
    Held,
    HintsSeen,
    Holds,
    LookHints,
    Settled,
    SettleUp,
)
from dynamo.version import Counter, Vector

__all__ = (
    "CHANGE_MAX",
    "CONDITION_TAGS_MAX",
    "DEADLINE_MS_MAX",
    "DELIVERIES_MAX",
    "LISTED_MAX",
    "NO_HINT",
    "OWED_MAX",
    "PROPERTY_BYTES_MAX",
    "PROPERTY_ENTRIES_MAX",
    "RUMOUR_BYTES_MAX",
    "SCAN_BYTES_MAX",
)

_PropertyEntries = Annotated["tuple[PropertyEntry, ...]", Meta(max_length=PROPERTY_ENTRIES_MAX)]


# Requests ---------------------------------------------------------------------------------------


class Ping(Message, frozen=True, array_like=True, tag=1):
    """Answered by Pong. `write_number`: the sender's last synced write, 0 to say nothing of it."""

    deadline_ms: DeadlineMs
    write_number: WriteNumber = 0


class Condition(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A precondition, judged by the minting replica against its own record.

    `if_match`, `if_none_match`: vtags or record ETags; ("*",) means "any live sibling".
    `unmodified_since_ms`: 0 for none. `unmodified`: a vector that has to cover what is there, which
    has to be something; () for none. `now_ms`: wall clock of the coordinator, by which expiry is judged;
    0 for the replica's own.
    """

    if_match: Tags = ()
    if_none_match: Tags = ()
    unmodified_since_ms: Milliseconds = 0
    unmodified: Vector = ()
    now_ms: Milliseconds = 0


class Mint(Message, frozen=True, array_like=True, tag=2):
    """Give a write its dot and apply it. Answered by Minted at once and Synced later, or Refused.

    `context`: vector of what the client had seen, () for none. `kind`, `content`,
    `expires_ms` as in `Sibling`. `seen`: a record (encoded, or b"") to merge before judging
    `condition` and minting. `hint_for`: index of the absent member this node stands in for.
    `lww`: of a bucket whose last write wins: the write is stamped, and covers all that the minter has.
    `above`: the highest stamp of what the client had seen, 0 for none. `owes`: indexes of absent owners
    that nobody stands in for: the minter, an owner itself, notes that it owes them the key.
    """

    key: RoutingKey
    cls: ClassId
    partition: Partition
    epoch: Epoch
    deadline_ms: DeadlineMs
    context: Vector
    kind: Kind
    content: bytes
    expires_ms: Milliseconds = 0
    seen: bytes = b""
    condition: Condition | None = None
    hint_for: MemberIndex = NO_HINT
    lww: bool = False
    above: Stamp = 0
    owes: Targets = ()
    measured: bool = False


class Store(Message, frozen=True, array_like=True, tag=3):
    """Merge `record` (encoded) into the receiver's. Answered by Synced once on disk, or Refused.

    `repair` marks read repair and refill, which are counted apart from client writes. `lww`: a client
    write of a bucket whose last write wins; refused as `older` where the result shows another.
    """

    key: RoutingKey
    cls: ClassId
    partition: Partition
    epoch: Epoch
    deadline_ms: DeadlineMs
    record: bytes
    repair: bool = False
    hint_for: MemberIndex = NO_HINT
    lww: bool = False
    measured: bool = False


class Fetch(Message, frozen=True, array_like=True, tag=4):
    """Ask for the record (`body`) or its vector and digest. Answered by Body or Digest, or Refused.

    A record whose sync is pending is waited for first; later writes do not prolong the wait.
    `hinted`: asks a node that owns nothing here for all that it holds of the key for others, merged.
    """

    key: RoutingKey
    cls: ClassId
    partition: Partition
    epoch: Epoch
    deadline_ms: DeadlineMs
    body: bool
    hinted: bool = False
    measured: bool = False


class Scan(Message, frozen=True, array_like=True, tag=5):
    """Ask for a page of a partition's records, from the key after `after`. Answered by Page."""

    cls: ClassId
    partition: Partition
    epoch: Epoch
    deadline_ms: DeadlineMs
    after: Annotated[bytes, Meta(max_length=ROUTING_KEY_BYTES_MAX)]
    bytes_max: Annotated[int, Meta(ge=1, le=SCAN_BYTES_MAX)]


class AskRing(Message, frozen=True, array_like=True, tag=6):
    """Ask for the receiver's ring. Answered by RingIs."""

    deadline_ms: DeadlineMs


class ListKeys(Message, frozen=True, array_like=True, tag=7):
    """Ask for a page of a bucket's keys in one partition, from the key after `after` (b"": from the
    first). Answered by Keys, or Refused.

    `prefix`: `dynamo.keys.bucket_prefix`.
    """

    cls: ClassId
    partition: Partition
    epoch: Epoch
    deadline_ms: DeadlineMs
    prefix: Annotated[bytes, Meta(min_length=5, max_length=ROUTING_KEY_BYTES_MAX - KEY_BYTES_MAX)]
    after: Key
    count_max: ListedMax


class ListBuckets(Message, frozen=True, array_like=True, tag=8):
    """Ask for a page of a type's buckets in one partition, those that show a value. Answered by
    Buckets, or Refused.

    `start`, `end`: positions among routing keys, in byte order, from the one on and up to the other;
    b"": from the type's first, to its last.
    """

    cls: ClassId
    partition: Partition
    epoch: Epoch
    deadline_ms: DeadlineMs
    bucket_type: Annotated[bytes, Meta(min_length=1, max_length=TYPE_BYTES_MAX)]
    start: Position
    end: Position
    count_max: ListedMax


class PropertyEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a bucket, or (`bucket` b"") a bucket type, was given last.

    (`number`, `node`): the stamp of the change, its number, above all that its maker knew of, and who
    made it; the highest wins. `values`: what `dynamo.property_schema` encodes, b"" once they were reset.
    """

    bucket_type: BucketType
    bucket: BucketOrNone
    number: Annotated[int, Meta(ge=0, le=CHANGE_MAX)]
    node: Annotated[str, Meta(max_length=255)]
    values: Annotated[bytes, Meta(max_length=PROPERTY_BYTES_MAX)] = b""

    @property
    def name(self) -> tuple[bytes, bytes]:
        """(bucket type, bucket)."""
        return self.bucket_type, self.bucket


class StoreProperties(Message, frozen=True, array_like=True, tag=9):
    """Keep these bucket properties where they are newer. Answered by Synced once they are on disk; by
    Properties with those that the receiver has newer, on its disk, if there are any; or Refused."""

    deadline_ms: DeadlineMs
    entries: _PropertyEntries


class AskProperties(Message, frozen=True, array_like=True, tag=10):
    """Ask for a page of all bucket properties, in order of name, from the one after `after_type`,
    `after_bucket`. Answered by Properties, an empty one if `digest` is that of what the receiver has."""

    deadline_ms: DeadlineMs
    digest: Annotated[bytes, Meta(max_length=64)] = b""
    after_type: Annotated[bytes, Meta(max_length=TYPE_BYTES_MAX)] = b""
    after_bucket: BucketOrNone = b""


class Owe(Message, frozen=True, array_like=True, tag=11):
    """Note that these other owners (`targets`, indexes of members) have missed the receiver's record of
    the key: it is to be delivered to them. Answered by Synced once that is on disk, or Refused."""

    key: RoutingKey
    cls: ClassId
    partition: Partition
    epoch: Epoch
    deadline_ms: DeadlineMs
    targets: Targets


class Delivery(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One record that the receiver of a Deliver has missed. `record`: encoded."""

    key: RoutingKey
    cls: ClassId
    partition: Partition
    record: bytes


class Deliver(Message, frozen=True, array_like=True, tag=12):
    """Merge these records, which the receiver has missed. Answered by Delivered once what was taken is
    on disk, or Refused if nothing was. `exchange`: found by comparing trees, and counted so; else they
    were kept as hints."""

    deadline_ms: DeadlineMs
    epoch: Epoch
    entries: Annotated[tuple[Delivery, ...], Meta(max_length=DELIVERIES_MAX)]
    exchange: bool = False


class Gossip(Message, frozen=True, array_like=True, tag=13):
    """What the sender knows of the members of the ring of `epoch` with the digest `ring`: as
    `dynamo.cluster.rumour.encode_digest` writes it. `properties`: digest of its bucket properties.
    Answered by Gossiped, or Refused."""

    deadline_ms: DeadlineMs
    epoch: Epoch
    ring: DigestBytes
    digest: Rumours
    properties: DigestBytes = b""


# Replies ----------------------------------------------------------------------------------------


class Pong(Message, frozen=True, array_like=True, tag=64):
    """The peer is alive. `write_number` as in Ping."""

    write_number: WriteNumber = 0


class Minted(Message, frozen=True, array_like=True, tag=65):
    """The write has its dot (birth, counter); `record` holds it. Not yet on disk at the sender."""

    record: bytes
    birth: bytes
    counter: Counter
    stamp: WallNs = 0


class Synced(Message, frozen=True, array_like=True, tag=66):
    """What was asked is on disk at the sender, checksummed.

    `write_number`: the sender's last synced write, 0 to say nothing of it. `stamp`: when it was applied
    there, which was before.
    """

    write_number: WriteNumber = 0
    stamp: WallNs = 0


class Body(Message, frozen=True, array_like=True, tag=67):
    """The sender's record, on disk there; b"" if it has none."""

    record: bytes
    stamp: WallNs = 0


class Digest(Message, frozen=True, array_like=True, tag=68):
    """Vector and digest of the sender's record, on disk there; () and b"" if it has none."""

    vector: Vector
    digest: bytes
    stamp: WallNs = 0


class Page(Message, frozen=True, array_like=True, tag=69):
    """Routing keys and encoded records in key order. `more`: ask again, after `last`.

    `skipped`: records left out because they are damaged here. `whole`: what the sender has not got of
    the partition it has not lost, as far as it knows.
    """

    entries: tuple[tuple[bytes, bytes], ...]
    more: bool
    skipped: Annotated[int, Meta(ge=0, le=INT64_MAX)] = 0
    last: bytes = b""
    whole: bool = True


class Refused(Message, frozen=True, array_like=True, tag=70):
    """The request was not carried out (`definite`) or its effect is unknown (not `definite`).

    `code`: stale_epoch, not_owner, hint_refused, disk_full, damaged, storage_busy, sync_failed,
    storage_error, corrupt, refilling, precondition_failed, record_full, malformed, not_ready,
    unknown_operation, deadline_past, internal; of bucket properties also unknown_bucket_type,
    number_ahead, too_many_properties, busy; of `lww` writes: ahead (stamped by a clock that is too far
    ahead), stamps_used_up, and older (it was stored, and one with the higher `stamp` hides it).
    `record`: for record_full and older, the record that is there.
    `detail`: one line for people. `limit`: for record_full, "siblings", "record_bytes" or
    "context_bytes".
    """

    code: str
    definite: bool
    detail: str = ""
    epoch: Epoch = 0
    record: bytes = b""
    limit: str = ""
    stamp: Stamp = 0


class RingIs(Message, frozen=True, array_like=True, tag=71):
    """The sender's ring (`Ring.to_bytes`), or b"" while it has none."""

    ring: bytes


class Keys(Message, frozen=True, array_like=True, tag=72):
    """Keys of a bucket, on disk at the sender, each part in order. `more`: ask again, after `last`.

    `live`: all that they hold is live. `dead`: nothing is. `mixed`: live values beside tombstones or
    expired ones, each key with the digest of its record. `skipped`: damaged ones left out.
    """

    live: tuple[Key, ...]
    dead: tuple[Key, ...]
    mixed: tuple[tuple[Key, DigestBytes], ...]
    more: bool
    last: Key = b""
    skipped: Skipped = 0


class Buckets(Message, frozen=True, array_like=True, tag=73):
    """Buckets in the order of their routing keys, each with its first key that shows a value, and
    b"" where that key is live, or its record's digest where it is mixed, as in Keys.

    `next`: the position from which to ask again, b"" at the end. `skipped` as in Keys.
    """

    entries: tuple[tuple[Bucket, Key, DigestBytes], ...]
    next: Position
    skipped: Skipped = 0


class Properties(Message, frozen=True, array_like=True, tag=74):
    """Bucket properties on the sender's disk. `more`: ask again, after the last of them. `lacks`: the
    sender has been away itself, and does not know yet what it has missed."""

    entries: _PropertyEntries
    more: bool = False
    lacks: bool = False


class Delivered(Message, frozen=True, array_like=True, tag=75):
    """The records of a Deliver are on disk at the sender, but for those that it `refused`: position in
    the message, and code as in Refused. `busy`: the sender serves clients, and wants room for them."""

    refused: Annotated[
        tuple[tuple[Annotated[int, Meta(ge=0, lt=DELIVERIES_MAX)], str], ...],
        Meta(max_length=DELIVERIES_MAX),
    ] = ()
    busy: bool = False


class Gossiped(Message, frozen=True, array_like=True, tag=76):
    """What the sender knows beyond the digest it was sent: as `dynamo.cluster.rumour.encode_delta`
    writes it. `properties` as in Gossip."""

    delta: Rumours
    properties: DigestBytes = b""


Request = (
    Ping
    | Mint
    | Store
    | Fetch
    | Scan
    | AskRing
    | ListKeys
    | ListBuckets
    | StoreProperties
    | AskProperties
    | Owe
    | Deliver
    | Gossip
    | CompareRoots
    | AskHashes
    | ListElements
    | LookKeys
    | Pull
    | Holds
    | SettleUp
    | LookHints
    | Drop
)
Reply = (
    Pong
    | Minted
    | Synced
    | Body
    | Digest
    | Page
    | Refused
    | RingIs
    | Keys
    | Buckets
    | Properties
    | Delivered
    | Gossiped
    | RootsDiffer
    | Hashes
    | KeyElements
    | Looked
    | Pulled
    | Held
    | Settled
    | Dropped
    | HintsSeen
)
