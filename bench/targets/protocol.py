"""What the harness needs of a store: five verbs, so that the same workload measures any of them.

A target keeps versions apart by the unique id that the harness gives each write, which it puts into the
value and finds again in what is read. Knows nothing of loads, clocks or histories.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

import msgspec

from bench.faults import Fault
from bench.history import Outcome


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a target can do beyond reads and writes. `verbs`: of `bench.faults`. `directed`: reads at one
    replica at r=1. `stamps`: coordinator's stamps come back. `siblings`: several values may come back.
    `contexts`: a write can say what it has seen. `wars`: nodes measure W, A, R, S themselves.
    `trees`: says whether all hash trees are equal."""

    verbs: tuple[str, ...] = ()
    directed: bool = False
    stamps: bool = False
    siblings: bool = False
    contexts: bool = False
    wars: bool = False
    trees: bool = False


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What is set up before a run. `run`: makes its keys and values no other's. `properties`: of
    the bucket, as the store names them ("n_val", "allow_mult", ...)."""

    run: str
    n: int
    properties: dict[str, object] = {}
    value_bytes: int = 100


class Reply(NamedTuple):
    """What came of a read or a write. `context`: to hand back with a write, b"" for none. `seen`:
    versions, of a read; of a write, all that its context covers. `elements`: of a set. `began`,
    `committed`: coordinator's stamps (ns), 0 if not given. `foreign`: values that this run has not
    written."""

    outcome: Outcome
    coordinator: str = ""
    seen: tuple[int, ...] = ()
    context: bytes = b""
    elements: tuple[int, ...] = ()
    began: int = 0
    committed: int = 0
    fallbacks: int = 0
    foreign: int = 0
    why: str = ""


class Target(Protocol):
    """A store under test; opened and closed by who made it (`async with`)."""

    name: str
    #: Names of nodes, in the order that indexes of faults and coordinators mean.
    nodes: tuple[str, ...]

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def properties(self) -> Mapping[str, object]:
        """Of the run's bucket, as they are in effect once it is set up, whoever gave them; {} where
        there is no such thing."""
        ...

    async def setup(self, setup: Setup) -> None:
        """Make it ready for a run. Raises TargetFailed."""
        ...

    async def write(
        self,
        key: str,
        version: int,
        *,
        context: bytes = b"",
        w: int | None = None,
        coordinator: int | None = None,
        elements: tuple[int, ...] = (),
        timeout: float = 10.0,
    ) -> Reply:
        """Write `version`; at any node, or at the one with this index. Never raises for what a
        store does: the outcome says it."""
        ...

    async def read(
        self,
        key: str,
        *,
        r: int | None = None,
        coordinator: int | None = None,
        replica: int | None = None,
        timeout: float = 10.0,
    ) -> Reply:
        """Read; `replica`: only what this node has itself (r=1, directed)."""
        ...

    async def fault(self, fault: Fault) -> None:
        """Begin this fault now. Raises TargetFailed, also for a verb that it has not."""
        ...

    async def mend(self, fault: Fault) -> None:
        """End it now: all is as before. Raises TargetFailed."""
        ...

    async def image(self, fault: Fault) -> None:
        """Take the copies that this "restore" will put back; called at its `image_at`. Raises
        TargetFailed, also where there is no such verb."""
        ...

    async def trees_equal(self) -> bool | None:
        """Whether all replicas' hash trees are equal now; None where that cannot be asked."""
        ...

    async def wars(self) -> bytes | None:
        """What the nodes have measured of W, A, R, S themselves: a JSON list of what `/admin/wars`
        of each node says; None where they do not."""
        ...


class TargetFailed(Exception):
    """A target could not be set up, or a fault not be injected; the message says why."""


#: How the harness calls a value in which it finds nothing of its own.
FOREIGN: Final = -1
