"""When a tombstone may go for good: the decisions, apart from what is sent and written.

A tombstone has to stay for as long as anything that it replaced may come again: from a replica that has
missed it, from a hint, from a read that is to repair somebody, from bytes on their way. So who would
drop one proves first that no copy of its past is left anywhere, in this order:

1. every owner, of every datacenter, holds that very record, on disk (*held*);
2. then every member says that it owes nothing of the partition to anybody (the first *look*);
3. then every member says that all it had under way when asked has ended, and that every other member has
   answered a ping on the connection that was used (*settled*);
4. then every member says that it still owes nothing, has taken no hint since the first look, and was not
   started anew (the second look);
5. then every owner drops the record, if it still is that very one.

What begins after 2 finds nothing of the past to carry: owners have the tombstone (1), and there are no
hints to read (2). What began before has ended (3), and what it left at a member is an owner's own
record, where the tombstone covers it, or a hint, which 4 finds. The proof once given holds for ever,
since nobody can make a copy of what there is no copy of; so any number of nodes may prove the same at
once, and a drop that is late, or met by some owners only, does no harm. Age proves nothing.

The same proof lets entries of a vector go that no sibling's dot uses, of births of incarnations that no
member has any more: what they are there for is to know a copy of the past when it comes.

Names of members are strings, places opaque and ordered. Knows nothing of records, messages or time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

#: (class, partition).
Place = tuple[int, int]

#: Reasons that are told apart; what comes after is told of together.
REASONS_MAX: Final = 50
OTHER_REASONS: Final = "other reasons"


class Look(NamedTuple):
    """What a member said of some places, in their order: why it blocks each ("" if it does not), and how
    many hints it has taken for each since its start."""

    start: int
    blocked: tuple[str, ...]
    taken: tuple[int, ...]


def is_due(since_ms: int, now_ms: int, after_s: int) -> bool:
    """True for what is old enough to be worth the proof. One that is from the future by as much, since
    some clock was wrong, is too: age proves nothing."""
    return abs(now_ms - since_ms) >= after_s * 1000


def reaper_of(owners: Sequence[str], up: Collection[str]) -> str | None:
    """Who tries: the first owner that is up."""
    return next((owner for owner in owners if owner in up), None)


def held_by_all(
    owners: Sequence[Sequence[str]], held: Mapping[str, Mapping[int, str] | str]
) -> list[str]:
    """For each record (`owners`: of each), "" if all its owners hold it, else why not. `held`: what each
    owner said of each position, "" if it holds that, or why it said nothing."""
    found = []
    for at, names in enumerate(owners):
        why = ""
        for name in names:
            answer = held.get(name, "was not asked")
            if isinstance(answer, str):
                why = f"{name}: {answer}"
                break
            said = answer.get(at, "it says nothing of it")
            if said:
                why = f"{name}: {said}"
                break
        found.append(why)
    return found


def started_anew(
    owners: Sequence[str], starts: Mapping[str, Collection[int]], looks: Mapping[str, Look | str]
) -> str:
    """ "" if each owner was in one start from when it said what it holds to the first look, so that what
    it showed then has not been taken back meanwhile; else who was not. `starts`: of each owner, all
    that it was in when it said so."""
    for name in owners:
        look = looks.get(name)
        if isinstance(look, Look) and set(starts.get(name, ())) != {look.start}:
            return f"{name} was started anew meanwhile"
    return ""


def first_look(
    places: Sequence[Place], members: Iterable[str], looks: Mapping[str, Look | str]
) -> dict[Place, str]:
    """The places that have to wait after the first look, and why. `looks`: what each member said, or why
    it said nothing."""
    waits: dict[Place, str] = {}
    for name in members:
        look = looks.get(name, "was not asked")
        if isinstance(look, str) or len(look.blocked) != len(places):
            why = look if isinstance(look, str) else "its answer is of other partitions"
            return dict.fromkeys(places, f"{name}: {why}")
        for place, why in zip(places, look.blocked, strict=True):
            if why:
                waits.setdefault(place, f"{name}: {why}")
    return waits


def second_look(
    places: Sequence[Place],
    members: Sequence[str],
    first: Mapping[str, Look | str],
    second: Mapping[str, Look | str],
) -> dict[Place, str]:
    """As `first_look`, of the second look at the same places."""
    waits = first_look(places, members, second)
    for name in members:
        before, after = first[name], second.get(name)
        if isinstance(before, str) or not isinstance(after, Look):
            continue  # said by `first_look`
        if before.start != after.start:
            return dict.fromkeys(places, f"{name} was started anew meanwhile")
        if len(after.taken) != len(places):
            return dict.fromkeys(places, f"{name}: its answer is of other partitions")
        for place, was, now in zip(places, before.taken, after.taken, strict=True):
            if was != now:
                waits.setdefault(place, f"{name} took a hint meanwhile")
    return waits


def births_to_go(
    vector: Iterable[tuple[bytes, int]],
    used: Collection[bytes],
    incarnations: Collection[bytes],
    *,
    count_max: int,
) -> tuple[bytes, ...]:
    """Births that may leave a vector, at most so many. `used`: those of siblings' dots. `incarnations`:
    what the births of each member begin with now; while one is not known, nothing may go."""
    if not incarnations or b"" in incarnations:
        return ()
    live = tuple(incarnations)
    gone = [birth for birth, _ in vector if birth not in used and not birth.startswith(live)]
    return tuple(gone[:count_max])


class Tally:
    """What became of the records of one pass over the queue: how many went, and what the others wait
    for. `elsewhere`: due, and for another owner to try. Bounded, whatever there is."""

    __slots__ = ("elsewhere", "gone", "waiting")

    def __init__(self) -> None:
        self.gone = 0
        self.elsewhere = 0
        self.waiting: dict[str, int] = {}

    def wait(self, why: str, count: int = 1) -> None:
        """So many have to wait, for this."""
        if why not in self.waiting and len(self.waiting) >= REASONS_MAX:
            why = OTHER_REASONS
        self.waiting[why] = self.waiting.get(why, 0) + count
