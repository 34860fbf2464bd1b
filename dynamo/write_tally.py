"""Who has a write on disk: primaries, those who stand in for some, and who does not answer.

Fed with what nodes answer and read like a value. Knows nothing of sockets, time or who feeds it.
"""

from __future__ import annotations

from dynamo.quorum import LOST, MET, PENDING, State, counts_of, tell_counts


class WriteTally:
    """Acknowledgements of one write. Every acknowledgement is of a distinct node that synced it."""

    __slots__ = ("_needed", "_open", "_primaries_open", "_pw", "acked", "reasons", "stand_ins")

    def __init__(self, nodes: int, *, w: int, pw: int, node_confirms: int) -> None:
        """`nodes`: how many primaries there are: each answers, or is stood in for. `w` already
        includes `dw`."""
        self._needed = max(w, node_confirms)
        self._pw = pw
        self._open = self._primaries_open = nodes
        #: Stand-ins that have it on disk.
        self.stand_ins: list[str] = []
        #: Primaries that have it on disk.
        self.acked: list[str] = []
        #: Why a node did not acknowledge, by node.
        self.reasons: dict[str, str] = {}

    @property
    def primaries(self) -> int:
        """How many primaries have it on disk."""
        return len(self.acked)

    @property
    def fallbacks(self) -> int:
        """How many stand-ins have it on disk."""
        return len(self.stand_ins)

    @property
    def received(self) -> int:
        """Distinct nodes that hold the write on disk."""
        return len(self.acked) + len(self.stand_ins)

    @property
    def required(self) -> int:
        """Acknowledgements that make it MET."""
        return max(self._needed, self._pw)

    @property
    def settled(self) -> bool:
        """True once every node has answered or failed."""
        return self._open == 0

    def ack(self, node: str) -> State:
        """A primary has it on disk."""
        self.acked.append(node)
        self._open -= 1
        self._primaries_open -= 1
        return self.state

    def fail(self, node: str, reason: str) -> State:
        """A primary will not acknowledge, and nobody is asked in its place."""
        self.reasons[node] = reason
        self._open -= 1
        self._primaries_open -= 1
        return self.state

    def stand_in_for(self, node: str, reason: str) -> None:
        """A primary will not acknowledge, and another node is asked in its place."""
        self.reasons[node] = reason
        self._primaries_open -= 1

    def ack_stand_in(self, node: str) -> State:
        """Who stands in for a primary has it on disk."""
        assert node not in self.stand_ins
        self.stand_ins.append(node)
        self._open -= 1
        return self.state

    def fail_stand_in(self, node: str, reason: str) -> State:
        """Who stands in for a primary will not acknowledge, and nobody else is asked in its place."""
        self.reasons[node] = reason
        self._open -= 1
        return self.state

    @property
    def state(self) -> State:
        primaries = len(self.acked)
        received = primaries + len(self.stand_ins)
        if received >= self._needed and primaries >= self._pw:
            return MET
        if received + self._open < self._needed or primaries + self._primaries_open < self._pw:
            return LOST
        return PENDING

    def counts(self) -> dict[str, int]:
        """What was asked for and what came, for an error's details."""
        return counts_of(self._needed, self._pw, len(self.acked), len(self.stand_ins))

    def told(self) -> str:
        """The same, for people."""
        return tell_counts(self.counts(), "acknowledged")

    def __repr__(self) -> str:
        return (
            f"WriteTally({self.state.value} {self.received}/{self.required}"
            f" open={self._open} failed={sorted(self.reasons)})"
        )
