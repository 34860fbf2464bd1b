"""What of a record may stay that a disk had when it went back in time.

Its values may have been deleted since, and their tombstones reaped; its vector may name births that
have left all others. So only what others know of counts, by their word, and what this node has written
since. Knows nothing of storage, nor of how it is known what others know.
"""

from __future__ import annotations

from typing import NamedTuple

from dynamo.record import EMPTY, FORMAT, TOMBSTONE, Record
from dynamo.version import Vector


class Judged(NamedTuple):
    """`kept`: to be merged into what came since. `aside`: the values that nobody else knows, with the
    vector they had. Either is empty if there is none. `tombstones`: how many of those went, and bodies
    that were let go already."""

    kept: Record
    aside: Record
    tombstones: int


def judge(earlier: Record, known: Vector, ours: tuple[bytes, ...]) -> Judged:
    """What becomes of a record of before. `known`: all that has come since knows of. `ours`: the
    incarnations under which this node has minted since."""
    seen = dict(known)
    decided, fresh, aside = [], [], []
    tombstones = 0
    for sibling in earlier.siblings:
        if sibling.counter <= seen.get(sibling.birth, 0):
            decided.append(sibling)  # who knows it has kept it, or replaced it
        elif sibling.birth.startswith(ours):
            fresh.append(sibling)
        elif sibling.kind == TOMBSTONE or sibling.content is None:
            tombstones += 1
        else:
            aside.append(sibling)
    kept = EMPTY
    if fresh:
        # What this record has replaced counts only if all that may have replaced it is to be believed.
        is_sound = not aside and not tombstones
        vector = []
        for birth, counter in earlier.vector:
            if not birth.startswith(ours):
                counter = min(counter, seen.get(birth, 0)) if is_sound else 0
            if counter:
                vector.append((birth, counter))
        siblings = sorted([*fresh, *decided] if is_sound else fresh, key=earlier.siblings.index)
        kept = Record(FORMAT, tuple(vector), tuple(siblings))
    apart = Record(FORMAT, earlier.vector, tuple(aside)) if aside else EMPTY
    return Judged(kept, apart, tombstones)
