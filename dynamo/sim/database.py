"""What a simulated database is made of: entries, the log of those not on disk yet, damaged blocks.

A crash keeps what was synced and a prefix of what was not, in the order of the writes, across
families alike. Counts writes as the engine does: one sequence number an entry. Knows nothing of
processes, of time, or of what its values mean.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from sortedcontainers import SortedDict

from dynamo.ports import Family, OpeningState, Write

FAMILIES: Final[tuple[Family, ...]] = ("records", "hints", "facts")
#: So many synced writes lie in the log; older ones are in table files, which no damage to it reaches.
LOG_WRITES_MAX: Final = 4096

Table = SortedDict[bytes, bytes]


class _Logged(NamedTuple):
    """A write in the log. `sequence`: the number of its last entry."""

    sequence: int
    writes: tuple[Write, ...]


class _Synced(NamedTuple):
    """A synced write in the log; `before`: the last number before it, and what it replaced."""

    logged: _Logged
    sequence_before: int
    before: tuple[Write, ...]


class Block:
    """A damaged range of one family: what lies there cannot be read, but for what was written since."""

    __slots__ = ("end", "family", "fresh", "start")

    def __init__(self, family: Family, start: bytes, end: bytes) -> None:
        self.family = family
        self.start = start
        self.end = end
        #: Sequence number of the first write of a key since the damage.
        self.fresh: dict[bytes, int] = {}

    def covers(self, family: Family, key: bytes) -> bool:
        """True if the key lies in the range."""
        return family == self.family and self.start <= key < self.end

    def note(self, logged: _Logged) -> None:
        """What is written after the damage can be read."""
        for family, key, _ in logged.writes:
            if self.covers(family, key):
                self.fresh.setdefault(key, logged.sequence)

    def copy(self, sequence: int) -> Block:
        """As it is for who has the writes up to `sequence`."""
        block = Block(self.family, self.start, self.end)
        block.fresh = {key: first for key, first in self.fresh.items() if first <= sequence}
        return block


class Content(NamedTuple):
    """All that is on disk of a database, copied."""

    tables: dict[Family, dict[bytes, bytes]]
    sequence: int
    blocks: tuple[Block, ...]


class Database:
    """One database. `families` is what its process sees."""

    def __init__(self) -> None:
        self.families: dict[Family, Table] = {family: SortedDict() for family in FAMILIES}
        #: Number of the last entry written.
        self.sequence = 0
        #: What an open of the database will report: its log is damaged, and nothing behind the damage
        #: is found again.
        self.hole: OpeningState | None = None
        self.blocks: list[Block] = []
        self._durable: dict[Family, dict[bytes, bytes]] = {family: {} for family in FAMILIES}
        self._durable_sequence = 0
        #: Written and not on disk; in the order of the writes.
        self._pending: deque[_Logged] = deque()
        self._log: deque[_Synced] = deque(maxlen=LOG_WRITES_MAX)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(table)} {family}" for family, table in self.families.items())
        return f"Database({sizes}, write {self.sequence}, {len(self._pending)} unsynced)"

    @property
    def unsynced(self) -> int:
        """How many writes a crash may take back."""
        return len(self._pending)

    # Writing ------------------------------------------------------------------------------------

    def append(self, writes: Sequence[Write]) -> int:
        """Apply a batch, unsynced; returns the sequence number."""
        families = self.families
        for family, key, value in writes:
            if value is None:
                families[family].pop(key, None)
            else:
                families[family][key] = value
        self.sequence += len(writes)
        logged = _Logged(self.sequence, tuple(writes))
        self._pending.append(logged)
        for block in self.blocks:
            block.note(logged)
        return self.sequence

    def append_unseen(self, writes: Sequence[Write]) -> None:
        """A batch reaches the log, and its writer is told that it failed: whoever opens the database
        next may find it. Nothing may be appended after it."""
        self._pending.append(_Logged(self.sequence + len(writes), tuple(writes)))

    def sync(self, sequence: int) -> None:
        """What was written up to that number is on disk."""
        if self.hole is not None:
            return  # it is, and lies behind the damage
        pending = self._pending
        while pending and pending[0].sequence <= sequence:
            self._harden(pending.popleft())

    def keep(self, count: int) -> None:
        """The first `count` of the unsynced writes are on disk, the others have never been; none are
        where they would lie behind damage."""
        pending = self._pending
        for block in self.blocks:
            for logged in pending:  # also what nobody has seen
                block.note(logged)
        touched = [(family, key) for logged in pending for family, key, _ in logged.writes]
        for _ in range(0 if self.hole is not None else count):
            self._harden(pending.popleft())
        pending.clear()
        for family, key in touched:
            _set(self.families[family], key, self._durable[family].get(key))
        self.sequence = self._durable_sequence
        self.blocks[:] = [block.copy(self.sequence) for block in self.blocks]

    def write_tables(self) -> None:
        """All that was written is in table files, and needs no log any more."""
        self.hole = None
        self.keep(len(self._pending))
        self._log.clear()

    def forget_log(self) -> None:
        """What could be read of the log is in table files, the rest is gone."""
        self.keep(0)
        self.hole = None
        self._log.clear()

    # Damage -------------------------------------------------------------------------------------

    def lose_log(self, count: int, found: OpeningState) -> int:
        """The log is damaged before its last `count` synced writes; the next open finds it so. Returns
        how many there were: those in table files are not reached."""
        lost = 0
        while self._log and lost < count:
            logged, self._durable_sequence, before = self._log.pop()
            for family, key, value in reversed(before):
                _set(self._durable[family], key, value)
            self._pending.appendleft(logged)
            lost += 1
        if lost:
            self.hole = found
        return lost

    def lose_range(self, family: Family, start: bytes, end: bytes) -> list[bytes]:
        """What is synced with start <= key < end is gone, and no log has it. Returns the keys."""
        assert not self._pending
        self._log.clear()
        keys = sorted(key for key in self._durable[family] if start <= key < end)
        for key in keys:
            del self._durable[family][key]
            self.families[family].pop(key, None)
        return keys

    def is_pending(self, family: Family, key: bytes) -> bool:
        """True if a write of the key is not on disk yet, one that nobody has seen included."""
        return any(
            (write.family, write.key) == (family, key)
            for logged in self._pending
            for write in logged.writes
        )

    def replace(self, family: Family, key: bytes, value: bytes) -> None:
        """Other bytes lie on disk where the value of the key does."""
        old = self._durable[family][key]
        self._durable[family][key] = value
        if self.families[family].get(key) is old:
            self.families[family][key] = value

    def damage(self, family: Family, start: bytes, end: bytes) -> None:
        """What is in table files with start <= key < end can no longer be read."""
        block = Block(family, start, end)
        for logged in self._pending:
            block.note(logged)
        self.blocks.append(block)

    def is_hidden(self, family: Family, key: bytes) -> bool:
        """True if there is something that cannot be read."""
        return key in self.families[family] and any(
            block.covers(family, key) and key not in block.fresh for block in self.blocks
        )

    def damage_from(self, family: Family, start: bytes, end: bytes) -> bytes | None:
        """Where reading from `start` up to `end` meets damage first."""
        met = [
            max(start, block.start)
            for block in self.blocks
            if block.family == family and start < block.end and block.start < end
        ]
        return min(met, default=None)

    def rebuild(self) -> None:
        """A new database, synced, of all that an iterator can reach; its sequence begins anew."""
        for block in self.blocks:
            table = self.families[block.family]
            for key in list(table.irange(block.start, block.end, inclusive=(True, False))):
                del table[key]
        self.restore(
            Content(
                {family: dict(table) for family, table in self.families.items()},
                sum(map(len, self.families.values())),
                (),
            )
        )

    # What is on disk ----------------------------------------------------------------------------

    def has_any(self, family: Family) -> bool:
        """True if the family has entries, on disk or in what its process sees."""
        return bool(self._durable[family] or self.families[family])

    def durable(self, family: Family, key: bytes) -> bytes | None:
        """What a crash that keeps nothing unsynced leaves of it, if it can be read."""
        if self.blocks and self.is_lost(family, key):
            return None
        return self._durable[family].get(key)

    def durable_items(self, family: Family) -> list[tuple[bytes, bytes]]:
        """All that a crash which keeps nothing unsynced leaves to read, in order."""
        items = sorted(self._durable[family].items())
        if self.blocks:
            items = [item for item in items if not self.is_lost(family, item[0])]
        return items

    def content(self) -> Content:
        """A copy of what a crash that keeps nothing unsynced leaves."""
        return Content(
            {family: dict(table) for family, table in self._durable.items()},
            self._durable_sequence,
            tuple(block.copy(self._durable_sequence) for block in self.blocks),
        )

    def restore(self, content: Content) -> None:
        """Be what was copied."""
        self.hole = None
        self._pending.clear()
        self._log.clear()
        self.sequence = self._durable_sequence = content.sequence
        self.blocks[:] = [block.copy(content.sequence) for block in content.blocks]
        for family in FAMILIES:
            self._durable[family] = dict(content.tables[family])
            self.families[family] = SortedDict(content.tables[family])

    def is_lost(self, family: Family, key: bytes) -> bool:
        """True if what is synced of the key cannot be read."""
        return any(
            block.covers(family, key)
            and block.fresh.get(key, self._durable_sequence + 1) > self._durable_sequence
            for block in self.blocks
        )

    def _harden(self, logged: _Logged) -> None:
        durable = self._durable
        before = []
        for family, key, value in logged.writes:
            table = durable[family]
            before.append(Write(family, key, table.get(key)))
            _set(table, key, value)
        self._log.append(_Synced(logged, self._durable_sequence, tuple(before)))
        self._durable_sequence = logged.sequence


def _set(table: dict[bytes, bytes] | Table, key: bytes, value: bytes | None) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
