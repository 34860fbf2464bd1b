"""What the HTTP edge needs of a node. Knows nothing of HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Protocol

from dynamo.agreement import AntiEntropyStatus, RepairStatus, TreeRoots
from dynamo.latency import Histogram
from dynamo.readiness import Readiness
from dynamo.record import Content
from dynamo.requests import (
    Found,
    Listed,
    ListOptions,
    Owner,
    ReadOptions,
    RepairAsked,
    WriteOptions,
    Written,
)
from dynamo.status import HintsStatus, NodeStatus, TombstonesStatus
from dynamo.wars_status import WarsStatus


class Backend(Protocol):
    """A coordinator and its node.

    Types, buckets and keys are within the limits of `dynamo.keys` and never empty. Any DynamoError
    may be raised. A RecordFull whose `record` is a `Found` is answered with its siblings and
    context.
    """

    async def get(
        self, bucket_type: bytes, bucket: bytes, key: bytes, options: ReadOptions
    ) -> Found:
        """What a quorum read saw; `Found.absent` or `Found.deleted` where there is no value."""
        ...

    async def put(
        self,
        bucket_type: bytes,
        bucket: bytes,
        key: bytes,
        content: Content,
        context: bytes,
        options: WriteOptions,
    ) -> Written:
        """The write is on disk at w replicas. `context` b"" is a blind write."""
        ...

    def check_put(
        self, bucket_type: bytes, bucket: bytes, key: bytes, context: bytes, options: WriteOptions
    ) -> None:
        """Raises what `put` would raise before it asks anybody. Costs no I/O."""
        ...

    async def delete(
        self, bucket_type: bytes, bucket: bytes, key: bytes, context: bytes, options: WriteOptions
    ) -> Found | Written:
        """Written once a tombstone is on disk at w replicas; Found if there was nothing to do."""
        ...

    def list_keys(
        self, bucket_type: bytes, bucket: bytes, options: ListOptions
    ) -> AsyncGenerator[Listed, None]:
        """The live keys of a bucket, in parts, of which the last is `done`. What it raises it raises
        before the first part. Whoever does not take all closes it."""
        ...

    def list_buckets(
        self, bucket_type: bytes, options: ListOptions
    ) -> AsyncGenerator[Listed, None]:
        """The buckets of a type that hold a live key; otherwise as `list_keys`."""
        ...

    def preflist(self, bucket_type: bytes, bucket: bytes, key: bytes) -> tuple[Owner, ...]:
        """The nodes that keep a key. Costs no I/O."""
        ...

    def properties(self, bucket_type: bytes, bucket: bytes) -> dict[str, object]:
        """The properties of a bucket, or (`bucket` b"") of a type, by name, as plain JSON values, but
        for its names. Costs no I/O."""
        ...

    async def set_properties(
        self, bucket_type: bytes, bucket: bytes, given: Mapping[str, object], timeout_ms: int
    ) -> None:
        """These properties are in force and on disk at every node. `timeout_ms`: 0 for the default."""
        ...

    async def reset_properties(self, bucket_type: bytes, bucket: bytes, timeout_ms: int) -> None:
        """It has none of its own any more, at any node."""
        ...

    def ready(self) -> Readiness:
        """Whether requests would be taken now. Costs no I/O."""
        ...

    def stats(self) -> dict[str, Any]:
        """Plain JSON values by name. Costs no I/O."""
        ...

    def status(self) -> NodeStatus:
        """All that the node knows of itself and its peers. Costs a look at the disk's free space."""
        ...

    def hints(self) -> HintsStatus:
        """What the node keeps for others. Costs no I/O."""
        ...

    def tombstones(self) -> TombstonesStatus:
        """What waits to be reaped at the node. Costs no I/O."""
        ...

    def wars(self, *, wholes: bool = True) -> WarsStatus:
        """What the node measures of its own requests; `wholes`: with whole operations. Costs no I/O, and
        about a millisecond a peer."""
        ...

    def repair_ages(self) -> Histogram:
        """Of replies to reads that were behind: how old the newest write was that they lacked."""
        ...

    async def sync_hints(self, timeout_ms: int) -> dict[str, int]:
        """All hints that were here at the call are on disk at their targets; how many were delivered
        meanwhile, by target. `timeout_ms`: 0 for the default."""
        ...

    def antientropy(self, partition: int | None, limit: int) -> AntiEntropyStatus:
        """How far the node agrees with the others; `oldest` has at most `limit` pairs, of all
        partitions or of the one with this number. Costs no I/O. Raises InvalidArgument."""
        ...

    def roots(self) -> TreeRoots:
        """What sums up each partition that the node keeps. Costs no I/O."""
        ...

    def pause_antientropy(self, reason: str) -> None:
        """No exchange begins by itself until `resume_antientropy`. `reason`: for people, or ""."""
        ...

    def resume_antientropy(self) -> None:
        """Exchanges begin by themselves again."""
        ...

    def faults(self) -> dict[str, Any]:
        """Faults that are injected into the node's messages, as JSON. Raises FaultInjectionOff."""
        ...

    def set_faults(self, rules: object) -> dict[str, Any]:
        """These and no others are, from now on. Raises FaultInjectionOff, InvalidArgument."""
        ...

    def repair(self) -> RepairStatus:
        """How far the repair is that runs, or what became of the last."""
        ...

    def start_repair(self, asked: RepairAsked) -> RepairStatus:
        """A repair runs. Raises RepairRunning, InvalidArgument, NotAnOwner, NotReady."""
        ...

    async def stop_repair(self) -> RepairStatus:
        """None runs any more; what became of the last."""
        ...
