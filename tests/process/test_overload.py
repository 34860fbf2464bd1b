"""Too many clients at a real node: what is refused is nowhere, and the node can be asked how it is."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from cluster_process import ClusterProcess
from raw_http import RawHttp

CLIENTS = 200
REQUESTS_EACH = 10
TEXT = {"Content-Type": "text/plain"}


class Crowd:
    """Clients that each write REQUESTS_EACH keys of their own on one connection."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.written: set[str] = set()
        self.refused: set[str] = set()
        self.codes: Counter[str] = Counter()
        self.retry_after: set[int] = set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(self._client(number))

    async def _client(self, number: int) -> None:
        async with RawHttp(self._address) as http:
            for turn in range(REQUESTS_EACH):
                key = f"{number}-{turn}"
                reply = await http.request("PUT", f"/buckets/b/keys/{key}", TEXT, key.encode())
                if reply.status == 204:
                    self.written.add(key)
                    continue
                body = reply.json()
                self.codes[body["code"]] += 1
                assert (reply.status, body["outcome"]) == (503, "none"), body
                if body["code"] == "overloaded":
                    self.retry_after.add(int(reply.headers["retry-after"]))
                    assert 0 < body["retry_after_ms"] <= 3000
                self.refused.add(key)


async def ask_about_it(address: str, until: asyncio.Task[None]) -> list[float]:
    """How long the node took to say how it is, each time, as long as the crowd is there."""
    times = []
    while not until.done():
        for path in ("/health/live", "/metrics", "/admin/status"):
            began = time.monotonic()
            async with RawHttp(address) as http:
                reply = await http.request("GET", path)
                assert reply.status == 200, (path, reply)
            times.append(time.monotonic() - began)
    return times


def test_what_is_refused_is_nowhere_and_the_node_says_how_it_is_meanwhile() -> None:
    with ClusterProcess(extra_args=["--requests-max", "8"]) as cluster:
        address = cluster.nodes[0].http

        async def scene() -> tuple[Crowd, list[float]]:
            crowd = Crowd(address)
            running = asyncio.create_task(crowd.run())
            times = await ask_about_it(address, running)
            await running
            return crowd, times

        crowd, times = asyncio.run(scene())
        assert set(crowd.codes) == {"overloaded"}
        assert crowd.codes["overloaded"] > 100
        assert len(crowd.written) > 100
        assert crowd.retry_after == {1, 2, 3}
        assert times
        assert max(times) < 2.0
        for number, key in enumerate(sorted(crowd.refused)[:100]):
            assert cluster.get(1 + number % 2, key, query="r=3").status == 404, key
        for number, key in enumerate(sorted(crowd.written)[:100]):
            assert cluster.get(1 + number % 2, key, query="r=2").body == key.encode()
        stats = cluster.stats(0)
        shed = sum(stats.get(f"requests_shed_{why}", 0) for why in ("requests", "lag"))
        assert shed == crowd.codes["overloaded"]
        page = cluster.http(0, "GET", "/metrics").body.decode()
        assert "dynamo_requests_admitted 0\n" in page
        assert "dynamo_requests_admitted_bytes 0\n" in page


def test_a_node_that_sheds_its_clients_serves_its_peers() -> None:
    with ClusterProcess(extra_args=["--requests-max", "1"]) as cluster:

        async def scene() -> list[int]:
            async with RawHttp(cluster.nodes[0].http) as slow:
                # The one request that the first node takes does not end.
                await slow.send(
                    b"PUT /buckets/b/keys/slow HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\n"
                    b"Content-Length: 2\r\n\r\n1"
                )
                async with RawHttp(cluster.nodes[0].http) as http:
                    while (await http.request("GET", "/buckets/b/keys/k")).status != 503:
                        await asyncio.sleep(0.01)
                async with RawHttp(cluster.nodes[1].http) as other:
                    statuses = [
                        (
                            await other.request("PUT", f"/buckets/b/keys/{number}?w=3", TEXT, b"v")
                        ).status
                        for number in range(20)
                    ]
                await slow.send(b"2")
                assert (await slow.reply("PUT")).status == 204
                return statuses

        assert asyncio.run(scene()) == [204] * 20
