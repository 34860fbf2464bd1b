"""What a scenario can say, carried out on a simulated cluster: `write a k v1`, `cut a | b c`, `show k`.

How each command is written stands at the end of this file. It gives back lines of text that hold
nothing but what the scenario decides: no times, and dots by the names of who minted them. Knows
nothing of files, nor of what anybody expects.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, Literal, NamedTuple, cast, get_args

import msgspec

from dynamo.errors import DynamoError, StorageCorrupt
from dynamo.record import TOMBSTONE, Sibling, decode_record
from dynamo.refill_marks import QUARANTINE_PREFIX
from dynamo.requests import Found, Written
from dynamo.sim.cluster import Cluster
from dynamo.sim.convergence import differences, moved_within
from dynamo.sim.disk import Image
from dynamo.sim.hints import hint_key, read_place
from dynamo.sim.line import (
    Line,
    ScriptError,
    number,
    read_options,
    seconds,
    take_apart,
    write_options,
)
from dynamo.sim.node import SimNode
from dynamo.sim.points import ALL_POINTS, SOON, Point
from dynamo.sim.sieve import KINDS, Sieve
from dynamo.sim.upkeep import IDLE, Upkeep
from dynamo.stored import decode_hint, decode_stored
from dynamo.version import RANDOM_BYTES, birth_sequence

#: What `state` shows of a node, where it is not 0.
ALARMS: Final = (
    "alarms",
    "dots_with_two_values",
    "foreign_dots",
    "marks_damaged",
    "partitions_damaged",
    "records_damaged",
    "rpc_handlers_failed",
)
_NODES_MAX: Final = 26
#: Seconds between two looks at what differs, where nodes exchange.
STRAGGLER_SECONDS: Final = 0.5
#: Seconds between two looks whether a node has started: it is asked at once.
_LOOK_INTERVAL: Final = 0.001
#: Seconds that `restart` waits for the connections of a node that has started.
CONNECT_PATIENCE: Final = 1.0


#: What carries out a command.
Run = Callable[["Scene", "Line"], "list[str] | Awaitable[list[str]]"]


class Command(NamedTuple):
    """How a command is written, and what does it. `sudden`: it takes no time, so that `when` and
    `after` can do it."""

    usage: str
    run: Run
    sudden: bool


def parse(where: str, text: str) -> Line:
    """The command that `text` is. Raises ScriptError for what is none."""
    verb = text.split()[0]
    command = COMMANDS.get(verb)
    if command is None:
        known = ", ".join(COMMANDS)
        raise ScriptError(f"{where}: unknown command {verb}; there are cluster, repeat, {known}")
    line = take_apart(command.usage, where, text)
    if verb == "when" and line.words[1] not in ALL_POINTS:
        raise line.error(f"no point {line.words[1]}; there are {', '.join(ALL_POINTS)}")
    if verb in ("when", "after"):
        inner = parse(where, " ".join(line.words[2 if verb == "when" else 1 :]))
        if not COMMANDS[inner.verb].sudden:
            raise line.error(f"{inner.verb} takes time; only faults can be so sudden")
    return line


class ClusterLine(NamedTuple):
    """A line that makes a cluster."""

    nodes: tuple[str, ...]
    replicas: int
    partitions: int
    seed: int
    formed: Literal["file", "peers"]
    hint_window: int | None = None
    hint_bytes: int | None = None
    upkeep: Upkeep = IDLE
    datacenters: int = 1

    def datacenter_of(self) -> dict[str, str]:
        """By node: the first nodes are in the first, the next in the second, and so on."""
        each = -(-len(self.nodes) // self.datacenters)
        return {name: f"dc{1 + place // each}" for place, name in enumerate(self.nodes)}


def parse_cluster(where: str, text: str) -> ClusterLine:
    """The cluster that `text` asks for. Raises ScriptError."""
    usage = (
        "cluster nodes= [n=] [seed=] [partitions=] [formed=] [hint_window=] [hint_bytes=]"
        " [exchange=] [reap_after=] [datacenters=]"
    )
    line = take_apart(usage, where, text)
    nodes = number(line, "nodes", 3)
    if not 1 <= nodes <= _NODES_MAX:
        raise line.error(f"1 to {_NODES_MAX} nodes")
    datacenters = number(line, "datacenters", 1)
    if not 1 <= datacenters <= nodes:
        raise line.error(f"1 to {nodes} datacenters")
    formed = line.options.get("formed", "file")
    if formed not in ("file", "peers"):
        raise line.error("formed=file or formed=peers")
    return ClusterLine(
        nodes=tuple("abcdefghijklmnopqrstuvwxyz"[:nodes]),
        replicas=number(line, "n", 3),
        partitions=number(line, "partitions", 4),
        seed=number(line, "seed", 0),
        formed=cast('Literal["file", "peers"]', formed),
        hint_window=number(line, "hint_window", 0) if "hint_window" in line.options else None,
        hint_bytes=number(line, "hint_bytes", 0) if "hint_bytes" in line.options else None,
        upkeep=Upkeep(
            exchange=number(line, "exchange", 0),
            straggler=STRAGGLER_SECONDS,
            reap_after=number(line, "reap_after", -1),
        ),
        datacenters=datacenters,
    )


class Scene:
    """A cluster, not started yet, and what the scenario remembers of it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._sieve = Sieve()
        self._contexts: dict[str, bytes] = {}
        self._images: dict[str, Image] = {}
        #: What is to happen when a node is at a point.
        self._armed: list[tuple[str, Point, Line]] = []
        #: Incarnations that have minted, and what they are called: a1, a2, ... of node a.
        self._incarnations: dict[bytes, str] = {}
        self._news: list[str] = []
        self._errors: list[ScriptError] = []
        cluster.sieve = self._sieve.wrap
        cluster.on_point = self._at_point
        cluster.on_end = self._ended

    async def run(self, line: Line) -> list[str]:
        """Carry out one command; nothing to say is []. Raises ScriptError; what else is raised has a
        note of the line."""
        try:
            done = COMMANDS[line.verb].run(self, line)
            result = done if isinstance(done, list) else await done
        except Exception as error:
            error.add_note(f"{line.where}: {line.verb} {' '.join(line.words)}")
            raise
        if self._errors:
            raise self._errors[0]
        return result

    def news(self) -> list[str]:
        """What has happened unasked since the last call."""
        news, self._news = self._news, []
        return news

    def end(self) -> list[str]:
        """What is wrong now that all is over. Raises ScriptError for what never came."""
        for name, point, line in self._armed:
            raise line.error(f"node {name} was never at {point}")
        return [
            f"* never allowed: {breach}"
            for node in self._cluster.nodes.values()
            for breach in node.disk.breaches
        ]

    # Clients ------------------------------------------------------------------------------------

    async def write(self, line: Line) -> list[str]:
        """Put at a node, blindly or with a context. `ttl`: seconds until it expires, by the node's
        clock; below 0, so many ago."""
        name, key, value = line.words
        node = self._node(line, name)
        options = write_options(line)
        if "ttl" in line.options and node.clock is not None:
            expires_ms = node.clock.wall_ms() + 1000 * number(line, "ttl", 0)
            options = msgspec.structs.replace(options, expires_ms=expires_ms)
        try:
            written = await self._cluster.write(
                node.name, key.encode(), value.encode(), self._context(line), options
            )
        except DynamoError as error:
            return _told(error)
        self._remember(line, written)
        return [_acknowledged(written)]

    async def read(self, line: Line) -> list[str]:
        """Get at a node."""
        name, key = line.words
        node = self._node(line, name)
        try:
            found = await self._cluster.read(node.name, key.encode(), read_options(line))
        except DynamoError as error:
            return _told(error)
        self._remember(line, found)
        if found.siblings:
            return [" ".join(sorted(_value(sibling) for sibling in found.siblings))]
        return ["deleted" if found.deleted else "absent"]

    async def delete(self, line: Line) -> list[str]:
        """Delete at a node, what a context covers or what is there."""
        name, key = line.words
        node = self._node(line, name)
        try:
            done = await self._cluster.delete(
                node.name, key.encode(), self._context(line), write_options(line)
            )
        except DynamoError as error:
            return _told(error)
        self._remember(line, done)
        return [_acknowledged(done) if isinstance(done, Written) else "nothing to delete"]

    def _context(self, line: Line) -> bytes:
        name = line.options.get("context", "")
        if name and name not in self._contexts:
            raise line.error(f"nothing was remembered as {name}")
        return self._contexts[name] if name else b""

    def _remember(self, line: Line, answer: Found | Written) -> None:
        if line.name:
            self._contexts[line.name] = answer.context

    # Links --------------------------------------------------------------------------------------

    def cut(self, line: Line) -> list[str]:
        """Nothing passes between two sides, or from one to the other."""
        one, other, both = self._sides(line)
        self._cluster.cut(one, other, both=both)
        return []

    def mend(self, line: Line) -> list[str]:
        """Undo such a cut."""
        one, other, both = self._sides(line)
        self._cluster.mend(one, other, both=both)
        return []

    def heal(self, line: Line) -> list[str]:
        """Every link is whole, nothing is lost any more."""
        self._cluster.heal()
        self._sieve.calm()
        return []

    def lose(self, line: Line) -> list[str]:
        """Lose all messages of a kind from one node to another, or so many."""
        kind, source, target = line.words
        if kind not in KINDS:
            raise line.error(f"no kind of message {kind}; there are {', '.join(KINDS)}")
        count = number(line, "count", 0) or None
        self._sieve.lose(
            kind, self._node(line, source).name, self._node(line, target).name, count=count
        )
        return []

    def _sides(self, line: Line) -> tuple[list[str], list[str], bool]:
        words = list(line.words)
        for sign, both in (("|", True), ("->", False)):
            if words.count(sign) == 1 and 0 < words.index(sign) < len(words) - 1:
                at = words.index(sign)
                one, other = words[:at], words[at + 1 :]
                for name in (*one, *other):
                    self._node(line, name)
                return one, other, both
        raise line.error("it is written NODE... | NODE..., or one way NODE... -> NODE...")

    # Processes ----------------------------------------------------------------------------------

    def crash(self, line: Line) -> list[str]:
        """End nodes in the middle of what they do; `silent`: their machines too. `kept`: so many of
        their unsynced writes are on disk all the same."""
        nodes = [self._node(line, name, up=True) for name in line.words]
        kept = number(line, "kept", -1)
        for node in nodes:
            self._cluster.crash(
                node.name,
                kept=min(kept, node.disk.unsynced) if kept >= 0 else None,
                silent="silent" in line.flags,
            )
        return []

    async def stop(self, line: Line) -> list[str]:
        """End a node as SIGTERM does: it syncs, and keeps what it knows."""
        await self._cluster.stop(self._node(line, line.words[0], up=True).name)
        return []

    async def restart(self, line: Line) -> list[str]:
        """Start nodes that are down, and wait until they take requests and are connected with all that
        they can reach, if that is soon."""
        nodes = [self._node(line, name, up=False) for name in line.words]
        for node in nodes:
            self._cluster.restart(node.name)
        until, interval = self._cluster.until, _LOOK_INTERVAL
        await until(
            lambda: all(node.state != "starting" for node in nodes),
            "they have started",
            interval=interval,
        )
        with contextlib.suppress(TimeoutError):
            await until(
                lambda: all(self._is_connected(node) and _takes_requests(node) for node in nodes),
                "they are connected",
                patience=CONNECT_PATIENCE,
                interval=interval,
            )
        return []

    def _is_connected(self, node: SimNode) -> bool:
        """True if it and every other node that is up know that they are connected."""
        others = [other for other in self._cluster.nodes.values() if other.state == "up"]
        return all(
            _knows(node, other) and _knows(other, node) for other in others if other is not node
        )

    def pause(self, line: Line) -> list[str]:
        """Stop a node as SIGSTOP does."""
        self._cluster.pause(self._node(line, line.words[0], up=True).name)
        return []

    def resume(self, line: Line) -> list[str]:
        """Let it go on."""
        self._cluster.resume(self._node(line, line.words[0], up=True).name)
        return []

    def when(self, line: Line) -> list[str]:
        """Do a command once, as soon as a node is at a point of the path of a write."""
        name, point, *rest = line.words
        inner = parse(line.where, " ".join(rest))
        self._armed.append((self._node(line, name).name, cast("Point", point), inner))
        return []

    def after(self, line: Line) -> list[str]:
        """Do a command later, while others go on."""
        loop = self._cluster.loop
        inner = parse(line.where, " ".join(line.words[1:]))
        loop.call_later(seconds(line), self._do, inner, context=loop.outside)
        return []

    def _at_point(self, name: str, point: Point) -> None:
        if point == "minted":
            self._note_incarnation(self._cluster.nodes[name])
        for armed in self._armed:
            if armed[:2] == (name, point):
                self._armed.remove(armed)
                command = armed[2]
                if point in SOON:
                    # What it has said is on its way; it does not get to more.
                    loop = self._cluster.loop
                    loop.call_later(1e-4, self._do, command, context=loop.outside)
                else:
                    self._do(command)
                return

    def _do(self, line: Line) -> None:
        try:
            COMMANDS[line.verb].run(self, line)
        except ScriptError as error:
            self._errors.append(error)  # a node is in the middle of something here

    def _ended(self, name: str, error: Exception) -> None:
        self._news.append(f"* node {name} ended by itself: {error}")

    # Disks --------------------------------------------------------------------------------------

    def wipe(self, line: Line) -> list[str]:
        """Crash a node if it is up, and empty its disk."""
        self._cluster.wipe(self._node(line, line.words[0]).name)
        return []

    def image(self, line: Line) -> list[str]:
        """Take a copy of all that is synced on a disk."""
        if not line.name:
            raise line.error("it is written image NODE as NAME")
        self._images[line.name] = self._node(line, line.words[0]).disk.image()
        return []

    def restore(self, line: Line) -> list[str]:
        """Crash a node if it is up, and put a copy in the place of its disk."""
        name, image = line.words
        if image not in self._images:
            raise line.error(f"there is no image {image}")
        node = self._node(line, name)
        if node.is_up:
            self._cluster.crash(name)
        node.disk.restore(self._images[image])
        return []

    def rot(self, line: Line) -> list[str]:
        """Flip a bit of a key's record on a disk."""
        name, key = line.words
        disk = self._node(line, name).disk
        if not disk.rot("records", self._cluster.storage_key(key.encode())):
            raise line.error(f"{name} has nothing of {key}")
        return []

    def fill(self, line: Line) -> list[str]:
        """Free space falls below the watermark."""
        self._node(line, line.words[0]).disk.fill()
        return []

    def free(self, line: Line) -> list[str]:
        """There is room again."""
        self._node(line, line.words[0]).disk.free()
        return []

    def meet_end(self, line: Line) -> list[str]:
        """No space is left at all: the next write or sync meets the end."""
        self._node(line, line.words[0]).disk.meet_end()
        return []

    def lose_log(self, line: Line) -> list[str]:
        """The log of a node that is down is damaged: its last so many synced writes are not found."""
        name, count = line.words
        if not count.isdecimal():
            raise line.error(f"{count} is no number")
        self._node(line, name, up=False).disk.lose_log(int(count))
        return []

    def lose_partition(self, line: Line) -> list[str]:
        """Of a node that is down all records of a key's partition are gone from the disk; nothing tells
        it so."""
        name, key = line.words
        start, end = self._cluster.partition_range(key.encode())
        self._node(line, name, up=False).disk.lose_range("records", start, end)
        return []

    def fail_sync(self, line: Line) -> list[str]:
        """The next sync fails."""
        self._node(line, line.words[0]).disk.fail_sync()
        return []

    def busy(self, line: Line) -> list[str]:
        """The engine is behind, and takes no write at once, until `off`."""
        self._node(line, line.words[0]).disk.busy("off" not in line.flags)
        return []

    def slow_sync(self, line: Line) -> list[str]:
        """Syncs take so many times as long; 1 ends it."""
        name, factor = line.words
        if not factor.isdecimal() or not int(factor):
            raise line.error(f"{factor} is no factor")
        self._node(line, name).disk.slow(int(factor))
        return []

    def skew(self, line: Line) -> list[str]:
        """Set a wall clock by `ms` milliseconds, or let a clock run at another `rate`."""
        rate = line.options.get("rate")
        try:
            self._cluster.skew(
                self._node(line, line.words[0]).name,
                ms=number(line, "ms", 0),
                rate=None if rate is None else float(rate),
            )
        except ValueError:
            raise line.error(f"rate={rate} is no number") from None
        return []

    # Time ---------------------------------------------------------------------------------------

    async def wait(self, line: Line) -> list[str]:
        """So many seconds pass."""
        await asyncio.sleep(seconds(line))
        return []

    async def settle(self, line: Line) -> list[str]:
        """Until all nodes that are up are whole, and each key has been read from all its primaries that
        are up, so that those that were behind are repaired."""
        try:
            await self._cluster.settle()
        except DynamoError as error:
            return ["not settled", *_told(error)]
        except TimeoutError:
            return ["not settled: the nodes are not whole"]
        return []

    async def drain(self, line: Line) -> list[str]:
        """Until no node that is up holds anything for another that is; or what is left after so many
        seconds."""
        try:
            await self._cluster.drained(patience=seconds(line))
        except TimeoutError:
            return ["not drained", *(f"  {left}" for left in self._cluster.undelivered())]
        return []

    async def agree(self, line: Line) -> list[str]:
        """Until the nodes that are up have the same of each key and hold nothing for each other, without
        a read; or what differs after so many seconds."""
        cluster = self._cluster
        try:
            await cluster.until(
                lambda: not any(differences(cluster, cluster.keys)), "", patience=seconds(line)
            )
        except TimeoutError:
            return ["not agreed", *(f"  {one}" for one in differences(cluster, cluster.keys))]
        return []

    async def quiet(self, line: Line) -> list[str]:
        """What nodes send each other of records in so many seconds."""
        return [await moved_within(self._cluster, seconds(line)) or "nothing moved"]

    # What is there ------------------------------------------------------------------------------

    def hints(self, line: Line) -> list[str]:
        """What a node holds for others; "as it has" for what it owes of its own record."""
        disk = self._node(line, line.words[0]).disk
        lines = []
        for hint in disk.keys("hints"):
            target, storage_key = read_place(hint)
            held = self._hinted(hint, disk.current("hints", hint))
            lines.append(f"for {target}: {self._key(storage_key)} {held}")
        return lines or ["none"]

    def tombstones(self, line: Line) -> list[str]:
        """How many tombstones a node has, and what those wait for that it is to see to."""
        node = self._node(line, line.words[0], up=True)
        assert node.services is not None
        status = node.services.tombstones()
        waits = [f"  {wait.records}: {wait.why}" for wait in status.waiting]
        return [f"{status.tombstones}", *waits]

    def _key(self, storage_key: bytes) -> str:
        known = {self._cluster.storage_key(key): key for key in self._cluster.keys}
        return known[storage_key].decode()

    def _hinted(self, hint: bytes, data: bytes | None) -> str:
        try:
            record = decode_hint(hint, data or b"").stored.record
        except StorageCorrupt:
            return "damaged"
        if not record:
            return "as it has"
        return " ".join(sorted(_value(sibling) for sibling in decode_record(record).siblings))

    def rot_hint(self, line: Line) -> list[str]:
        """Flip a bit of a hint on a disk."""
        name, target, key = line.words
        hint = hint_key(self._node(line, target).name, self._cluster.storage_key(key.encode()))
        if not self._node(line, name).disk.rot("hints", hint):
            raise line.error(f"{name} holds nothing of {key} for {target}")
        return []

    def owners(self, line: Line) -> list[str]:
        """The primaries of a key, in the order of the ring."""
        return [" ".join(self._cluster.owners(line.words[0].encode()))]

    def show(self, line: Line) -> list[str]:
        """What the disk of each owner has of a key; with `dots`, also who minted it."""
        key = line.words[0].encode()
        dots = "dots" in line.flags
        return [f"{name}: {self._held(name, key, dots)}" for name in self._owners(key)]

    def count(self, line: Line) -> list[str]:
        """How often each node has counted something."""
        counter = line.words[0]
        nodes = self._cluster.nodes.values()
        return [", ".join(f"{node.name} {node.count(counter)}" for node in nodes)]

    def state(self, line: Line) -> list[str]:
        """All of it: nodes, links that are cut, messages that get lost, keys."""
        cluster = self._cluster
        lines = [self._state_of(node) for node in cluster.nodes.values()]
        cuts = [
            f"{source}>{target}"
            for source in cluster.nodes
            for target in cluster.nodes
            if source != target and cluster.network.link(source, target).cut_since is not None
        ]
        if cuts:
            lines.append(f"cut: {' '.join(cuts)}")
        lines += [f"lost: {loss}" for loss in self._sieve.losses()]
        for key in sorted(cluster.keys):
            lines.append(key.decode())
            for name in self._owners(key):
                lines.append(f"  {name}: {self._held(name, key, False)}")
        return lines

    def _state_of(self, node: SimNode) -> str:
        facts: list[str] = [node.state]
        services = node.services
        if node.state in ("up", "paused") and services is not None and services.rpc_address:
            facts += services.ready().reasons
        facts += [f"{name} {node.count(name)}" for name in ALARMS if node.count(name)]
        return f"{node.name}: {'; '.join(facts)}"

    def _owners(self, key: bytes) -> list[str]:
        return sorted(self._cluster.owners(key))

    def _held(self, name: str, key: bytes, dots: bool) -> str:
        """What the disk of a node holds of a key."""
        disk, storage_key = self._cluster.nodes[name].disk, self._cluster.storage_key(key)
        current, synced = disk.current("records", storage_key), disk.durable("records", storage_key)
        held = self._listed(storage_key, current, dots)
        if synced != current:
            held += f" (synced: {self._listed(storage_key, synced, dots)})"
        if disk.current("facts", QUARANTINE_PREFIX + storage_key) is not None:
            held += ", waits for a good copy"
        return held

    def _listed(self, storage_key: bytes, data: bytes | None, dots: bool) -> str:
        """The siblings of a stored record."""
        if data is None:
            return "nothing"
        try:
            record = decode_record(decode_stored(storage_key, data).record)
        except StorageCorrupt:
            return "damaged"
        return " ".join(
            sorted(
                f"{_value(sibling)}{f'@{self._dot(sibling)}' if dots else ''}"
                for sibling in record.siblings
            )
        )

    def _dot(self, sibling: Sibling) -> str:
        """INCARNATION.SEQUENCE:COUNTER"""
        for incarnation, name in self._incarnations.items():
            if sibling.birth.startswith(incarnation):
                return f"{name}.{birth_sequence(sibling.birth)}:{sibling.counter}"
        return "unknown"

    def _note_incarnation(self, node: SimNode) -> None:
        """It mints under the incarnation that it has now."""
        assert node.services is not None
        incarnation = node.services._replica._incarnation
        assert len(incarnation) > RANDOM_BYTES
        if incarnation not in self._incarnations:
            known = sum(name.startswith(node.name) for name in self._incarnations.values())
            self._incarnations[incarnation] = f"{node.name}{known + 1}"

    def _node(self, line: Line, name: str, *, up: bool | None = None) -> SimNode:
        """The node of that name. Raises ScriptError if there is none, or it is not as it should be."""
        node = self._cluster.nodes.get(name)
        if node is None:
            raise line.error(f"there is no node {name}")
        if up is not None and node.is_up != up:
            raise line.error(f"node {name} is {'up' if node.is_up else 'down'}")
        return node


