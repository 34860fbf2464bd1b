"""`/admin/wars`: what this node measures of its own requests, to each replica and back.

Knows nothing of how they are measured.
"""

from __future__ import annotations

import msgspec

from dynamo.http.reply import HttpReply, json_reply
from dynamo.http.request import Request


async def get_wars(request: Request) -> HttpReply:
    """GET, HEAD: 200 with a `WarsStatus`; also of a node that is not ready."""
    return json_reply(200, msgspec.to_builtins(request.edge.backend.wars()))
