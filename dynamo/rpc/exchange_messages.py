"""What two owners of a partition say to each other to find out where their records differ, and to bring
each other up: roots, hashes further down, what stands for the keys of a leaf, vectors, records.

Trees and their elements are those of `antientropy.merkle` and `dynamo.leaf`. Knows nothing of how a
message is carried out.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from dynamo.rpc.fields import (
    ClassId,
    DeadlineMs,
    DigestBytes,
    Element,
    Epoch,
    Message,
    Partition,
    RoutingKey,
    RoutingKeyOrNone,
)
from dynamo.version import Vector

#: Roots in one message; a cluster with more shared partitions needs several.
ROOTS_MAX: Final = 65_536
ROOT_BYTES: Final = 8
#: Parents whose children are asked for in one message.
PARENTS_MAX: Final = 1_024
#: Leaves whose keys are asked for in one message.
LEAVES_ASKED_MAX: Final = 1_024
#: Keys in one message.
KEYS_MAX: Final = 1_000

_Bits = Annotated[bytes, Meta(max_length=ROOTS_MAX // 8)]
_Roots = Annotated[bytes, Meta(max_length=ROOTS_MAX * ROOT_BYTES)]
_Nodes = Annotated[tuple[Annotated[int, Meta(ge=0, lt=1 << 20)], ...], Meta(max_length=PARENTS_MAX)]
_Leaves = Annotated[int, Meta(ge=1, le=1 << 20)]
_Keys = Annotated[tuple[RoutingKey, ...], Meta(max_length=KEYS_MAX)]


class CompareRoots(Message, frozen=True, array_like=True, tag=14):
    """The roots of the sender's trees, of the partitions that it and the receiver both own by the ring
    of `epoch`, in the order of (class, partition), from the one with number `first` on. Answered by
    RootsDiffer, or Refused.

    `leaves`: of each tree. `count`: partitions spoken of. `ready`: a bit for each (the lowest bit of the
    first byte is the first): its tree is ready. `roots`: 8 bytes for each that is ready, in order.
    """

    deadline_ms: DeadlineMs
    epoch: Epoch
    leaves: _Leaves
    first: Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)]
    count: Annotated[int, Meta(ge=0, le=ROOTS_MAX)]
    ready: _Bits
    roots: _Roots


class AskHashes(Message, frozen=True, array_like=True, tag=15):
    """Ask for the nodes right below these `parents` on `level` (0: the root) of one tree. Answered by
    Hashes, or Refused (`not_ready` while the tree is being built)."""

    cls: ClassId
    partition: Partition
    epoch: Epoch
    deadline_ms: DeadlineMs
    leaves: _Leaves
    level: Annotated[int, Meta(ge=0, le=20)]
    parents: _Nodes


class ListElements(Message, frozen=True, array_like=True, tag=16):
    """Ask which keys lie in these `wanted` leaves, and what stands for each, in the order of keys, from
    the one after `after` on. Answered by KeyElements, or Refused (`not_ready` while the tree is built).

    The receiver reads so many records at most for one answer as takes it a millisecond or two.
    """

    cls: ClassId
    partition: Partition
    epoch: Epoch
    deadline_ms: DeadlineMs
    leaves: _Leaves
    wanted: Annotated[
        tuple[Annotated[int, Meta(ge=0, lt=1 << 20)], ...], Meta(max_length=LEAVES_ASKED_MAX)
    ]
    after: RoutingKeyOrNone
    count_max: Annotated[int, Meta(ge=1, le=KEYS_MAX)]


class LookKeys(Message, frozen=True, array_like=True, tag=17):
    """Ask for what stands for the records of these keys, and for their vectors. Answered by Looked, or
    Refused."""

    cls: ClassId
    partition: Partition
    epoch: Epoch
    deadline_ms: DeadlineMs
    keys: _Keys


class Pull(Message, frozen=True, array_like=True, tag=18):
    """Ask for the records of these keys, which the receiver has and the sender lacks. Answered by
    Pulled, or Refused."""

    cls: ClassId
    partition: Partition
    epoch: Epoch
    deadline_ms: DeadlineMs
    keys: _Keys


class RootsDiffer(Message, frozen=True, array_like=True, tag=77):
    """Of the partitions of a CompareRoots, a bit for each: `differ`, their roots are not equal;
    `not_ready`, the receiver's tree is not ready, so that nothing can be said."""

    differ: _Bits
    not_ready: _Bits


class Hashes(Message, frozen=True, array_like=True, tag=78):
    """The nodes that were asked for, 8 bytes each, big-endian: the children of the first parent in
    order, then those of the second, and so on."""

    hashes: Annotated[bytes, Meta(max_length=PARENTS_MAX * 32 * ROOT_BYTES)]


class KeyElements(Message, frozen=True, array_like=True, tag=79):
    """Keys in their order, each with what stands for its record. `more`: ask again, after `last`, which
    need not be among them. `hashes`: the wanted leaves as they are now, 8 bytes each, in the order in
    which they were asked for: a leaf that is as it was has the keys that it had. `read`: records that
    were read for this answer. Where one is found damaged, the answer is a refusal."""

    entries: Annotated[tuple[tuple[RoutingKey, Element], ...], Meta(max_length=KEYS_MAX)]
    more: bool
    last: RoutingKeyOrNone = b""
    hashes: Annotated[bytes, Meta(max_length=LEAVES_ASKED_MAX * ROOT_BYTES)] = b""
    read: Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)] = 0


class LookedAt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One record: `element` zeros and `vector` () if there is none. `code`: "" if this can be relied on,
    else why not: corrupt."""

    element: Element
    vector: Vector
    digest: DigestBytes = b""
    code: str = ""


class Looked(Message, frozen=True, array_like=True, tag=80):
    """What was asked for, key by key, on disk at the sender; of the first keys only if all would be too
    much, and of at least one."""

    entries: Annotated[tuple[LookedAt, ...], Meta(max_length=KEYS_MAX)]


class Pulled(Message, frozen=True, array_like=True, tag=81):
    """The records asked for (encoded; b"" for none), key by key, on disk at the sender; of the first
    keys only if all would be too much, and of at least one. `skipped`: positions of damaged ones."""

    records: Annotated[tuple[bytes, ...], Meta(max_length=KEYS_MAX)]
    skipped: Annotated[
        tuple[Annotated[int, Meta(ge=0, lt=KEYS_MAX)], ...], Meta(max_length=KEYS_MAX)
    ] = ()
