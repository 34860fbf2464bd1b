"""Puts, gets and deletes at quorum, on behalf of any client.

A node has one; a service can embed one. One function a request: plan, then let an operation mint,
store, fetch and tally, then answer. Knows nothing of HTTP, sockets or storage: its replicas, its own
node's included, are reached through the transport.
"""

from __future__ import annotations

import random
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from dynamo.answers import Answers
from dynamo.cluster_file import DEFAULT_CLASS
from dynamo.config import MEASURE_ONE_IN_DEFAULT
from dynamo.context import STAMPED, ContextSealer, stamp_of
from dynamo.errors import (
    InvalidArgument,
    KeyTooLong,
    Malformed,
    NotReady,
    PreconditionFailed,
    RecordFull,
    Unavailable,
    UnknownBucketType,
    ValueTooLarge,
    WriteUncertain,
)
from dynamo.flights import Flights
from dynamo.keys import BUCKET_BYTES_MAX, KEY_BYTES_MAX, routing_key
from dynamo.latency import Histogram
from dynamo.metrics import Metrics
from dynamo.operations import Operations
from dynamo.own_copy import OwnCopy
from dynamo.ports import Clock, Opinions, Transport
from dynamo.properties import (
    DEFAULT_PROPERTIES,
    PropertiesOf,
    default_properties,
    fill_delete,
    fill_read,
    fill_write,
)
from dynamo.quorum import resolve_count
from dynamo.record import (
    EMPTY,
    TOMBSTONE,
    VALUE,
    Content,
    Record,
    encode_content,
    encode_record,
    highest_stamp,
)
from dynamo.requests import (
    READ,
    TIMEOUT_MS_DEFAULT,
    WRITE,
    Found,
    Owner,
    ReadOptions,
    WriteOptions,
    Written,
    expiry_ms,
    if_covered,
    judged_at,
    timeout_ms,
)
from dynamo.resolve import holds
from dynamo.rpc.messages import Mint
from dynamo.stand_ins import standing
from dynamo.version import Vector, descends
from dynamo.wars import Wars
from ring.preference import Plan, Planner
from ring.ring import ReplicationClass, Ring

VALUE_BYTES_MAX: Final = 8 << 20


class _AllWell:
    """The opinions of who watches nobody."""

    down: AbstractSet[str] = frozenset()
    doubted: AbstractSet[str] = frozenset()


ALL_WELL: Final = _AllWell()


