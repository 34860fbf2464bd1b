"""What a coordinator tells nodes without waiting for it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dynamo.metrics import Metrics
from dynamo.ports import Failure, Waiter
from dynamo.rpc.messages import Owe, Refused, Reply, Request, Synced
from dynamo.telling import Debt

OWE = Owe(b"key", 0, 0, 1, 1000, (2,))
LOST = Failure("lost", "gone")
FULL = Refused("disk_full", True)
UNWANTED = Refused("hint_refused", True)


class Answers:
    """A transport whose nodes answer as they are told."""

    def __init__(self, answers: dict[str, Reply | Failure]) -> None:
        self._answers = answers
        self.asked: list[str] = []

    def request(
        self, targets: Sequence[str], message: Request, waiter: Waiter, timeout: float
    ) -> None:
        for node in targets:
            self.asked.append(node)
            answer = self._answers[node]
            if isinstance(answer, Failure):
                waiter.on_failure(node, answer)
            else:
                waiter.on_reply(node, answer)

    def is_connected(self, node: str) -> bool:
        return True

    def stalled_for(self, node: str) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("first", "second", "asked", "counted"),
    [
        (Synced(), Synced(), "a", {"debts_noted": 1}),
        (LOST, Synced(), "ab", {"debts_noted": 1}),
        (FULL, Synced(), "ab", {"debts_noted": 1, "debts_refused": 1}),
        (LOST, LOST, "ab", {"debts_not_noted": 1}),
        (FULL, FULL, "ab", {"debts_not_noted": 1, "debts_refused": 2}),
        (UNWANTED, Synced(), "a", {"debts_refused": 1}),
    ],
)
def test_a_debt_is_noted_by_the_first_that_can(
    first: Reply | Failure, second: Reply | Failure, asked: str, counted: dict[str, int]
) -> None:
    metrics, answers = Metrics(), Answers({"a": first, "b": second})
    Debt(OWE, "ab", transport=answers, timeout=1.0, metrics=metrics).note()
    assert answers.asked == list(asked)
    assert {name: count for name, count in metrics.count.items() if count} == counted
