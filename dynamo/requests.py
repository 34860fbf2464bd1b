"""What a client may ask of a coordinator, and what it gets back.

Plain values, shared by the HTTP edge, the command line and programs that embed the coordinator.
Knows nothing of replicas or of the network.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from dynamo.errors import InvalidArgument
from dynamo.record import Record, Sibling
from dynamo.rpc.messages import Condition
from dynamo.version import Vector

#: A count, or a word: `one`, `quorum` (n // 2 + 1), `all` (n), `default`.
Count = int | Literal["one", "quorum", "all", "default"]

TIMEOUT_MS_DEFAULT = 10_000
TIMEOUT_MS_MAX = 300_000
#: Ten years.
TTL_S_MAX: Final = 10 * 365 * 86_400
LIST_TIMEOUT_MS_DEFAULT = 60_000
#: What one page of a listing with a limit may hold.
LIST_LIMIT_MAX = 1_000


class Stamps:
    """When an operation began at its coordinator, and when it had the w-th acknowledgement or the r-th
    answer: monotonic seconds of that node, 0.0 for never. Made by who wants to know, and filled in."""

    __slots__ = ("began", "committed", "node")

    def __init__(self) -> None:
        self.began = 0.0
        self.committed = 0.0
        #: The coordinator, "" until it begins.
        self.node = ""

    def begin(self, node: str, now: float) -> None:
        """The coordinator begins."""
        self.node = node
        self.began = now


class ReadOptions(msgspec.Struct, frozen=True):
    """How many replicas a read asks for, after Riak KV's parameters of the same names.

    `r`: answers to collect (default `quorum`). `pr`: of them, from primaries (default 0).
    `node_confirms`: distinct nodes (default 0). `notfound_ok`: an absent record counts as an answer
    (default true). `basic_quorum`: with notfound_ok off, give up once a majority has no record (default
    false). What is "default" or None is the bucket's to say, then the default.
    `timeout_ms`: 0 for the default; above TIMEOUT_MS_MAX it is clamped.
    `read_repair`: "async", or "blocking": answer only once n - r + 1 primaries hold the merged record.
    `local`: what the coordinator's own copy holds, and no more: nobody else is asked, nor repaired, and
    what is said of counts and repair has no meaning. `stamps`: filled in as the read goes on.
    """

    r: Count = "default"
    pr: Count = "default"
    node_confirms: Count = "default"
    notfound_ok: bool | None = None
    basic_quorum: bool | None = None
    timeout_ms: int = 0
    read_repair: Literal["async", "blocking"] = "async"
    local: bool = False
    stamps: Stamps | None = None


class WriteOptions(msgspec.Struct, frozen=True):
    """How many replicas a write waits for, after Riak KV's parameters of the same names.

    `w`: acknowledgements (default `quorum`); here each of them is synced to disk, so `dw` only raises w.
    `pw`: of them, from primaries (default 0). `node_confirms`: distinct nodes (default 0).
    `r`: for the read that a conditional write or a delete without context makes first.
    `ttl_s`: seconds from now, by the coordinator's clock, after which the value is shown no more, at
    most TTL_S_MAX; 0 for never, None for what the bucket says. `expires_ms`: when instead, in absolute
    wall-clock milliseconds, 0 for what `ttl_s` says. Neither has a meaning for a delete.
    `returnbody`: also say what the key holds after the write. `unmodified`: a context, which has to
    cover what is there, or the write fails as if its condition did not hold; b"" for none.
    `stamps`: filled in as the write goes on.
    """

    w: Count = "default"
    pw: Count = "default"
    dw: Count = "default"
    node_confirms: Count = "default"
    r: Count = "default"
    pr: Count = "default"
    timeout_ms: int = 0
    expires_ms: int = 0
    returnbody: bool = False
    condition: Condition | None = None
    unmodified: bytes = b""
    ttl_s: int | None = None
    stamps: Stamps | None = None


def if_covered(options: WriteOptions, vector: Vector) -> WriteOptions:
    """The same, on the condition that `vector`, of `options.unmodified`, covers what is there."""
    condition = msgspec.structs.replace(options.condition or Condition(), unmodified=vector)
    return msgspec.structs.replace(options, condition=condition)


def judged_at(options: WriteOptions, now_ms: int) -> WriteOptions:
    """The same, whose condition the minter judges by this wall clock too."""
    if options.condition is None:
        return options
    condition = msgspec.structs.replace(options.condition, now_ms=max(now_ms, 0))
    return msgspec.structs.replace(options, condition=condition)


def expiry_ms(options: WriteOptions, now_ms: int) -> int:
    """When what is written now expires, milliseconds since 1970; 0 for never. Raises InvalidArgument."""
    ttl_s = options.ttl_s
    if ttl_s is not None and not 0 <= ttl_s <= TTL_S_MAX:
        allowed = f"0 (never) to {TTL_S_MAX} seconds"
        raise InvalidArgument(f"the time to live must be {allowed}", field="ttl_s", allowed=allowed)
    return options.expires_ms or (now_ms + ttl_s * 1000 if ttl_s else 0)


#: What a request that says nothing asks for. Known by identity: nobody need look what they say.
READ: Final = ReadOptions()
WRITE: Final = WriteOptions()


class ListOptions(msgspec.Struct, frozen=True):
    """How much of a bucket's keys, or of a type's buckets, to list.

    `limit`: at most so many names, 0 for all. `cursor`: where an earlier listing of the same stopped,
    b"" to begin at the first. `timeout_ms`: 0 for the default; above TIMEOUT_MS_MAX it is clamped.
    """

    limit: int = 0
    cursor: bytes = b""
    timeout_ms: int = 0


class Listed(msgspec.Struct, frozen=True):
    """A part of a listing. Only the last is `done`, and says whether all parts together are `complete`.

    `names`: keys or buckets. `cursor`: goes on after this part, b"" where nothing follows. Complete:
    of what lies before the cursor (all, without one) every name is there whose write was
    acknowledged before the listing began and that was not deleted.
    """

    names: tuple[bytes, ...]
    cursor: bytes = b""
    done: bool = False
    complete: bool = False


class Owner(msgspec.Struct, frozen=True):
    """One of the nodes that keep a key. `primary`: it owns the partition, and does not stand in for one
    that does. `connected`: a request would reach it now."""

    partition: int
    node: str
    primary: bool
    connected: bool


class Found(msgspec.Struct, frozen=True):
    """What a read saw.

    `siblings`: the live values, oldest first by (written_ms, dot); empty if absent or deleted.
    `deleted`: there was a value, and only tombstones (or expired values) are left.
    `context`: opaque token that covers everything seen, b"" if the key was never written.
    `record`: the merged record the answer was made from.
    """

    record: Record
    siblings: tuple[Sibling, ...]
    deleted: bool
    context: bytes

    @property
    def absent(self) -> bool:
        """True if the key was never written (or was reaped)."""
        return not self.siblings and not self.deleted


class Written(msgspec.Struct, frozen=True):
    """A write that reached w.

    `record`: the minter's record right after the mint; `siblings`, `deleted`, `context` as in Found, of
    that record; without `returnbody` they are empty, False and b"".
    `vtag`: names the write itself. `primary_acks`, `fallback_acks`: synced nodes when it was answered.
    """

    record: Record
    siblings: tuple[Sibling, ...]
    deleted: bool
    context: bytes
    vtag: str
    primary_acks: int
    fallback_acks: int


def timeout_ms(asked: int) -> int:
    """The time that a request gets, of which 0 asks for the default. Raises InvalidArgument."""
    if asked < 0:
        raise InvalidArgument("timeout must be 1 or more", field="timeout", allowed="1 or more")
    return min(asked or TIMEOUT_MS_DEFAULT, TIMEOUT_MS_MAX)


class RepairAsked(msgspec.Struct, frozen=True, kw_only=True):
    """What a repair on demand is to go over: all that this node keeps, as far as nothing narrows it.

    `partition`: its number. `bucket_type`, `bucket`: b"" for all; a bucket without a type is one of the
    type `default`. `peer`: the one other member to compare with, "" for all.
    """

    partition: int | None = None
    bucket_type: bytes = b""
    bucket: bytes = b""
    peer: str = ""
