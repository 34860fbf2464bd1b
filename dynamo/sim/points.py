"""Points in the path of a write at which a node can be made to crash: INVARIANTS "crash at any await";
and which requests have got no last reply.

Watches the requests of one node from between its transport and those who execute them. Knows nothing
of what happens at a point.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

from dynamo.ports import Call, Handler
from dynamo.rpc.messages import Mint, Minted, Refused, Reply, Store

#: After a mint was written and before anybody is told; once the minted record has left; after a store
#: was written; as a sync begins and when it is done; before a client's answer.
Point = Literal["minted", "minted_left", "stored", "before_sync", "after_sync", "answer"]
OnPoint = Callable[[Point], None]
#: Told the record of each mint as it leaves, encoded.
OnMinted = Callable[[bytes], None]


class WatchedHandlers(Mapping[type, Handler]):
    """Those handlers; `on_point` is told where mints and stores are, `on_minted` what was minted.
    Follows changes of `handlers`."""

    def __init__(
        self, handlers: Mapping[type, Handler], on_point: OnPoint, on_minted: OnMinted
    ) -> None:
        self._handlers = handlers
        self._on_point = on_point
        self._on_minted = on_minted
        #: By kind: how many requests have been executed and not answered, or not to the end.
        self.unanswered: Counter[str] = Counter()

    def __getitem__(self, kind: type) -> Handler:
        if kind is Mint:
            return self._mint
        if kind is Store:
            return self._store
        self._handlers[kind]  # raises KeyError
        return self._other

    def __iter__(self) -> Iterator[type]:
        return iter(self._handlers)

    def __len__(self) -> int:
        return len(self._handlers)

    def _mint(self, message: Any, call: Call) -> None:
        counted = _CountedCall(call, self.unanswered, "Mint")
        self._handlers[Mint](message, _MintCall(counted, self._on_point, self._on_minted))

    def _other(self, message: Any, call: Call) -> None:
        kind = type(message)
        self._handlers[kind](message, _CountedCall(call, self.unanswered, kind.__name__))

    def _store(self, message: Any, call: Call) -> None:
        stored = _StoreCall(_CountedCall(call, self.unanswered, "Store"))
        self._handlers[Store](message, stored)
        if not stored.is_refused:
            self._on_point("stored")


class _CountedCall:
    """A call that counts as unanswered until its last reply."""

    __slots__ = ("_call", "_kind", "_unanswered", "deadline", "peer")

    def __init__(self, call: Call, unanswered: Counter[str], kind: str) -> None:
        self._call = call
        self._unanswered = unanswered
        self._kind = kind
        self.peer = call.peer
        self.deadline = call.deadline
        unanswered[kind] += 1

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        """Pass it on."""
        if last:
            self._unanswered[self._kind] -= 1
        self._call.reply(reply, last=last)


class _MintCall:
    """A call of a mint."""

    __slots__ = ("_call", "_on_minted", "_on_point", "deadline", "peer")

    def __init__(self, call: Call, on_point: OnPoint, on_minted: OnMinted) -> None:
        self._call = call
        self._on_point = on_point
        self._on_minted = on_minted
        self.peer = call.peer
        self.deadline = call.deadline

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        """Pass it on."""
        if type(reply) is not Minted:
            self._call.reply(reply, last=last)
            return
        self._on_minted(reply.record)
        self._on_point("minted")
        self._call.reply(reply, last=last)
        self._on_point("minted_left")


class _StoreCall:
    """A call of a store."""

    __slots__ = ("_call", "deadline", "is_refused", "peer")

    def __init__(self, call: Call) -> None:
        self._call = call
        self.peer = call.peer
        self.deadline = call.deadline
        #: It was refused: nothing has been stored.
        self.is_refused = False

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        """Pass it on."""
        self.is_refused = type(reply) is Refused
        self._call.reply(reply, last=last)


POINTS: Final[tuple[Point, ...]] = (
    "minted",
    "minted_left",
    "stored",
    "before_sync",
    "after_sync",
    "answer",
)
