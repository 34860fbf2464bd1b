"""`/admin/hints` and its sync point, as clients see them."""

from __future__ import annotations

import pytest
from memory_backend import MemoryBackend
from raw_http import RawHttp

from dynamo.errors import DynamoError, HintsUndelivered, NotReady, TooManySyncs
from dynamo.status import HintTarget


def target(name: str, hints: int) -> HintTarget:
    return HintTarget(
        target=name,
        hints=hints,
        bytes=100 * hints,
        oldest_s=12.5,
        state="down",
        reason="not connected",
        refused={},
        delivered=3,
        bytes_delivered=300,
        hints_per_s=0.0,
        bytes_per_s=0.0,
    )


async def test_what_is_held_is_told_by_target(http: RawHttp, backend: MemoryBackend) -> None:
    backend.targets = (target("n2", 4), target("n3", 1))
    got = await http.request("GET", "/admin/hints")
    assert got.status == 200
    told = got.json()
    assert (told["hints"], told["bytes"], told["window_s"]) == (5, 500, 10_800)
    assert [(one["target"], one["hints"], one["state"]) for one in told["targets"]] == [
        ("n2", 4, "down"),
        ("n3", 1, "down"),
    ]
    assert (await http.request("HEAD", "/admin/hints")).status == 200


async def test_a_sync_point_says_what_was_delivered(http: RawHttp, backend: MemoryBackend) -> None:
    backend.synced = {"n2": 7}
    got = await http.request("POST", "/admin/hints/sync?timeout=2500")
    assert (got.status, got.json()) == (200, {"synced": True, "delivered": {"n2": 7}})
    assert (backend.sync_timeout_ms, got.headers["x-dynamo-timeout"]) == (2500, "2500")


async def test_a_sync_point_that_is_not_met_says_what_is_left_and_why(
    http: RawHttp, backend: MemoryBackend
) -> None:
    left = {"n2": {"hints": 4, "state": "down", "reason": "not connected"}}
    backend.synced = HintsUndelivered("hints for n2 are not delivered yet", undelivered=left)
    got = await http.request("POST", "/admin/hints/sync")
    assert (got.status, got.json()["code"]) == (503, "hints_undelivered")
    assert got.json()["undelivered"] == left


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TooManySyncs("64 wait already", limit=64, retry_after_s=1), "too_many_syncs"),
        (NotReady("this node is stopping"), "not_ready"),
    ],
)
async def test_a_sync_point_that_cannot_be_waited_for_says_why(
    http: RawHttp, backend: MemoryBackend, error: DynamoError, code: str
) -> None:
    backend.synced = error
    got = await http.request("POST", "/admin/hints/sync")
    assert (got.status, got.json()["code"], got.json()["outcome"]) == (503, code, "none")
    assert ("retry-after" in got.headers) == (code == "too_many_syncs")


@pytest.mark.parametrize("timeout", ["0", "-1", "1.5", "soon", "", "%FF"])
async def test_a_timeout_that_is_none_is_refused(http: RawHttp, timeout: str) -> None:
    got = await http.request("POST", f"/admin/hints/sync?timeout={timeout}")
    assert (got.status, got.json()["field"]) == (400, "timeout")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("POST", "/admin/hints", "GET, HEAD"), ("GET", "/admin/hints/sync", "POST")],
)
async def test_other_methods_are_refused(
    http: RawHttp, method: str, path: str, allowed: str
) -> None:
    got = await http.request(method, path)
    assert got.status == 405
    assert got.headers["allow"].startswith(allowed)


async def test_the_metrics_tell_of_each_target(http: RawHttp, backend: MemoryBackend) -> None:
    backend.targets = (target("n2", 4),)
    text = (await http.request("GET", "/metrics")).body.decode()
    for line in (
        'dynamo_hints_held{target="n2"} 4',
        'dynamo_hints_held_bytes{target="n2"} 400',
        'dynamo_hints_oldest_seconds{target="n2"} 12.5',
        "dynamo_hints_delivered_total 0",
    ):
        assert line in text.splitlines()
