"""A small model of a cluster around one key, with everything that may carry its past: messages that are
late or wait for a storage, reads that repair, conditional writes, hints, deliveries sent twice.

Three owners, two others; every node coordinates. What happens next is drawn. Links keep their order and
lose nothing, as one connection does, but who waits may give up at any time, and what was sent still
arrives. The reaper goes by the decisions of `antientropy.reaping`; a step can be left out. A past that
comes back at an owner which has dropped the tombstone raises Broken.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any, NamedTuple

from antientropy.reaping import Look, first_look, held_by_all, second_look

OWNERS = ("a", "b", "c")
NODES = (*OWNERS, "x", "y")
PLACE = (0, 0)

#: What can be left out of the proof.
STEPS = (
    *("held", "first look", "operations", "pings", "second look", "digest", "waiting"),
    "waiting hints",
)


class Broken(Exception):
    """A value that a dropped tombstone had replaced is there again, or one that it had not is lost."""


class Record(NamedTuple):
    """All dots seen, and those of the siblings; the live ones of them."""

    seen: frozenset[int] = frozenset()
    siblings: frozenset[int] = frozenset()
    live: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.seen)

    @property
    def is_dead(self) -> bool:
        return bool(self.seen) and not self.live


EMPTY = Record()


def merge(one: Record, other: Record) -> Record:
    kept = (
        (one.siblings & other.siblings) | (one.siblings - other.seen) | (other.siblings - one.seen)
    )
    return Record(one.seen | other.seen, kept, (one.live | other.live) & kept)


class Message(NamedTuple):
    kind: str
    request: int
    body: Any
    #: Whom it is a hint for.
    target: str = ""


class Waiter:
    """Who waits for answers at a node: on_end gets the node asked, and its answer or None."""

    def __init__(self, flight: int | None, on_end: Callable[[str, Any], None]) -> None:
        self.flight = flight
        self.on_end = on_end


def _nothing(node: str, answer: Any) -> None:
    """Nobody does anything with it."""


class Node:
    def __init__(self, name: str) -> None:
        self.name = name
        self.record = EMPTY
        self.hints: dict[str, Record] = {}
        self.taken = 0
        #: Came, and waits for the storage or its turn: from whom, and what.
        self.put_off: list[tuple[str, Message]] = []
        self.generation = 0
        self.holds: dict[int, int] = {}
        #: Request -> (whom, who waits).
        self.pending: dict[int, tuple[str, Waiter]] = {}
        #: What tombstones that it dropped had seen.
        self.forgotten: set[int] = set()


class Model:
    """One history. `without`: the steps of the proof that are left out."""

    def __init__(self, seed: int, without: tuple[str, ...] = ()) -> None:
        self.random = random.Random(seed)
        self.without = without
        self.nodes = {name: Node(name) for name in NODES}
        self.links: dict[tuple[str, str], deque[Message]] = {
            (one, other): deque() for one in NODES for other in NODES
        }
        self.requests = 0
        self.dots = 0
        self.ready: list[Callable[[], None]] = []
        self.reapers: list[Iterator[None]] = []
        self.reaped = 0
        self.slow: set[tuple[str, str]] = set()
        #: How much longer than usual clients, and storages that are behind, take to go on.
        self.client_pause = self.storage_pause = 1.0
        #: What happened, for people.
        self.story: list[str] = []

    # Messages -----------------------------------------------------------------------------------

    def ask(
        self, source: Node, target: str, kind: str, body: Any, waiter: Waiter, hint_for: str = ""
    ) -> None:
        self.requests += 1
        source.pending[self.requests] = (target, waiter)
        self.links[source.name, target].append(Message(kind, self.requests, body, hint_for))

    def arrive(self, source: str, target: str) -> None:
        message = self.links[source, target].popleft()
        node = self.nodes[target]
        if message.kind == "answer":
            found = node.pending.pop(message.request, None)
            if found is not None:
                found[1].on_end(source, message.body)
        elif message.kind in ("store", "mint", "deliver") and self.random.random() < 0.2:
            node.put_off.append((source, message))
        else:
            self.execute(source, node, message)

    def execute(self, source: str, node: Node, message: Message) -> None:
        answer = getattr(self, "on_" + message.kind)(node, message)
        self.links[node.name, source].append(Message("answer", message.request, answer))

    def on_store(self, node: Node, message: Message) -> Any:
        self.put(node, message.target, merge(self.held(node, message.target), message.body))
        return "synced"

    def on_deliver(self, node: Node, message: Message) -> Any:
        return self.on_store(node, message)

    def on_mint(self, node: Node, message: Message) -> Record:
        context, seen, kind = message.body
        record = merge(self.held(node, message.target), seen)
        self.dots += 1
        kept = frozenset(record.siblings - context) | {self.dots}
        live = (record.live & kept) | ({self.dots} if kind == "value" else frozenset())
        minted = Record(record.seen | context | {self.dots}, kept, frozenset(live))
        self.put(node, message.target, minted)
        return minted

    def on_fetch(self, node: Node, message: Message) -> Record:
        if node.name in OWNERS:
            return node.record
        found = EMPTY
        for record in node.hints.values():
            found = merge(found, record)
        return found

    def on_ping(self, node: Node, message: Message) -> str:
        return "pong"

    def held(self, node: Node, hint_for: str) -> Record:
        return node.hints.get(hint_for, EMPTY) if hint_for else node.record

    def put(self, node: Node, hint_for: str, record: Record) -> None:
        if hint_for:
            node.taken += hint_for not in node.hints
            node.hints[hint_for] = record
            return
        node.record = record
        back = record.live & node.forgotten
        if back:
            raise Broken(f"{sorted(back)} are back at {node.name}")

    # Clients ------------------------------------------------------------------------------------

    def write(
        self,
        node: Node,
        kind: str,
        context: frozenset[int],
        seen: Record = EMPTY,
        flight: int | None = None,
    ) -> None:
        """Mint at an owner, store at the others or, for those that are believed down, at a spare."""
        began = node.generation if flight is None else flight
        minter = self.random.choice(OWNERS)
        spare = self.random.choice(NODES[3:])
        down = {name for name in OWNERS if name != minter and self.random.random() < 0.3}

        def on_minted(_: str, minted: Record | None) -> None:
            if minted is None:
                return
            for name in OWNERS:
                if name == minter:
                    continue
                if name in down:
                    self.ask(node, spare, "store", minted, waiter(name, minted), name)
                else:
                    self.ask(node, name, "store", minted, waiter(name, minted))

        def waiter(name: str, minted: Record) -> Waiter:
            def on_end(whom: str, answer: Any) -> None:
                # Whoever missed it is owed it, by a stand-in.
                if answer is None and whom in OWNERS and self.random.random() < 0.5:
                    self.ask(node, spare, "store", minted, Waiter(began, _nothing), name)

            return Waiter(began, on_end)

        self.ask(node, minter, "mint", (context, seen, kind), Waiter(began, on_minted))

    def read(self, node: Node, then: Callable[[Record, int], None] | None = None) -> None:
        """Ask some owners and spares; repair the owners that are behind; perhaps go on with a write."""
        began = node.generation
        asked = [name for name in OWNERS if self.random.random() < 0.7] or ["a"]
        asked += [name for name in NODES[3:] if self.random.random() < 0.5]
        answers: dict[str, Record] = {}
        left = set(asked)
        goes_on = [then] if then is not None else []
        if goes_on:
            node.holds[began] = node.holds.get(began, 0) + 1

        def on_end(whom: str, answer: Record | None) -> None:
            left.discard(whom)
            if answer is not None:
                answers[whom] = answer
            merged = EMPTY
            for record in answers.values():
                merged = merge(merged, record)
            if goes_on and (not left or (answers and self.random.random() < 0.3)):
                # The client's coroutine goes on a turn of the loop later.
                go_on = goes_on.pop()
                self.ready.append(lambda: self.go_on(node, began, go_on, merged))
            if left or not merged:
                return
            for name, record in answers.items():
                if name in OWNERS and record != merged:
                    self.ask(node, name, "store", merged, Waiter(None, _nothing))

        for name in asked:
            self.ask(node, name, "fetch", None, Waiter(began, on_end))

    def go_on(
        self, node: Node, began: int, then: Callable[[Record, int], None], merged: Record
    ) -> None:
        node.holds[began] -= 1
        then(merged, began)

    def client(self) -> None:
        node = self.nodes[self.random.choice(NODES)]
        drawn = self.random.random()
        if drawn < 0.35:
            self.read(node)
        elif drawn < 0.5:
            self.write(node, "value", frozenset())
        elif drawn < 0.65:
            # If nobody has it yet, say: what was read is merged in where it is minted.
            self.read(
                node,
                lambda merged, began: self.write(node, "value", frozenset(), merged, began),
            )
        else:
            self.delete()

    def deliver(self, node: Node) -> None:
        target = self.random.choice(sorted(node.hints))
        sent = node.hints[target]

        def on_end(whom: str, answer: Any) -> None:
            if answer is not None and node.hints.get(target) == sent:
                del node.hints[target]

        self.ask(node, target, "deliver", sent, Waiter(None, on_end))

    # The reaper ---------------------------------------------------------------------------------

    def reap(self) -> Generator[None, None, None]:
        """One proof, and the drops; a step a turn."""
        record = self.nodes[self.random.choice(OWNERS)].record
        if not record.is_dead:
            return
        if "held" not in self.without:
            held: dict[str, dict[int, str] | str] = {}
            for name in self.shuffled(OWNERS):
                yield
                held[name] = {0: ""} if self.nodes[name].record == record else {}
            if held_by_all([OWNERS], held) != [""]:
                return
        first: dict[str, Look | str] = {}
        yield from self.look(first)
        if "first look" not in self.without and first_look((PLACE,), NODES, first):
            return
        settling = [self.settle(self.nodes[name]) for name in NODES]
        while settling:
            yield
            one = self.random.choice(settling)
            if next(one, "done") == "done":
                settling.remove(one)
        if "second look" not in self.without:
            second: dict[str, Look | str] = {}
            yield from self.look(second)
            if "first look" in self.without:
                first = second  # as if each had been asked once, at the end
            if second_look((PLACE,), NODES, first, second):
                return
        for name in self.shuffled(OWNERS):
            yield
            self.drop(self.nodes[name], record)

    def look(self, looks: dict[str, Look | str]) -> Generator[None, None, None]:
        for name in self.shuffled(NODES):
            yield
            node = self.nodes[name]
            waits = "waiting hints" not in self.without and any(
                message.target for _, message in node.put_off
            )
            blocked = "a hint" if node.hints or waits else ""
            looks[name] = Look(1, (blocked,), (node.taken,))

    def settle(self, node: Node) -> Generator[None, None, None]:
        node.generation += 1
        generation = node.generation
        if "operations" not in self.without:
            while any(count and held < generation for held, count in node.holds.items()) or any(
                waiter.flight is not None and waiter.flight < generation
                for _, waiter in node.pending.values()
            ):
                yield
        if "pings" not in self.without:
            pongs: list[str] = []
            for name in NODES:
                waiter = Waiter(1 << 30, lambda whom, answer: pongs.append(whom))
                self.requests += 1
                node.pending[-self.requests] = (name, waiter)
                self.links[node.name, name].append(Message("ping", -self.requests, None))
            while len(pongs) < len(NODES):
                yield

    def drop(self, node: Node, record: Record) -> None:
        if "digest" not in self.without and node.record != record:
            return
        if "waiting" not in self.without and any(not m.target for _, m in node.put_off):
            return
        if node.record.live:
            raise Broken(f"{sorted(node.record.live)} are lost at {node.name}")
        node.forgotten |= record.seen
        node.record = EMPTY
        self.reaped += 1

    def shuffled(self, names: tuple[str, ...]) -> list[str]:
        return self.random.sample(names, len(names))

    # A history ----------------------------------------------------------------------------------

    def run(self, steps: int) -> int:
        """How many copies were dropped. Raises Broken."""
        for name in OWNERS:
            self.put(self.nodes[name], "", Record(frozenset({0}), frozenset({0}), frozenset({0})))
        # Some links are slow, and some clients come late.
        self.slow = {link for link in self.links if self.random.random() < 0.15}
        self.client_pause, self.storage_pause = self.random.choices((1.0, 20.0), k=2)
        comes = {self.random.randrange(steps // 3): self.client for _ in range(5)}
        comes |= {self.random.randrange(steps // 3): self.delete for _ in range(3)}
        comes |= {self.random.randrange(steps): self.exchange for _ in range(12)}
        for step in range(steps):
            if step in comes:
                comes[step]()
            self.step()
        return self.reaped

    def delete(self) -> None:
        node = self.nodes[self.random.choice(NODES)]
        self.read(
            node, lambda merged, began: self.write(node, "tombstone", merged.seen, flight=began)
        )

    def exchange(self) -> None:
        """Two owners bring each other up."""
        one, other = (self.nodes[name] for name in self.random.sample(OWNERS, 2))
        if one.record:
            self.ask(one, other.name, "store", one.record, Waiter(None, _nothing))

    def step(self) -> None:
        choices: list[tuple[Callable[[], None], float]] = [
            (one, 2.0 / self.client_pause) for one in self.ready
        ]
        for (source, target), messages in self.links.items():
            if messages:
                weight = 0.3 if (source, target) in self.slow else 8.0
                choices.append((partial(self.arrive, source, target), weight))
        for node in self.nodes.values():
            if any(request > 0 for request in node.pending):
                choices.append((partial(self.give_up_one, node), 0.3))
            if node.put_off:
                choices.append((partial(self.take_up, node), 1.0 / self.storage_pause))
            if node.hints:
                choices.append((partial(self.deliver, node), 0.5))
        if len(self.reapers) < 2:
            choices.append((lambda: self.reapers.append(self.reap()), 0.5))
        if self.reapers:
            choices.append((self.go_on_reaping, 4.0))
        if not choices:
            return
        (chosen,) = self.random.choices(
            [one for one, _ in choices], [weight for _, weight in choices]
        )
        if chosen in self.ready:
            self.ready.remove(chosen)
        chosen()

    def give_up_one(self, node: Node) -> None:
        request = self.random.choice([one for one in node.pending if one > 0])
        target, waiter = node.pending.pop(request)
        waiter.on_end(target, None)

    def take_up(self, node: Node) -> None:
        """The storage takes the oldest of what it has put off."""
        source, message = node.put_off.pop(0)
        self.execute(source, node, message)

    def go_on_reaping(self) -> None:
        one = self.random.choice(self.reapers)
        if next(one, "done") == "done":
            self.reapers.remove(one)
