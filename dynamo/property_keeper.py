"""The bucket properties a node holds: what is in force, and on its way to the disk.

An entry is in force once it is on disk. What comes meanwhile waits, and is then written all at once,
by one task. Entries of peers are judged first. Knows nothing of how they come, or of who sets them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final, NamedTuple

from dynamo.cluster.topology import Blobs
from dynamo.errors import Malformed, StorageCorrupt, StorageError, TooManyProperties
from dynamo.metrics import Metrics
from dynamo.ports import Call
from dynamo.property_schema import decode_own
from dynamo.property_table import ENTRIES_MAX, Name, PropertyTable, decode_table, stamp
from dynamo.rpc.messages import Properties, PropertyEntry, Refused, StoreProperties, Synced
from ring.ring import ReplicationClass, Ring

log = logging.getLogger(__name__)

BLOB: Final = "properties"
#: A change whose number is so far above all that are known is none: so many were never made.
AHEAD_MAX: Final = 1 << 32
#: Requests that may wait for the disk at once.
WAITING_MAX: Final = 1_000


class _Waiting(NamedTuple):
    """A request that is answered once what it brought is on disk."""

    call: Call
    entries: tuple[PropertyEntry, ...]


class PropertyKeeper:
    """One node's table of properties, and its file."""

    def __init__(self, *, node_id: str, blobs: Blobs, metrics: Metrics) -> None:
        """Reads what is on disk; if that is damaged, nothing, with an alarm: the peers have it too.
        Raises StorageError if it cannot be read at all."""
        self._node_id = node_id
        self._blobs = blobs
        self._count = metrics.count
        #: What was on disk cannot be read.
        self.is_damaged = False
        #: In force, and on disk.
        self.table = self._read()
        #: Bucket types of the ring, none while there is no ring.
        self.classes: dict[bytes, ReplicationClass] = {}
        #: What is to be written next, and what is being written.
        self._coming: dict[Name, PropertyEntry] = {}
        self._writing: dict[Name, PropertyEntry] = {}
        self._waiting: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._latest = self.table.latest

    def __repr__(self) -> str:
        return f"PropertyKeeper({self.table!r} unwritten={self.unwritten})"

    def adopt(self, ring: Ring) -> None:
        """Take properties of this ring's bucket types."""
        self.classes = {class_.name.encode(): class_ for class_ in ring.classes}

    @property
    def unwritten(self) -> int:
        """Entries and requests that wait for the disk."""
        return len(self._coming) + len(self._writing) + len(self._waiting)

    def _read(self) -> PropertyTable:
        try:
            data = self._blobs.read_blob(BLOB)
            return PropertyTable() if data is None else decode_table(data)
        except (StorageCorrupt, Malformed) as error:
            self._count["alarms"] += 1
            self._count["properties_damaged"] += 1
            self.is_damaged = True
            log.error(
                "ALARM the bucket properties on disk are damaged; the peers tell them: %s", error
            )
            return PropertyTable()

    # What is known ------------------------------------------------------------------------------

    def latest(self, name: Name) -> PropertyEntry | None:
        """The newest entry of that name, on disk or on its way there."""
        return self._coming.get(name) or self._writing.get(name) or self.table.entry(name)

    def issue(self, name: Name, values: bytes) -> PropertyEntry:
        """A new entry above all that this node knows, on its way to its disk.

        Raises TooManyProperties.
        """
        if self.latest(name) is None and self._is_full():
            raise TooManyProperties(
                f"{ENTRIES_MAX} buckets and types were given properties, and no more can be",
                limit=ENTRIES_MAX,
            )
        # Counted, not timed: no clock, however wrong, makes a change the last one for hours. Who has
        # missed some, and so counts too low, is told by the members it pushes to.
        entry = PropertyEntry(*name, self._latest + 1, self._node_id, values)
        self._take(entry)
        return entry

    def merge(self, entries: Iterable[PropertyEntry]) -> list[PropertyEntry]:
        """Take what peers have told, each entry by itself. Those that are new here, and were taken."""
        taken = []
        for entry in entries:
            held = self.latest(entry.name)
            if held is not None and stamp(held) >= stamp(entry):
                continue
            objection = self.objection(entry)
            if objection is None:
                self._count["properties_learnt"] += 1
                self._take(entry)
                taken.append(entry)
            else:
                self._refuse(objection)
        return taken

    def objection(self, entry: PropertyEntry) -> Refused | None:
        """Why an entry of a peer is not taken, or None."""
        class_ = self.classes.get(entry.bucket_type)
        if class_ is None:
            return Refused("unknown_bucket_type", True, "the ring has no such bucket type")
        ahead = entry.number - self._latest
        if ahead > AHEAD_MAX:
            detail = f"its number is {ahead} above all that {self._node_id} knows of"
            return Refused("number_ahead", True, detail)
        try:
            decode_own(entry.values, class_.replicas)
        except Malformed as error:
            return Refused("malformed", True, error.message)
        if self.latest(entry.name) is None and self._is_full():
            return Refused("too_many_properties", True, f"{ENTRIES_MAX} are kept, and no more")
        return None

    def _is_full(self) -> bool:
        """True if what is on its way fills the table; what is twice on its way counts twice."""
        coming = sum(self.table.entry(name) is None for name in self._coming)
        writing = sum(self.table.entry(name) is None for name in self._writing)
        return len(self.table) + coming + writing >= ENTRIES_MAX

    def _take(self, entry: PropertyEntry) -> None:
        """To be written, where it is newer than what is known."""
        self._latest = max(self._latest, entry.number)
        held = self.latest(entry.name)
        if held is None or stamp(held) < stamp(entry):
            self._coming[entry.name] = entry
            self._idle.clear()
            self._wake.set()

    def _refuse(self, objection: Refused) -> None:
        self._count[f"properties_refused_{objection.code}"] += 1

    # Disk ---------------------------------------------------------------------------------------

    def on_store(self, message: StoreProperties, call: Call) -> None:
        """Take what a member pushes, all of it or nothing; answered once it is on disk."""
        objection = None
        if not self.classes:
            objection = Refused("not_ready", True, "this node has no ring yet")
        elif len(self._waiting) >= WAITING_MAX:
            objection = Refused("busy", True, "too many changes of properties wait for the disk")
        for entry in message.entries:
            objection = objection or self.objection(entry)
        if objection is not None:
            self._refuse(objection)
            call.reply(objection)
            return
        for entry in message.entries:
            self._take(entry)
        self._waiting.append(_Waiting(call, message.entries))
        self._wake.set()

    async def run(self) -> None:
        """Put on disk what comes, all of it at once, and answer who waits for it; for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._writing, self._coming = self._coming, {}
            waiting, self._waiting = self._waiting, []
            failure = await self._write() if self._writing else None
            if failure is None:
                self.table.apply(self._writing.values())
            self._writing = {}
            if not self._coming:
                self._idle.set()
            for one in waiting:
                self._answer(one, failure)

    async def settled(self) -> None:
        """Nothing is on its way to the disk any more: it is in force, or could not be kept."""
        await self._idle.wait()

    async def _write(self) -> StorageError | None:
        try:
            await self._blobs.keep_blob(BLOB, self.table.encode(self._writing))
        except StorageError as error:
            # Not in force here; learnt again from those members that could keep it.
            self._count["properties_unwritten"] += 1
            log.error("bucket properties could not be kept: %s", error.message)
            return error
        return None

    def _answer(self, one: _Waiting, failure: StorageError | None) -> None:
        newer = []
        for entry in one.entries:
            held = self.table.entry(entry.name)
            if held is None or stamp(held) < stamp(entry):
                detail = "they could not be kept" if failure is None else failure.message
                one.call.reply(Refused("storage_error", False, detail))
                return
            if held != entry:
                newer.append(held)
        one.call.reply(Properties(tuple(newer)) if newer else Synced())
