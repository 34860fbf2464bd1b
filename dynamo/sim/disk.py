"""A node's disk: what outlives its processes, and all that can happen to it.

One process at a time has the database and the small files open; once it has crashed it can do
nothing to either. Faults are set from outside, by whoever knows what to expect of
them; `breaches` has what a process did that none may ever do. Knows nothing of how a storage deals
with any of it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Literal, NamedTuple, Protocol, get_args

from dynamo.ports import Family, OpeningState, Write
from dynamo.sim.chance import stream
from dynamo.sim.database import Content, Database

#: From nothing lost to everything lost.
_STATES: Final[tuple[OpeningState, ...]] = get_args(OpeningState)


class Handle(Protocol):
    """A storage that a process has open."""

    def cut_off(self) -> None:
        """The process has crashed: refuse everything."""
        ...


class Note(NamedTuple):
    """How far the database was synced: a write number, and what it has above the sequence number."""

    number: int
    base: int


class Alarm(NamedTuple):
    """The worst loss that was found and not settled. `noted`: the write number synced before."""

    state: OpeningState
    why: str
    noted: int


class SmallFile(NamedTuple):
    """A sealed file."""

    content: bytes
    damaged: bool


class Image(NamedTuple):
    """A copy of a whole disk."""

    content: Content | None
    note: Note | None
    alarm: Alarm
    files: dict[str, SmallFile]


_NO_ALARM = Alarm("clean", "", 0)


class Disk:
    """The disk of the node `name`. Everything that chance decides comes from streams of its own."""

    def __init__(self, *, name: str, seed: int) -> None:
        self.name = name
        #: Seconds that a sync takes, an open, and a rebuild of a damaged database: least and most.
        self.sync_seconds = (0.0005, 0.003)
        self.open_seconds = (0.01, 0.1)
        self.rebuild_seconds = (0.1, 1.0)
        #: What a process did that none may ever do (I13).
        self.breaches: list[str] = []
        #: Free space is below the watermark.
        self.is_low = False
        #: A sync has failed since the database was opened.
        self.sync_failed = False
        #: How often a process met the end of the disk, and an engine that takes no write at once.
        self.ends_met = 0
        self.stalls = 0
        self.database: Database | None = None
        self.note: Note | None = None
        self.alarm = _NO_ALARM
        self.small_files: dict[str, SmallFile] = {}
        self.storage: Handle | None = None
        #: Who has the lock of the small files.
        self.files: object | None = None
        #: Told when a sync begins and when it has been done.
        self.on_sync: Callable[[Literal["before_sync", "after_sync"]], None] = _nothing
        #: Told when a hint was written or removed: its key, what lay there, and what lies there now.
        self.on_hint: Callable[[bytes, bytes | None, bytes | None], None] | None = None
        #: Told when a record was removed: its key, and what lay there.
        self.on_gone: Callable[[bytes, bytes], None] | None = None
        #: Told when a record has taken the place of another, which were two of the same key.
        self.on_put: Callable[[bytes, bytes, bytes], None] | None = None
        #: Around a rebuild of the database, which loses what lies beside the damage too.
        self.around_rebuild: Callable[[], AbstractContextManager[object]] = nullcontext
        self._factor = 1.0
        self._is_full = False
        self._is_busy = False
        self._next_write_fails = False
        self._next_sync_fails = False
        self._times = stream(seed, "disk", name, "times")
        self._crashes = stream(seed, "disk", name, "crashes")
        self._bits = stream(seed, "disk", name, "bits")

    def __repr__(self) -> str:
        faults = {
            "low": self.is_low,
            "full": self._is_full,
            "busy": self._is_busy,
            "sync failed": self.sync_failed,
            "slow": self._factor > 1.0,
            "damaged": self.database is not None and bool(self.database.blocks),
        }
        found = ", ".join(name for name, is_so in faults.items() if is_so) or "well"
        return f"Disk({self.name}, {found}, {self.database or 'empty'})"

    # What a process does ------------------------------------------------------------------------

    def append(self, writes: Sequence[Write]) -> int:
        """Write a batch, unsynced; returns the sequence number. Raises OSError: BlockingIOError if it
        was not tried; otherwise it may be in the log."""
        assert self.database is not None
        if self.sync_failed:
            self.breaches.append(f"{self.name}: a write was accepted after a failed sync")
        if self._is_full or self._next_write_fails:
            if self._crashes.random() < 0.5:
                self.database.append_unseen(writes)
            self.check_room()
            self._next_write_fails = False
            raise OSError(errno.EIO, "Input/output error")
        if self._is_busy:
            self.stalls += 1
            raise BlockingIOError(errno.EAGAIN, "Write stall")
        watched = [
            write
            for write in writes
            if write.family == "hints"
            or (write.family == "records" and (write.value is None or self.on_put is not None))
        ]
        if not watched:
            return self.database.append(writes)
        before = [self.database.families[write.family].get(write.key) for write in watched]
        sequence = self.database.append(writes)
        for write, value in zip(watched, before, strict=True):
            self._tell(write, value)
        return sequence

    def _tell(self, write: Write, before: bytes | None) -> None:
        """Whoever watches hints and records that go."""
        if write.family == "hints":
            if self.on_hint is not None:
                self.on_hint(write.key, before, write.value)
        elif before is not None and write.value is None and self.on_gone is not None:
            self.on_gone(write.key, before)
        elif before is not None and write.value is not None and self.on_put is not None:
            self.on_put(write.key, before, write.value)

    def sync(self, sequence: int) -> None:
        """Put on disk what was written up to that number. Raises OSError."""
        assert self.database is not None
        if self.sync_failed:
            # The pages that could not be written count as clean: it would succeed and save nothing.
            self.breaches.append(f"{self.name}: a sync was tried again after a failed one")
            return
        if self._next_sync_fails:
            self._next_sync_fails = False
            self.sync_failed = True
            raise OSError(errno.EIO, "Input/output error")
        self.check_room()
        self.database.sync(sequence)

    def check_room(self) -> None:
        """Raises OSError where nothing more can be written."""
        if self._is_full:
            self.is_low = True  # whoever asks is told so from now on
            self.ends_met += 1
            raise OSError(errno.ENOSPC, "No space left on device")

    def sync_takes(self) -> float:
        """Seconds that the next sync takes."""
        return self._times.uniform(*self.sync_seconds) * self._factor

    def open_takes(self) -> float:
        """Seconds that the next open takes."""
        return self._times.uniform(*self.open_seconds) * self._factor

    def rebuild_takes(self) -> float:
        """Seconds that the next rebuild takes."""
        return self._times.uniform(*self.rebuild_seconds) * self._factor

    def found(self, state: OpeningState, why: str, synced_number: int) -> None:
        """Write down a loss, unless one as bad is written down already."""
        if _STATES.index(state) > _STATES.index(self.alarm.state):
            self.alarm = Alarm(state, why, max(self.alarm.noted, synced_number))

    def settle(self) -> None:
        """Forget what was found."""
        self.alarm = _NO_ALARM

    def keep_any(self) -> None:
        """The engine was closed or its process ended with writes unsynced: a prefix of them is there."""
        if self.database is not None:
            self.database.keep(self._draw_kept())

    def release_storage(self) -> None:
        """The database is nobody's."""
        self.storage = None
        self.sync_failed = False

    # What happens to it -------------------------------------------------------------------------

    @property
    def unsynced(self) -> int:
        """How many writes a crash may take back."""
        return self.database.unsynced if self.database is not None else 0

    @property
    def in_use(self) -> bool:
        """True while a process has anything of it open."""
        return self.storage is not None or self.files is not None

    def crash(self, kept: int | None = None) -> int:
        """The process is gone. The first `kept` of the unsynced writes are there (None: as chance has
        it); returns how many."""
        if self.storage is not None:
            self.storage.cut_off()
        if kept is None:
            kept = self._draw_kept()
        assert 0 <= kept <= self.unsynced
        if self.database is not None:
            self.database.keep(kept)
        self.release_storage()
        self.files = None
        return kept

    def slow(self, factor: float) -> None:
        """Everything takes so many times as long; 1.0 ends it."""
        self._factor = factor

    @property
    def is_full(self) -> bool:
        """No space is left at all."""
        return self._is_full

    @property
    def is_busy(self) -> bool:
        """The engine is behind, and takes no write at once."""
        return self._is_busy

    def busy(self, on: bool) -> None:
        """The engine is behind, and takes no write at once."""
        self._is_busy = on

    def fail_sync(self) -> None:
        """The next sync fails."""
        self._next_sync_fails = True

    def fail_write(self) -> None:
        """The next write fails, for no lack of space."""
        self._next_write_fails = True

    def fill(self) -> None:
        """Free space falls below the watermark."""
        self.is_low = True

    def meet_end(self) -> None:
        """No space is left at all, faster than the watermark is looked at: the next write, sync, open
        or small file meets the end."""
        self._is_full = True

    def free(self) -> None:
        """There is room again."""
        self.is_low = self._is_full = False

    def calm(self) -> None:
        """Nothing more happens to it; what has happened stays."""
        self.free()
        self.slow(1.0)
        self.busy(False)
        self._next_sync_fails = self._next_write_fails = False

    def rot(self, family: Family, key: bytes) -> bool:
        """Flip a bit of a value on disk, below every checksum of the engine; False if there is none.
        For records, which have a checksum of their own."""
        value = self.database.durable(family, key) if self.database is not None else None
        if not value or self.database is None:
            return False
        bit = self._bits.randrange(8 * len(value))
        flipped = int.from_bytes(value) ^ 1 << bit
        self.database.replace(family, key, flipped.to_bytes(len(value)))
        return True

    def rot_block(self, family: Family, start: bytes, end: bytes) -> list[bytes]:
        """What is on disk with start <= key < end can no longer be read, once anybody tries, and is lost
        by the rebuild. Returns the keys."""
        if self.database is None:
            return []
        keys = [key for key, _ in self.database.durable_items(family) if start <= key < end]
        if keys:
            self.database.damage(family, start, end)
        return keys

    def lose_range(self, family: Family, start: bytes, end: bytes) -> list[bytes]:
        """What was on disk with start <= key < end is gone, untold. Returns the keys."""
        self._check_idle()
        return self.database.lose_range(family, start, end) if self.database is not None else []

    def lose_log(self, count: int, *, found: OpeningState = "point_in_time") -> int:
        """Damage to the log: its last `count` synced writes, and all after them, are not found by the
        next open, which says so, unless a clean close comes first. Returns how many there were."""
        if self.database is None:
            return 0
        lost = self.database.lose_log(count, found)
        if self.storage is None:
            self.database.keep(0)
        return lost

    def lose_database(self) -> None:
        """The database's directory is gone; the small files are there."""
        self._check_idle()
        self.database = None

    def wipe(self) -> None:
        """Everything is gone."""
        self.restore(Image(None, None, _NO_ALARM, {}))

    def image(self) -> Image:
        """A copy of all that is synced, without what cannot be told from it (a damaged log)."""
        content = self.database.content() if self.database is not None else None
        return Image(content, self.note, self.alarm, dict(self.small_files))

    def restore(self, image: Image) -> None:
        """Put a copy in its place."""
        self._check_idle()
        self.database = None
        if image.content is not None:
            self.database = Database()
            self.database.restore(image.content)
        self.note = image.note
        self.alarm = image.alarm
        self.small_files = dict(image.files)

    def damage_file(self, name: str) -> bool:
        """A small file is not what was written; False if there is none."""
        if name not in self.small_files:
            return False
        self.small_files[name] = SmallFile(self.small_files[name].content, damaged=True)
        return True

    # What is on it, for who judges --------------------------------------------------------------

    @property
    def has_hints(self) -> bool:
        """True if there are any, or were at the last sync."""
        return self.database is not None and self.database.has_any("hints")

    def durable(self, family: Family, key: bytes) -> bytes | None:
        """What a crash that keeps nothing unsynced would leave of the key; None if that cannot be
        read."""
        return self.database.durable(family, key) if self.database is not None else None

    def is_unreadable(self, family: Family, key: bytes) -> bool:
        """True if what is on disk of the key lies in a damaged block."""
        return self.database is not None and self.database.is_lost(family, key)

    def current(self, family: Family, key: bytes) -> bytes | None:
        """What its process reads."""
        if self.database is None or self.database.is_hidden(family, key):
            return None
        return self.database.families[family].get(key)

    def is_pending(self, family: Family, key: bytes) -> bool:
        """True if a write of the key is not on disk yet, and may come to light."""
        return self.database is not None and self.database.is_pending(family, key)

    def keys(self, family: Family) -> Iterator[bytes]:
        """What its process could read, in order."""
        if self.database is not None:
            for key in self.database.families[family]:
                if not self.database.blocks or not self.database.is_hidden(family, key):
                    yield key

    def durable_items(self, family: Family) -> list[tuple[bytes, bytes]]:
        """All that a crash which keeps nothing unsynced would leave, in order."""
        return self.database.durable_items(family) if self.database is not None else []

    # Inside -------------------------------------------------------------------------------------

    def _draw_kept(self) -> int:
        """All, as after a mere crash of the process, none, or any number."""
        unsynced = self.unsynced
        return self._crashes.choice((0, unsynced, self._crashes.randint(0, unsynced)))

    def _check_idle(self) -> None:
        if self.in_use:
            raise RuntimeError(f"the disk of {self.name} is in use: let its process crash first")


def _nothing(point: object) -> None:
    """Nobody wants to know."""
