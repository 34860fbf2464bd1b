"""The resources that speak of the node itself: ping, stats, health, and the map of what there is.

Knows nothing of objects.
"""

from __future__ import annotations

from typing import Final

from dynamo.http.errors import error_body
from dynamo.http.reply import TEXT_TYPE, HttpReply, json_reply
from dynamo.http.request import Request

#: The release whose HTTP dialect this is: clients of Riak ask before their first request.
RIAK_VERSION: Final = "2.0.0"


async def get_ping(request: Request) -> HttpReply:
    """200 with exactly `OK`: the process answers."""
    return HttpReply(200, TEXT_TYPE, b"OK")


async def get_stats(request: Request) -> HttpReply:
    """200 with the node's counters and facts as one JSON object."""
    return json_reply(200, {"riak_kv_version": RIAK_VERSION, **request.edge.backend.stats()})


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
