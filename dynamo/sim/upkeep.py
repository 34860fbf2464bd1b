"""What simulated nodes do by themselves, unasked: exchanges with each other, and reaping.

And how long it may take them to agree: I6's bound, computed from these settings. Knows nothing of how
a node does any of it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from dynamo.config import COUNT_MAX

#: Nothing lives for so many seconds.
_NEVER: Final = COUNT_MAX
#: How much later than its interval an exchange may begin.
_JITTER: Final = 1.1
#: Whom a node could not reach it tries again after so many intervals, at most.
BACK_OFF: Final = 4
#: Trees are built anew after a crash, and the last looks and records are on their way.
TRANSFER_SECONDS: Final = 5.0
#: Rounds over all peers: what one peer gave may be news to one that was visited before, and a key that
#: changes between two looks has to be looked at again.
ROUNDS: Final = 3


class Upkeep(NamedTuple):
    """`exchange`: seconds between two exchanges of a node, 0 for none. `straggler`: seconds between two
    looks at what differs, and that a request may be late, 0 for what a node has by itself.
    `reap_after`: seconds that a tombstone is left alone; below 0 nothing is reaped."""

    exchange: int = 0
    straggler: float = 0.0
    reap_after: int = -1

    @property
    def reaps(self) -> bool:
        """True if tombstones go."""
        return self.reap_after >= 0

    @property
    def config_reap_after(self) -> int:
        """As a node is told."""
        return self.reap_after if self.reaps else _NEVER

    def round_seconds(self, peers: int) -> float:
        """So long a node needs to exchange with each of its peers, all of whom are up."""
        return max(1, peers) * self.exchange * _JITTER + 2 * self.straggler

    def agreed_within(self, peers: int) -> float:
        """Seconds after which all copies are the same, if nobody asks anything any more, everybody is
        connected and nothing is held for anybody: I6's `peers x exchange interval + transfer time`."""
        back_off = BACK_OFF * self.exchange * _JITTER
        return back_off + ROUNDS * self.round_seconds(peers) + TRANSFER_SECONDS


#: Nodes that do nothing unasked.
IDLE: Final = Upkeep()
