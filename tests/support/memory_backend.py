"""A whole store in one process and one dictionary, behind the protocol of the HTTP edge.

Versions, contexts, siblings, tombstones and conditions are the real ones; there is one replica, which
counts as three primaries that all answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Literal

import msgspec

from dynamo.agreement import (
    AntiEntropyStatus,
    RepairStatus,
    TreeRoots,
    antientropy_status,
    tree_roots,
)
from dynamo.context import ContextSealer
from dynamo.cursor import CursorSealer
from dynamo.errors import (
    FaultInjectionOff,
    InvalidArgument,
    PreconditionFailed,
    RecordFull,
    RepairRunning,
    UnknownBucketType,
)
from dynamo.keys import bucket_prefix, routing_key, split_routing_key
from dynamo.latency import Histogram
from dynamo.property_schema import NOTHING, Own, change, read_properties, show
from dynamo.quorum import resolve_count
from dynamo.readiness import Readiness
from dynamo.record import (
    EMPTY,
    SIBLINGS_MAX,
    TOMBSTONE,
    VALUE,
    Content,
    Record,
    encode_content,
    mint,
)
from dynamo.requests import (
    Found,
    Listed,
    ListOptions,
    Owner,
    ReadOptions,
    RepairAsked,
    Stamps,
    WriteOptions,
    Written,
    expiry_ms,
    if_covered,
)
from dynamo.resolve import holds, view
from dynamo.rpc.fault_rules import FaultRules, parse_rules, show_rules
from dynamo.stale_reads import AGES
from dynamo.status import (
    ExchangePair,
    ExchangePeer,
    ExchangeStatus,
    HintsStatus,
    HintTarget,
    MemberStatus,
    NodeStatus,
    RefillStatus,
    RepairProgress,
    StorageStatus,
    TombstonesStatus,
    TreesStatus,
    WaitStatus,
)
from dynamo.version import Vector, birth_bytes, incarnation_bytes
from dynamo.wars_status import WarsLegs, WarsRead, WarsStatus, WarsWrite

N = 3


class MemoryBackend:
    """A `dynamo.http.Backend`. `now_ms` is its wall clock: it stands still until it is set."""

    def __init__(self, *, cluster_id: str = "test", now_ms: int = 1_700_000_000_000) -> None:
        self.records: dict[bytes, Record] = {}
        self.now_ms = now_ms
        self.readiness = Readiness(True)
        self.writes = 0
        self.read_options = ReadOptions()
        self.write_options = WriteOptions()
        self.list_options = ListOptions()
        #: Names in a part of a listing, how many listings run, and what one raises after its first part.
        self.part_names = 2
        self.listings = 0
        self.fails_after_a_part: Exception | None = None
        self._cursors = CursorSealer(cluster_id=cluster_id, secret=b"secret")
        #: What was given to (type, bucket); all types but `unknown` are there.
        self.given: dict[tuple[bytes, bytes], Own] = {}
        self.properties_timeout_ms = 0
        #: What is kept for others, and what a sync point answers or raises.
        self.targets: tuple[HintTarget, ...] = ()
        self.synced: dict[str, int] | Exception = {}
        self.sync_timeout_ms = 0
        #: Pairs that are compared, why none is, and the repair that runs or was the last.
        self.pairs: tuple[ExchangePair, ...] = ()
        self.paused: str | None = None
        self.repaired = RepairStatus(node="n1")
        self.repair_asked = RepairAsked()
        #: None: as of a node that was not started to inject any.
        self.fault_rules: FaultRules | None = FaultRules()
        self._sealer = ContextSealer(cluster_id=cluster_id, secret=b"secret")
        self._incarnation = incarnation_bytes(1, b"\x01" * 8)
        self._births: dict[bytes, bytes] = {}

    async def get(
        self, bucket_type: bytes, bucket: bytes, key: bytes, options: ReadOptions
    ) -> Found:
        self.read_options = options
        _stamp(options.stamps)
        resolve_count("r", options.r, N, lowest=1, default=2)
        resolve_count("pr", options.pr, N, lowest=0, default=0)
        resolve_count("node_confirms", options.node_confirms, N, lowest=0, default=0)
        return self.found(routing_key(bucket_type, bucket, key))

    async def put(
        self,
        bucket_type: bytes,
        bucket: bytes,
        key: bytes,
        content: Content,
        context: bytes,
        options: WriteOptions,
    ) -> Written:
        routing = routing_key(bucket_type, bucket, key)
        _stamp(options.stamps)
        seen = self._sealer.open(routing, context) if context else ()
        return self._write(routing, VALUE, encode_content(content), seen, options)

    def check_put(
        self, bucket_type: bytes, bucket: bytes, key: bytes, context: bytes, options: WriteOptions
    ) -> None:
        for token in filter(None, (context, options.unmodified)):
            self._sealer.open(routing_key(bucket_type, bucket, key), token)
        _check_counts(options)

    async def delete(
        self, bucket_type: bytes, bucket: bytes, key: bytes, context: bytes, options: WriteOptions
    ) -> Found | Written:
        routing = routing_key(bucket_type, bucket, key)
        _stamp(options.stamps)
        if context:
            seen = self._sealer.open(routing, context)
        else:
            found = self.found(routing)
            if not found.siblings:
                return found
            seen = found.record.vector
        return self._write(routing, TOMBSTONE, b"", seen, options)

    async def list_keys(
        self, bucket_type: bytes, bucket: bytes, options: ListOptions
    ) -> AsyncGenerator[Listed, None]:
        prefix = bucket_prefix(bucket_type, bucket)
        live = [routing[len(prefix) :] for routing in self._live() if routing.startswith(prefix)]
        async for part in self._listed(live, b"keys" + prefix, options):
            yield part

    async def list_buckets(
        self, bucket_type: bytes, options: ListOptions
    ) -> AsyncGenerator[Listed, None]:
        triples = [split_routing_key(routing) for routing in self._live()]
        buckets = sorted({bucket for kind, bucket, _ in triples if kind == bucket_type})
        async for part in self._listed(buckets, b"buckets" + bucket_type, options):
            yield part

    def preflist(self, bucket_type: bytes, bucket: bytes, key: bytes) -> tuple[Owner, ...]:
        return tuple(Owner(7, f"n{i}", True, i < N) for i in range(1, N + 1))

    def _live(self) -> list[bytes]:
        return [
            key for key in sorted(self.records) if view(self.records[key], self.now_ms).siblings
        ]

    async def _listed(
        self, names: list[bytes], scope: bytes, options: ListOptions
    ) -> AsyncGenerator[Listed, None]:
        """A part at a time, of `part_names`."""
        self.list_options = options
        after = self._cursors.open(scope, options.cursor) if options.cursor else b""
        names = [name for name in names if name > after]
        rest = names[options.limit :] if options.limit else []
        names = names[: options.limit] if options.limit else names
        self.listings += 1
        try:
            for start in range(0, len(names), self.part_names):
                part = names[start : start + self.part_names]
                yield Listed(tuple(part), self._cursors.seal(scope, part[-1]))
                if self.fails_after_a_part is not None:
                    raise self.fails_after_a_part
            cursor = self._cursors.seal(scope, names[-1]) if rest else b""
            yield Listed((), cursor, done=True, complete=True)
        finally:
            self.listings -= 1

    def properties(self, bucket_type: bytes, bucket: bytes) -> dict[str, object]:
        return show(*self._layers(bucket_type, bucket), N)

    async def set_properties(
        self, bucket_type: bytes, bucket: bytes, given: Mapping[str, object], timeout_ms: int
    ) -> None:
        self.properties_timeout_ms = timeout_ms
        own, of_type = self._layers(bucket_type, bucket)
        self.given[bucket_type, bucket] = change(own, of_type, read_properties(given, N))

    async def reset_properties(self, bucket_type: bytes, bucket: bytes, timeout_ms: int) -> None:
        self._layers(bucket_type, bucket)
        self.properties_timeout_ms = timeout_ms
        self.given.pop((bucket_type, bucket), None)

    def _layers(self, bucket_type: bytes, bucket: bytes) -> tuple[Own, Own]:
        if bucket_type == b"unknown":
            raise UnknownBucketType("no such bucket type")
        own = self.given.get((bucket_type, bucket), NOTHING)
        return own, self.given.get((bucket_type, b""), NOTHING) if bucket else NOTHING

    def ready(self) -> Readiness:
        return self.readiness

    def stats(self) -> dict[str, Any]:
        return {"keys": len(self.records), "writes": self.writes}

    def status(self) -> NodeStatus:
        return NodeStatus(
            node="n1",
            cluster="test",
            start=1,
            uptime_s=60.0,
            ready=self.readiness.ready,
            reasons=self.readiness.reasons,
            epoch=1,
            partitions=8,
            members=(
                MemberStatus(
                    id="n1",
                    address="127.0.0.1:7400",
                    datacenter="dc1",
                    rack="rack1",
                    host="127.0.0.1",
                    weight=1,
                    partitions={"default": 8},
                ),
            ),
            peers=(),
            refusals={},
            refill=RefillStatus(unserved=0, marked=0, owed=(), damaged=0),
            storage=StorageStatus(
                opened="clean",
                refusal=None,
                free_bytes=1 << 30,
                write_number=self.writes,
                synced_number=self.writes,
            ),
            requests={"gets": 0, "puts": self.writes, "deletes": 0},
            alarms={"alarms": 0},
        )

    def hints(self) -> HintsStatus:
        return HintsStatus(
            node="n1",
            counted=True,
            hints=sum(target.hints for target in self.targets),
            bytes=sum(target.bytes for target in self.targets),
            bytes_max=1 << 30,
            window_s=10_800,
            rate_max=16 << 20,
            targets=self.targets,
        )

    def repair_ages(self) -> Histogram:
        ages = Histogram(AGES)
        ages.note(0.25)
        ages.note(700.0)
        return ages

    def wars(self, *, wholes: bool = True) -> WarsStatus:
        return WarsStatus(
            node="n1",
            n=3,
            sampled=32,
            seconds=61.5,
            peers={
                "n1": WarsLegs(w=(0.0,), a=(2.0,), r=(0.0,), s=(0.25,), writes=1, reads=1),
                "n2": WarsLegs(w=(1.0,), a=(3.0,), writes=1, clock_offset_ms=0.5),
            },
            writes=(WarsWrite(minter="n1", legs={"n1": (0.0, 2.0), "n2": (1.0, 3.0)}),),
            reads=(WarsRead(body="n1", legs={"n1": (0.0, 0.25)}),),
        )

    def tombstones(self) -> TombstonesStatus:
        return TombstonesStatus(
            node="n1",
            counted=True,
            tombstones=7,
            births=2,
            oldest_s=90.5,
            after_s=60,
            trying=1,
            reaped=11,
            dropped=30,
            shortened=4,
            elsewhere=3,
            waiting=(
                WaitStatus(why="n3 cannot be reached", records=5),
                WaitStatus(why="n2: it owes writes of the partition to others (hints)", records=1),
            ),
        )

    async def sync_hints(self, timeout_ms: int) -> dict[str, int]:
        self.sync_timeout_ms = timeout_ms
        if isinstance(self.synced, Exception):
            raise self.synced
        return self.synced

    def antientropy(self, partition: int | None, limit: int) -> AntiEntropyStatus:
        if partition is not None and partition >= 8:
            raise InvalidArgument("no such partition", field="partition", allowed="0 to 7")
        exchanges = ExchangeStatus(
            node="n1",
            state="running" if self.paused is None else "paused",
            reason=self.paused or "",
            interval_s=10.0,
            interval_remote_s=60.0,
            agreed_s=None,
            never_clean=0,
            peers=tuple(_exchange_peer(name) for name in sorted({p.peer for p in self.pairs})),
            pairs=self.pairs,
        )
        return antientropy_status(
            exchanges,
            classes={0: "default"},
            trees=TreesStatus(trees=8, ready=7, leaves=1024, built=0, verified=0, wrong=0),
            counters={
                "hints_delivered": 3,
                "hint_bytes_delivered": 300,
                "repairs_by_exchange_pulled": 2,
                "repairs_by_exchange_pushed": 4,
                "repair_bytes_by_exchange_pushed": 60,
            },
            partition=partition,
            limit=limit,
        )

    def roots(self) -> TreeRoots:
        return tree_roots("n1", {(0, 0): 1, (0, 1): 2}, unready=1, classes={0: "default"})

    def faults(self) -> dict[str, Any]:
        if self.fault_rules is None:
            raise FaultInjectionOff("this node was not started with --fault-injection")
        rules = show_rules(self.fault_rules)
        return {"rules": rules, "cut": [], "held": 0, "held_max": 10, "precise": True}

    def set_faults(self, rules: object) -> dict[str, Any]:
        self.faults()
        self.fault_rules = parse_rules(rules, ("n2", "n3"))
        return self.faults()

    def pause_antientropy(self, reason: str) -> None:
        self.paused = reason

    def resume_antientropy(self) -> None:
        self.paused = None

    def repair(self) -> RepairStatus:
        return self.repaired

    def start_repair(self, asked: RepairAsked) -> RepairStatus:
        if self.repaired.is_running:
            raise RepairRunning("one runs", repair=msgspec.to_builtins(self.repaired))
        before = self.repaired.progress
        self.repair_asked = asked
        progress = repair_progress(1 if before is None else before.number + 1, "running")
        self.repaired = RepairStatus(node="n1", progress=progress)
        return self.repaired

    async def stop_repair(self) -> RepairStatus:
        if self.repaired.progress is not None and self.repaired.is_running:
            progress = repair_progress(self.repaired.progress.number, "stopped")
            self.repaired = RepairStatus(node="n1", progress=progress)
        return self.repaired

    def found(self, routing: bytes) -> Found:
        record = self.records.get(routing, EMPTY)
        shown = view(record, self.now_ms)
        context = self._sealer.seal(routing, record.vector) if record else b""
        return Found(record, shown.siblings, shown.deleted, context)

    def _write(
        self, routing: bytes, kind: int, content: bytes, seen: Vector, options: WriteOptions
    ) -> Written:
        self.write_options = options
        _check_counts(options)
        record = self.records.get(routing, EMPTY)
        condition = options.condition
        if options.unmodified:
            vector = self._sealer.open(routing, options.unmodified)
            condition = if_covered(options, vector).condition
        if condition is not None and not holds(condition, record, self.now_ms):
            raise PreconditionFailed("the condition does not hold")
        birth = self._births.get(routing)
        if birth is None:
            birth = birth_bytes(self._incarnation, len(self._births) + 1)
            self._births[routing] = birth
        counter = max(dict(record.vector).get(birth, 0), dict(seen).get(birth, 0)) + 1
        minted = mint(
            record,
            seen,
            birth=birth,
            counter=counter,
            kind=kind,
            content=content,
            written_ms=self.now_ms,
            expires_ms=expiry_ms(options, self.now_ms) if kind == VALUE else 0,
        )
        if len(minted.siblings) > SIBLINGS_MAX:
            raise RecordFull(
                "too many siblings", record=self.found(routing), cap="siblings", limit=SIBLINGS_MAX
            )
        self.records[routing] = minted
        self.writes += 1
        found = self.found(routing)
        vtag = next(s.vtag() for s in minted.siblings if s.dot == (birth, counter))
        return Written(minted, found.siblings, found.deleted, found.context, vtag, 2, 0)


def _check_counts(options: WriteOptions) -> None:
    resolve_count("w", options.w, N, lowest=1, default=2)
    for name in ("pw", "dw", "node_confirms"):
        resolve_count(name, getattr(options, name), N, lowest=0, default=0)


def _exchange_peer(name: str) -> ExchangePeer:
    return ExchangePeer(
        peer=name,
        datacenter="dc1",
        state="idle",
        reason="",
        partitions=8,
        begun_s=2.0,
        suspects=0,
        exchanges=3,
        failures=0,
        keys_compared=0,
        keys_differing=0,
        pulled=1,
        pushed=2,
        bytes_pulled=10,
        bytes_pushed=20,
    )


def repair_progress(
    number: int, state: Literal["running", "done", "incomplete", "stopped", "failed"]
) -> RepairProgress:
    """Of a repair of 16 pairs that has done 4."""
    return RepairProgress(
        number=number,
        state=state,
        reason="",
        passes=1,
        pairs_done=4,
        pairs_total=16,
        keys_compared=100,
        keys_differing=5,
        pulled=3,
        pushed=2,
        bytes_pulled=30,
        bytes_pushed=20,
        elapsed_s=2.0,
        eta_s=6.0,
        waiting_for={},
        unreached={},
    )


def _stamp(stamps: Stamps | None) -> None:
    if stamps is not None:
        stamps.begin("n1", 12.5)
        stamps.committed = 12.500_000_25
