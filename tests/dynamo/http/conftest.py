"""A server on a free port of loopback, over a whole store in memory."""

from __future__ import annotations

import random
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop
from memory_backend import MemoryBackend
from raw_http import RawHttp

from dynamo.clock import SystemClock
from dynamo.http.ids import Ids
from dynamo.http.limits import Limits
from dynamo.http.server import HttpServer
from dynamo.metrics import Metrics


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories() -> dict[str, Callable[[], AbstractEventLoop]]:
    """The loop that nodes run on: its sockets end and pause in ways of their own."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def limits(request: pytest.FixtureRequest) -> Limits:
    """Those of a real server; short ones for a test that is about time (`@pytest.mark.impatient`),
    which a busy machine would hold against all others."""
    impatient = request.node.get_closest_marker("impatient")
    if impatient is None:
        return Limits(value_bytes_max=4096)
    short = {"header_timeout_s": 0.5, "body_silence_s": 0.4, "lingering_s": 0.5}
    return Limits(value_bytes_max=4096, **{**short, **impatient.kwargs})


@pytest.fixture
async def server(
    backend: MemoryBackend, limits: Limits, metrics: Metrics
) -> AsyncIterator[HttpServer]:
    server = HttpServer(
        backend=backend,
        clock=SystemClock(),
        ids=Ids(random=random.Random(1)),
        limits=limits,
        metrics=metrics,
    )
    yield server
    await server.close(drain_s=1)


@pytest.fixture
async def address(server: HttpServer) -> str:
    return await server.start("127.0.0.1:0")


@pytest.fixture
async def http(address: str) -> AsyncIterator[RawHttp]:
    async with RawHttp(address) as http:
        yield http
