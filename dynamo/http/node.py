"""The resources that speak of the node itself: ping, stats, health, and the map of what there is.

Knows nothing of objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dynamo.http.errors import error_body
from dynamo.http.reply import TEXT_TYPE, HttpReply, json_reply
from dynamo.http.request import Request
from dynamo.latency import GET, PUT, Histogram

#: The release whose HTTP dialect this is: clients of Riak ask before their first request.
RIAK_VERSION: Final = "3.4.0"


async def get_ping(request: Request) -> HttpReply:
    """200 with exactly `OK`: the process answers."""
    return HttpReply(200, TEXT_TYPE, b"OK")


async def get_stats(request: Request) -> HttpReply:
    """200 with the node's counters and facts as one JSON object, under Riak's names where it has them.

    Times are in microseconds and, as Riak's, of the last minute: those of requests over HTTP, from
    their headers to the reply. `node_gets` and `node_puts` are of that minute too.
    """
    edge = request.edge
    stats = edge.backend.stats()
    times = edge.times
    return json_reply(
        200,
        {
            "riak_kv_version": RIAK_VERSION,
            **_riak_totals(stats),
            **_riak_times("get", times.last_minute(GET)),
            **_riak_times("put", times.last_minute(PUT)),
            **stats,
        },
    )


def _riak_totals(stats: Mapping[str, Any]) -> dict[str, int]:
    """Riak's names for what this node counts since its start."""
    return {
        name: sum(stats.get(counter, 0) for counter in counters)
        for name, counters in _RIAK_TOTALS.items()
    }


_RIAK_TOTALS: Final = {
    "node_gets_total": ("gets",),
    "node_puts_total": ("puts",),
    "read_repairs_total": ("read_repairs",),
    "vnode_gets_total": ("fetches",),
    "vnode_puts_total": ("mints", "stores", "repairs_stored"),
}


def _riak_times(operation: str, times: Histogram) -> dict[str, int]:
    prefix = f"node_{operation}_fsm_time_"
    seconds = {
        "mean": times.mean,
        "median": times.quantile(0.5),
        "95": times.quantile(0.95),
        "99": times.quantile(0.99),
        "100": times.longest,
    }
    return {
        f"node_{operation}s": times.count,
        **{prefix + name: round(value * 1_000_000) for name, value in seconds.items()},
    }


async def get_live(request: Request) -> HttpReply:
    """200 as long as the process answers: restarting it would not help."""
    return json_reply(200, {"live": True})


async def get_ready(request: Request) -> HttpReply:
    """200 if requests would be taken, else 503 with the reasons."""
    readiness = request.edge.backend.ready()
    reasons = list(readiness.reasons)
    if readiness.ready and not request.edge.closing:
        return json_reply(200, {"ready": True, "reasons": reasons})
    if request.edge.closing:
        reasons.append("the node is stopping")
    details = {"ready": False, "reasons": reasons}
    return json_reply(
        503, error_body(request, "this node is not ready", "not_ready", "none", details)
    )
