"""Two registers in this process: one shows a write a fixed time after its commit, one does nothing.

The first is the control of every figure: its reads are stale exactly where they start sooner than the
delay. The second is the harness's own ceiling: whatever a run of it takes, the harness takes. Both
keep one value a key, the newest committed. They know nothing of loads; time is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from bench.faults import Fault
from bench.targets.protocol import Capabilities, Reply, Setup, TargetFailed

_NOTHING: Final = Capabilities()
_DONE: Final = Reply("ok")


class _Version(NamedTuple):
    """`visible_at`: nanoseconds."""

    visible_at: int
    version: int
    elements: tuple[int, ...]


class _Register:
    """What both have in common: one node, no faults, nothing to say of itself."""

    name: str
    nodes: tuple[str, ...] = ("register",)

    @property
    def capabilities(self) -> Capabilities:
        return _NOTHING

    @property
    def properties(self) -> Mapping[str, object]:
        """None: it has no buckets."""
        return {}

    async def fault(self, fault: Fault) -> None:
        """Raises TargetFailed: there is nothing that could fail."""
        raise self._without(fault)

    async def mend(self, fault: Fault) -> None:
        """Raises TargetFailed."""
        raise self._without(fault)

    async def image(self, fault: Fault) -> None:
        """Raises TargetFailed."""
        raise self._without(fault)

    def _without(self, fault: Fault) -> TargetFailed:
        return TargetFailed(f"the {self.name} register has no fault {fault.do!r}")

    async def trees_equal(self) -> bool | None:
        """None: it has no trees."""
        return None

    async def wars(self) -> bytes | None:
        """None: it has no replicas."""
        return None


class DelayRegister(_Register):
    """A write is acknowledged at once and visible from `delay` nanoseconds after that; a read returns
    the newest visible. Exact by `now`: what is visible is decided when a read comes in."""

    name = "delay"

    def __init__(self, delay: int, now: Callable[[], int]) -> None:
        """Raises ValueError for a delay below 0."""
        if delay < 0:
            raise ValueError(f"a delay of {delay} ns")
        self._delay = delay
        self._now = now
        #: By key, in the order of commits: the visible one first, then those to come.
        self._versions: dict[str, list[_Version]] = {}

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(stamps=True)

    async def setup(self, setup: Setup) -> None:
        """Forget all."""
        self._versions.clear()

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
        """Committed now."""
        now = self._now()
        versions = self._versions.setdefault(key, [])
        versions.append(_Version(now + self._delay, version, elements))
        _forget_older(versions, now)
        return Reply("ok", self.nodes[0], began=now, committed=now)

    async def read(
        self,
        key: str,
        *,
        r: int | None = None,
        coordinator: int | None = None,
        replica: int | None = None,
        timeout: float = 10.0,
    ) -> Reply:
        """The newest that was committed `delay` ago or before."""
        now = self._now()
        versions = self._versions.get(key)
        if versions is None:
            return Reply("ok", self.nodes[0], began=now, committed=now)
        _forget_older(versions, now)
        first = versions[0]
        if first.visible_at > now:
            return Reply("ok", self.nodes[0], began=now, committed=now)
        return Reply(
            "ok",
            self.nodes[0],
            seen=(first.version,),
            elements=first.elements,
            began=now,
            committed=now,
        )


def _forget_older(versions: list[_Version], now: int) -> None:
    """Keep the newest visible one and those to come."""
    while len(versions) > 1 and versions[1].visible_at <= now:
        del versions[0]


class NullRegister(_Register):
    """Answers at once that all is well, and keeps nothing: what it does not do costs nothing."""

    name = "null"

    async def setup(self, setup: Setup) -> None:
        """Nothing to make ready."""

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
        """Done."""
        return _DONE

    async def read(
        self,
        key: str,
        *,
        r: int | None = None,
        coordinator: int | None = None,
        replica: int | None = None,
        timeout: float = 10.0,
    ) -> Reply:
        """Nothing."""
        return _DONE
