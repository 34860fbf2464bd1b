"""What nodes say to each other before a tombstone goes for good: who holds it, what is still under way
anywhere, and that it is to be dropped (DESIGN: reaping on proof).

Knows nothing of how a message is carried out.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from dynamo.rpc.fields import (
    INT64_MAX,
    ClassId,
    DeadlineMs,
    DigestBytes,
    Epoch,
    Message,
    Partition,
    RoutingKey,
    TargetIndex,
    WriteNumber,
)
from dynamo.version import Birth

#: Records in one message.
REAPED_MAX: Final = 500
#: Partitions that one message asks about.
PLACES_MAX: Final = 4_096
#: Births that leave one record at a time.
BIRTHS_MAX: Final = 1_024

_Positions = Annotated[
    tuple[Annotated[int, Meta(ge=0, lt=REAPED_MAX)], ...], Meta(max_length=REAPED_MAX)
]
_Places = Annotated[tuple[tuple[ClassId, Partition], ...], Meta(max_length=PLACES_MAX)]
_Reason = Annotated[str, Meta(max_length=200)]
_Taken = Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(max_length=PLACES_MAX)]


_Refused = Annotated[
    tuple[tuple[Annotated[int, Meta(ge=0, lt=REAPED_MAX)], _Reason], ...],
    Meta(max_length=REAPED_MAX),
]


class Doomed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A record that is to go, or to lose `births`, if it is the very one with this `digest` (as of
    `dynamo.record.record_digest`)."""

    key: RoutingKey
    cls: ClassId
    partition: Partition
    digest: DigestBytes
    births: Annotated[tuple[Birth, ...], Meta(max_length=BIRTHS_MAX)] = ()


class Holds(Message, frozen=True, array_like=True, tag=19):
    """Step one: ask which of these records the receiver, an owner, holds as they are, on disk. Answered
    by Held, or Refused."""

    deadline_ms: DeadlineMs
    epoch: Epoch
    entries: Annotated[tuple[Doomed, ...], Meta(max_length=REAPED_MAX)]


class Shown(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a member showed in step two: `member`, its index in the ring; its start number; its last
    synced write."""

    member: TargetIndex
    start: Annotated[int, Meta(ge=0, le=INT64_MAX)]
    write_number: WriteNumber


class LookHints(Message, frozen=True, array_like=True, tag=21):
    """Step two and step four: ask any member what it still owes of these partitions to anybody, and how
    many hints it has taken for each. Answered by HintsSeen once all that it has written so far is on
    disk, or Refused. `known`: what every member has shown in step two, noted on disk before the answer;
    () in step two itself."""

    deadline_ms: DeadlineMs
    epoch: Epoch
    places: _Places
    known: Annotated[tuple[Shown, ...], Meta(max_length=4_096)] = ()


class SettleUp(Message, frozen=True, array_like=True, tag=20):
    """Step three: ask any member to answer once all that it had under way when asked has ended, and
    every other member has answered a ping on the connection that was used. Answered by Settled, or
    Refused."""

    deadline_ms: DeadlineMs
    epoch: Epoch


class Drop(Message, frozen=True, array_like=True, tag=22):
    """Step five: drop each of these records, if it is still the very one; where `births` are named, put
    the same record without them in its place. Answered by Dropped, or Refused."""

    deadline_ms: DeadlineMs
    epoch: Epoch
    entries: Annotated[tuple[Doomed, ...], Meta(max_length=REAPED_MAX)]


class Held(Message, frozen=True, array_like=True, tag=82):
    """`positions`: of the entries that the sender holds as they are, on disk. `start`: of the sender.
    `refused`: of the other entries, each with why."""

    positions: _Positions
    start: Annotated[int, Meta(ge=0, le=INT64_MAX)]
    refused: _Refused = ()


class Settled(Message, frozen=True, array_like=True, tag=83):
    """All has ended that was under way. `start`: of the sender."""

    start: Annotated[int, Meta(ge=0, le=INT64_MAX)]


class Dropped(Message, frozen=True, array_like=True, tag=84):
    """What was asked is on disk. `refused`: positions that were left as they are, each with why."""

    refused: _Refused


class HintsSeen(Message, frozen=True, array_like=True, tag=85):
    """What the sender still owes. `blocked`: positions of places for which it owes something, or cannot
    say, each with why. `start`, `write_number`: of the sender, synced. `incarnation`: under which it
    mints. `taken`: hints it has taken for each place since its start."""

    blocked: Annotated[
        tuple[tuple[Annotated[int, Meta(ge=0, lt=PLACES_MAX)], _Reason], ...],
        Meta(max_length=PLACES_MAX),
    ]
    start: Annotated[int, Meta(ge=0, le=INT64_MAX)]
    write_number: WriteNumber
    incarnation: Annotated[bytes, Meta(max_length=32)]
    taken: _Taken
