"""Many writes of new keys by a few clients, as fast as they are answered, over kept connections."""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from cluster_process import target

CLIENTS = 4
_HEADERS = {"Content-Type": "text/plain"}


def write_all(addresses: Sequence[str], keys: Sequence[str], *, query: str = "w=2") -> None:
    """Every key has its own name as its value, and the write was acknowledged. `addresses`: host:port of
    the nodes that are asked in turn."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(
            pool.map(
                lambda n: _write(addresses[n % len(addresses)], keys[n::CLIENTS], query),
                range(CLIENTS),
            )
        )


def read_all(address: str, keys: Sequence[str], *, query: str) -> dict[str, tuple[int, bytes]]:
    """What a node answers for each key: status and body."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        parts = pool.map(lambda n: _read(address, keys[n::CLIENTS], query), range(CLIENTS))
    return {key: found for part in parts for key, found in part.items()}


def _write(address: str, keys: Sequence[str], query: str) -> None:
    connection = http.client.HTTPConnection(address, timeout=60)
    for key in keys:
        connection.request("PUT", target(key, query=query), body=key.encode(), headers=_HEADERS)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 204, (key, answer.status, body)
    connection.close()


def _read(address: str, keys: Sequence[str], query: str) -> dict[str, tuple[int, bytes]]:
    connection = http.client.HTTPConnection(address, timeout=60)
    found = {}
    for key in keys:
        connection.request("GET", target(key, query=query))
        answer = connection.getresponse()
        found[key] = (answer.status, answer.read())
    connection.close()
    return found