def _takes_requests(node: SimNode) -> bool:
    return node.services is not None and node.services.takes_requests()


def _knows(node: SimNode, other: SimNode) -> bool:
    return node.services is not None and other.name in node.services.stats()["connected_nodes"]


#: What an answer counts: n is at most so much in a scenario.
_WORDS: Final = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def _acknowledged(written: Written) -> str:
    """That it was written; and, where some of those that have it are no owners, how many are."""
    if not written.fallback_acks:
        return "ok"
    # In words: a loop takes numbers for its own.
    primary, fallback = _WORDS[written.primary_acks], _WORDS[written.fallback_acks]
    return f"ok, primary={primary} fallback={fallback}"


def _value(sibling: Sibling) -> str:
    if sibling.kind != TOMBSTONE and sibling.content is None:
        return "(expired)"
    return "(deleted)" if sibling.kind == TOMBSTONE else sibling.read().value.decode()


def _told(error: DynamoError) -> list[str]:
    """What a client is told: the code, whether it may have happened, how many answered, and why not."""
    head = f"{error.code}, outcome {error.outcome}"
    details = error.details
    if "required" in details:
        head += f", {details['received']} of {details['required']}"
    if "primaries_required" in details:
        head += f", primaries {details['primaries']} of {details['primaries_required']}"
    reasons: dict[str, str] = details.get("reasons", {})
    return [head, *(f"  {name}: {reason}" for name, reason in sorted(reasons.items()))]


