"""What becomes of what a coordinator tells nodes, and does not wait for: it is counted.

Knows nothing of writes or reads.
"""

from __future__ import annotations

from dynamo.metrics import Metrics
from dynamo.ports import Failure
from dynamo.rpc.messages import Reply, Synced


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


class DebtWaiter:
    """For a node that is to owe a write to those who have missed it."""

    __slots__ = ("_count",)

    def __init__(self, metrics: Metrics) -> None:
        self._count = metrics.count

    def on_reply(self, node: str, reply: Reply) -> None:
        self._count["debts_noted" if type(reply) is Synced else "debts_refused"] += 1

    def on_failure(self, node: str, failure: Failure) -> None:
        self._count["debts_not_noted"] += 1