class Coordinator:
    """The client's way in. Every method may be called concurrently from one event loop."""

    def __init__(
        self,
        *,
        node_id: str,
        datacenter: str,
        transport: Transport,
        clock: Clock,
        sealer: ContextSealer,
        metrics: Metrics,
        value_bytes_max: int = 1 << 20,
        heard: dict[str, int] | None = None,
        properties: PropertiesOf = default_properties,
        opinions: Opinions = ALL_WELL,
        flights: Flights | None = None,
        chance: random.Random,
        read_repair: bool = True,
        hints: bool = True,
        sampled: int = MEASURE_ONE_IN_DEFAULT,
    ) -> None:
        """`value_bytes_max`: largest value accepted, at most 8 MiB. `heard`: gets the last synced write
        number that each node has acknowledged with. `properties`: of a bucket, for each request.
        `opinions`: who is down and who is doubted, now and later. `flights`: of the node.
        `chance`: which requests are measured, one in `sampled`. `read_repair`, `hints`: as of
        `Operations`."""
        self._hints = hints
        self._flights = flights or Flights()
        self._node_id = node_id
        self._datacenter = datacenter
        self._clock = clock
        self._sealer = sealer
        self._count = metrics.count
        self._value_bytes_max = min(value_bytes_max, VALUE_BYTES_MAX)
        self._properties = properties
        self._down = opinions.down
        #: What requests take to each replica and back.
        self.wars = Wars(
            node_id=node_id,
            chance=chance,
            now=clock.monotonic(),
            metrics=metrics,
            sampled=sampled,
        )
        self._operations = Operations(
            node_id=node_id,
            transport=transport,
            clock=clock,
            metrics=metrics,
            heard={} if heard is None else heard,
            opinions=opinions,
            wars=self.wars,
            flights=self._flights,
            read_repair=read_repair,
            hints=hints,
        )
        self._own_copy = OwnCopy(node_id=node_id, transport=transport, clock=clock, metrics=metrics)
        self._planner: Planner | None = None
        self._answers = Answers(sealer=sealer, clock=clock, metrics=metrics)
        self._classes: dict[bytes, ReplicationClass] = {}

    @property
    def repair_ages(self) -> Histogram:
        """Of replies to reads that were behind: how old the newest write was that they lacked."""
        return self._operations.stale.ages

    def adopt(self, ring: Ring) -> None:
        """Plan by this ring from now on, in the datacenter where it has this node, if it does."""
        member = ring.member(self._node_id)
        datacenter = self._datacenter if member is None else member.datacenter
        self._planner = Planner(ring, datacenter)
        self._classes = {class_.name.encode(): class_ for class_ in ring.classes}
        self._operations.forget_order()
        shown = self._classes.get(DEFAULT_CLASS.encode()) or ring.classes[0]
        here = sum(one.datacenter == datacenter for one in ring.members)
        n = min(shown.in_datacenter(datacenter), here)
        self.wars.adopt({one.id for one in ring.members}, n, shown.id)

    # Requests -----------------------------------------------------------------------------------

    async def get(
        self, bucket_type: bytes, bucket: bytes, key: bytes, options: ReadOptions = READ
    ) -> Found:
        """What r replicas hold of the key, merged; of a `local` read, what this node holds.

        Raises InvalidArgument, KeyTooLong, UnknownBucketType, NotReady, Unavailable, ReadUncertain; of a
        local read also NotAnOwner.
        """
        if options.stamps is not None:
            options.stamps.begin(self._node_id, self._clock.monotonic())
        routing, plan = self._plan(bucket_type, bucket, key)
        props = self._properties(bucket_type, bucket)
        if props is not DEFAULT_PROPERTIES:
            options = fill_read(options, props, len(plan.primaries))
        lww = props.conflict == "lww"
        if options.local:
            own = await self._own_copy.read(bucket_type, routing, plan, options)
            return self._answers.found(routing, own, lww)
        self._count["gets"] += 1
        return self._answers.found(
            routing, await self._operations.read(routing, plan, options).done, lww
        )

    async def put(
        self,
        bucket_type: bytes,
        bucket: bytes,
        key: bytes,
        content: Content,
        context: bytes = b"",
        options: WriteOptions = WRITE,
    ) -> Written:
        """Store a value. It replaces what `context` covers and nothing else; b"" covers nothing. In an
        `lww` bucket it replaces all there is.

        Raises as `get`, and BadContext, ValueTooLarge, RecordFull, PreconditionFailed, StorageFull
        (nothing was written), WriteUncertain (it may have been).
        """
        if options.stamps is not None:
            options.stamps.begin(self._node_id, self._clock.monotonic())
        routing, plan = self._plan(bucket_type, bucket, key)
        if len(content.value) > self._value_bytes_max:
            raise ValueTooLarge(
                f"the value is over {self._value_bytes_max} bytes", limit=self._value_bytes_max
            )
        seen = self._sealer.open(routing, context) if context else ()
        if options.unmodified:
            options = if_covered(options, self._sealer.open(routing, options.unmodified))
        props = self._properties(bucket_type, bucket)
        if props is not DEFAULT_PROPERTIES:
            options = fill_write(options, props, len(plan.primaries))
        lww = props.conflict == "lww"
        above = stamp_of(context) if context[:1] == STAMPED else 0
        self._count["puts"] += 1
        return await self._write(
            routing, plan, VALUE, encode_content(content), seen, options, lww=lww, above=above
        )

    def check_put(
        self,
        bucket_type: bytes,
        bucket: bytes,
        key: bytes,
        context: bytes = b"",
        options: WriteOptions = WRITE,
    ) -> None:
        """Nothing that is known before a value comes speaks against a `put`; raises as that does."""
        routing, plan = self._plan(bucket_type, bucket, key)
        if context:
            self._sealer.open(routing, context)
        if options.unmodified:
            self._sealer.open(routing, options.unmodified)
        n = len(plan.primaries)
        _acks_needed(fill_write(options, self._properties(bucket_type, bucket), n), n)

    async def delete(
        self,
        bucket_type: bytes,
        bucket: bytes,
        key: bytes,
        context: bytes = b"",
        options: WriteOptions = WRITE,
    ) -> Found | Written:
        """Replace what `context` covers with a tombstone; without one, what a read at r shows.

        Returns Found where there was nothing to delete: the key is absent, or as many replicas as a
        write would have to reach have seen all that the context names (without one, all there is) and
        hold none of it any more, so that a delete sent twice leaves one tombstone. What others have
        written since must meet the condition all the same. In an `lww` bucket a delete replaces all
        there is, as any write does, so it is made unless nothing is shown. Raises as `put`.
        """
        if options.stamps is not None:
            options.stamps.begin(self._node_id, self._clock.monotonic())
        routing, plan = self._plan(bucket_type, bucket, key)
        props = self._properties(bucket_type, bucket)
        if props is not DEFAULT_PROPERTIES:
            options = fill_delete(options, props, len(plan.primaries))
        lww = props.conflict == "lww"
        self._count["deletes"] += 1
        timeout = timeout_ms(options.timeout_ms)
        deadline = self._clock.monotonic() + timeout / 1000
        seen = self._sealer.open(routing, context) if context else None
        if options.unmodified:
            options = if_covered(options, self._sealer.open(routing, options.unmodified))
        needed = _acks_needed(options, len(plan.primaries))
        try:
            # With a context the read only spares work, so it leaves the write half of the time.
            read_ms = timeout if seen is None else max(1, timeout // 2)
            read = _read_of(options, read_ms)
            if options.stamps is not None:
                read = msgspec.structs.replace(read, stamps=options.stamps)
            record, holders = await self._read_held(routing, plan, read)
        except Unavailable:
            if seen is None:
                raise
            record, holders = EMPTY, 0  # what the context names is deleted all the same
        # Gone at a few only, say after a delete that was left uncertain, is not gone.
        gone = holders >= needed
        above = max(highest_stamp(record), stamp_of(context))
        if seen is None:
            found = self._answers.found(routing, record, lww)
            if not record or (gone and not found.siblings):
                return found
            seen = record.vector
        elif gone and descends(record.vector, seen):
            found = self._answers.found(routing, record, lww)
            if not (found.siblings if lww else _covered(record, seen)):
                if found.siblings:
                    self._judge(options, record, lww)
                return found
        return await self._write(
            routing, plan, TOMBSTONE, b"", seen, options, deadline, lww=lww, above=above
        )

    def preflist(self, bucket_type: bytes, bucket: bytes, key: bytes) -> tuple[Owner, ...]:
        """Who keeps the key, in the ring's order, and then who stands in now for those that are down;
        costs no I/O. Raises what `get` raises before it asks anybody."""
        _, plan = self._plan(bucket_type, bucket, key)
        down = self._down
        owners = [Owner(plan.partition, node, True, node not in down) for node in plan.primaries]
        if down:
            there = standing(plan, down, hints=self._hints)
            owners += [Owner(plan.partition, node, False, True) for node in there.spare]
        return tuple(owners)

    # Steps --------------------------------------------------------------------------------------

    def _plan(self, bucket_type: bytes, bucket: bytes, key: bytes) -> tuple[bytes, Plan]:
        if not key or not bucket:
            empty = "bucket" if key else "key"
            raise InvalidArgument(f"the {empty} is empty", field=empty, allowed="1 byte or more")
        if len(key) > KEY_BYTES_MAX:
            raise KeyTooLong(
                f"the key is over {KEY_BYTES_MAX} bytes", field="key", limit=KEY_BYTES_MAX
            )
        if len(bucket) > BUCKET_BYTES_MAX:
            raise KeyTooLong(
                f"the bucket is over {BUCKET_BYTES_MAX} bytes",
                field="bucket",
                limit=BUCKET_BYTES_MAX,
            )
        if self._planner is None:
            raise NotReady("this node has no ring yet")
        class_ = self._classes.get(bucket_type)
        if class_ is None:
            raise UnknownBucketType("no such bucket type")
        routing = routing_key(bucket_type, bucket, key)
        return routing, self._planner.plan(class_, routing)

    async def _read(self, routing: bytes, plan: Plan, options: ReadOptions) -> Record:
        return await self._operations.read(routing, plan, options).done

    async def _read_held(
        self, routing: bytes, plan: Plan, options: ReadOptions
    ) -> tuple[Record, int]:
        """What r replicas hold, and how many primaries are known to hold all of it."""
        operation = self._operations.read(routing, plan, options)
        try:
            return await operation.done, operation.holders
        finally:
            del operation  # an error knows this frame, which must not know the error

    async def _write(
        self,
        routing: bytes,
        plan: Plan,
        kind: int,
        content: bytes,
        seen: Vector,
        options: WriteOptions,
        deadline: float | None = None,
        *,
        lww: bool,
        above: int,
    ) -> Written:
        """`above`: the highest stamp of what `seen` is of."""
        n = len(plan.primaries)
        w = n // 2 + 1
        pw = confirms = 0
        timeout = TIMEOUT_MS_DEFAULT
        if options is not WRITE:
            w, pw, confirms = _acks_asked(options, n)
            timeout = timeout_ms(options.timeout_ms)
        if deadline is None:
            deadline = self._clock.monotonic() + timeout / 1000
        else:
            timeout = self._left_ms(deadline)
        merged = b""
        flight: int | None = None
        if options.condition is not None:
            # What is read goes on with the write, which began as early as this.
            with self._flights.hold() as flight:
                record = await self._read(routing, plan, _read_of(options, timeout))
            options = self._judge(options, record, lww)
            merged = encode_record(record) if record else b""
            timeout = self._left_ms(deadline)
        expires_ms = options.expires_ms
        if options.ttl_s is not None and kind == VALUE:
            expires_ms = expiry_ms(options, self._clock.wall_ms())
        mint = Mint(
            routing,
            plan.class_id,
            plan.partition,
            plan.epoch,
            timeout,
            seen,
            kind,
            content,
            expires_ms,
            merged,
            options.condition,
            lww=lww,
            above=above,
        )
        stamps = options.stamps
        if stamps is not None:
            stamps.committed = 0.0  # a delete's read may have been answered
        done, tally = self._operations.write(
            mint,
            plan,
            w=w,
            pw=pw,
            node_confirms=confirms,
            deadline=deadline,
            flight=flight,
            stamps=stamps,
        )
        try:
            return self._answers.written(routing, await done, tally, options.returnbody, lww)
        except RecordFull as error:
            found = self._answers.found(
                routing, error.record if isinstance(error.record, Record) else EMPTY, lww
            )
            raise RecordFull(error.message, record=found, **error.details) from None
        except Malformed as error:
            # Acknowledged by enough, but what exactly, the minter has not said.
            self._count["mints_malformed"] += 1
            raise WriteUncertain(
                f"the minter's answer cannot be read ({error.message}); the write may live on",
                **tally.counts(),
                reasons=dict(tally.reasons),
            ) from None
        finally:
            # An error knows this frame, which must not know the error: the value would be kept until
            # the collector finds them both.
            del done

    def _judge(self, options: WriteOptions, record: Record, lww: bool) -> WriteOptions:
        """Raises PreconditionFailed if there is a condition that `record` does not meet; else returns
        the same options, which say by what time that was judged."""
        now_ms = self._clock.wall_ms()
        condition = options.condition
        if condition is not None and not holds(condition, record, now_ms, lww):
            raise PreconditionFailed("the condition does not hold")
        return judged_at(options, now_ms)

    def _left_ms(self, deadline: float) -> int:
        """Milliseconds that a read has left for the write after it. Raises Unavailable if none."""
        left = deadline - self._clock.monotonic()
        if left <= 0:
            raise Unavailable("the read before the write took all its time; nothing was written")
        return max(1, int(left * 1000))


def _covered(record: Record, seen: Vector) -> bool:
    """True if the record holds a value, shown or expired, that `seen` names."""
    counters = dict(seen)
    return any(
        sibling.kind == VALUE and sibling.counter <= counters.get(sibling.birth, 0)
        for sibling in record.siblings
    )


def _acks_needed(options: WriteOptions, n: int) -> int:
    """How many replicas a write with these options has to reach."""
    return max(_acks_asked(options, n))


def _acks_asked(options: WriteOptions, n: int) -> tuple[int, int, int]:
    """Acknowledgements to wait for: how many, of primaries, and of distinct nodes."""
    w = resolve_count("w", options.w, n, lowest=1, default=n // 2 + 1)
    dw = resolve_count("dw", options.dw, n, lowest=0, default=0)
    pw = resolve_count("pw", options.pw, n, lowest=0, default=0)
    confirms = resolve_count("node_confirms", options.node_confirms, n, lowest=0, default=0)
    return max(w, dw), pw, confirms


def _read_of(options: WriteOptions, timeout_ms: int) -> ReadOptions:
    """The read that a conditional write, or a delete without context, makes first."""
    return ReadOptions(r=options.r, pr=options.pr, timeout_ms=timeout_ms)
