"""An HTTP server over a store in memory, for what is run against it in a thread."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from memory_backend import MemoryBackend

from dynamo.clock import SystemClock
from dynamo.http.ids import Ids
from dynamo.http.limits import Limits
from dynamo.http.server import HttpServer
from dynamo.metrics import Metrics


@asynccontextmanager
async def served(backend: MemoryBackend) -> AsyncIterator[str]:
    """The URL where it is served."""
    server = HttpServer(
        backend=backend,
        clock=SystemClock(),
        ids=Ids(random=random.Random(1)),
        limits=Limits(),
        metrics=Metrics(),
    )
    try:
        yield f"http://{await server.start('127.0.0.1:0')}"
    finally:
        await server.close(drain_s=1)
