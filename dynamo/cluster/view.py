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
NUMBER_MAX: Final = 1 << 62
_SHOWN_MAX: Final = 16


class Entry(NamedTuple):
    """One member. `start`: the highest start number it has shown, 0 for none. `heartbeat`: rounds of
    gossip that it has made in that start. `address`: where it is dialled in that start, "" for where
    the ring says, None while that is not known."""

    start: int = 0
    heartbeat: int = 0
    address: str | None = None


NEVER: Final = Entry()

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
    """An entry for each member, by index."""

    def __init__(self, members: Sequence[str], entries: Iterable[Entry] = ()) -> None:
        """`members`: their ids, in the order of the ring. `entries`: of the first of them."""
        self.members = tuple(members)
        self.entries = [NEVER] * len(self.members)
        for index, entry in enumerate(entries):
            self.entries[index] = entry

    def __len__(self) -> int:
        return len(self.members)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, View) and (self.members, self.entries) == (
            other.members,
            other.entries,
        )

    def __hash__(self) -> int:
        raise TypeError("a View changes")

    def __repr__(self) -> str:
        shown = [
            f"{name}={_show(entry)}"
            for name, entry in zip(self.members[:_SHOWN_MAX], self.entries, strict=False)
        ]
        more = len(self) - len(shown)
        return f"View({' '.join(shown)}{f' and {more} more' if more else ''})"

    def learn(self, index: int, told: Entry) -> Judged:
        """Believe an entry of a member where it says more than is known, unless that is absurd."""
        known = self.entries[index]
        if is_absurd(known, told):
            return "absurd"
        joined = join(known, told)
        if joined == known:
            return "known"
        self.entries[index] = joined
        return "news"

    def merge(self, other: View) -> None:
        """Learn all that another view of the same ring says."""
        assert self.members == other.members
        for index, entry in enumerate(other.entries):
            self.learn(index, entry)


def _show(entry: Entry) -> str:
    if not entry.start:
        return "?"
    where = "" if not entry.address else f"@{entry.address}"
    return f"{entry.start}.{entry.heartbeat}{where}"
