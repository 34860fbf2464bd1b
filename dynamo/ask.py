"""One request, awaited: for the background services, which may take their time.

The hot path uses a `Waiter` of its own instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from dynamo.ports import Failure, Transport
from dynamo.rpc.messages import Reply, Request


class _Ask:
    """Collects final answers; one future for all of them, or for the first that ends the wait."""

    __slots__ = ("_ends", "_missing", "answers", "done")

    def __init__(
        self, expected: int, ends: Callable[[Reply | Failure], bool] | None = None
    ) -> None:
        self.answers: list[tuple[str, Reply | Failure]] = []
        self._missing = expected
        self._ends = ends
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_reply(self, node: str, reply: Reply) -> None:
        self._end(node, reply)

    def on_failure(self, node: str, failure: Failure) -> None:
        self._end(node, failure)

    def _end(self, node: str, answer: Reply | Failure) -> None:
        if self.done.done():
            return
        self.answers.append((node, answer))
        self._missing -= 1
        if self._missing == 0 or (self._ends is not None and self._ends(answer)):
            self.done.set_result(None)


async def ask(
    transport: Transport, target: str, message: Request, timeout: float
) -> Reply | Failure:
    """The final reply of one node, or why there is none. `timeout` in seconds.

    Only for messages that are answered once (not Mint), as the others here.
    """
    return (await ask_each(transport, target, (message,), timeout))[0]


async def ask_all(
    transport: Transport,
    targets: tuple[str, ...],
    message: Request,
    timeout: float,
    *,
    ends: Callable[[Reply | Failure], bool] | None = None,
) -> dict[str, Reply | Failure]:
    """What each of several nodes answered to one message; only those until one that `ends` it."""
    if not targets:
        return {}
    waiter = _Ask(len(targets), ends)
    transport.request(targets, message, waiter, timeout)
    await waiter.done
    return dict(waiter.answers)


async def ask_each(
    transport: Transport, target: str, messages: Sequence[Request], timeout: float
) -> list[Reply | Failure]:
    """What one node answered to each of several messages, in the order the answers came."""
    if not messages:
        return []
    waiter = _Ask(len(messages))
    for message in messages:
        transport.request((target,), message, waiter, timeout)
    await waiter.done
    return [answer for _, answer in waiter.answers]


async def ask_of(
    transport: Transport, messages: Mapping[str, Request], timeout: float
) -> dict[str, Reply | Failure]:
    """What each node answered to a message of its own."""
    if not messages:
        return {}
    waiter = _Ask(len(messages))
    for target, message in messages.items():
        transport.request((target,), message, waiter, timeout)
    await waiter.done
    return dict(waiter.answers)
