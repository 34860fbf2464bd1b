"""What a read sends to replicas that are behind: counted only, or waited for before the answer.

Fed by the transport. Knows nothing of how it was found out who is behind, nor of who reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from dynamo.errors import DynamoError, ReadUncertain
from dynamo.metrics import Metrics
from dynamo.ports import NO_ANSWER, Clock, Failure, Transport
from dynamo.rpc.messages import Refused, Reply, Store, Synced

#: How long (seconds) a replica has to take what it was behind of, if nobody waits for it.
REPAIR_TIMEOUT: Final = 10.0


class RepairWaiter:
    """Counts what becomes of asynchronous repairs; nobody waits for them."""

    __slots__ = ("_count",)

    def __init__(self, metrics: Metrics) -> None:
        self._count = metrics.count

    def on_reply(self, node: str, reply: Reply) -> None:
        self._count["read_repairs_done" if type(reply) is Synced else "read_repairs_refused"] += 1

    def on_failure(self, node: str, failure: Failure) -> None:
        self._count["read_repairs_failed"] += 1


class BlockingRepair:
    """Waits until enough primaries hold the merged record, synced."""

    __slots__ = (
        "_awaited",
        "_clock",
        "_confirmed",
        "_deadline",
        "_failed",
        "_missing",
        "_reasons",
        "_required",
        "_store",
        "_transport",
        "targets",
    )

    def __init__(
        self,
        *,
        targets: Sequence[str],
        store: Store,
        held: int,
        missing: int,
        confirmed: Callable[[], None],
        failed: Callable[[DynamoError], None],
        transport: Transport,
        clock: Clock,
        deadline: float,
    ) -> None:
        """`targets`: primaries that do not hold what `store` brings; `held`: how many do. Once `missing`
        more do, `confirmed` is called, or `failed` as soon as they cannot. `deadline`: of the client."""
        self.targets = targets
        self._store = store
        self._missing = missing
        self._required = missing + held
        self._confirmed = confirmed
        self._failed = failed
        self._transport = transport
        self._clock = clock
        self._deadline = deadline
        self._reasons: dict[str, str] = {}
        self._awaited = list(targets)

    def start(self) -> None:
        """Send it to all who do not hold it."""
        remaining = max(0.001, self._deadline - self._clock.monotonic())
        self._transport.request(self.targets, self._store, self, remaining)

    def on_reply(self, node: str, reply: Reply) -> None:
        if type(reply) is Synced:
            self._awaited.remove(node)
            self._missing -= 1
            if self._missing == 0:
                self._confirmed()
            return
        reason = (reply.detail or reply.code) if isinstance(reply, Refused) else "unexpected reply"
        self._lose(node, reason)

    def on_failure(self, node: str, failure: Failure) -> None:
        self._lose(node, failure.reason)

    def _lose(self, node: str, reason: str) -> None:
        self._awaited.remove(node)
        self._reasons[node] = reason
        if len(self._awaited) < self._missing:
            self._failed(self.error())

    def error(self) -> ReadUncertain:
        """The repair that could not be confirmed, with who did not."""
        is_over = self._clock.monotonic() >= self._deadline
        late = dict.fromkeys(self._awaited, NO_ANSWER) if is_over else {}
        return ReadUncertain(
            "too few primaries hold what was read; it might vanish again",
            required=self._required,
            received=self._required - max(0, self._missing),
            reasons={**self._reasons, **late},
        )
