"""One run: a plan carried out on a cluster, then healing, then judgement.

Two phases. Safety: clients and faults, everything at once. Liveness: a core is healed, the rest stays
dead. Where nodes exchange they have to agree by themselves, before anybody asks them anything, and be
quiet then. Then operations must succeed, each key is read once from all its primaries, and the replicas
must agree and be quiet. Knows nothing of how plans are made.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from dynamo.errors import DynamoError, Malformed
from dynamo.requests import ReadOptions
from dynamo.sim.chance import stream
from dynamo.sim.checks import Finding, check_all
from dynamo.sim.cluster import LWW_BUCKET, Cluster, bucket_of
from dynamo.sim.convergence import look_whether_they_agree
from dynamo.sim.exact import Exam
from dynamo.sim.exact_lww import KEYS as LWW_KEYS
from dynamo.sim.exact_lww import LastWriteExam
from dynamo.sim.faults import Injector
from dynamo.sim.hints import hint_copy
from dynamo.sim.history import (
    AtRest,
    History,
    Shown,
    copy_on_disk,
    values_in,
)
from dynamo.sim.kinds import Kind
from dynamo.sim.last_write import check_last_writes
from dynamo.sim.link import Timing
from dynamo.sim.loop import SimLoop, run_virtual
from dynamo.sim.names import ballast_names, key_names
from dynamo.sim.plan import Plan
from dynamo.sim.testimony import Looks
from dynamo.sim.trace import Trace
from dynamo.sim.workload import Workload

#: After the heal, what is on its way arrives (a message that is repeated takes up to 5 s), and
#: connections that were silent are made anew.
GRACE_SECONDS: Final = 6.0
#: A flipped bit may be in a frame's length: the node waits 10 s for the rest of it, then reconnects.
FLIPPED_SECONDS: Final = 13.0
#: Virtual seconds that the nodes have to be whole again, and a key to be read at r = n.
HEALING_SECONDS: Final = 120.0
#: What is held for others is delivered in so many: a target that had no room is tried once a minute.
DRAIN_SECONDS: Final = 70.0
#: The last operations of a run ask for so many seconds, and must succeed.
LAST_TIMEOUT: Final = 3.0
#: A key that nobody asks for before all is calm.
FRESH_KEY: Final = b"fresh"
#: A storage that is behind for so long makes nobody fail.
BUSY_SECONDS: Final = 0.1
#: Longer than any request that was made waits for its answers.
QUIET_SECONDS: Final = 6.0
#: A round of what nodes do unasked is over after so many.
LEFT_SECONDS: Final = 10.0
#: Counters that stay at 0 as long as every dot is minted once, and no handler has a bug.
ALARMS: Final = {
    "foreign_dots": "I3",
    "dots_with_two_values": "I3",
    "records_stuck": "I6",
    "rpc_handlers_failed": "bug",
    "rpc_waiters_failed": "bug",
}
#: What nodes count when they reap a tombstone, or births; reaping that goes on is let come to its end.
_DROPS: Final = ("tombstones_dropped", "births_dropped")
RESTS_MAX: Final = 6
#: What replicas count when somebody repairs them, or writes.
_REPAIRS: Final = ("stores", "repairs_stored", "mints", "hints_taken", "hints_delivered")


class Result(NamedTuple):
    """What came of a run. `trace`: hash of all that happened; `findings`: none if all is well."""

    plan: Plan
    findings: tuple[Finding, ...]
    trace: str
    operations: int
    messages: int
    virtual_seconds: float
    injected: Counter[Kind]
    outcomes: Counter[str]


def run_plan(
    plan: Plan,
    *,
    watch: Callable[[str], None] | None = None,
    tail: Callable[[list[str]], None] | None = None,
    look: Callable[[History, AtRest], None] | None = None,
) -> Result:
    """Carry out the plan. `watch` sees each entry of the trace; `tail` gets the last of them; `look`
    gets what the findings were judged from."""
    run = _Run(plan)
    with quiet():
        try:
            run_virtual(run.main(watch), random=stream(plan.seed, "loop"))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            run.findings.append(Finding("bug", f"the run raised {type(error).__name__}: {error}"))
    if tail is not None and run.trace is not None:
        tail(run.trace.tail())
    if look is not None:
        look(run.history, run.rest)
    return run.result()


class _Run:
    """One plan, from its first node's start to its findings."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.history = History(n=plan.replicas)
        self.rest = AtRest(patience=LAST_TIMEOUT)
        self.findings: list[Finding] = []
        self.trace: Trace | None = None
        self.messages = 0
        self.seconds = 0.0
        self.injected: Counter[Kind] = Counter()
        self._injector: Injector | None = None

    def result(self) -> Result:
        """What came of it."""
        return Result(
            plan=self.plan,
            findings=tuple(self.findings),
            trace=self.trace.hash if self.trace is not None else "",
            operations=len(self.history.operations),
            messages=self.messages,
            virtual_seconds=self.seconds,
            injected=self.injected,
            outcomes=Counter(f"{one.kind} {one.outcome}" for one in self.history.operations),
        )

    async def main(self, watch: Callable[[str], None] | None) -> None:
        """Run it, and judge."""
        plan, loop = self.plan, asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        self.trace = trace = Trace(now=loop.time)
        trace.watch = watch
        cluster = Cluster(
            nodes=plan.nodes,
            replicas=plan.replicas,
            partitions=plan.partitions,
            seed=plan.seed,
            formed=plan.formed,
            apart=plan.apart,
            trace=trace,
            hint_window=plan.hint_window or None,
            hint_bytes=dict.fromkeys(plan.hint_bytes_at, plan.hint_bytes),
            upkeep=plan.upkeep,
        )
        cluster.network.timing(None, None, _timing(plan))
        for node in cluster.nodes.values():
            node.disk.sync_seconds = (plan.sync_ms / 5000, plan.sync_ms / 500)
        fresh = (FRESH_KEY, *LWW_KEYS) if plan.lww else (FRESH_KEY,)
        for key in (*key_names(plan), *ballast_names(plan), *fresh):
            self.history.owners[key] = cluster.owners(key)
        self.history.lww = frozenset(
            key for key in self.history.owners if bucket_of(key) == LWW_BUCKET
        )
        looks = Looks(cluster, self.history)
        if plan.expired:
            looks.watch_bodies()
        workload = Workload(plan, cluster, self.history, looks=looks)
        try:
            async with cluster:
                start = loop.time()
                injector = Injector(plan, cluster, self.history, looks.ledger, start=start)
                await asyncio.gather(workload.run(start), injector.run())
                await injector.heal()
                self.injected = injector.injected
                self.findings += [Finding("I18", line) for line in injector.failures]
                self._injector = injector
                await self._rest_of(cluster, workload)
                await self._look_for_leftovers(cluster)
        finally:
            self.messages = cluster.count("rpc_messages_received")
            self.seconds = loop.time()
            self._collect(cluster, workload)
        self.findings = [
            *check_all(self.history, self.rest),
            *check_last_writes(self.history, self.rest),
            *self.findings,
        ]

    # Liveness -----------------------------------------------------------------------------------

    async def _rest_of(self, cluster: Cluster, workload: Workload) -> None:
        """Wait until the core is whole, use it once more, let it agree, and see what is there."""
        rest, loop = self.rest, cluster.loop
        flipped = any(fault.kind == "flip" for fault in self.plan.faults)
        await asyncio.sleep(FLIPPED_SECONDS if flipped else GRACE_SECONDS)
        try:
            await cluster.ready(patience=HEALING_SECONDS)
        except TimeoutError as error:
            rest.errors.append(f"after healing: {error}; {self._why_not(cluster)}")
            return
        rest.healed_at = loop.time()
        dead = self.plan.dead
        rest.reachable = cluster.replicas - len(dead) if dead else 0
        if self.plan.exchange:
            await look_whether_they_agree(cluster, self.history, rest)
        await self._last_operations(cluster, workload)
        if not await self._settled(cluster):
            return
        await self._exam(cluster, workload)
        for _ in range(RESTS_MAX):
            before = sum(map(cluster.count, _DROPS))
            if not await self._settled(cluster):
                return
            await self._last_reads(cluster)
            if sum(map(cluster.count, _DROPS)) == before:
                break  # or a read may have met records between two owners' drops, and repaired them
        for key in cluster.keys:
            storage_key = cluster.storage_key(key)
            rest.copies[key] = {
                name: copy_on_disk(
                    cluster.nodes[name].disk.durable("records", storage_key), storage_key
                )
                for name in cluster.owners(key)
                if cluster.nodes[name].is_up
            }
            held = [
                self.history.covers(value, hint, hint_copy)
                for name in cluster.up
                for _, hint, value in cluster.hints(name, key)
            ]
            rest.hints[key] = frozenset().union(*held)
        rest.undelivered = cluster.undelivered()

    async def _last_reads(self, cluster: Cluster) -> None:
        """From now on nothing is repaired, though every node is asked for all that its key's primaries
        have."""
        rest = self.rest
        rest.at, rest.repairs = cluster.loop.time(), 0
        rest.reads.clear()
        before = [cluster.count(name) for name in _REPAIRS]
        for key in cluster.keys:
            await self._read_everywhere(cluster, key)
        await asyncio.sleep(QUIET_SECONDS)
        for name, count in zip(_REPAIRS, before, strict=True):
            rest.repairs += cluster.count(name) - count

    async def _settled(self, cluster: Cluster) -> bool:
        """Hints are delivered, and each key is read from all its primaries that are up."""
        rest = self.rest
        try:
            await cluster.drained(patience=DRAIN_SECONDS)
        except TimeoutError:
            rest.undelivered = cluster.undelivered()
            return False
        try:
            await cluster.settle(patience=HEALING_SECONDS)
        except (DynamoError, TimeoutError) as error:
            rest.errors.append(f"a key cannot be read from all its primaries: {error!r}")
            return False
        return True

    def _why_not(self, cluster: Cluster) -> str:
        reasons = []
        for name in cluster.up:
            services = cluster.nodes[name].services
            if services is not None and services.rpc_address and not cluster.is_whole(name):
                reasons.append(f"{name}: {services.debts()} {services.ready().reasons}")
        return "; ".join(reasons)

    async def _last_operations(self, cluster: Cluster, workload: Workload) -> None:
        """Each key is written and read once more, by somebody who knows nothing: that must succeed."""
        rng = stream(self.plan.seed, "last")
        client = workload.client()
        for key in workload.keys:
            if key in self.history.lww:
                # A minter that has missed writes may be below them once; that tells it of them.
                node = rng.choice(cluster.up)
                await client.simple("put", key, node, LAST_TIMEOUT / 2)
                await client.simple("put", key, node, LAST_TIMEOUT)
                await client.simple("get", key, rng.choice(cluster.up), LAST_TIMEOUT)
                continue
            for kind in ("put", "get"):
                await client.simple(kind, key, rng.choice(cluster.up), LAST_TIMEOUT)

    async def _exam(self, cluster: Cluster, workload: Workload) -> None:
        """A key that nobody knows, so that what is at rest of the others stays as it is."""
        client = workload.client()
        rng = stream(self.plan.seed, "exam")
        other = workload.keys[0]
        await client.ask("get", other, LAST_TIMEOUT, node=rng.choice(cluster.up))
        exam = Exam(
            client,
            FRESH_KEY,
            rng=rng,
            timeout=LAST_TIMEOUT,
            dead=len(self.plan.dead),
            problems=workload.problems,
            reaps=self.plan.upkeep.reaps,
        )
        await exam.take(client.last(other))
        if self.plan.dead or cluster.replicas < 3:
            return
        owners = cluster.owners(FRESH_KEY)
        disks = [cluster.nodes[name].disk for name in owners]
        disks[0].fill()
        await exam.without_room(owners[0])
        disks[0].free()
        await exam.with_room_again(owners[0])
        disks[0].busy(True)
        cluster.loop.call_later(BUSY_SECONDS, disks[0].busy, False)
        await exam.while_behind(owners[0])
        for disk in disks:
            disk.fill()
        await exam.without_room_anywhere()
        for disk in disks:
            disk.free()
        if self.plan.lww:
            await LastWriteExam(
                workload.client(),
                cluster,
                self.history,
                timeout=LAST_TIMEOUT,
                problems=workload.problems,
            ).take()

    async def _read_everywhere(self, cluster: Cluster, key: bytes) -> None:
        """What every node shows of a key, asked at all primaries that are up."""
        rest, history = self.rest, self.history
        count = sum(cluster.nodes[owner].is_up for owner in cluster.owners(key))
        shown = rest.reads.setdefault(key, {})
        for name in cluster.up:
            try:
                found = await cluster.read(name, key, ReadOptions(r=count, timeout_ms=5000))
                shown[name] = Shown(history.note_dots(found.record), values_in(found.siblings))
            except DynamoError as error:
                if isinstance(error, Malformed):
                    history.unreadable.append(f"{key!r} at {name} at rest: {error.message}")
                rest.errors.append(f"{key!r} cannot be read at {name} at rest: {error!r}")

    # What else can be wrong ---------------------------------------------------------------------

    async def _look_for_leftovers(self, cluster: Cluster) -> None:
        """Nobody waits for anything any more, or will soon: what nodes do unasked may be under way."""
        with contextlib.suppress(TimeoutError):
            await cluster.until(
                lambda: not any(_leftovers(cluster)), "nobody waits", patience=LEFT_SECONDS
            )
        self.findings += [Finding("I18", line) for line in _leftovers(cluster)]

    def _lost_partition(self, name: str) -> bool:
        """Records went from below the node, which no tree could tell."""
        return any(one.node == name and one.why == "partition" for one in self.history.losses)

    def _collect(self, cluster: Cluster, workload: Workload) -> None:
        if self._injector is not None:
            self.findings += [Finding("I11", line) for line in self._injector.losses.incomplete]
        for name, node in cluster.nodes.items():
            self.rest.ends_met += node.disk.ends_met
            if node.count("trees_wrong") and not self._lost_partition(name):
                text = f"{name} has found its own hash trees wrong"
                self.findings.append(Finding("I6", text))
            self.rest.breaches += [f"{name}: {breach}" for breach in node.disk.breaches]
            for counter, invariant in ALARMS.items():
                if node.count(counter):
                    text = f"{name} counted {counter} {node.count(counter)} times"
                    self.findings.append(Finding(invariant, text))
        self.findings += [Finding("answer", line) for line in workload.problems]


def _leftovers(cluster: Cluster) -> Iterator[str]:
    """What nodes wait for, a line each."""
    for name in cluster.up:
        services, world = cluster.nodes[name].services, cluster.nodes[name].world
        assert services is not None
        assert world is not None
        waiting = {
            **services.waiting(),
            **{f"last replies to a {kind}": n for kind, n in world.unanswered.items()},
        }
        for what, count in waiting.items():
            if count:
                yield f"{name} still waits for {count} {what}"


def _timing(plan: Plan) -> Timing:
    """Usual times of a message around the plan's, with a heavy tail."""
    seconds = plan.latency_ms / 1000
    return Timing(latency=seconds / 4, jitter=seconds, tail=seconds * 30, tail_chance=0.03)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Log nothing. Faults are logged by the hundred in a run, and each is told in its trace."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
