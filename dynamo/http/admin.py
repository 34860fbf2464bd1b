"""`/admin/status`: all that a node knows of itself and its peers, as one JSON object.

Knows nothing of where it comes from.
"""

from __future__ import annotations

from importlib import metadata
from typing import Final

import msgspec

from dynamo.http.reply import HttpReply, json_reply
from dynamo.http.request import Request


def _version() -> str:
    try:
        return metadata.version("dynamo-kv")
    except metadata.PackageNotFoundError:
        return "unknown"  # run from a directory where it was never installed


#: Of the package that serves.
VERSION: Final = _version()


async def get_status(request: Request) -> HttpReply:
    """200 with a `NodeStatus` and the version; also of a node that is not ready."""
    status = msgspec.to_builtins(request.edge.backend.status())
    if request.edge.closing:
        status["ready"] = False
        status["reasons"] = [*status["reasons"], "the node is stopping"]
    return json_reply(200, {"version": VERSION, **status})
