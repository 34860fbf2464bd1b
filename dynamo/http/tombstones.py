"""`/admin/tombstones`: what waits to be reaped at this node, and what for.

Knows nothing of how tombstones are kept or reaped.
"""

from __future__ import annotations

import msgspec

from dynamo.http.reply import HttpReply, json_reply
from dynamo.http.request import Request


async def get_tombstones(request: Request) -> HttpReply:
    """GET, HEAD: 200 with a `TombstonesStatus`; also of a node that is not ready."""
    return json_reply(200, msgspec.to_builtins(request.edge.backend.tombstones()))
