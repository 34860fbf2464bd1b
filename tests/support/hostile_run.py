"""As `history_run`, with harsher clients and more going wrong at once.

Clients give up in the middle, make all kinds of conditional requests, let values expire, read
without `notfound_ok`, have hardly any time, and delete a lot; messages come late and twice. After it
all, no task may be left, nobody may still wait, and no dot may have raised an alarm.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final

from causal_history import Operation, OperationKind, writes_in
from history_run import KINDS, Run, _fault, incarnation_of
from little_cluster import LoopClock
from virtual_loop import run_virtual

from dynamo.errors import DynamoError
from dynamo.record import VALUE, Record
from dynamo.requests import Found, ReadOptions, WriteOptions, Written
from dynamo.resolve import etag, view
from dynamo.rpc.messages import Condition, Fetch, Request, Store

SHAPES: Final = ((3, 3), (5, 5), (5, 5), (5, 3), (7, 5))
OPERATIONS_A_CLIENT: Final = 24
#: What must not be counted while every dot is minted once.
_ALARMS: Final = ("foreign_dots", "dots_with_two_values")


class GaveUp(DynamoError):
    """The client did not wait for the answer."""

    code = "gave_up"


class HostileRun(Run):
    """One seed of it."""

    shapes = SHAPES
    weights = (0.45, 0.35, 0.2)
    operations = OPERATIONS_A_CLIENT

    def __init__(self, seed: int) -> None:
        super().__init__(seed, incarnation=incarnation_of)
        self.chance = rng = random.Random(f"hostile {seed}")
        more = (_fault(rng, rng.choice(KINDS), rng.choice(self.names)) for _ in range(8))
        self.faults = sorted((*self.faults, *more), key=lambda fault: fault.at)
        self.repeat_chance = rng.choice((0.0, 0.3))
        self.late_chance = rng.choice((0.0, 0.02))
        self.give_up_chance = rng.choice((0.0, 0.15))
        self.condition_chance = rng.choice((0.1, 0.5))
        #: ETag of what a context was given with.
        self.tags: dict[bytes, str] = {}

    # Messages -----------------------------------------------------------------------------------

    def _delay(self) -> float:
        late = not self.healed and self.wire.random() < self.late_chance
        return super()._delay() + (self.wire.random() * 1.5 if late else 0.0)

    def _repeats(self, message: Request) -> tuple[float, ...]:
        if self.healed or not isinstance(message, Store | Fetch):
            return ()
        if self.wire.random() >= self.repeat_chance:
            return ()
        return (self.wire.random() * self.wire.choice((0.01, 0.5, 2.0)),)

    # Clients ------------------------------------------------------------------------------------

    def _begin(
        self,
        rng: random.Random,
        kind: OperationKind,
        key: bytes,
        node: str,
        past: frozenset[int],
    ) -> Operation:
        operation = super()._begin(rng, kind, key, node, past)
        if self.chance.random() < 0.3:
            operation.timeout = self.chance.choice((0.005, 0.02))
        return operation

    async def _ask(
        self, operation: Operation, context: bytes, options: ReadOptions | WriteOptions
    ) -> Found | Written:
        chance = self.chance
        if isinstance(options, ReadOptions):
            options = self._harsher_read(options)
        else:
            options = self._harsher_write(operation, context, options)
        patience = None
        if chance.random() < self.give_up_chance:
            patience = chance.random() * chance.choice((0.002, 0.02, 0.2))
        try:
            async with asyncio.timeout(patience):
                answer = await super()._ask(operation, context, options)
        except TimeoutError:
            raise GaveUp("the client has gone") from None
        record = answer.record
        if isinstance(options, ReadOptions) and not options.notfound_ok and not record:
            self._weaken(operation, options)
        if isinstance(answer, Written):
            self._check_condition(operation, context, options, record)
        if answer.context:
            siblings = view(record, LoopClock().wall_ms()).siblings
            self.tags[answer.context] = etag(record, siblings) if siblings else ""
        return answer

    def _harsher_read(self, options: ReadOptions) -> ReadOptions:
        if self.chance.random() < 0.8:
            return options
        return ReadOptions(
            r=options.r,
            pr=options.pr,
            timeout_ms=options.timeout_ms,
            read_repair=options.read_repair,
            notfound_ok=False,
            basic_quorum=self.chance.random() < 0.5,
        )

    def _harsher_write(
        self, operation: Operation, context: bytes, options: WriteOptions
    ) -> WriteOptions:
        chance = self.chance
        expires_ms = options.expires_ms
        if operation.kind == "put" and chance.random() < 0.2:
            expires_ms = LoopClock().wall_ms() + chance.choice((-5, 50, 500, 5000))
        condition = options.condition
        if chance.random() < self.condition_chance:
            condition = self._condition(context)
        return WriteOptions(
            w=options.w,
            pw=options.pw,
            dw=options.dw,
            node_confirms=options.node_confirms,
            timeout_ms=options.timeout_ms,
            expires_ms=expires_ms,
            returnbody=options.returnbody,
            condition=condition,
        )

    def _condition(self, context: bytes) -> Condition:
        tag = self.tags.get(context) or "*"
        match self.chance.randrange(5):
            case 0:
                return Condition(if_none_match=("*",))
            case 1 | 2:
                return Condition(if_match=(tag,))
            case 3:
                return Condition(if_none_match=(tag,))
            case _:
                back_ms = self.chance.choice((0, 1000))
                return Condition(unmodified_since_ms=LoopClock().wall_ms() - back_ms)

    def _weaken(self, operation: Operation, options: ReadOptions) -> None:
        """ "Not found" is said once r answers that do have it are out of reach."""
        operation.r = min(operation.r, self.n - operation.r + 1)
        if options.basic_quorum:
            operation.r = min(operation.r, self.n // 2 + 1)
        operation.blocking = False

    def _check_condition(
        self,
        operation: Operation,
        context: bytes,
        options: ReadOptions | WriteOptions,
        record: Record,
    ) -> None:
        """What the minter holds is what the condition allows, and the write itself."""
        assert isinstance(options, WriteOptions)
        condition = options.condition
        if condition is None or operation.kind != "put":
            return
        named = "*" not in condition.if_match and self.tags.get(context) in condition.if_match
        now_ms = LoopClock().wall_ms()
        live = {
            id
            for sibling in record.siblings
            if sibling.kind == VALUE and sibling.is_live(now_ms)
            for id in writes_in(Record(record.format, record.vector, (sibling,)))
        }
        if (named or condition.if_none_match == ("*",)) and live - {operation.id}:
            self.history.problems.append(f"{operation} met {condition} beside {live}")

    # Afterwards ---------------------------------------------------------------------------------

    def _check_tasks(self) -> None:
        super()._check_tasks()
        problems = self.history.problems
        own = {task for node in self.cluster.nodes.values() for task in node.tasks}
        left = asyncio.all_tasks() - own - {asyncio.current_task()}
        if left:
            problems.append(f"{len(left)} tasks are left")
        for name, node in self.cluster.nodes.items():
            if node.commit._waiting or node.refill._answered:
                problems.append(f"{name} still waits for something")
            for alarm in _ALARMS:
                if node.metrics.count[alarm]:
                    problems.append(f"{name} counted {alarm}")


def run_hostile_seed(seed: int) -> list[str]:
    """What was found wrong in the run of this seed."""
    try:
        return run_virtual(HostileRun(seed).main()).problems
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        return [f"the run raised {error!r}"]
