"""What nodes say to each other: one frozen struct a message, tagged by a small integer.

Bodies are msgpack arrays. A tag is never reused; fields are only ever added at the end, with a
default. Knows nothing of sockets or of how a message is carried out.

Every request about a key names `key` (the routing key of `dynamo.keys`), `cls` (id of the
replication class), `partition`, `epoch` (the sender's), and `deadline_ms`: the milliseconds the sender
still waits, counted from when it was sent.
"""

from __future__ import annotations

from typing import Final

import msgspec

DEADLINE_MS_MAX: Final = 3_600_000
NO_HINT: Final = -1


class _Message(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=False):
    pass


# Requests ---------------------------------------------------------------------------------------


class Ping(_Message, frozen=True, array_like=True, tag=1):
    """Answered by Pong."""

    deadline_ms: int


class Condition(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A precondition, judged by the minting replica against its own record.

    `if_match`, `if_none_match`: vtags or record ETags; ("*",) means "any live sibling".
    `unmodified_since_ms`: 0 for none.
    """

    if_match: tuple[str, ...] = ()
    if_none_match: tuple[str, ...] = ()
    unmodified_since_ms: int = 0


class Mint(_Message, frozen=True, array_like=True, tag=2):
    """Give a write its dot and apply it. Answered by Minted at once and Synced later, or Refused.

    `context`: encoded vector of what the client had seen (b"" for none). `kind`, `content`,
    `expires_ms` as in `Sibling`. `seen`: a record (encoded, or b"") to merge before judging
    `condition` and minting. `hint_for`: index of the absent member this node stands in for.
    """

    key: bytes
    cls: int
    partition: int
    epoch: int
    deadline_ms: int
    context: bytes
    kind: int
    content: bytes
    expires_ms: int = 0
    seen: bytes = b""
    condition: Condition | None = None
    hint_for: int = NO_HINT


class Store(_Message, frozen=True, array_like=True, tag=3):
    """Merge `record` (encoded) into the receiver's. Answered by Synced once on disk, or Refused.

    `repair` marks read repair and refill, which are counted apart from client writes.
    """

    key: bytes
    cls: int
    partition: int
    epoch: int
    deadline_ms: int
    record: bytes
    repair: bool = False
    hint_for: int = NO_HINT


class Fetch(_Message, frozen=True, array_like=True, tag=4):
    """Ask for the record (`body`) or its vector and digest. Answered by Body or Digest, or Refused.

    A record whose sync is pending is waited for first; later writes do not prolong the wait.
    """

    key: bytes
    cls: int
    partition: int
    epoch: int
    deadline_ms: int
    body: bool


class Scan(_Message, frozen=True, array_like=True, tag=5):
    """Ask for a page of a partition's records, from the key after `after`. Answered by Page."""

    cls: int
    partition: int
    epoch: int
    deadline_ms: int
    after: bytes
    bytes_max: int


# Replies ----------------------------------------------------------------------------------------


class Pong(_Message, frozen=True, array_like=True, tag=64):
    """The peer is alive."""


class Minted(_Message, frozen=True, array_like=True, tag=65):
    """The write has its dot; `record` holds it. Not yet on disk at the sender."""

    record: bytes


class Synced(_Message, frozen=True, array_like=True, tag=66):
    """What was asked is on disk at the sender, checksummed."""


class Body(_Message, frozen=True, array_like=True, tag=67):
    """The sender's record, on disk there; b"" if it has none."""

    record: bytes


class Digest(_Message, frozen=True, array_like=True, tag=68):
    """Encoded vector and digest of the sender's record, on disk there; both b"" if it has none."""

    vector: bytes
    digest: bytes


class Page(_Message, frozen=True, array_like=True, tag=69):
    """Routing keys and encoded records in key order. `more`: ask again after the last key.

    `skipped`: records left out because they are damaged here.
    """

    entries: tuple[tuple[bytes, bytes], ...]
    more: bool
    skipped: int = 0


class Refused(_Message, frozen=True, array_like=True, tag=70):
    """The request was not carried out (`definite`) or its effect is unknown (not `definite`).

    `code`: stale_epoch, not_owner, hint_refused, disk_full, sync_failed, storage_error, corrupt,
    refilling, precondition_failed, record_full, malformed, not_ready, unknown_operation,
    deadline_past. `record`: for record_full, the record that is there. `detail`: one line for people.
    `limit`: for record_full, "siblings", "record_bytes" or "context_bytes".
    """

    code: str
    definite: bool
    detail: str = ""
    epoch: int = 0
    record: bytes = b""
    limit: str = ""


Request = Ping | Mint | Store | Fetch | Scan
Reply = Pong | Minted | Synced | Body | Digest | Page | Refused
