"""One exchange with one peer: which of the partitions that both own differ, in which leaves of their
hash trees, and in which keys of those.

It goes in steps. After the first, the leaves that differ have had their first look; a straggler
deadline later the keys of those that still do are listed. A key of a leaf that has not changed counts
at once, any other is looked at once more after another deadline. One partition that cannot be compared
now does not keep up the others. Nothing has to be remembered: whatever is left undone is found again.
Knows nothing of when exchanges begin.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from antientropy.exchange import (
    ABSENT,
    MINE,
    Differing,
    LeafNotes,
    PairedPages,
    Side,
    Walk,
    from_bits,
    to_bits,
    to_hashes,
)
from antientropy.looks import Look
from antientropy.merkle import Tree
from dynamo.exchange_keys import ASK_TIMEOUT_MS, KeyLooks, Means, Tally, unasked
from dynamo.exchange_moves import REFUSED, LeftOut, PeerFailed
from dynamo.refill_marks import Partition
from dynamo.rpc.exchange_messages import (
    KEYS_MAX,
    AskHashes,
    CompareRoots,
    Hashes,
    KeyElements,
    ListElements,
    RootsDiffer,
)

#: Roots in one message: those of three classes of 256 partitions, which take either side a few
#: milliseconds, and no more where there are very many.
ROOTS_AT_ONCE: Final = 1_024
#: Leaves that wait for their second look.
LEAVES_MAX: Final = 1 << 18

BUILDING_HERE: Final = "this node's hash tree of it is being built, or it is being refilled"
BUILDING_THERE: Final = "the peer's hash tree of it is being built, or it is being refilled"
HINTS: Final = "hints for it are being delivered"
ELSEWHERE: Final = "it is being compared with another peer"
TOO_MUCH: Final = "too much else differs"
BROKEN_OFF: Final = "the exchange broke off"
#: Reasons that pass by themselves, however long that takes.
PASSING: Final = (
    *(BUILDING_HERE, BUILDING_THERE, HINTS, ELSEWHERE, TOO_MUCH),
    *(REFUSED + "not_ready", REFUSED + "refilling", REFUSED + "busy", REFUSED + "storage_busy"),
)


class Round(KeyLooks):
    """Until `due` is None, call `advance` once it is that time."""

    def __init__(
        self,
        means: Means,
        peer: str,
        epoch: int,
        *,
        tallies: Sequence[Tally],
        places: Collection[Partition] | None = None,
        prefix: bytes = b"",
    ) -> None:
        """`epoch`, `tallies`: as of `KeyLooks`. `places`: the partitions to compare, None for all that
        are shared; `prefix`: of routing keys that count."""
        super().__init__(means, peer, epoch, tallies)
        self.began = means.clock.monotonic()
        #: When to go on; None at the end.
        self.due: float | None = self.began
        self.prefix = prefix
        self._shared = means.trees.shared_with(peer)
        self._wanted = frozenset(self._shared if places is None else places)
        #: Those to be compared, in order.
        self.places = tuple(place for place in self._shared if place in self._wanted)
        self._differing: list[Partition] = []
        self._notes: dict[Partition, LeafNotes] = {}
        self._next: Callable[[], Coroutine[Any, Any, float | None]] = self._compare

    def __repr__(self) -> str:
        return (
            f"Round({self.peer} {self.state} {len(self.clean)} of {len(self.places)} clean,"
            f" {len(self.left_out)} left out, {self.suspects} suspects)"
        )

    @property
    def suspects(self) -> int:
        """Leaves and keys that wait for a second look."""
        return sum(len(notes) for notes in self._notes.values()) + len(self._suspects)

    @property
    def settled(self) -> int:
        """Partitions about which nothing is to be done any more."""
        return len(self.clean) + len(self.left_out)

    def repaired(self, place: Partition, leaf: int, change: int) -> None:
        """This node's own records have changed so by a repair."""
        notes = self._notes.get(place)
        if notes is not None:
            notes.repaired(MINE, leaf, change)

    async def advance(self) -> None:
        """Do the next step. Raises PeerFailed, after which there is none."""
        self.due = None
        try:
            self.due = await self._next()
        except PeerFailed:
            for place in self.places:
                if place not in self.clean:
                    self._leave_out(place, BROKEN_OFF)
            raise
        if self.due is not None:
            self.state = "waiting"

    # Roots and hashes: the first look at leaves -------------------------------------------------

    async def _compare(self) -> float | None:
        for first in range(0, len(self._shared), ROOTS_AT_ONCE):
            await self._compare_roots(first, self._shared[first : first + ROOTS_AT_ONCE])
        for place in self._differing:
            await self._of(place, self._walk(place))
        if not self._notes:
            return None
        self._next = self._look_again
        return max(notes.at for notes in self._notes.values()) + self.means.deadline

    async def _compare_roots(self, first: int, places: Sequence[Partition]) -> None:
        """Ask for all roots at once: of those that are the same nothing more is said."""
        wanted = self._wanted
        ready: list[bool] = []
        roots: list[int] = []
        for place in places:
            tree = self.means.trees.ready_tree(place) if place in wanted else None
            ready.append(isinstance(tree, Tree))
            if isinstance(tree, Tree):
                roots.append(tree.root())
            elif tree is not None:
                self._leave_out(place, BUILDING_HERE)
        if not roots:
            return
        answer = await self._ask_roots(first, ready, roots)
        self._count["exchange_hash_bytes"] += len(answer.differ) + len(answer.not_ready)
        with _told():
            differ = from_bits(answer.differ, len(places))
            not_ready = from_bits(answer.not_ready, len(places))
        for at, place in enumerate(places):
            if not ready[at]:
                continue
            if not_ready[at]:
                self._leave_out(place, BUILDING_THERE)
            elif differ[at]:
                self._differing.append(place)
            else:
                self.clean[place] = None

    async def _ask_roots(self, first: int, ready: list[bool], roots: list[int]) -> RootsDiffer:
        message = CompareRoots(
            ASK_TIMEOUT_MS,
            self._epoch,
            self._leaves,
            first,
            len(ready),
            to_bits(ready),
            to_hashes(roots),
        )
        self._count["exchange_hash_bytes"] += len(message.roots) + len(message.ready)
        self._count["exchange_roots_asked"] += 1
        try:
            answer = await self._ask(self.peer, message)
        except LeftOut as refused:
            raise PeerFailed(refused.reason) from None
        if not isinstance(answer, RootsDiffer):
            raise unasked(self.peer)
        return answer

    async def _walk(self, place: Partition) -> None:
        if self.means.in_delivery(self.peer, place):
            raise LeftOut(HINTS)
        walk = Walk(self._leaves)
        await self._descend(place, walk)
        if not walk.differing:
            self.clean[place] = None
            return
        if self.suspects + len(walk.differing) > LEAVES_MAX:
            self._count["exchange_leaves_dropped"] += len(walk.differing)
            raise LeftOut(TOO_MUCH)
        self._notes[place] = LeafNotes(self.means.clock.monotonic(), walk.differing)

    async def _descend(self, place: Partition, walk: Walk) -> None:
        while walk.question is not None:
            await self.means.budget.room()
            level, parents = walk.question
            mine, theirs = await self._ask_both(
                AskHashes(*place, self._epoch, ASK_TIMEOUT_MS, self._leaves, level, parents)
            )
            if not isinstance(mine, Hashes) or not isinstance(theirs, Hashes):
                raise unasked(self.peer)
            self._count["exchange_hash_bytes"] += len(theirs.hashes)
            self.means.budget.spent(keys=1, size=len(theirs.hashes))
            with _told():
                walk.answer(mine.hashes, theirs.hashes)

    # Leaves that still differ: their keys -------------------------------------------------------

    async def _look_again(self) -> float | None:
        self.state = "listing"
        for place in list(self._notes):
            await self._of(place, self._settle(place))
        return self._after_looks()

    async def _look_at_keys(self) -> float | None:
        await self.look_at_suspects()
        return self._after_looks()

    def _after_looks(self) -> float | None:
        due = self.next_look()
        waiting = {place for place, _ in self._suspects}
        for place in self.places:
            if place not in waiting and place not in self.left_out:
                self.clean[place] = None
        self._next = self._look_at_keys
        return due

    async def _settle(self, place: Partition) -> None:
        """List the keys of the leaves that still differ, and see to those that do."""
        listed = self.means.listed
        notes = self._notes[place]
        try:
            if place in listed:
                raise LeftOut(ELSEWHERE)
            if self.means.in_delivery(self.peer, place):
                raise LeftOut(HINTS)
            listed[place] = self.peer
            try:
                walk = Walk(self._leaves, notes.leaves)
                await self._descend(place, walk)
                notes.keep(walk.differing)
                if len(notes):
                    await self._list(place, notes)
            finally:
                del listed[place]
        finally:
            del self._notes[place]

    async def _list(self, place: Partition, notes: LeafNotes) -> None:
        pages = PairedPages()
        leaves = notes.leaves
        while (turn := pages.wants()) is not None:
            side, after = turn
            await self.means.budget.room()
            node = self.means.node_id if side is MINE else self.peer
            message = ListElements(
                *place, self._epoch, ASK_TIMEOUT_MS, self._leaves, leaves, after, KEYS_MAX
            )
            page = await self._ask(node, message)
            if not isinstance(page, KeyElements):
                raise unasked(node)
            self._spent_on(side, page)
            before = pages.compared
            with _told():
                same = notes.unchanged(side, page.hashes)
                pages.feed(side, page.entries, more=page.more, last=page.last, same=same)
            differing = pages.take()
            self._add("keys_compared", pages.compared - before)
            await self._look_at(place, self._due(place, notes, differing), notes)

    def _spent_on(self, side: Side, page: KeyElements) -> None:
        if side is MINE:
            self.means.budget.spent(keys=len(page.entries), read=page.read)
            return
        size = len(page.hashes) + sum(len(key) + len(element) for key, element in page.entries)
        self.means.budget.spent(size=size)
        self._count["exchange_hash_bytes"] += size

    def _due(
        self, place: Partition, notes: LeafNotes, differing: Iterable[Differing]
    ) -> dict[bytes, Look]:
        """First looks at the keys that are due for their second: those of leaves that are as they were
        had it then. The others have it now."""
        now = self.means.clock.monotonic()
        due: dict[bytes, Look] = {}
        for key, mine, theirs, same_mine, same_theirs in differing:
            if not key.startswith(self.prefix):
                continue
            leaf = self._leaf(place, key)
            is_strange = mine == ABSENT and not self.means.trees.is_of(place, key)
            if is_strange or leaf not in notes:
                # Stored here, it would be read by nobody, and be in nobody's way for ever.
                self._count["exchange_keys_strange"] += 1
                raise PeerFailed("it tells of keys that do not lie where they were asked for")
            was_seen = leaf in same_mine and leaf in same_theirs
            look = Look(notes.at if was_seen else now, mine, theirs)
            if now >= look.at + self.means.deadline:
                due[key] = look
            else:
                self._suspect(place, key, look)
        return due


@contextmanager
def _told() -> Iterator[None]:
    """What a peer tells must be of the form that it says."""
    try:
        yield
    except ValueError as error:
        raise PeerFailed(f"it tells what cannot be: {error}") from None
