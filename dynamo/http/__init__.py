"""The REST API: Riak KV's HTTP dialect on aiohttp's low-level server."""

from dynamo.http.backend import Backend
from dynamo.http.server import HttpServer

__all__ = ["Backend", "HttpServer"]
