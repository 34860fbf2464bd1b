"""Puts, gets and deletes at quorum, on behalf of any client.

A node has one; a service can embed one. One function a request: plan, then let an operation mint,
store, fetch and tally, then answer. Knows nothing of HTTP, sockets or storage: its replicas, its own
node's included, are reached through the transport.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

from dynamo.answers import Answers
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
from dynamo.hedging import Hedger
from dynamo.keys import BUCKET_BYTES_MAX, KEY_BYTES_MAX, routing_key
from dynamo.known_records import KnownRecords
from dynamo.metrics import Metrics
from dynamo.ports import Clock, Opinions, Transport
from dynamo.properties import (
    DEFAULT_PROPERTIES,
    PropertiesOf,
    default_properties,
    fill_delete,
    fill_read,
    fill_write,
)
from dynamo.quorum import resolve_count, tell_counts, too_few
from dynamo.read_operation import ReadOperation
from dynamo.read_repair import RepairWaiter
from dynamo.read_tally import ReadTally, SloppyReadTally
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
    TIMEOUT_MS_MAX,
    WRITE,
    Found,
    Owner,
    ReadOptions,
    WriteOptions,
    Written,
    if_covered,
)
from dynamo.resolve import holds
from dynamo.retry_budget import RetryBudget
from dynamo.rpc.messages import Fetch, Mint, Minted
from dynamo.stand_ins import DOWN, Standing, standing
from dynamo.telling import DebtWaiter, TellWaiter
from dynamo.version import Vector, descends
from dynamo.write_operation import WriteOperation
from dynamo.write_tally import WriteTally
from ring.preference import Plan, Planner
from ring.ring import ReplicationClass, Ring

VALUE_BYTES_MAX: Final = 8 << 20
#: A peer that has left a request without any reply for so long (seconds) is asked last.
STALLED_AFTER: Final = 0.25
#: Lists of primaries that are kept with this node first.
OWN_FIRST_MAX: Final = 65_536


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
    ) -> None:
        """`value_bytes_max`: largest value accepted, at most 8 MiB. `heard`: gets the last synced write
        number that each node has acknowledged with. `properties`: of a bucket, for each request.
        `opinions`: who is down and who is doubted, now and later."""
        self._node_id = node_id
        self._datacenter = datacenter
        self._transport = transport
        self._clock = clock
        self._sealer = sealer
        self._metrics = metrics
        self._count = metrics.count
        self._value_bytes_max = min(value_bytes_max, VALUE_BYTES_MAX)
        self._heard = {} if heard is None else heard
        self._properties = properties
        self._repair = RepairWaiter(metrics)
        self._tell = TellWaiter(metrics)
        self._debts = DebtWaiter(metrics)
        self._down = opinions.down
        self._doubted = opinions.doubted
        self._hedger = Hedger(clock=clock, transport=transport, opinions=opinions, metrics=metrics)
        self._retries = RetryBudget()
        #: Requests that it has been told of.
        self._earned = 0
        self._planner: Planner | None = None
        self._answers = Answers(sealer=sealer, clock=clock, metrics=metrics)
        self._known = KnownRecords(own=node_id)
        #: Of the primaries of a partition: the same with this node first, () where it is none of them.
        self._own_first: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._classes: dict[bytes, ReplicationClass] = {}

    def adopt(self, ring: Ring) -> None:
        """Plan by this ring from now on, in the datacenter where it has this node, if it does."""
        member = ring.member(self._node_id)
        datacenter = self._datacenter if member is None else member.datacenter
        self._planner = Planner(ring, datacenter)
        self._classes = {class_.name.encode(): class_ for class_ in ring.classes}
        self._own_first = {}

    # Requests -----------------------------------------------------------------------------------

    async def get(
        self, bucket_type: bytes, bucket: bytes, key: bytes, options: ReadOptions = READ
    ) -> Found:
        """What r replicas hold of the key, merged.

        Raises InvalidArgument, KeyTooLong, UnknownBucketType, NotReady, Unavailable, ReadUncertain.
        """
        routing, plan = self._plan(bucket_type, bucket, key)
        props = self._properties(bucket_type, bucket)
        if props is not DEFAULT_PROPERTIES:
            options = fill_read(options, props, len(plan.primaries))
        lww = props.conflict == "lww"
        self._count["gets"] += 1
        return self._answers.found(
            routing, await self._begin_read(routing, plan, options).done, lww
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
        routing, plan = self._plan(bucket_type, bucket, key)
        props = self._properties(bucket_type, bucket)
        if props is not DEFAULT_PROPERTIES:
            options = fill_delete(options, props, len(plan.primaries))
        lww = props.conflict == "lww"
        self._count["deletes"] += 1
        timeout_ms = _timeout_ms(options.timeout_ms)
        deadline = self._clock.monotonic() + timeout_ms / 1000
        seen = self._sealer.open(routing, context) if context else None
        if options.unmodified:
            options = if_covered(options, self._sealer.open(routing, options.unmodified))
        needed = _acks_needed(options, len(plan.primaries))
        try:
            # With a context the read only spares work, so it leaves the write half of the time.
            read_ms = timeout_ms if seen is None else max(1, timeout_ms // 2)
            record, holders = await self._read_held(routing, plan, _read_of(options, read_ms))
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
            owners += [
                Owner(plan.partition, node, False, True) for node in standing(plan, down).spare
            ]
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
        return await self._begin_read(routing, plan, options).done

    async def _read_held(
        self, routing: bytes, plan: Plan, options: ReadOptions
    ) -> tuple[Record, int]:
        """What r replicas hold, and how many primaries are known to hold all of it."""
        operation = self._begin_read(routing, plan, options)
        try:
            return await operation.done, operation.holders
        finally:
            del operation  # an error knows this frame, which must not know the error

    def _begin_read(self, routing: bytes, plan: Plan, options: ReadOptions) -> ReadOperation:
        primaries = plan.primaries
        n = len(primaries)
        r = n // 2 + 1
        pr = confirms = 0
        timeout_ms = TIMEOUT_MS_DEFAULT
        if options is not READ:
            r = resolve_count("r", options.r, n, lowest=1, default=r)
            pr = resolve_count("pr", options.pr, n, lowest=0, default=0)
            confirms = resolve_count("node_confirms", options.node_confirms, n, lowest=0, default=0)
            timeout_ms = _timeout_ms(options.timeout_ms)
        holders_needed = n - r + 1 if options.read_repair == "blocking" else 0
        nodes = primaries
        there: Standing | None = None
        down = self._down
        if down and not down.isdisjoint(primaries):
            there = standing(plan, down)
            nodes = there.live
            _check_enough(there, needed=max(r, confirms), primaries_needed=max(pr, holders_needed))
        best = self._best_first(nodes)
        tally = (ReadTally if there is None else _sloppily(primaries, there))(
            best,
            r=r,
            pr=pr,
            node_confirms=confirms,
            notfound_ok=options.notfound_ok is not False,
            basic_quorum=options.basic_quorum is True,
        )
        done: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        operation = ReadOperation(
            fetch=Fetch(routing, plan.class_id, plan.partition, plan.epoch, timeout_ms, True),
            nodes=best,
            tally=tally,
            holders_needed=holders_needed,
            transport=self._transport,
            clock=self._clock,
            metrics=self._metrics,
            repair=self._repair,
            deadline=self._clock.monotonic() + timeout_ms / 1000,
            done=done,
            known=self._known,
            hedger=self._hedger,
            stand_ins=() if there is None else there.spare,
        )
        operation.start()
        return operation

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
        nodes = plan.primaries
        n = len(nodes)
        w = n // 2 + 1
        dw = pw = confirms = 0
        timeout_ms = TIMEOUT_MS_DEFAULT
        if options is not WRITE:
            w = resolve_count("w", options.w, n, lowest=1, default=w)
            dw = resolve_count("dw", options.dw, n, lowest=0, default=0)
            pw = resolve_count("pw", options.pw, n, lowest=0, default=0)
            confirms = resolve_count("node_confirms", options.node_confirms, n, lowest=0, default=0)
            timeout_ms = _timeout_ms(options.timeout_ms)
        if deadline is None:
            deadline = self._clock.monotonic() + timeout_ms / 1000
        else:
            timeout_ms = self._left_ms(deadline)
        merged = b""
        if options.condition is not None:
            record = await self._read(routing, plan, _read_of(options, timeout_ms))
            self._judge(options, record, lww)
            merged = encode_record(record) if record else b""
            timeout_ms = self._left_ms(deadline)
        w = max(w, dw)
        down = self._down
        absent: tuple[str, ...] = ()
        if down and not down.isdisjoint(nodes):
            there = standing(plan, down)
            nodes, absent = there.live, there.absent
            _check_enough(there, needed=max(w, confirms), primaries_needed=pw)
        tally = WriteTally(n, w=w, pw=pw, node_confirms=confirms)
        done: asyncio.Future[Minted] = asyncio.get_running_loop().create_future()
        operation = WriteOperation(
            mint=Mint(
                routing,
                plan.class_id,
                plan.partition,
                plan.epoch,
                timeout_ms,
                seen,
                kind,
                content,
                options.expires_ms,
                merged,
                options.condition,
                lww=lww,
                above=above,
            ),
            plan=plan,
            candidates=self._best_first(nodes),
            down=down,
            tally=tally,
            transport=self._transport,
            clock=self._clock,
            metrics=self._metrics,
            deadline=deadline,
            done=done,
            heard=self._heard,
            tell=self._tell,
            debts=self._debts,
            may_retry=self._may_retry,
        )
        operation.start(absent)
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
            del done, operation

    def _may_retry(self) -> bool:
        """True if one more write may be tried at another replica since one had too much to do."""
        count = self._count
        asked = count["gets"] + count["puts"] + count["deletes"]
        self._retries.earn(asked - self._earned)
        self._earned = asked
        if self._retries.spend():
            count["mints_retried"] += 1
            return True
        count["mint_retries_denied"] += 1
        return False

    def _judge(self, options: WriteOptions, record: Record, lww: bool) -> None:
        """Raises PreconditionFailed if there is a condition that `record` does not meet."""
        condition = options.condition
        if condition is not None and not holds(condition, record, self._clock.wall_ms(), lww):
            raise PreconditionFailed("the condition does not hold")

    def _left_ms(self, deadline: float) -> int:
        """Milliseconds that a read has left for the write after it. Raises Unavailable if none."""
        left = deadline - self._clock.monotonic()
        if left <= 0:
            raise Unavailable("the read before the write took all its time; nothing was written")
        return max(1, int(left * 1000))

    def _best_first(self, primaries: tuple[str, ...]) -> Sequence[str]:
        """This node if it is a primary, then those that answer as they should, then the rest."""
        own_first = self._own_first.get(primaries)
        if own_first is None:
            own = self._node_id
            others = tuple([p for p in primaries if p != own])
            # As many entries as the ring has owners of a partition, and () for those without this node.
            own_first = (own, *others) if own in primaries else ()
            if len(self._own_first) >= OWN_FIRST_MAX:
                self._own_first.clear()  # there is more than one for each, while nodes are down
            self._own_first[primaries] = own_first
        if own_first:
            return own_first
        doubted = self._doubted
        stalled_for = self._transport.stalled_for
        late = [p for p in primaries if p in doubted or stalled_for(p) > STALLED_AFTER]
        return [p for p in primaries if p not in late] + late if late else primaries


def _covered(record: Record, seen: Vector) -> bool:
    """True if the record holds a value, shown or expired, that `seen` names."""
    counters = dict(seen)
    return any(
        sibling.kind == VALUE and sibling.counter <= counters.get(sibling.birth, 0)
        for sibling in record.siblings
    )


def _check_enough(there: Standing, *, needed: int, primaries_needed: int) -> None:
    """Raises Unavailable, before anybody is asked, if too few nodes are up."""
    counts = too_few(
        needed=needed,
        primaries_needed=primaries_needed,
        primaries=len(there.live),
        fallbacks=len(there.spare),
    )
    if counts is not None:
        raise Unavailable(
            f"{tell_counts(counts, 'are up')}; nobody was asked",
            **counts,
            reasons=dict.fromkeys(there.absent, DOWN),
        )


def _sloppily(primaries: tuple[str, ...], there: Standing) -> Callable[..., ReadTally]:
    """What makes the tally of a read while primaries are down."""

    def tally(nodes: Sequence[str], **asked: Any) -> ReadTally:
        made = SloppyReadTally(primaries, stand_ins=there.spare, **asked)
        for node in there.absent:
            made.fail(node, DOWN)
        return made

    return tally


def _acks_needed(options: WriteOptions, n: int) -> int:
    """How many replicas a write with these options has to reach."""
    return max(
        resolve_count("w", options.w, n, lowest=1, default=n // 2 + 1),
        resolve_count("dw", options.dw, n, lowest=0, default=0),
        resolve_count("pw", options.pw, n, lowest=0, default=0),
        resolve_count("node_confirms", options.node_confirms, n, lowest=0, default=0),
    )


def _read_of(options: WriteOptions, timeout_ms: int) -> ReadOptions:
    """The read that a conditional write, or a delete without context, makes first."""
    return ReadOptions(r=options.r, pr=options.pr, timeout_ms=timeout_ms)


def _timeout_ms(asked: int) -> int:
    if asked < 0:
        raise InvalidArgument("timeout must be 1 or more", field="timeout", allowed="1 or more")
    return min(asked or TIMEOUT_MS_DEFAULT, TIMEOUT_MS_MAX)
