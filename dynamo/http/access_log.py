"""The access log: one line a reply, for those who ask for it.

Time, peer, method, target, status, bytes, milliseconds, request id. Never a header, a value or a
context. The target is as the client sent it, encoded; what writes the line escapes the rest. Knows
nothing of where the lines go.
"""

from __future__ import annotations

import logging

from dynamo.config import ACCESS_LOGGER
from dynamo.http.request import Request

log = logging.getLogger(ACCESS_LOGGER)


def log_access(request: Request, status: int, size: int) -> None:
    """Log one reply. `size`: bytes of its body, which a HEAD does not get to see."""
    message = request._message
    transport = request._protocol.transport
    peer = None if transport is None else transport.get_extra_info("peername")
    host = f"[{peer[0]}]" if peer and ":" in peer[0] else peer and peer[0]
    log.info(
        "request",
        extra={
            "peer": f"{host}:{peer[1]}" if peer else "-",
            "method": message.method,
            "target": message.path,
            "status": status,
            "bytes": 0 if message.method == "HEAD" else size,
            "ms": round((request.edge.monotonic() - request.began) * 1000, 3),
            "request_id": request.id.decode("ascii"),
        },
    )
