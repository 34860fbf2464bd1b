"""A row of the table of routes, and how a path finds its row.

A path is split before it is decoded, so a segment in braces stands for exactly one encoded name.
Knows nothing of which routes there are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec

from dynamo.http.catalog import Operation
from dynamo.http.reply import HttpReply
from dynamo.http.request import Request

#: How the paths begin whose requests are shed with those of all clients.
CLIENT_ROOTS: Final = frozenset({"types", "buckets", "riak"})
#: How those begin that may wait for something, but for those that only read.
ADMIN_ROOT: Final = "admin"
READING: Final = ("GET", "HEAD")

Handler = Callable[[Request], Awaitable[HttpReply]]


class Route(msgspec.Struct, frozen=True):
    """A path, its methods, the name and the URL it has in the resource map, and what it is for.

    `operations`: what each method takes and answers, for documentation. HEAD is not in it: it is
    GET without a body.
    """

    path: str
    methods: Mapping[str, Handler]
    resource: str
    url: str
    summary: str
    operations: Mapping[str, Operation] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters of the path, in their order."""
        return tuple(segment[1:-1] for segment in self.path.split("/") if segment.startswith("{"))


class Router:
    """Finds the route of a split path."""

    __slots__ = ("_by_length",)

    def __init__(self, routes: Sequence[Route]) -> None:
        self._by_length: dict[int, list[tuple[Route, tuple[tuple[int, str], ...]]]] = {}
        for route in routes:
            segments = route.path.split("/")
            fixed = tuple(
                (index, segment)
                for index, segment in enumerate(segments)
                if index and not segment.startswith("{")
            )
            self._by_length.setdefault(len(segments), []).append((route, fixed))

    def find(self, segments: Sequence[str]) -> Route | None:
        """The route of these segments (the first is empty: a path starts with a slash)."""
        for route, fixed in self._by_length.get(len(segments), ()):
            for index, literal in fixed:
                if segments[index] != literal:
                    break
            else:
                return route
        return None
