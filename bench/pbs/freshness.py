"""From a `Spread`, of each trial: since when its read is fresh, and what read and write take.

A write commits with its w-th acknowledgement. A read that starts t after that asks replica i at
R_i + t + commit, and finds the write there if that is at or after W_i. So each trial has a least t from
which its read is fresh, and is fresh at any later one; nothing is put on a grid. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from bench.pbs.fan_out import Spread
from bench.pbs.fits import Floats

#: Delays that are equal on paper (0.1 + 0.2 and 0.3) may differ by rounding: a picosecond is no time.
ROUNDING_MS: Final = 1e-9


def commits(spread: Spread) -> Floats:
    """When the write has w acknowledgements, in column w - 1; since it began."""
    return np.sort(spread.acked, axis=1)


def latencies(spread: Spread) -> Floats:
    """What a read takes that needs r answers, in column r - 1, while all replicas hold the same."""
    if spread.order is not None:
        asked = np.take_along_axis(spread.answered, np.argsort(spread.order, axis=1), axis=1)
        return np.maximum.accumulate(asked, axis=1)
    done = np.sort(spread.answered, axis=1)
    if spread.body is not None:
        record = np.take_along_axis(spread.answered, spread.body[:, None], axis=1)
        np.maximum(done, record, out=done)
    return done


def fresh_from(spread: Spread, needs: Iterable[int]) -> dict[int, Floats]:
    """By r: the least start of the read, since the write began, at which it is fresh. Infinite where it
    never is."""
    # Replica i answers with the write to whoever starts then or later, if it answers.
    shows = _minus(spread.visible, spread.asked)
    if spread.again is not None:
        return {r: _after_asking_again(spread, shows, r) for r in needs}
    order = np.argsort(spread.answered if spread.order is None else spread.order, axis=1)
    first = np.minimum.accumulate(np.take_along_axis(shows, order, axis=1), axis=1)
    return {r: first[:, r - 1] for r in needs}


def thresholds(fresh: Floats, commit: Floats) -> Floats:
    """The least t at or after commit. `fresh`: one of `fresh_from`; `commit`: a column of `commits`."""
    # After a write that never commits there is no read: it speaks against nothing.
    late = np.where(np.isinf(commit), 0.0, _minus(fresh, commit))
    late[late <= ROUNDING_MS] = 0.0
    return late


def _minus(these: Floats, those: Floats) -> Floats:
    """Infinite where one of both is: what never happens."""
    both = np.isfinite(these) & np.isfinite(those)
    return np.subtract(these, those, out=np.full_like(these, np.inf), where=both)


def _after_asking_again(spread: Spread, shows: Floats, r: int) -> Floats:
    """An old answer counts as soon as any record is in hand, and a new one only with its record: the
    first that is new is asked again. So r old answers may overtake it.

    The later the read starts, the more replicas are new, in the order of `shows`: each of these states
    is looked at, and the first one that makes a fresh answer taken.
    """
    assert spread.body is not None
    assert spread.again is not None
    n = shows.shape[1]
    order = np.argsort(shows, axis=1)
    shows = np.take_along_axis(shows, order, axis=1)
    answered = np.take_along_axis(spread.answered, order, axis=1)
    body_at = np.take_along_axis(spread.answered, spread.body[:, None], axis=1)[:, 0]
    body_rank = np.argmax(order == spread.body[:, None], axis=1)
    soonest_new = np.minimum.accumulate(answered, axis=1)
    found = shows[:, n - 1].copy()  # all are new
    for new in range(n - 1, 0, -1):
        if n - new < r:
            found = shows[:, new - 1].copy()  # too few are old
            continue
        r_old = np.partition(answered[:, new:], r - 1, axis=1)[:, r - 1]
        record = np.maximum(body_at, soonest_new[:, new - 1]) + spread.again
        is_fresh = (body_rank < new) | (record <= np.maximum(body_at, r_old))
        found = np.where(is_fresh, shows[:, new - 1], found)
    return found
