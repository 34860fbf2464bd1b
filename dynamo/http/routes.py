"""The one table of what there is: path, methods, handlers, and what each is for.

Requests are routed by it; the resource map, the OpenAPI document and docs/http.md are made from it.
Knows nothing of what the handlers do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dynamo.http import operations
from dynamo.http.admin import get_status
from dynamo.http.antientropy import (
    get_antientropy,
    get_roots,
    pause_antientropy,
    resume_antientropy,
)
from dynamo.http.buckets import delete_props, get_props, put_props
from dynamo.http.faults import delete_faults, get_faults, put_faults
from dynamo.http.hints import get_hints, sync_hints
from dynamo.http.listing import get_buckets, get_keys, get_preflist
from dynamo.http.metrics_page import get_metrics
from dynamo.http.node import get_live, get_ping, get_ready, get_stats
from dynamo.http.objects import create_object, delete_object, get_object, post_object, put_object
from dynamo.http.openapi import openapi
from dynamo.http.repair import get_repair, start_repair, stop_repair
from dynamo.http.reply import JSON_TYPE, HttpReply, json_reply, to_json
from dynamo.http.request import Request
from dynamo.http.route import Handler, Route, Router
from dynamo.http.tombstones import get_tombstones
from dynamo.http.wars import get_wars


def _read(handler: Handler) -> dict[str, Handler]:
    return {"GET": handler, "HEAD": handler}


async def get_root(request: Request) -> HttpReply:
    """200 with the resource map: a URL a name, as clients of Riak read it from `GET /`."""
    return json_reply(200, RESOURCE_MAP)


async def get_openapi(request: Request) -> HttpReply:
    """200 with this table as an OpenAPI document."""
    return HttpReply(200, JSON_TYPE, OPENAPI)


_OBJECT: Final[dict[str, Handler]] = {
    "GET": get_object,
    "HEAD": get_object,
    "PUT": put_object,
    "POST": post_object,
    "DELETE": delete_object,
}
_CREATE: Final[dict[str, Handler]] = {"POST": create_object}
_KEYS: Final[dict[str, Handler]] = {**_read(get_keys), **_CREATE}
_PROPS: Final[dict[str, Handler]] = {**_read(get_props), "PUT": put_props, "DELETE": delete_props}

ROUTES: Final = (
    Route(
        "/types/{type}/buckets/{bucket}/keys/{key}",
        _OBJECT,
        "riak_kv_wm_object",
        "/types",
        "An object of a bucket type.",
        operations.OBJECT,
    ),
    Route(
        "/buckets/{bucket}/keys/{key}",
        _OBJECT,
        "riak_kv_wm_object",
        "/buckets",
        "An object of the bucket type `default`.",
        operations.OBJECT,
    ),
    Route(
        "/riak/{bucket}/{key}",
        _OBJECT,
        "riak_kv_wm_object",
        "/riak",
        "The same, Riak's old way.",
        operations.OBJECT,
    ),
    Route(
        "/types/{type}/buckets/{bucket}/props",
        _PROPS,
        "riak_kv_wm_props",
        "/types",
        "The properties of a bucket.",
        operations.PROPERTIES,
    ),
    Route(
        "/buckets/{bucket}/props",
        _PROPS,
        "riak_kv_wm_buckets",
        "/buckets",
        "The properties of a bucket of the bucket type `default`.",
        operations.PROPERTIES,
    ),
    Route(
        "/types/{type}/props",
        _PROPS,
        "riak_kv_wm_bucket_type",
        "/types",
        "The properties of a bucket type.",
        operations.PROPERTIES,
    ),
    Route(
        "/types/{type}/buckets/{bucket}/keys",
        _KEYS,
        "riak_kv_wm_keylist",
        "/types",
        "The keys of a bucket, an expensive list; or a new object under a key that the node chooses.",
        operations.KEYS,
    ),
    Route(
        "/buckets/{bucket}/keys",
        _KEYS,
        "riak_kv_wm_keylist",
        "/buckets",
        "The same, in `default`.",
        operations.KEYS,
    ),
    Route(
        "/types/{type}/buckets",
        _read(get_buckets),
        "riak_kv_wm_buckets",
        "/types",
        "The buckets of a type, an expensive list.",
        operations.BUCKETS,
    ),
    Route(
        "/buckets",
        _read(get_buckets),
        "riak_kv_wm_buckets",
        "/buckets",
        "The same, of `default`.",
        operations.BUCKETS,
    ),
    Route(
        "/types/{type}/buckets/{bucket}/keys/{key}/preflist",
        _read(get_preflist),
        "riak_kv_wm_preflist",
        "/types",
        "The nodes that keep a key.",
        operations.PREFERENCE_LIST,
    ),
    Route(
        "/buckets/{bucket}/keys/{key}/preflist",
        _read(get_preflist),
        "riak_kv_wm_preflist",
        "/buckets",
        "The same, in `default`.",
        operations.PREFERENCE_LIST,
    ),
    Route(
        "/riak/{bucket}",
        _CREATE,
        "riak_kv_wm_object",
        "/riak",
        "A new object, Riak's old way.",
        operations.CREATE,
    ),
    Route(
        "/ping",
        _read(get_ping),
        "riak_kv_wm_ping",
        "/ping",
        "Whether the process answers.",
        operations.PING,
    ),
    Route(
        "/stats",
        _read(get_stats),
        "riak_kv_wm_stats",
        "/stats",
        "Counters of the node.",
        operations.STATS,
    ),
    Route(
        "/metrics",
        _read(get_metrics),
        "dynamo_metrics",
        "/metrics",
        "The same, for Prometheus.",
        operations.METRICS,
    ),
    Route(
        "/admin/status",
        _read(get_status),
        "dynamo_admin_status",
        "/admin/status",
        "What the node knows of itself and its peers.",
        operations.STATUS,
    ),
    Route(
        "/admin/hints",
        _read(get_hints),
        "dynamo_admin_hints",
        "/admin/hints",
        "What the node keeps for others, and how its delivery goes.",
        operations.HINTS,
    ),
    Route(
        "/admin/hints/sync",
        {"POST": sync_hints},
        "dynamo_admin_hints_sync",
        "/admin/hints/sync",
        "Waits until others have what the node keeps for them.",
        operations.SYNC_HINTS,
    ),
    Route(
        "/admin/tombstones",
        _read(get_tombstones),
        "dynamo_admin_tombstones",
        "/admin/tombstones",
        "What waits to be reaped at the node, and what for.",
        operations.TOMBSTONES,
    ),
    Route(
        "/admin/wars",
        _read(get_wars),
        "dynamo_admin_wars",
        "/admin/wars",
        "How long requests take to each replica and back.",
        operations.WARS,
    ),
    Route(
        "/admin/antientropy",
        _read(get_antientropy),
        "dynamo_admin_antientropy",
        "/admin/antientropy",
        "How far the node agrees with the others.",
        operations.ANTIENTROPY,
    ),
    Route(
        "/admin/antientropy/roots",
        _read(get_roots),
        "dynamo_admin_antientropy_roots",
        "/admin/antientropy/roots",
        "What sums up each partition that the node keeps.",
        operations.ROOTS,
    ),
    Route(
        "/admin/antientropy/pause",
        {"POST": pause_antientropy},
        "dynamo_admin_antientropy_pause",
        "/admin/antientropy/pause",
        "Keeps the node from comparing by itself.",
        operations.PAUSE,
    ),
    Route(
        "/admin/antientropy/resume",
        {"POST": resume_antientropy},
        "dynamo_admin_antientropy_resume",
        "/admin/antientropy/resume",
        "Lets it go on.",
        operations.RESUME,
    ),
    Route(
        "/admin/faults",
        {**_read(get_faults), "PUT": put_faults, "DELETE": delete_faults},
        "dynamo_admin_faults",
        "/admin/faults",
        "Delays and cuts of the node's messages, for tests.",
        operations.FAULTS,
    ),
    Route(
        "/admin/repair",
        {**_read(get_repair), "POST": start_repair, "DELETE": stop_repair},
        "dynamo_admin_repair",
        "/admin/repair",
        "A comparison with the other owners, now.",
        operations.REPAIR,
    ),
    Route(
        "/health/live",
        _read(get_live),
        "dynamo_health_live",
        "/health/live",
        "Whether the process should be left alone.",
        operations.LIVE,
    ),
    Route(
        "/health/ready",
        _read(get_ready),
        "dynamo_health_ready",
        "/health/ready",
        "Whether the node takes requests, and why not.",
        operations.READY,
    ),
    Route(
        "/",
        _read(get_root),
        "dynamo_resources",
        "/",
        "This map.",
        operations.RESOURCES,
    ),
    Route(
        "/openapi.json",
        _read(get_openapi),
        "dynamo_openapi",
        "/openapi.json",
        "This API as an OpenAPI document.",
        operations.OPENAPI,
    ),
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
OPENAPI: Final = to_json(openapi(ROUTES))
ROUTER: Final = Router(ROUTES)
