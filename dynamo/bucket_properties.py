"""Bucket properties of a cluster, as one of its nodes sets and shows them.

A change gets a number above all that its node knows of, is sent to every member of the ring, this node
included, and has happened once each that is up has it on its disk, or one that was made on top of it.
If one of those has not, the error names it. Whoever was down learns it before it serves again. Of two
changes of one bucket the one with the higher stamp stays, as a whole; so who finds another in its place
goes above that. Knows nothing of HTTP, nor of what properties do.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

from dynamo.ask import ask_all
from dynamo.cluster.topology import Blobs
from dynamo.errors import (
    InvalidArgument,
    KeyTooLong,
    NotReady,
    PropertiesUncertain,
    UnknownBucketType,
)
from dynamo.keys import BUCKET_BYTES_MAX
from dynamo.metrics import Metrics
from dynamo.ports import Clock, Failure, Handler
from dynamo.properties import PropertiesOf
from dynamo.property_keeper import PropertyKeeper
from dynamo.property_learning import PropertyLearner, Reach
from dynamo.property_schema import NOTHING, Own, change, encode_own, read_properties, show
from dynamo.property_table import Name, own_of, stamp
from dynamo.requests import TIMEOUT_MS_DEFAULT, TIMEOUT_MS_MAX
from dynamo.rpc.messages import (
    AskProperties,
    Properties,
    PropertyEntry,
    Refused,
    Reply,
    StoreProperties,
    Synced,
)
from ring.ring import Ring

#: How often a change is made anew, on top of others that were made at the same time.
PUSHES_MAX: Final = 50

#: What a bucket has of its own after a change, from what it and its type had.
_Make = Callable[[Own, Own], Own]


class PropertyStore:
    """The properties of all buckets, set at every member from here."""

    def __init__(
        self,
        *,
        node_id: str,
        blobs: Blobs,
        clock: Clock,
        metrics: Metrics,
        down: AbstractSet[str] = frozenset(),
    ) -> None:
        """As `PropertyKeeper`. `down`: whom this node holds for down, looked at by each change."""
        self._clock = clock
        self._node_id = node_id
        self._down = down
        self._count = metrics.count
        self._keeper = PropertyKeeper(node_id=node_id, blobs=blobs, metrics=metrics)
        #: Says whether what is known here can be gone by: asked by each request, so at no cost.
        self.learner = PropertyLearner(
            node_id=node_id,
            keeper=self._keeper,
            clock=clock,
            metrics=metrics,
        )
        #: What applies to requests for a bucket now; the table's own, since each request asks.
        self.of: PropertiesOf = self._keeper.table.of
        self._transport: Reach | None = None
        self._members: tuple[str, ...] = ()

    def attach(self, transport: Reach) -> None:
        """Reach members by this transport."""
        self._transport = transport
        self.learner.attach(transport)

    def adopt(self, ring: Ring) -> None:
        """Push to the members of this ring, and know its bucket types."""
        self._members = tuple(member.id for member in ring.members)
        self._keeper.adopt(ring)
        self.learner.adopt(self._members)

    def handlers(self) -> dict[type, Handler]:
        """What executes the requests of members."""
        return {StoreProperties: self._keeper.on_store, AskProperties: self.learner.on_ask}

    def tasks(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """What runs for ever, by name."""
        return {
            "writing of properties": self._keeper.run,
            "learning of properties": self.learner.run,
        }

    def on_connected(self, node: str) -> None:
        """A peer is connected: what one of the two misses is learnt."""
        self.learner.on_connected(node)

    def digest(self) -> bytes:
        """Of what is on disk here: equal where it is the same."""
        return self._keeper.table.digest()

    def __len__(self) -> int:
        return len(self._keeper.table)

    @property
    def unwritten(self) -> int:
        """Changes that wait for this node's disk."""
        return self._keeper.unwritten

    # For clients ----------------------------------------------------------------------------------

    def show(self, bucket_type: bytes, bucket: bytes) -> dict[str, object]:
        """All properties of a bucket, or (`bucket` b"") of a type, by name, as plain JSON values.

        Raises NotReady, UnknownBucketType, KeyTooLong.
        """
        n = self._replicas(bucket_type, bucket)
        table = self._keeper.table
        own = own_of(table.entry((bucket_type, bucket)))
        return show(own, own_of(table.entry((bucket_type, b""))) if bucket else NOTHING, n)

    async def set(
        self,
        bucket_type: bytes,
        bucket: bytes,
        given: Mapping[str, object],
        timeout_ms: int = 0,
    ) -> None:
        """These properties are in force at every member that is up, and on disk there; the others learn
        them before they serve again. Those that are not given stay, or follow as
        `dynamo.property_schema` says. `bucket` b"": those of the type. `timeout_ms`: 0 for the default.

        Raises as `show`, InvalidArgument and TooManyProperties (nothing has changed),
        PropertiesUncertain.
        """
        wanted = read_properties(given, self._replicas(bucket_type, bucket))
        if given:
            self._count["properties_set"] += 1
            await self._push(
                (bucket_type, bucket),
                lambda own, of_type: change(own, of_type, wanted),
                timeout_ms,
            )

    async def reset(self, bucket_type: bytes, bucket: bytes, timeout_ms: int = 0) -> None:
        """The bucket, or type, has no properties of its own any more, at any member. Raises as `set`."""
        self._replicas(bucket_type, bucket)
        self._count["properties_reset"] += 1
        await self._push((bucket_type, bucket), lambda own, of_type: NOTHING, timeout_ms)

    def _replicas(self, bucket_type: bytes, bucket: bytes) -> int:
        classes = self._keeper.classes
        if not classes:
            raise NotReady("this node has no ring yet")
        class_ = classes.get(bucket_type)
        if class_ is None:
            raise UnknownBucketType("no such bucket type")
        if len(bucket) > BUCKET_BYTES_MAX:
            raise KeyTooLong(
                f"the bucket is over {BUCKET_BYTES_MAX} bytes",
                field="bucket",
                limit=BUCKET_BYTES_MAX,
            )
        return class_.replicas

    # Changing -----------------------------------------------------------------------------------

    async def _push(self, name: Name, make: _Make, timeout_ms: int) -> None:
        if timeout_ms < 0:
            raise InvalidArgument("timeout must be 1 or more", field="timeout", allowed="1 or more")
        timeout = min(timeout_ms or TIMEOUT_MS_DEFAULT, TIMEOUT_MS_MAX) / 1000
        deadline = self._clock.monotonic() + timeout
        for _ in range(PUSHES_MAX):
            newer, missed = await self._push_once(name, make, deadline)
            for node, held in newer.items():
                objection = self._keeper.objection(held)
                if objection is not None:
                    missed[node] = f"it has a change that is not taken here: {objection.detail}"
            self._keeper.merge(held for node, held in newer.items() if node not in missed)
            lacking = [
                node
                for node, held in newer.items()
                if node not in missed and not self._includes(held, make)
            ]
            if not lacking:
                break
            # Somebody has a change that this one was not made on top of: one that this node had not
            # heard of, or one made at the same time. Go above it, or this one would be lost.
            self._count["properties_pushed_again"] += 1
        missed |= dict.fromkeys(lacking, "others change these properties all the time")
        # Also who has gone down meanwhile, and will ask when it is back.
        failed = {node: why for node, why in missed.items() if node not in self._down}
        if len(failed) < len(missed):
            self._count["properties_missed_by_down"] += len(missed) - len(failed)
        if failed:
            self._count["properties_uncertain"] += 1
            raise PropertiesUncertain(
                f"not every node has the properties on disk: {', '.join(failed)}",
                required=len(self._members),
                received=len(self._members) - len(missed),
                reasons=failed,
            )

    def _of_type(self, name: Name) -> Own:
        """What stands behind a bucket's properties."""
        bucket_type, bucket = name
        return own_of(self._keeper.latest((bucket_type, b""))) if bucket else NOTHING

    def _includes(self, held: PropertyEntry, make: _Make) -> bool:
        """True if a newer entry says all that the change wants: it was made on top of it, or alike."""
        own = own_of(held)
        try:
            return make(own, self._of_type(held.name)) == own
        except InvalidArgument:
            return False

    async def _push_once(
        self, name: Name, make: _Make, deadline: float
    ) -> tuple[dict[str, PropertyEntry], dict[str, str]]:
        """Issue an entry and push it: what members have that is newer, and why others miss it. It ends
        with the first that has something in its place that lacks the change; nobody else is waited for
        then."""
        assert self._transport is not None
        own = own_of(self._keeper.latest(name))
        entry = self._keeper.issue(name, encode_own(make(own, self._of_type(name))))
        timeout = max(0.0, deadline - self._clock.monotonic())
        message = StoreProperties(int(timeout * 1000), (entry,))

        def ends(answer: Reply | Failure) -> bool:
            held = _newer(answer, entry)
            if held is None or self._keeper.objection(held) is not None:
                return False
            return not self._includes(held, make)

        # Who is held for down is sent it all the same, say to find it after a pause, and not waited for.
        absent = tuple(node for node in self._members if node in self._down)
        self._transport.request(absent, message, _Nobody(), timeout)
        up = tuple(node for node in self._members if node not in absent)
        answers = await ask_all(self._transport, up, message, timeout, ends=ends)
        newer: dict[str, PropertyEntry] = {}
        missed: dict[str, str] = {}
        for node in filter(answers.__contains__, self._members):
            answer = answers[node]
            held = _newer(answer, entry)
            if held is not None:
                newer[node] = held
            elif not isinstance(answer, Synced):
                missed[node] = _why(answer)
        missed |= dict.fromkeys(absent, "it is down")
        return newer, missed


class _Nobody:
    """Waits for no answer: what a member that was down says, it says when it is back."""

    def on_reply(self, node: str, reply: Reply) -> None:
        pass

    def on_failure(self, node: str, failure: Failure) -> None:
        pass


def _newer(answer: Reply | Failure, entry: PropertyEntry) -> PropertyEntry | None:
    """What a member has in place of the entry, if it says so."""
    if isinstance(answer, Properties) and len(answer.entries) == 1:
        held = answer.entries[0]
        if held.name == entry.name and stamp(held) > stamp(entry):
            return held
    return None


def _why(answer: Reply | Failure) -> str:
    """Why a member does not have it, as far as is known."""
    if isinstance(answer, Failure):
        return answer.reason
    if isinstance(answer, Refused):
        return f"{answer.code}: {answer.detail}" if answer.detail else answer.code
    return f"an answer that makes no sense: {type(answer).__name__}"
