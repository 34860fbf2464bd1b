"""When a key counts as different: two looks, far enough apart, show the side that is behind unchanged.

Between two nodes that take writes some are always under way. One that is, ends within a straggler
deadline: it arrives, or it never will. So a side that was behind at one look, and is at the next just as
it was, has missed something; one that has changed is looked at again. What stands for a record is an
opaque byte string. Knows nothing of keys, vectors or nodes.
"""

from __future__ import annotations

from typing import NamedTuple


class Look(NamedTuple):
    """What stood for one key here and there, at one time (monotonic seconds), and who was behind then,
    None where that is not known: the two then only differ."""

    at: float
    mine: bytes
    theirs: bytes
    mine_behind: bool | None = None
    theirs_behind: bool | None = None


class Verdict(NamedTuple):
    """`pull`: this side has certainly missed something; `push`: the other has. `again`: the look to
    compare the next with, None if nothing is left to see."""

    pull: bool
    push: bool
    again: Look | None


def judge(first: Look, now: Look, deadline: float) -> Verdict:
    """What a second look says. `now` knows who is behind. `deadline`: seconds after which no write is
    under way any more that was at the first look."""
    if not (now.mine_behind or now.theirs_behind):
        return Verdict(False, False, None)
    if now.at < first.at + deadline:  # in the way in which it is waited for
        is_same = (now.mine, now.theirs) == (first.mine, first.theirs)
        return Verdict(False, False, first if is_same else now)
    # Of two that only differed then, none has changed: who is behind now was behind then.
    stood_still = (now.mine, now.theirs) == (first.mine, first.theirs)
    pull = _has_missed(now.mine_behind, first.mine_behind, now.mine == first.mine, stood_still)
    push = _has_missed(
        now.theirs_behind, first.theirs_behind, now.theirs == first.theirs, stood_still
    )
    is_left = (now.mine_behind and not pull) or (now.theirs_behind and not push)
    return Verdict(pull, push, now if is_left else None)


def _has_missed(
    is_behind: bool | None, was_behind: bool | None, is_same: bool, stood_still: bool
) -> bool:
    if not is_behind or not is_same:
        return False
    return stood_still if was_behind is None else was_behind
