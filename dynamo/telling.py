"""What becomes of what a coordinator tells nodes, and does not wait for: it is counted.

Knows nothing of writes or reads.
"""

from __future__ import annotations

from collections.abc import Iterable

from dynamo.metrics import Metrics
from dynamo.ports import Failure, Transport
from dynamo.rpc.messages import Refused, Reply, Request, Synced


class TellWaiter:
    """For a minter that was behind, and is sent the record that hides what it minted."""

    __slots__ = ("_count",)

    def __init__(self, metrics: Metrics) -> None:
        self._count = metrics.count

    def on_reply(self, node: str, reply: Reply) -> None:
        told = type(reply) is Synced
        self._count["minters_told" if told else "minters_refused_to_be_told"] += 1

    def on_failure(self, node: str, failure: Failure) -> None:
        self._count["minters_not_told"] += 1


class Debt:
    """A write that some have missed, to be noted by one node that has it: by the next, if one fails."""

    __slots__ = ("_count", "_keepers", "_message", "_timeout", "_transport", "flight")

    def __init__(
        self,
        message: Request,
        keepers: Iterable[str],
        *,
        transport: Transport,
        timeout: float,
        metrics: Metrics,
        flight: int = 0,
    ) -> None:
        """`message`: tells one of `keepers`, best first, what it owes. `timeout`: seconds for each.
        `flight`: of the write, as of `dynamo.flights`."""
        self.flight = flight
        self._message = message
        self._keepers = iter(keepers)
        self._transport = transport
        self._timeout = timeout
        self._count = metrics.count

    def note(self) -> None:
        """Tell the next keeper, if one is left."""
        keeper = next(self._keepers, None)
        if keeper is None:
            self._count["debts_not_noted"] += 1
            return
        self._transport.request((keeper,), self._message, self, self._timeout)

    def on_reply(self, node: str, reply: Reply) -> None:
        if type(reply) is Synced:
            self._count["debts_noted"] += 1
            return
        self._count["debts_refused"] += 1
        # What one has no room or time for, another would refuse as well.
        if not (isinstance(reply, Refused) and reply.code == "hint_refused"):
            self.note()

    def on_failure(self, node: str, failure: Failure) -> None:
        self.note()
