"""What a replica answers to who compares hash trees with it: all of it in bounded pages, nothing about a
tree that is not ready, and a refusal for what cannot be meant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from struct import pack
from typing import Any
from zlib import crc32

import pytest
from lone_replica import (
    OWNERS,
    PLACE,
    RING,
    Asked,
    LoneReplica,
    code_of,
    foreign,
    key,
    storage_key,
)

from antientropy.exchange import to_bits, to_hashes
from dynamo.errors import StorageCorrupt
from dynamo.refill_marks import RefillMark
from dynamo.replica_looks import ANSWER_BYTES, LOOKED_MAX, ReplicaLooks
from dynamo.replica_trees import READ_RECORDS, ReplicaTrees
from dynamo.rpc.exchange_messages import (
    KEYS_MAX,
    AskHashes,
    CompareRoots,
    Hashes,
    KeyElements,
    ListElements,
    Looked,
    LookKeys,
    Pull,
    Pulled,
    RootsDiffer,
)
from dynamo.rpc.messages import Refused, Reply
from dynamo.store.memory import MemoryStorage
from dynamo.stored import encode_stored

ME, PEER = OWNERS[0], OWNERS[1]
LEAVES = 1024
FOREIGN = next(place for place in ((0, p) for p in range(8)) if not RING.owns(ME, *place))


class Compared(LoneReplica):
    """A replica that can be compared with."""

    def __init__(self, storage: MemoryStorage) -> None:
        super().__init__(ME, storage)
        self.memory = storage
        self.trees = ReplicaTrees(
            node_id=ME,
            replica=self.replica,
            reads=self.reads,
            storage=storage,
            metrics=self.metrics,
        )
        self.trees.adopt(RING)
        self.looks = ReplicaLooks(replica=self.replica, commit=self.commit, metrics=self.metrics)
        self.grow()

    def grow(self) -> None:
        for name, tree in self.replica.forest.trees.items():
            found = self.memory.scan(
                "records", name, name + b"\xff", count_max=1 << 20, bytes_max=1 << 40
            )
            tree.begin()
            self.replica.hasher.gather(found, tree.leaves)
            tree.reached = None

    async def ask(self, message: Any, peer: str = PEER) -> Reply:
        call = Asked()
        call.peer = peer
        handlers = {**self.trees.handlers(), **self.looks.handlers()}
        handlers[type(message)](message, call)
        await call.done.wait()
        return call.replies[-1]

    def position(self, number: int) -> int:
        return self.replica.hasher.position(storage_key(key(number))) & (LEAVES - 1)


@pytest.fixture
async def node() -> AsyncIterator[Compared]:
    compared = Compared(MemoryStorage())
    compared.start()
    yield compared
    await compared.stop()


def list_elements(*wanted: int, after: bytes = b"", count_max: int = KEYS_MAX) -> ListElements:
    return ListElements(*PLACE, 1, 1000, LEAVES, wanted, after, count_max)


async def test_roots_that_differ_are_told(node: Compared) -> None:
    shared = node.trees.shared_with(PEER)
    assert shared == tuple(sorted(shared))
    assert PLACE in shared
    await node.take((key(1), foreign(b"v")))
    at = shared.index(PLACE)
    ready = [place != shared[-1] for place in shared]
    roots = to_hashes([0] * (len(shared) - 1))
    message = CompareRoots(1000, 1, LEAVES, 0, len(shared), to_bits(ready), roots)
    answer = await node.ask(message)
    assert answer == RootsDiffer(
        to_bits([number == at for number in range(len(shared))]), to_bits([False] * len(shared))
    )


async def test_roots_may_come_in_several_messages(node: Compared) -> None:
    await node.take((key(1), foreign(b"v")))
    at = node.trees.shared_with(PEER).index(PLACE)
    message = CompareRoots(1000, 1, LEAVES, at, 1, b"\x01", bytes(8))
    assert await node.ask(message) == RootsDiffer(b"\x01", b"\x00")


async def test_a_tree_that_is_not_ready_says_nothing(node: Compared) -> None:
    prefix = storage_key(b"")
    node.replica.forest.doubt(prefix)
    at = node.trees.shared_with(PEER).index(PLACE)
    roots = CompareRoots(1000, 1, LEAVES, at, 1, b"\x01", b"12345678")
    for _ in range(2):
        assert await node.ask(roots) == RootsDiffer(b"\x00", b"\x01")
        for message in (AskHashes(*PLACE, 1, 1000, LEAVES, 0, (0,)), list_elements(1)):
            assert code_of(await node.ask(message)) in ("not_ready", "refilling")
        node.grow()
        node.replica.refilling[PLACE] = RefillMark((PEER,), serving=False)
    for of_keys in (LookKeys(*PLACE, 1, 1000, (b"k",)), Pull(*PLACE, 1, 1000, (b"k",))):
        assert code_of(await node.ask(of_keys)) == "refilling"
    node.replica.refilling[PLACE] = RefillMark((PEER,), serving=True)
    assert isinstance(await node.ask(AskHashes(*PLACE, 1, 1000, LEAVES, 0, (0,))), Hashes)


SHARED = sum(RING.owns(ME, 0, p) and RING.owns(PEER, 0, p) for p in range(8))


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (CompareRoots(1000, 2, LEAVES, 0, 1, b"\x01", bytes(8)), "stale_epoch"),
        (CompareRoots(1000, 1, 512, 0, 1, b"\x01", bytes(8)), "malformed"),
        (CompareRoots(1000, 1, LEAVES, 0, 1, b"\x01\x00", bytes(8)), "malformed"),
        (CompareRoots(1000, 1, LEAVES, 0, 1, b"\x01", bytes(16)), "malformed"),
        (CompareRoots(1000, 1, LEAVES, SHARED, 1, b"\x00", b""), "malformed"),
        (AskHashes(*FOREIGN, 1, 1000, LEAVES, 0, (0,)), "not_owner"),
        (AskHashes(9, 0, 1, 1000, LEAVES, 0, (0,)), "not_owner"),
        (AskHashes(*PLACE, 0, 1000, LEAVES, 0, (0,)), "stale_epoch"),
        (AskHashes(*PLACE, 1, 1000, 16, 0, (0,)), "malformed"),
        (AskHashes(*PLACE, 1, 1000, LEAVES, 0, (1,)), "malformed"),
        (AskHashes(*PLACE, 1, 1000, LEAVES, 2, (0,)), "malformed"),
        (AskHashes(*PLACE, 1, 1000, LEAVES, 1, (31, 32)), "malformed"),
        (list_elements(), "malformed"),
        (list_elements(0, LEAVES), "malformed"),
        (ListElements(*FOREIGN, 1, 1000, LEAVES, (1,), b"", 1), "not_owner"),
        (LookKeys(*FOREIGN, 1, 1000, (b"k",)), "not_owner"),
        (LookKeys(*PLACE, 0, 1000, (b"k",)), "stale_epoch"),
        (Pull(*FOREIGN, 1, 1000, (b"k",)), "not_owner"),
    ],
)
async def test_what_cannot_be_meant_is_refused(node: Compared, message: Any, code: str) -> None:
    answer = await node.ask(message)
    assert code_of(answer) == code
    assert isinstance(answer, Refused)
    assert answer.definite


async def test_a_stranger_shares_nothing(node: Compared) -> None:
    message = CompareRoots(1000, 1, LEAVES, 0, 1, b"\x01", bytes(8))
    for peer in ("nobody", ME):
        assert code_of(await node.ask(message, peer)) == "not_owner"


async def test_a_leaf_is_listed_page_by_page_with_all_its_keys(node: Compared) -> None:
    numbers = range(40)
    await node.take(*((key(n), foreign(b"v", sequence=n + 1)) for n in numbers))
    wanted = tuple({node.position(n) for n in numbers if n % 2})
    expected = [key(n) for n in numbers if node.position(n) in wanted]
    found: list[bytes] = []
    after = b""
    for _ in range(100):
        answer = await node.ask(list_elements(*wanted, after=after, count_max=3))
        assert isinstance(answer, KeyElements)
        assert len(answer.entries) <= 3
        for routing, element in answer.entries:
            stored = node.replica.look(storage_key(routing))
            assert stored is not None
            assert element == stored.stored.element.to_bytes(8)
            found.append(routing)
        tree = node.replica.forest.trees[storage_key(b"")]
        assert answer.hashes == to_hashes([tree.leaves[leaf] for leaf in wanted])
        if not answer.more:
            break
        after = answer.last
    assert found == expected


async def test_one_answer_reads_a_bounded_number_of_records(node: Compared) -> None:
    count = READ_RECORDS + 10
    for start in range(0, count, 500):
        batch = range(start, min(start + 500, count))
        await node.take(*((key(n), foreign(b"v", sequence=n + 1)) for n in batch))
    absent = next(
        leaf for leaf in range(LEAVES) if leaf not in {node.position(n) for n in range(9)}
    )
    answer = await node.ask(list_elements(absent))
    assert isinstance(answer, KeyElements)
    assert (answer.read, answer.more, answer.last) == (READ_RECORDS, True, key(READ_RECORDS - 1))
    answer = await node.ask(list_elements(absent, after=answer.last))
    assert isinstance(answer, KeyElements)
    assert (answer.read, answer.more) == (10, False)


async def test_records_of_the_first_format_are_found_too(node: Compared) -> None:
    record = foreign(b"v")
    await node.take((key(1), record))
    seen = node.replica.look(storage_key(key(1)))
    assert seen is not None
    element = seen.stored.element
    node.memory.put("records", storage_key(key(1)), _first_format(seen.stored.record))
    answer = await node.ask(list_elements(node.position(1)))
    assert isinstance(answer, KeyElements)
    assert answer.entries == ((key(1), element.to_bytes(8)),)
    looked = await node.ask(LookKeys(*PLACE, 1, 1000, (key(1),)))
    assert isinstance(looked, Looked)
    assert looked.entries[0].element == element.to_bytes(8)


def _first_format(record: bytes) -> bytes:
    """As version 1 wrote it: no position, element and state."""
    rest = pack(">QBI", 0, 0, len(record)) + record
    return pack(">BI", 1, crc32(rest, crc32(storage_key(key(1))))) + rest


async def test_a_damaged_record_is_a_refusal_and_not_an_absent_key(node: Compared) -> None:
    await node.take((key(1), foreign(b"v")), (key(2), foreign(b"v", sequence=2)))
    data = node.memory.get("records", storage_key(key(1)))
    assert data is not None
    node.memory.put("records", storage_key(key(1)), data[:-1] + bytes((data[-1] ^ 1,)))
    wanted = list_elements(node.position(1))
    assert code_of(await node.ask(wanted)) == "not_ready"
    assert storage_key(key(1)) in node.replica.damaged
    looked = await node.ask(LookKeys(*PLACE, 1, 1000, (key(1), key(2), key(3))))
    assert isinstance(looked, Looked)
    assert [entry.code for entry in looked.entries] == ["corrupt", "", ""]
    assert looked.entries[2].vector == ()
    assert looked.entries[2].element == bytes(8)
    pulled = await node.ask(Pull(*PLACE, 1, 1000, (key(1), key(2), key(3))))
    assert isinstance(pulled, Pulled)
    assert pulled.skipped == (0,)
    assert [bool(record) for record in pulled.records] == [False, True, False]


async def test_a_partition_that_cannot_be_read_through_is_refused(
    node: Compared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scan(*args: Any, **named: Any) -> Any:
        raise StorageCorrupt("a block is damaged")

    monkeypatch.setattr(node.memory, "scan", scan)
    doubted: list[object] = []
    node.replica.on_unreadable = lambda place, why: doubted.append(place)
    assert code_of(await node.ask(list_elements(1))) == "corrupt"
    assert doubted == [PLACE]


async def test_answers_with_records_are_bounded_and_hold_at_least_one(node: Compared) -> None:
    half = ANSWER_BYTES // 2
    for number, size in enumerate((half, half + 1, half, 2 * ANSWER_BYTES, 1)):
        await node.take((key(number), foreign(b"x" * size, sequence=number + 1)))
    asked = tuple(key(number) for number in range(5))
    counts = []
    while asked:
        pulled = await node.ask(Pull(*PLACE, 1, 1000, asked))
        assert isinstance(pulled, Pulled)
        counts.append(len(pulled.records))
        asked = asked[len(pulled.records) :]
    assert counts == [1, 1, 1, 1, 1]
    many = tuple(key(number) for number in range(1000))
    looked = await node.ask(LookKeys(*PLACE, 1, 1000, many))
    pulled = await node.ask(Pull(*PLACE, 1, 1000, many[10:]))
    assert isinstance(looked, Looked)
    assert isinstance(pulled, Pulled)
    assert len(looked.entries) == len(pulled.records) == LOOKED_MAX


async def test_a_tree_of_a_stored_record_is_what_the_listing_says(node: Compared) -> None:
    """Elements come from the envelope, whose checksum is verified."""
    await node.take((key(1), foreign(b"v")))
    seen = node.replica.look(storage_key(key(1)))
    assert seen is not None
    stored = seen.stored
    wrong = encode_stored(
        storage_key(key(2)), b"", 0, stored.record, stored.position, stored.element, stored.state
    )
    node.memory.put("records", storage_key(key(1)), wrong)  # the value of another key
    assert code_of(await node.ask(list_elements(node.position(1)))) == "not_ready"
