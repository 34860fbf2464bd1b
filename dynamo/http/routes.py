"""The one table of what there is: path, methods, handlers, and what each is for.

Requests are routed by it, the resource map is printed from it, and documentation can be. A path is
split before it is decoded, so a segment in braces stands for exactly one encoded name. Knows
nothing of what the handlers do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec

from dynamo.http.node import get_live, get_ping, get_ready, get_stats
from dynamo.http.objects import create_object, delete_object, get_object, post_object, put_object
from dynamo.http.reply import HttpReply, json_reply
from dynamo.http.request import Request

Handler = Callable[[Request], Awaitable[HttpReply]]


class Route(msgspec.Struct, frozen=True):
    """A path, its methods, the name and the URL it has in the resource map, and what it is for."""

    path: str
    methods: Mapping[str, Handler]
    resource: str
    url: str
    summary: str


def _read(handler: Handler) -> dict[str, Handler]:
    return {"GET": handler, "HEAD": handler}


async def get_root(request: Request) -> HttpReply:
    """200 with the resource map: a URL a name, as clients of Riak read it from `GET /`."""
    return json_reply(200, RESOURCE_MAP)


_OBJECT: Final[dict[str, Handler]] = {
    "GET": get_object,
    "HEAD": get_object,
    "PUT": put_object,
    "POST": post_object,
    "DELETE": delete_object,
}
_KEYS: Final[dict[str, Handler]] = {"POST": create_object}

ROUTES: Final = (
    Route(
        "/types/{type}/buckets/{bucket}/keys/{key}",
        _OBJECT,
        "riak_kv_wm_object",
        "/types",
        "An object of a bucket type.",
    ),
    Route(
        "/buckets/{bucket}/keys/{key}",
        _OBJECT,
        "riak_kv_wm_object",
        "/buckets",
        "An object of the bucket type `default`.",
    ),
    Route(
        "/riak/{bucket}/{key}", _OBJECT, "riak_kv_wm_object", "/riak", "The same, Riak's old way."
    ),
    Route(
        "/types/{type}/buckets/{bucket}/keys",
        _KEYS,
        "riak_kv_wm_object",
        "/types",
        "A new object under a key that the node chooses.",
    ),
    Route(
        "/buckets/{bucket}/keys", _KEYS, "riak_kv_wm_object", "/buckets", "The same, in `default`."
    ),
    Route("/riak/{bucket}", _KEYS, "riak_kv_wm_object", "/riak", "The same, Riak's old way."),
    Route("/ping", _read(get_ping), "riak_kv_wm_ping", "/ping", "Whether the process answers."),
    Route("/stats", _read(get_stats), "riak_kv_wm_stats", "/stats", "Counters of the node."),
    Route(
        "/health/live",
        _read(get_live),
        "dynamo_health_live",
        "/health/live",
        "Whether the process should be left alone.",
    ),
    Route(
        "/health/ready",
        _read(get_ready),
        "dynamo_health_ready",
        "/health/ready",
        "Whether the node takes requests, and why not.",
    ),
    Route("/", _read(get_root), "dynamo_resources", "/", "This map."),
)

#: What a CONNECT or OPTIONS * is told: the methods of all routes.
ALL_METHODS: Final = tuple(dict.fromkeys(method for route in ROUTES for method in route.methods))


def _resource_map(routes: Sequence[Route]) -> dict[str, str]:
    # Of several URLs the one that reaches most: a client that expects a text stops at a list.
    urls: dict[str, str] = {}
    for route in routes:
        urls.setdefault(route.resource, route.url)
    return dict(sorted(urls.items()))


RESOURCE_MAP: Final = _resource_map(ROUTES)


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


ROUTER: Final = Router(ROUTES)
