"""One request, awaited: for the background services, which may take their time.

The hot path uses a `Waiter` of its own instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from dynamo.ports import Failure, Transport
from dynamo.rpc.messages import Reply, Request


class _Ask:
    """Collects final answers; one future for all of them."""

    __slots__ = ("_missing", "answers", "done")

    def __init__(self, expected: int) -> None:
        self.answers: list[tuple[str, Reply | Failure]] = []
        self._missing = expected
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_reply(self, node: str, reply: Reply) -> None:
        self._end(node, reply)

    def on_failure(self, node: str, failure: Failure) -> None:
        self._end(node, failure)

    def _end(self, node: str, answer: Reply | Failure) -> None:
        self.answers.append((node, answer))
        self._missing -= 1
        if self._missing == 0 and not self.done.done():
            self.done.set_result(None)


async def ask(
    transport: Transport, target: str, message: Request, timeout: float
) -> Reply | Failure:
    """The final reply of one node, or why there is none. `timeout` in seconds.

    Only for messages that are answered once (not Mint), as the others here.
    """
    return (await ask_each(transport, target, (message,), timeout))[0]


async def ask_all(
    transport: Transport, targets: tuple[str, ...], message: Request, timeout: float
) -> dict[str, Reply | Failure]:
    """What each of several nodes answered to one message."""
    if not targets:
        return {}
    waiter = _Ask(len(targets))
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
