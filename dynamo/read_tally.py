"""What replicas say that they hold of a key: merged, and counted.

Fed with what nodes answer and read like a value. Knows nothing of sockets, time or who feeds it.
"""

from __future__ import annotations

from collections.abc import Sequence

from antientropy.stale import stale
from dynamo.quorum import LOST, MET, PENDING, State, counts_of, tell_counts
from dynamo.record import EMPTY, Record, merge, record_digest
from dynamo.version import Vector, descends, strictly_below


class ReadTally:
    """Answers to one read, merged as their bodies arrive.

    An answer counts only while its siblings are in hand: a digest equal to that of the merged
    bodies, or a vector strictly below theirs, counts at once; any other only when its body has
    arrived and is merged, and it is withdrawn if that replica is lost first.
    """

    __slots__ = (
        "_agreeing",
        "_basic_quorum",
        "_bodies",
        "_digests",
        "_need",
        "_nodes",
        "_notfound_ok",
        "_pr",
        "_vectors",
        "merged",
        "merged_digest",
        "reasons",
    )

    def __init__(
        self,
        nodes: Sequence[str],
        *,
        r: int,
        pr: int = 0,
        node_confirms: int = 0,
        notfound_ok: bool = True,
        basic_quorum: bool = False,
    ) -> None:
        """`nodes`: all that are asked, all primaries."""
        self._nodes = nodes
        self._need = max(r, pr, node_confirms)
        self._pr = pr
        self._notfound_ok = notfound_ok
        self._basic_quorum = basic_quorum
        self._digests: dict[str, bytes] = {}
        self._vectors: dict[str, Vector] = {}
        self._bodies: set[str] = set()
        #: How many answered with the very record that the merged bodies make: nearly always, all.
        self._agreeing = 0
        self.merged: Record = EMPTY
        self.merged_digest = b""
        #: Why a node did not answer, by node.
        self.reasons: dict[str, str] = {}

    @property
    def required(self) -> int:
        """Answers that make it MET."""
        return self._need

    def counts(self) -> dict[str, int]:
        """What was asked for and what came, for an error's details."""
        received = self.received
        return counts_of(self._need, self._pr, received, 0)

    def told(self) -> str:
        """The same, for people."""
        return tell_counts(self.counts(), "answered")

    @property
    def has_body(self) -> bool:
        """True once some body has arrived (an absent record's counts)."""
        return bool(self._bodies)

    def has_body_of(self, node: str) -> bool:
        """True once this node's record has arrived."""
        return node in self._bodies

    def add_body(self, node: str, record: Record, digest: bytes) -> None:
        """The node's whole record (EMPTY if it has none) and its `record_digest`."""
        self._bodies.add(node)
        if self.reasons:
            self.reasons.pop(node, None)
        if digest != self.merged_digest:
            if self.merged.vector:
                self.merged = merge(self.merged, record)
                self.merged_digest = digest if self.merged == record else record_digest(self.merged)
            else:
                self.merged, self.merged_digest = record, digest
            self._agreeing = list(self._digests.values()).count(self.merged_digest)
        self._note(node, record.vector, digest)

    def add_digest(self, node: str, vector: Vector, digest: bytes) -> None:
        """The node's vector and digest (() and b"" if it has no record)."""
        self._note(node, vector, digest)

    def _note(self, node: str, vector: Vector, digest: bytes) -> None:
        merged = self.merged_digest
        before = self._digests.get(node)
        if before is not None and before == merged:
            self._agreeing -= 1
        if digest == merged:
            self._agreeing += 1
        self._digests[node] = digest
        self._vectors[node] = vector

    def fail(self, node: str, reason: str) -> None:
        """The node will not answer (again): what it had announced without a body is withdrawn."""
        if node not in self._bodies:
            withdrawn = self._digests.pop(node, None)
            if withdrawn is not None and withdrawn == self.merged_digest:
                self._agreeing -= 1
            self._vectors.pop(node, None)
            self.reasons[node] = reason

    def wanting(self) -> list[str]:
        """Nodes whose body is needed before their answer counts."""
        if self._agreeing == len(self._digests):
            return []
        merged = self.merged_digest
        vector = self.merged.vector
        return [
            node
            for node, digest in self._digests.items()
            if digest != merged
            and node not in self._bodies
            and not strictly_below(self._vectors[node], vector)
        ]

    @property
    def received(self) -> int:
        """Answers that count."""
        counted = len(self._digests)
        if self._agreeing < counted:
            counted -= len(self.wanting())
        if self._notfound_ok:
            return counted
        # A replica without a record is never one that is wanted: it has nothing to give.
        return counted - list(self._digests.values()).count(b"")

    @property
    def not_found(self) -> bool:
        """True if what was lost was lost to replicas that have no record, not to failures."""
        absent = sum(1 for digest in self._digests.values() if not digest)
        if self._notfound_ok or self.merged or not absent:
            return False
        if self._basic_quorum and absent >= len(self._nodes) // 2 + 1:
            return True
        return not self.reasons

    @property
    def agreed(self) -> bool:
        """True if all who have answered hold the merged record."""
        return self._agreeing == len(self._digests)

    @property
    def state(self) -> State:
        if self.received >= self._need:
            return MET
        hopeless = len(self.reasons)
        if not self._notfound_ok:
            absent = list(self._digests.values()).count(b"")
            if (
                self._basic_quorum
                and not self.merged.vector
                and absent >= len(self._nodes) // 2 + 1
            ):
                return LOST
            hopeless += absent
        return LOST if len(self._nodes) - hopeless < self._need else PENDING

    def holders(self, vector: Vector) -> list[str]:
        """Nodes known to hold, on disk, a record that has seen all of `vector`."""
        return [node for node, seen in self._vectors.items() if descends(seen, vector)]

    def stale(self) -> tuple[str, ...]:
        """Nodes that answered with something other than the merged record."""
        if self.agreed:
            return ()
        return stale(self._digests, self.merged_digest)

    def vector_of(self, node: str) -> Vector:
        """The vector of the record a node answered with; () if it has none, or has not answered."""
        return self._vectors.get(node, ())

    def digest_of(self, node: str) -> bytes | None:
        """The digest a node answered with, None if it has not."""
        return self._digests.get(node)

    def __repr__(self) -> str:
        return (
            f"ReadTally({self.state.value} {self.received}/{self._need}"
            f" wanting={self.wanting()} failed={sorted(self.reasons)})"
        )


