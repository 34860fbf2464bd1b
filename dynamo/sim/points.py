"""Points in the path of a write, of a hint, of an exchange and of what is reaped, at which a node can be
made to crash: INVARIANTS "crash at any await"; and which requests have got no last reply.

Watches the requests of one node from between its transport and those who execute them. Knows nothing
of what happens at a point.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from dynamo.ports import Call, Handler
from dynamo.rpc.exchange_messages import (
    CompareRoots,
    Looked,
    LookKeys,
    Pull,
    Pulled,
    RootsDiffer,
)
from dynamo.rpc.messages import (
    Body,
    Deliver,
    Delivered,
    Digest,
    Fetch,
    Mint,
    Minted,
    Owe,
    Refused,
    Reply,
    Scan,
    Store,
    Synced,
)
from dynamo.rpc.reap_messages import (
    Drop,
    Dropped,
    Held,
    HintsSeen,
    Holds,
    LookHints,
    Settled,
    SettleUp,
)

#: What moves records from node to node.
MOVES: Final = frozenset((Mint, Store, Deliver, Owe, Scan, Pull))

#: After a mint was written and before anybody is told; once the minted record has left; after a store
#: was written; as a sync begins and when it is done; before a client's answer. Then those of hints: one
#: was written, not synced; a delivery has reached its target, which has not begun; it has merged it, not
#: synced; it has synced it, and says so; the hint was removed, not synced. Of an exchange: who was asked
#: has compared roots, has looked at keys, has read records. Of what is reaped: who was asked has looked
#: whether it holds it, has looked at its hints, has settled; the order to drop it has reached an owner,
#: which has not begun; it has dropped it, not synced; it has synced that, and says so.
Point = Literal[
    "minted",
    "minted_left",
    "stored",
    "before_sync",
    "after_sync",
    "answer",
    "hinted",
    "deliver_left",
    "delivering",
    "delivered",
    "hint_removed",
    "compared",
    "looked",
    "pulled",
    "held",
    "hints_seen",
    "settled",
    "drop_left",
    "dropping",
    "dropped",
]
OnPoint = Callable[[Point], None]


class Witness:
    """Told what nodes say to each other, seen where it is executed. This one forgets it."""

    def minted(self, node: str, message: Mint, minted: Minted) -> None:
        """A node has given a write its dot; its answer leaves now."""

    def answered(self, node: str, asker: str, fetch: Fetch, *, something: bool) -> None:
        """A node answers a read, with something or with nothing."""

    def stored(self, node: str, key: bytes, record: bytes) -> None:
        """A node has been given this record to merge, of the (routing) key."""

    def owed(self, node: str, key: bytes, targets: Sequence[int], *, certain: bool) -> None:
        """A node says that it owes other owners its record of the (routing) key, which is on disk; not
        `certain`: it has noted that beside a mint, if it could."""


class WatchedHandlers(Mapping[type, Handler]):
    """Those handlers of a node; `on_point` is told where mints, stores and deliveries are, `on_peer`
    where peers are with theirs, `witness` what is said. Follows changes of `handlers`."""

    def __init__(
        self,
        handlers: Mapping[type, Handler],
        on_point: OnPoint,
        *,
        node: str = "",
        on_peer: Callable[[str, Point], None] = lambda peer, point: None,
        witness: Witness | None = None,
        moved: Counter[str] | None = None,
    ) -> None:
        """`moved`: counts what is carried out of those that move records."""
        self._moved: Counter[str] = Counter() if moved is None else moved
        self._handlers = handlers
        self._on_point = on_point
        self._node = node
        self._on_peer = on_peer
        self._witness = Witness() if witness is None else witness
        self._watched: dict[type, Handler] = {
            Mint: self._mint,
            Store: self._store,
            Fetch: self._fetch,
            Owe: self._owe,
            Deliver: self._deliver,
            Drop: self._drop,
            **dict.fromkeys(_ASKED, self._asked),
        }
        #: By kind: how many requests have been executed and not answered, or not to the end.
        self.unanswered: Counter[str] = Counter()

    def __getitem__(self, kind: type) -> Handler:
        self._handlers[kind]  # raises KeyError
        return self._watched.get(kind, self._other)

    def __iter__(self) -> Iterator[type]:
        return iter(self._handlers)

    def __len__(self) -> int:
        return len(self._handlers)

    def _other(self, message: Any, call: Call) -> None:
        kind = type(message)
        if kind in MOVES:
            self._moved[kind.__name__] += 1
        self._handlers[kind](message, _CountedCall(call, self.unanswered, kind.__name__))

    def _asked(self, message: Any, call: Call) -> None:
        kind = type(message)
        point, answer = _ASKED[kind]

        def heard(reply: Reply) -> None:
            if type(reply) is answer:
                self._on_point(point)

        if kind in MOVES:
            self._moved[kind.__name__] += 1
        counted = _CountedCall(call, self.unanswered, kind.__name__)
        self._handlers[kind](message, _HeardCall(counted, heard))

    def _drop(self, message: Any, call: Call) -> None:
        def heard(reply: Reply) -> None:
            if type(reply) is Dropped:
                self._on_point("dropped")

        self._on_peer(call.peer, "drop_left")
        counted = _CountedCall(call, self.unanswered, "Drop")
        self._handlers[Drop](message, _HeardCall(counted, heard))
        self._on_point("dropping")

    def _mint(self, message: Any, call: Call) -> None:
        self._moved["Mint"] += 1
        if message.seen:
            self._witness.stored(self._node, message.key, message.seen)

        def heard(reply: Reply) -> None:
            if type(reply) is Minted:
                self._witness.minted(self._node, message, reply)
                self._on_point("minted")
            elif type(reply) is Synced and message.owes:
                self._witness.owed(self._node, message.key, message.owes, certain=False)

        def left(reply: Reply) -> None:
            if type(reply) is Minted:
                self._on_point("minted_left")

        counted = _CountedCall(call, self.unanswered, "Mint")
        self._handlers[Mint](message, _HeardCall(counted, heard, left))

    def _store(self, message: Any, call: Call) -> None:
        self._moved["Store"] += 1
        self._witness.stored(self._node, message.key, message.record)
        refused = False

        def heard(reply: Reply) -> None:
            nonlocal refused
            refused = type(reply) is Refused

        counted = _CountedCall(call, self.unanswered, "Store")
        self._handlers[Store](message, _HeardCall(counted, heard))
        if not refused:
            self._on_point("stored")

    def _fetch(self, message: Any, call: Call) -> None:
        def heard(reply: Reply) -> None:
            if isinstance(reply, Body):
                self._witness.answered(self._node, call.peer, message, something=bool(reply.record))
            elif isinstance(reply, Digest):
                self._witness.answered(self._node, call.peer, message, something=bool(reply.digest))

        counted = _CountedCall(call, self.unanswered, "Fetch")
        self._handlers[Fetch](message, _HeardCall(counted, heard))

    def _owe(self, message: Any, call: Call) -> None:
        self._moved["Owe"] += 1

        def heard(reply: Reply) -> None:
            if type(reply) is Synced:
                self._witness.owed(self._node, message.key, message.targets, certain=True)

        counted = _CountedCall(call, self.unanswered, "Owe")
        self._handlers[Owe](message, _HeardCall(counted, heard))

    def _deliver(self, message: Any, call: Call) -> None:
        self._moved["Deliver"] += 1
        for entry in message.entries:
            self._witness.stored(self._node, entry.key, entry.record)

        def heard(reply: Reply) -> None:
            if type(reply) is Delivered:
                self._on_point("delivered")

        self._on_peer(call.peer, "deliver_left")
        counted = _CountedCall(call, self.unanswered, "Deliver")
        self._handlers[Deliver](message, _HeardCall(counted, heard))
        self._on_point("delivering")


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


class _HeardCall:
    """A call whose replies are heard before they leave, and after."""

    __slots__ = ("_before", "_call", "_left", "deadline", "peer")

    def __init__(
        self,
        call: Call,
        before: Callable[[Reply], None],
        left: Callable[[Reply], None] | None = None,
    ) -> None:
        self._call = call
        self._before = before
        self._left = left
        self.peer = call.peer
        self.deadline = call.deadline

    def reply(self, reply: Reply, *, last: bool = True) -> None:
        """Pass it on."""
        self._before(reply)
        self._call.reply(reply, last=last)
        if self._left is not None:
            self._left(reply)


#: What says that who is asked is at a point, by what asks it.
_ASKED: Final[dict[type, tuple[Point, type]]] = {
    CompareRoots: ("compared", RootsDiffer),
    LookKeys: ("looked", Looked),
    Pull: ("pulled", Pulled),
    Holds: ("held", Held),
    LookHints: ("hints_seen", HintsSeen),
    SettleUp: ("settled", Settled),
}

#: Those of the path of a write, of what is held for others, of an exchange, and of what is reaped.
POINTS: Final[tuple[Point, ...]] = (
    "minted",
    "minted_left",
    "stored",
    "before_sync",
    "after_sync",
    "answer",
)
HINT_POINTS: Final[tuple[Point, ...]] = (
    "hinted",
    "deliver_left",
    "delivering",
    "delivered",
    "hint_removed",
)
EXCHANGE_POINTS: Final[tuple[Point, ...]] = ("compared", "looked", "pulled")
REAP_POINTS: Final[tuple[Point, ...]] = (
    "held",
    "hints_seen",
    "settled",
    "drop_left",
    "dropping",
    "dropped",
)
#: The node is in the middle of what it does there: it crashes a moment later.
SOON: Final[tuple[Point, ...]] = ("minted_left", "hinted", "hint_removed")
ALL_POINTS: Final[tuple[Point, ...]] = (
    *(*POINTS, *HINT_POINTS),
    *(*EXCHANGE_POINTS, *REAP_POINTS),
)