_WRITE_OPTIONS: Final = "[context=] [w=] [pw=] [dw=] [node_confirms=] [r=] [pr=] [timeout=]"
_USAGES: Final[tuple[tuple[str, Run, bool], ...]] = (
    (f"write NODE KEY VALUE {_WRITE_OPTIONS} [ttl=] [as NAME]", Scene.write, False),
    ("read NODE KEY [r=] [pr=] [node_confirms=] [repair=] [timeout=] [as NAME]", Scene.read, False),
    (f"delete NODE KEY {_WRITE_OPTIONS} [as NAME]", Scene.delete, False),
    ("cut NODE...", Scene.cut, True),
    ("mend NODE...", Scene.mend, True),
    ("heal", Scene.heal, True),
    ("lose MESSAGE FROM TO [count=]", Scene.lose, True),
    ("crash NODE... [silent] [kept=]", Scene.crash, True),
    ("stop NODE", Scene.stop, False),
    ("restart NODE...", Scene.restart, False),
    ("pause NODE", Scene.pause, True),
    ("resume NODE", Scene.resume, True),
    ("when NODE POINT COMMAND...", Scene.when, False),
    ("after SECONDS COMMAND...", Scene.after, False),
    ("wipe NODE", Scene.wipe, True),
    ("image NODE [as NAME]", Scene.image, True),
    ("restore NODE IMAGE", Scene.restore, True),
    ("rot NODE KEY", Scene.rot, True),
    ("rot-hint NODE TARGET KEY", Scene.rot_hint, True),
    ("fill NODE", Scene.fill, True),
    ("free NODE", Scene.free, True),
    ("meet-end NODE", Scene.meet_end, True),
    ("lose-log NODE COUNT", Scene.lose_log, True),
    ("lose-partition NODE KEY", Scene.lose_partition, True),
    ("fail-sync NODE", Scene.fail_sync, True),
    ("busy NODE [off]", Scene.busy, True),
    ("slow-sync NODE FACTOR", Scene.slow_sync, True),
    ("skew NODE [ms=] [rate=]", Scene.skew, True),
    ("wait SECONDS", Scene.wait, False),
    ("settle", Scene.settle, False),
    ("drain SECONDS", Scene.drain, False),
    ("agree SECONDS", Scene.agree, False),
    ("quiet SECONDS", Scene.quiet, False),
    ("tombstones NODE", Scene.tombstones, False),
    ("owners KEY", Scene.owners, False),
    ("hints NODE", Scene.hints, False),
    ("show KEY [dots]", Scene.show, False),
    ("count COUNTER", Scene.count, False),
    ("state", Scene.state, False),
)
COMMANDS: Final[dict[str, Command]] = {
    usage.split()[0]: Command(usage, run, sudden) for usage, run, sudden in _USAGES
}
assert set(ALL_POINTS) == set(get_args(Point))
