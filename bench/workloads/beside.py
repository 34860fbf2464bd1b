"""Operations beside each other: all are awaited, whatever becomes of one.

Knows nothing of what they do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from itertools import islice
from typing import Any, TypeVar

_T = TypeVar("_T")


async def beside(work: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """What they give, in their order. If one raises, the others are cancelled and it is raised."""
    given = list(work)
    if len(given) == 1:
        return [await given[0]]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in given]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def few_at_once(work: Iterable[Coroutine[Any, Any, _T]], at_once: int) -> list[_T]:
    """As `beside`, but never more than `at_once` of them; the next are made when those are done."""
    left, results = iter(work), list[_T]()
    while batch := list(islice(left, at_once)):
        results += await beside(batch)
    return results
