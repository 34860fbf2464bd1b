"""Each read of a history, judged once: what it should have shown, and how far behind it was.

Most metrics read these judgements. Knows nothing of bins, intervals or reports.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bench.staleness.budget import Budget
from bench.staleness.keyed import History, Key
from bench.staleness.order import Asked, Judged, Order
from bench.staleness.register import Register
from bench.staleness.siblings import Siblings


class Looked(NamedTuple):
    """A key, the order of its versions, and the reads of all phases judged from the client's point of
    view: `judged` with commits at the read's start, `strict` with those before it only (what ends
    when something starts overlaps it). By start."""

    key: Key
    order: Order
    judged: Sequence[Judged]
    strict: Sequence[Judged]


def order_of(key: Key, *, register: bool, budget: Budget) -> Order:
    """How the versions of this key follow each other."""
    return Register(key) if register else Siblings(key, steps=budget.steps)


def look(history: History, budget: Budget) -> list[Looked]:
    """All keys, by name."""
    return list(_look(history, budget))


def _look(history: History, budget: Budget) -> Iterator[Looked]:
    for key in history.keys.values():
        order = order_of(key, register=history.register, budget=budget)
        asked = [Asked(read.op.start, read) for read in key.reads]
        judged = order.judge(key.ends, asked, strict=False)
        tied = not {one.at for one in asked}.isdisjoint(key.ends)
        strict = order.judge(key.ends, asked, strict=True) if tied else judged
        yield Looked(key, order, judged, strict)
