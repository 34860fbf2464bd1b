"""`/admin/tombstones`, as clients see it."""

from __future__ import annotations

from raw_http import RawHttp


async def test_it_says_how_many_wait_and_what_for(http: RawHttp) -> None:
    got = await http.request("GET", "/admin/tombstones")
    assert got.status == 200
    told = got.json()
    assert (told["tombstones"], told["births"], told["oldest_s"], told["reaped"]) == (
        7,
        2,
        90.5,
        11,
    )
    assert told["waiting"][0] == {"why": "n3 cannot be reached", "records": 5}
    assert (await http.request("HEAD", "/admin/tombstones")).status == 200


async def test_nothing_else_is_done_with_it(http: RawHttp) -> None:
    got = await http.request("POST", "/admin/tombstones")
    assert (got.status, got.headers["allow"]) == (405, "GET, HEAD")


async def test_the_metrics_have_it(http: RawHttp) -> None:
    page = (await http.request("GET", "/metrics")).body.decode().splitlines()
    for line in (
        "dynamo_tombstones_kept 7",
        "dynamo_tombstones_oldest_seconds 90.5",
        "dynamo_tombstones_blocked 6",
        "dynamo_vectors_long 2",
        "dynamo_tombstones_reaped_total 0",
    ):
        assert line in page
