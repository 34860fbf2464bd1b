"""Too many clients at a real node: what is refused is nowhere, and the node can be asked how it is."""

from __future__ import annotations

import asyncio
import time

from cluster_process import ClusterProcess
from raw_http import RawHttp

CLIENTS = 200
REQUESTS_EACH = 10
TEXT = {"Content-Type": "text/plain"}


class Crowd:
    """Clients, each with one connection, that write REQUESTS_EACH keys of their own and ask for the next
    at once; then a last one, for which they come back when they are told to."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.written: set[str] = set()
        self.refused: set[str] = set()
        self.shed = 0
        self.retry_after: set[int] = set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(self._client(number))

    async def _client(self, number: int) -> None:
        async with RawHttp(self._address) as http:
            for turn in range(REQUESTS_EACH):
                key = f"{number}-{turn}"
                if await self._put(http, key):
                    self.refused.add(key)
            key = f"{number}-last"
            while retry_after_s := await self._put(http, key):
                await asyncio.sleep(retry_after_s)

    async def _put(self, http: RawHttp, key: str) -> float:
        """0 if it is written, else the seconds after which to try again."""
        reply = await http.request("PUT", f"/buckets/b/keys/{key}", TEXT, key.encode())
        if reply.status == 204:
            self.written.add(key)
            return 0
        body = reply.json()
        assert (reply.status, body["code"], body["outcome"]) == (503, "overloaded", "none")
        self.shed += 1
        self.retry_after.add(int(reply.headers["retry-after"]))
        retry_after_s: float = body["retry_after_ms"] / 1000
        assert 0 < retry_after_s <= 3
        return retry_after_s


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
        assert crowd.shed > 100
        assert {f"{number}-last" for number in range(CLIENTS)} <= crowd.written
        assert crowd.retry_after == {1, 2, 3}
        assert times
        assert max(times) < 5.0
        for number, key in enumerate(sorted(crowd.refused)[:100]):
            assert cluster.get(1 + number % 2, key, query="r=3").status == 404, key
        for number, key in enumerate(sorted(crowd.written)[:100]):
            assert cluster.get(1 + number % 2, key, query="r=2").body == key.encode()
        stats = cluster.stats(0)
        shed = sum(stats.get(f"requests_shed_{why}", 0) for why in ("requests", "lag"))
        assert shed == crowd.shed
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
