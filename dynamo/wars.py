"""What a coordinator measures of its own requests: W, A, R and S of one operation in a few.

Which ones is drawn: a countdown, jittered so that it locks onto no pattern of the clients; all that an
operation that is not measured pays is one subtraction. What is kept is bounded: a sample for each
replica, and one of whole operations, of the last WINDOW seconds. A replica's clock is corrected only
by what is proven (`dynamo.clock_bounds`). Pure: times are arguments. Knows nothing of how requests are
sent.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Final

from dynamo.clock_bounds import ClockBounds
from dynamo.config import MEASURE_ONE_IN_DEFAULT
from dynamo.metrics import Metrics
from dynamo.reservoir import Objects, Pairs, Window
from dynamo.wars_status import WarsLegs, WarsRead, WarsStatus, WarsWrite

#: Seconds that samples are of, at most; between half of it and all of it.
WINDOW: Final = 600.0
#: Samples of one replica's writes, of its reads, of whole writes and of whole reads.
KEPT: Final = 1024
#: Replicas that are told apart: more are left out, and counted.
PEERS_MAX: Final = 256
#: Seconds that two clocks are taken to stay as far apart as they are.
CLOCK_WINDOW: Final = 60.0


class _Peer:
    """What is known of one replica."""

    __slots__ = ("clock", "reads", "writes")

    def __init__(self) -> None:
        self.writes = Pairs(KEPT)
        self.reads = Pairs(KEPT)
        self.clock = ClockBounds()


class Wars:
    """Of one coordinator."""

    __slots__ = (
        *(
            "_chance",
            "_class",
            "_clock_window",
            "_count",
            "_node",
            "_peers",
            "_reads",
            "_turns_at",
            "_window",
        ),
        *("_writes", "n", "reads_left", "sampled", "writes_left"),
    )

    def __init__(
        self,
        *,
        node_id: str,
        chance: random.Random,
        now: float,
        metrics: Metrics,
        sampled: int = MEASURE_ONE_IN_DEFAULT,
    ) -> None:
        """`now`: monotonic seconds. `sampled`: one operation in so many is measured."""
        self._node = node_id
        self._chance = chance
        self._count = metrics.count
        self.sampled = sampled
        #: Replicas of a key.
        self.n = 0
        #: Id of the replication class with so many.
        self._class = 0
        self._peers: dict[str, _Peer] = {}
        self._writes: Objects[WarsWrite] = Objects(KEPT)
        self._reads: Objects[WarsRead] = Objects(KEPT)
        self._window = Window(WINDOW, now)
        self._clock_window = Window(CLOCK_WINDOW, now)
        self._turns_at = now
        #: How many reads, and writes, until one is measured: counted down by who begins them.
        self.reads_left = self.countdown()
        self.writes_left = self.countdown()

    def __repr__(self) -> str:
        return f"Wars({self._node} writes={self._writes.seen} reads={self._reads.seen})"

    def countdown(self) -> int:
        """Operations until the next one is measured: `sampled` on average, never the same."""
        return 1 + int(self._chance.random() * (2 * self.sampled - 1))

    def adopt(self, members: Collection[str], n: int, cls: int) -> None:
        """Replicas that are no members any more are forgotten. `n`: of a key of the class `cls`."""
        self.n = n
        self._class = cls
        self._peers = {name: peer for name, peer in self._peers.items() if name in members}

    # What the operations tell -------------------------------------------------------------------

    def answered(self, node: str, out: float, back: float, now: float) -> float:
        """A replica's answer, in milliseconds by two clocks: `out` until its stamp, `back` until the
        answer was here. Returns the first, as far as it can be true."""
        if now >= self._turns_at:
            self._turn(now)
        total = out + back
        peer = self._peer(node)
        if peer is not None and node != self._node:
            if not peer.clock.note(out, back):
                self._count["wars_clocks_reset"] += 1
            out -= peer.clock.offset
        return min(max(out, 0.0), total)

    def wrote(self, node: str, w: float, a: float) -> None:
        """A replica's part of a write."""
        peer = self._peer(node)
        if peer is None:
            self._count["wars_answers_left_out"] += 1
        else:
            peer.writes.add(w, a, self._chance)

    def read(self, node: str, r: float, s: float) -> None:
        """A replica's part of a read."""
        peer = self._peer(node)
        if peer is None:
            self._count["wars_answers_left_out"] += 1
        else:
            peer.reads.add(r, s, self._chance)

    def ended_write(self, whole: WarsWrite, left_out: int, cls: int) -> None:
        """All that is to come of a write of this class has come. `left_out`: replicas that are not in
        it. One of another class than `n` is of is not kept as a whole: with fewer replicas it would look
        as if some had not answered."""
        self._count["wars_writes_measured"] += 1
        self._count["wars_answers_left_out"] += left_out
        if cls == self._class:
            self._writes.add(whole, self._chance)

    def ended_read(self, whole: WarsRead, left_out: int, cls: int) -> None:
        """All that is to come of a read has come; as `ended_write`."""
        self._count["wars_reads_measured"] += 1
        self._count["wars_answers_left_out"] += left_out
        if cls == self._class:
            self._reads.add(whole, self._chance)

    # What is shown ------------------------------------------------------------------------------

    def status(self, now: float, *, wholes: bool = True) -> WarsStatus:
        """All of it, or all but the whole operations. Costs about a millisecond a peer."""
        self._turn(now)
        return WarsStatus(
            node=self._node,
            n=self.n,
            sampled=self.sampled,
            seconds=round(now - self._window.since, 3),
            peers={name: self._legs(self._peers[name]) for name in sorted(self._peers)},
            writes=tuple(self._writes.sample(self._chance)) if wholes else (),
            reads=tuple(self._reads.sample(self._chance)) if wholes else (),
        )

    def _legs(self, peer: _Peer) -> WarsLegs:
        writes = peer.writes.sample(self._chance)
        reads = peer.reads.sample(self._chance)
        return WarsLegs(
            w=tuple([w for w, _ in writes]),
            a=tuple([a for _, a in writes]),
            r=tuple([r for r, _ in reads]),
            s=tuple([s for _, s in reads]),
            writes=peer.writes.seen,
            reads=peer.reads.seen,
            clock_offset_ms=round(peer.clock.offset, 6),
        )

    def _peer(self, node: str) -> _Peer | None:
        peer = self._peers.get(node)
        if peer is None and len(self._peers) < PEERS_MAX:
            peer = self._peers[node] = _Peer()
        return peer

    def _turn(self, now: float) -> None:
        """Begin the next half of a window where it is time to."""
        for _ in range(self._window.turns(now)):
            for peer in self._peers.values():
                peer.writes.turn()
                peer.reads.turn()
            self._writes.turn()
            self._reads.turn()
        for _ in range(self._clock_window.turns(now)):
            for peer in self._peers.values():
                peer.clock.turn()
        self._turns_at = min(self._window.turns_at, self._clock_window.turns_at)
