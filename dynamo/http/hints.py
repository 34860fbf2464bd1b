"""`/admin/hints`: what this node keeps for others, and the sync point that waits until they have it.

Knows nothing of how hints are kept or delivered.
"""

from __future__ import annotations

import msgspec

from dynamo.http import parameters
from dynamo.http.objects import timeout_field
from dynamo.http.reply import HttpReply, json_reply
from dynamo.http.request import Request


async def get_hints(request: Request) -> HttpReply:
    """GET, HEAD: 200 with a `HintsStatus`; also of a node that is not ready."""
    return json_reply(200, msgspec.to_builtins(request.edge.backend.hints()))


async def sync_hints(request: Request) -> HttpReply:
    """POST: 200 once all hints that were here when it came are delivered, with how many were since, by
    target. Raises HintsUndelivered at the timeout."""
    given = parameters.parse(request.raw_query) if request.raw_query else parameters.NONE
    delivered = await request.edge.backend.sync_hints(given.timeout_ms)
    return json_reply(200, {"synced": True, "delivered": delivered}, timeout_field(given))
