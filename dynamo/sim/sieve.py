"""Loses chosen messages: all of one kind, or the next few, from one node to another.

Sits between the transport of a node and those who execute what comes in, so that neither side hears
of a loss: a request is never executed, a reply never leaves. `MessageFaults` does the same by
chance. Knows nothing of what the messages say.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Final

from dynamo.ports import Call, Handler
from dynamo.rpc.messages import (
    Body,
    Deliver,
    Delivered,
    Digest,
    Fetch,
    Mint,
    Minted,
    Owe,
    Page,
    Refused,
    Scan,
    Store,
    Synced,
)

#: What can be lost, by its name; a message of any other kind gets through.
KINDS: Final[Mapping[str, type]] = {
    kind.__name__.lower(): kind
    for kind in (
        *(Mint, Store, Fetch, Scan, Minted, Synced, Body, Digest, Page, Refused),
        *(Owe, Deliver, Delivered),
    )
}

_Loss = tuple[type, str, str]


class Sieve:
    """What the nodes of one cluster lose."""

    def __init__(self) -> None:
        #: How many are still to be lost, by kind, sender and receiver; None: all.
        self._losing: dict[_Loss, int | None] = {}

    def __repr__(self) -> str:
        return f"Sieve({', '.join(self.losses()) or 'loses nothing'})"

    def lose(self, kind: str, source: str, target: str, *, count: int | None = None) -> None:
        """Lose the next `count` messages (None: all) of this kind (a name in KINDS) on this way."""
        self._losing[KINDS[kind], source, target] = count

    def calm(self) -> None:
        """Lose nothing more."""
        self._losing.clear()

    def losses(self) -> list[str]:
        """What is still to be lost, a line each."""
        return [
            f"{kind.__name__.lower()} {source}>{target}{'' if count is None else f' {count}'}"
            for (kind, source, target), count in self._losing.items()
        ]

    def takes(self, message: object, source: str, target: str) -> bool:
        """True if this one is lost."""
        loss = (type(message), source, target)
        if loss not in self._losing:
            return False
        count = self._losing[loss]
        if count is not None:
            if count > 1:
                self._losing[loss] = count - 1
            else:
                del self._losing[loss]
        return True

    def wrap(self, node: str, handlers: Mapping[type, Handler]) -> Mapping[type, Handler]:
        """Those handlers of this node, without what is lost. Follows changes of `handlers`."""
        return _Sieved(self, node, handlers)


class _Sieved(Mapping[type, Handler]):
    """Handlers of one node."""

    def __init__(self, sieve: Sieve, node: str, handlers: Mapping[type, Handler]) -> None:
        self._sieve = sieve
        self._node = node
        self._handlers = handlers

    def __getitem__(self, kind: type) -> Handler:
        return functools.partial(self._take, self._handlers[kind])

    def __iter__(self) -> Iterator[type]:
        return iter(self._handlers)

    def __len__(self) -> int:
        return len(self._handlers)

    def _take(self, handler: Handler, message: Any, call: Call) -> None:
        if not self._sieve.takes(message, call.peer, self._node):
            handler(message, _SievedCall(self._sieve, self._node, call))


class _SievedCall:
    """A call some of whose replies may be lost."""

    __slots__ = ("_call", "_node", "_sieve", "deadline", "peer")

    def __init__(self, sieve: Sieve, node: str, call: Call) -> None:
        self._sieve = sieve
        self._node = node
        self._call = call
        self.peer = call.peer
        self.deadline = call.deadline

    def reply(self, reply: Any, *, last: bool = True) -> None:
        """Pass it on, or lose it."""
        if not self._sieve.takes(reply, self._node, self.peer):
            self._call.reply(reply, last=last)
