"""Request ids: the client's own where it can be one, everywhere the same."""

from __future__ import annotations

import pytest
from raw_http import RawHttp

from dynamo.http.ids import accepted

GOOD = ("a", "x" * 64, "7f9c:1.2_3-4", "0")
BAD = ("", "x" * 65, "a b", "a\tb", "a;b", "é", '"a"', "a/b", "<script>", "\udcff")


@pytest.mark.parametrize("given", GOOD)
async def test_a_clients_id_is_repeated_in_header_and_body(http: RawHttp, given: str) -> None:
    got = await http.request("GET", "/buckets/b/keys/none", {"X-Request-Id": given})
    assert got.status == 404
    assert got.headers["x-request-id"] == got.json()["request_id"] == given


@pytest.mark.parametrize("given", [one for one in BAD if one.isprintable() and one.isascii()])
async def test_what_is_no_id_is_ignored(http: RawHttp, given: str) -> None:
    got = await http.request("GET", "/buckets/b/keys/none", {"x-request-id": given})
    assert got.status == 404
    assert got.headers["x-request-id"] == got.json()["request_id"] != given


async def test_requests_of_one_id_are_still_several(http: RawHttp) -> None:
    for _ in range(3):
        got = await http.request("GET", "/ping", {"X-Request-Id": "again"})
        assert (got.status, got.headers["x-request-id"]) == (200, "again")


def test_only_plain_short_names_are_ids() -> None:
    assert [accepted(one) for one in GOOD] == [one.encode() for one in GOOD]
    assert [accepted(one) for one in BAD] == [b""] * len(BAD)
