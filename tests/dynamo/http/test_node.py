"""The resources that speak of the node itself."""

from __future__ import annotations

from memory_backend import MemoryBackend
from raw_http import RawHttp

from dynamo.http.route import Router
from dynamo.http.routes import ROUTES
from dynamo.readiness import Readiness


async def test_ping_says_exactly_ok(http: RawHttp) -> None:
    got = await http.request("GET", "/ping")
    assert (got.status, got.body) == (200, b"OK")


async def test_stats_are_the_nodes(http: RawHttp) -> None:
    await http.request("PUT", "/buckets/b/keys/k", {"Content-Type": "a/b"}, b"v")
    got = await http.request("GET", "/stats")
    assert got.status == 200
    stats = got.json()
    assert (stats["riak_kv_version"], stats["keys"], stats["writes"]) == ("3.4.0", 1, 1)
    assert got.headers["content-type"] == "application/json"


async def test_a_node_that_is_not_ready_says_why_and_is_alive(
    http: RawHttp, backend: MemoryBackend
) -> None:
    assert (await http.request("GET", "/health/ready")).json() == {"ready": True, "reasons": []}
    backend.readiness = Readiness(False, ("no ring yet", "refilling 3 partitions"))
    got = await http.request("GET", "/health/ready")
    assert (got.status, got.json()["code"]) == (503, "not_ready")
    assert got.json()["reasons"] == ["no ring yet", "refilling 3 partitions"]
    assert (await http.request("HEAD", "/health/ready")).status == 503
    live = await http.request("GET", "/health/live")
    assert (live.status, live.json()) == (200, {"live": True})


async def test_the_map_names_what_there_is_and_nothing_else(http: RawHttp) -> None:
    got = await http.request("GET", "/")
    assert got.json() == {
        "dynamo_admin_antientropy": "/admin/antientropy",
        "dynamo_admin_antientropy_pause": "/admin/antientropy/pause",
        "dynamo_admin_antientropy_resume": "/admin/antientropy/resume",
        "dynamo_admin_antientropy_roots": "/admin/antientropy/roots",
        "dynamo_admin_faults": "/admin/faults",
        "dynamo_admin_hints": "/admin/hints",
        "dynamo_admin_hints_sync": "/admin/hints/sync",
        "dynamo_admin_repair": "/admin/repair",
        "dynamo_admin_status": "/admin/status",
        "dynamo_admin_tombstones": "/admin/tombstones",
        "dynamo_admin_wars": "/admin/wars",
        "dynamo_health_live": "/health/live",
        "dynamo_health_ready": "/health/ready",
        "dynamo_openapi": "/openapi.json",
        "dynamo_metrics": "/metrics",
        "dynamo_resources": "/",
        "riak_kv_wm_bucket_type": "/types",
        "riak_kv_wm_buckets": "/buckets",
        "riak_kv_wm_keylist": "/types",
        "riak_kv_wm_object": "/types",
        "riak_kv_wm_ping": "/ping",
        "riak_kv_wm_preflist": "/types",
        "riak_kv_wm_props": "/types",
        "riak_kv_wm_stats": "/stats",
    }


async def test_the_map_and_the_stats_are_what_riaks_own_client_asks_before_its_first_request(
    http: RawHttp,
) -> None:
    # riak 2.7.0: every URL must be a text, and a version must be there to compare.
    accept = {"Accept": "multipart/mixed, application/json, */*;q=0.5"}
    resources = (await http.request("GET", "/", accept)).json()
    assert all(isinstance(url, str) for url in resources.values())
    # Riak has a page for those who ask for HTML; its clients read JSON.
    assert (await http.request("GET", "/", {"Accept": "text/html"})).json() == resources
    version = (await http.request("GET", "/stats", accept)).json()["riak_kv_version"]
    assert [int(part) for part in version.split(".")] >= [1, 4, 0]


def test_every_route_of_the_table_is_found_by_its_path() -> None:
    router = Router(ROUTES)
    for route in ROUTES:
        segments = ["x" if s.startswith("{") else s for s in route.path.split("/")]
        assert router.find(segments) is route
        assert route.summary
        assert all(handler.__doc__ for handler in route.methods.values())


async def test_stats_have_riaks_names_for_what_is_known(http: RawHttp) -> None:
    before = (await http.request("GET", "/stats")).json()
    assert (before["node_gets"], before["node_get_fsm_time_99"]) == (0, 0)
    await http.request("PUT", "/buckets/b/keys/k", {"Content-Type": "a/b"}, b"v")
    for _ in range(3):
        await http.request("GET", "/buckets/b/keys/k")
    stats = (await http.request("GET", "/stats")).json()
    assert (stats["node_gets"], stats["node_puts"]) == (3, 1)
    for operation in ("get", "put"):
        times = [
            stats[f"node_{operation}_fsm_time_{name}"] for name in ("median", "95", "99", "100")
        ]
        assert times == sorted(times)
        assert 0 < times[0] < 5_000_000  # microseconds


async def test_the_status_is_told_whether_ready_or_not(
    http: RawHttp, backend: MemoryBackend
) -> None:
    backend.readiness = Readiness(False, ("no ring yet",))
    got = await http.request("GET", "/admin/status")
    assert (got.status, got.headers["content-type"]) == (200, "application/json")
    status = got.json()
    assert (status["ready"], status["reasons"]) == (False, ["no ring yet"])
    assert status["members"][0]["partitions"] == {"default": 8}
    assert status["version"]