class SloppyReadTally(ReadTally):
    """A `ReadTally` while primaries are down, and other nodes are asked what they hold for those.

    A stand-in has only what was written since its primary was away. So one that holds nothing of the
    key says nothing: it never counts. One that holds some counts only for as much of r as the primaries
    that are left cannot give: as long as r of them can answer, a read meets every write that a quorum
    with primaries in it has acknowledged. What stand-ins hold is merged either way.
    """

    __slots__ = ("_stand_ins",)

    def __init__(
        self,
        nodes: Sequence[str],
        *,
        stand_ins: Sequence[str],
        r: int,
        pr: int = 0,
        node_confirms: int = 0,
        notfound_ok: bool = True,
        basic_quorum: bool = False,
    ) -> None:
        """`nodes`: all primaries, those that are down too: `fail` them. `stand_ins`: who is asked in
        place of some."""
        super().__init__(
            nodes,
            r=r,
            node_confirms=node_confirms,
            notfound_ok=notfound_ok,
            basic_quorum=basic_quorum,
        )
        self._pr = pr
        self._stand_ins = stand_ins

    def _counted(self) -> tuple[int, int]:
        """Answers that count: of primaries, and of stand-ins if all of theirs did."""
        wanting = self.wanting()
        primaries = stand_ins = 0
        for node, digest in self._digests.items():
            if node in wanting:
                continue
            if node in self._stand_ins:
                stand_ins += bool(digest)
            elif digest or self._notfound_ok:
                primaries += 1
        return primaries, stand_ins

    def _open_primaries(self) -> int:
        """Primaries whose answer counts, or may count yet."""
        lost = sum(
            node in self.reasons or (not self._notfound_ok and self._digests.get(node) == b"")
            for node in self._nodes
        )
        return len(self._nodes) - lost

    def _open_stand_ins(self) -> int:
        return sum(
            node not in self.reasons and self._digests.get(node) != b"" for node in self._stand_ins
        )

    @property
    def received(self) -> int:
        """Answers that count."""
        primaries, stand_ins = self._counted()
        return primaries + min(stand_ins, max(0, self._need - self._open_primaries()))

    def counts(self) -> dict[str, int]:
        """As of `ReadTally`."""
        primaries, _ = self._counted()
        return counts_of(self._need, self._pr, primaries, self.received - primaries)

    @property
    def not_found(self) -> bool:
        """True if a majority of the primaries has no record, and that was to be enough. Else those that
        are down may have one."""
        absent = sum(self._digests.get(node) == b"" for node in self._nodes)
        return (
            not self._notfound_ok
            and self._basic_quorum
            and not self.merged
            and absent >= len(self._nodes) // 2 + 1
        )

    @property
    def state(self) -> State:
        primaries, stand_ins = self._counted()
        possible = self._open_primaries()
        lacking = max(0, self._need - possible)
        if primaries + min(stand_ins, lacking) >= self._need and primaries >= self._pr:
            return MET
        if (
            possible + min(self._open_stand_ins(), lacking) < self._need
            or possible < self._pr
            or self.not_found
        ):
            return LOST
        return PENDING

    def holders(self, vector: Vector) -> list[str]:
        """Primaries known to hold, on disk, a record that has seen all of `vector`."""
        return [node for node in super().holders(vector) if node not in self._stand_ins]

    def stale(self) -> tuple[str, ...]:
        """Primaries that answered with something other than the merged record."""
        return tuple(node for node in super().stale() if node not in self._stand_ins)
