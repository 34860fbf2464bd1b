"""What a whole node needs of the world: a clock, a disk, a network and chance.

Protocols only. Production's world is the operating system (`dynamo.node`), the simulator has its own
(`dynamo.sim`); the services that are put together over one cannot tell which.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Protocol

from dynamo.metrics import Metrics
from dynamo.ports import Clock, Handler, Opening, Storage
from dynamo.rpc.links import Gate
from dynamo.rpc.peers import PeerTransport


class Directory(Protocol):
    """What a node keeps besides its database, synced on return: its identity and small files.

    Open, it is nobody else's, and has taken a start number that no start before it had.
    """

    @property
    def start(self) -> int:
        """This start's number, from 1."""
        ...

    @property
    def random(self) -> bytes:
        """The 8 random bytes that were drawn with the start number."""
        ...

    @property
    def has_database(self) -> bool:
        """True if an earlier start has made a database here."""
        ...

    def note_database(self) -> None:
        """Remember that there is a database from now on. Raises DataDirectoryError."""
        ...

    def raise_start(self, above: int) -> None:
        """Take a start number above `above`, and new random bytes. Raises DataDirectoryError."""
        ...

    def read_blob(self, name: str) -> bytes | None:
        """The small file last written under this name. Raises StorageCorrupt, StorageError."""
        ...

    def write_blob(self, name: str, data: bytes) -> None:
        """Replace a small file atomically. Raises StorageError."""
        ...

    async def keep_blob(self, name: str, data: bytes) -> None:
        """As `write_blob`, while the loop goes on."""
        ...

    def close(self) -> None:
        """Let others open it. May be called twice."""
        ...


class NodeStorage(Storage, Protocol):
    """A node's own `Storage`, which lasts over restarts and knows what it may have lost."""

    @property
    def opening(self) -> Opening:
        """What the last open found; anything but "clean" is found again until `settle`."""
        ...

    @property
    def settled(self) -> bool:
        """True unless `opening` reported a loss and nobody has called `settle` since."""
        ...

    def free_bytes(self) -> int | None:
        """What is free on its disk now; None if that is not known. Asks the system."""
        ...

    def settle(self) -> None:
        """Forget what `opening` reported: the caller has its own durable note. Raises StorageError."""
        ...

    def raise_write_number(self, number: int) -> None:
        """Make `write_number` at least `number`, durably once flushed. Raises as `put`."""
        ...

    async def recover(self) -> bool:
        """Do what a refusal of `PASSING_REFUSALS` waits for, if that can be done now; True if it was.
        Writes of before may be gone: see `opening`. Raises StorageError."""
        ...


class World(Protocol):
    """Where one start of one node takes place."""

    @property
    def clock(self) -> Clock:
        """Time as this node sees it."""
        ...

    def entropy(self, size: int, /) -> bytes:
        """So many random bytes that nobody can guess."""
        ...

    @property
    def chance(self) -> random.Random:
        """For jitter and turns: what nothing safe rests on."""
        ...

    @property
    def sampling(self) -> random.Random:
        """For what is measured: whatever is drawn from it, all others draw the same."""
        ...

    async def sleep(self, seconds: float, /) -> None:
        """Return after so long."""
        ...

    def open_directory(self) -> Directory:
        """The node's data directory, with a new start number. Raises DataDirectoryError."""
        ...

    async def open_storage(self, *, existed: bool, metrics: Metrics) -> NodeStorage:
        """Its database. `existed`: one has been made before. Raises StorageError."""
        ...

    def transport(
        self, *, gate: Gate, metrics: Metrics, handlers: Mapping[type, Handler]
    ) -> PeerTransport:
        """Its way to its peers, not started yet."""
        ...
