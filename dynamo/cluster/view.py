"""What a node believes of every member of its ring: which start it is in, that it lives, where it is.

Members go by their index in the epoch: their place in `Ring.members`. Views merge as a join, so that
they agree in the end whatever the order in which rumours come, and however often. What cannot be true
is not believed. Knows nothing of messages, time or disks, nor of what is done about a member.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

#: A start number or heartbeat that is so far above the last known is none: so many never were.
JUMP_MAX: Final = 1 << 32
#: Of any start number or heartbeat: what is added to it still fits 64 bits.
NUMBER_MAX: Final = 1 << 61
_SHOWN_MAX: Final = 16


class Entry(NamedTuple):
    """One member. `start`: the highest start number it has shown, 0 for none. `heartbeat`: rounds of
    gossip that it has made in that start. `address`: where it is dialled in that start, "" for where
    the ring says, None while that is not known."""

    start: int = 0
    heartbeat: int = 0
    address: str | None = None


NEVER: Final = Entry()

#: What somebody says of a member: its index, what an Entry has, and whether he lacks the address. No
#: class, since a thousand are made for each message.
Told = tuple[int, int, int, str | None, bool]

Judged = Literal["known", "news", "absurd"]


def join(one: Entry, other: Entry) -> Entry:
    """What both together say: the later start, and of one start the later heartbeat. Two addresses of
    one start are of two copies of a disk: one of them is taken, the same one everywhere."""
    if one.start != other.start:
        return one if one.start > other.start else other
    if one.address is None or other.address is None:
        address = one.address if other.address is None else other.address
    else:
        address = max(one.address, other.address)
    return Entry(one.start, max(one.heartbeat, other.heartbeat), address)


def is_absurd(known: Entry, told: Entry) -> bool:
    """True if who was last known so cannot have come so far."""
    if told.start > NUMBER_MAX or told.heartbeat > NUMBER_MAX:
        return True
    if told.start > known.start:
        return told.start - known.start > JUMP_MAX or told.heartbeat > JUMP_MAX
    return told.start == known.start and told.heartbeat - known.heartbeat > JUMP_MAX


class View:
    """An entry for each member, by index: as three lists, of which most gossip changes one."""

    __slots__ = ("addresses", "heartbeats", "members", "starts")

    def __init__(self, members: Sequence[str], entries: Iterable[Entry] = ()) -> None:
        """`members`: their ids, in the order of the ring. `entries`: of the first of them."""
        self.members = tuple(members)
        self.starts = [0] * len(self.members)
        self.heartbeats = [0] * len(self.members)
        self.addresses: list[str | None] = [None] * len(self.members)
        for index, entry in enumerate(entries):
            self.set(index, entry)

    def __len__(self) -> int:
        return len(self.members)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, View) and (self.members, self.entries()) == (
            other.members,
            other.entries(),
        )

    def __hash__(self) -> int:
        raise TypeError("a View changes")

    def __repr__(self) -> str:
        shown = [f"{self.members[i]}={self._show(i)}" for i in range(min(len(self), _SHOWN_MAX))]
        more = len(self) - len(shown)
        return f"View({' '.join(shown)}{f' and {more} more' if more else ''})"

    def _show(self, index: int) -> str:
        start, heartbeat, address = self.entry(index)
        if not start:
            return "?"
        return f"{start}.{heartbeat}{f'@{address}' if address else ''}"

    def entry(self, index: int) -> Entry:
        """What is known of one member."""
        return Entry(self.starts[index], self.heartbeats[index], self.addresses[index])

    def entries(self) -> list[Entry]:
        """What is known of all, in order."""
        return [self.entry(index) for index in range(len(self))]

    def set(self, index: int, entry: Entry) -> None:
        """Believe this of a member, whatever was known."""
        self.starts[index], self.heartbeats[index], self.addresses[index] = entry

    def copy(self) -> View:
        """The view as it is now."""
        copy = View(())
        copy.members = self.members
        copy.starts = self.starts.copy()
        copy.heartbeats = self.heartbeats.copy()
        copy.addresses = self.addresses.copy()
        return copy

    def learn(self, index: int, told: Entry) -> Judged:
        """Believe an entry of a member where it says more than is known, unless that is absurd."""
        known = self.entry(index)
        if is_absurd(known, told):
            return "absurd"
        joined = join(known, told)
        if joined == known:
            return "known"
        self.set(index, joined)
        return "news"

    def take_beats(self, told: Iterable[Told], own: int) -> tuple[list[int], list[Told]]:
        """Believe the later heartbeats of known starts, as `learn` would: nearly all that gossip says.

        Returns whose those were, and what of the rest is to be looked at; all of it that says more of
        member `own` than is known.
        """
        starts, heartbeats = self.starts, self.heartbeats
        count = len(self.members)
        heard: list[int] = []
        rest: list[Told] = []
        for one in told:
            index, start, heartbeat, address, _ = one
            if address is not None or index >= count:
                rest.append(one)
                continue
            known = starts[index]
            if start != known:
                if start > known:
                    rest.append(one)
                continue
            grown = heartbeat - heartbeats[index]
            if grown > 0:
                if grown > JUMP_MAX or heartbeat > NUMBER_MAX or index == own:
                    rest.append(one)
                else:
                    heartbeats[index] = heartbeat
                    heard.append(index)
        return heard, rest

    def merge(self, other: View) -> None:
        """Learn all that another view of the same ring says."""
        assert self.members == other.members
        for index in range(len(other)):
            self.learn(index, other.entry(index))
