"""Three real nodes list what they hold: streamed, paged, with one node behind, with two gone."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote_to_bytes

from cluster_process import ClusterProcess, target
from cluster_waits import wait_connected

ODD = [b"}", b'"', b'{"keys":[]}', b"a b+c", b"\x00\r\n", "é".encode(), b"a/b", b"%41"]
NOT_UTF8 = [b"\xff\xfe", b"\x80}", b"\xed\xa0\x80"]


def put_all(cluster: ClusterProcess, keys: list[bytes], *, nodes: int = 3) -> None:
    def put(numbered: tuple[int, bytes]) -> int:
        return cluster.put(numbered[0] % nodes, numbered[1], b"v").status

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(put, enumerate(keys))) == {204}


def objects(text: str) -> Iterator[dict[str, Any]]:
    """JSON objects, one after the other."""
    decoder = json.JSONDecoder()
    at = 0
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        yield value


def names(listed: dict[str, Any]) -> list[bytes]:
    encoded = listed.get("encoded_keys", [])
    return [key.encode() for key in listed["keys"]] + [unquote_to_bytes(key) for key in encoded]


def stream(cluster: ClusterProcess, i: int) -> tuple[list[bytes], bool]:
    """(keys, complete) of a streamed list."""
    got = cluster.http(i, "GET", "/buckets/b/keys?keys=stream")
    assert got.status == 200
    found = list(objects(got.body.decode("ascii")))
    assert found[-1]["keys"] == []
    return [key for listed in found for key in names(listed)], found[-1]["complete"]


def pages(cluster: ClusterProcess, limit: int) -> list[bytes]:
    """All keys by pages, each from another node."""
    found: list[bytes] = []
    cursor = ""
    for turn in range(10_000):
        query = f"keys=true&limit={limit}{cursor}"
        listed = cluster.http(turn % 3, "GET", f"/buckets/b/keys?{query}").json()
        assert listed["complete"]
        found += names(listed)
        if "cursor" not in listed:
            break
        cursor = f"&cursor={listed['cursor']}"
    return found


def test_lists_are_the_same_however_they_are_asked_for_and_true_after_a_node_was_away() -> None:
    with ClusterProcess() as cluster:
        keys = [b"key %d" % number for number in range(3000)] + ODD + NOT_UTF8
        put_all(cluster, keys)
        expected = sorted(keys)
        for i in range(3):
            found, complete = stream(cluster, i)
            assert (sorted(found), complete) == (expected, True)
        whole = cluster.http(1, "GET", "/buckets/b/keys?keys=true").json()
        assert (sorted(names(whole)), whole["complete"]) == (expected, True)
        assert sorted(pages(cluster, 700)) == expected
        for key in (*ODD, *NOT_UTF8):  # what is listed can be asked for
            assert cluster.get(2, key).body == b"v"
        buckets = cluster.http(0, "GET", "/buckets?buckets=true").json()
        assert buckets == {"buckets": ["b"], "complete": True}

        cluster.kill9(2)
        new = [b"new %d" % number for number in range(200)]
        put_all(cluster, new, nodes=2)
        for key in keys[:50]:
            assert cluster.delete(0, key).status == 204
        cluster.restart(2)
        wait_connected(cluster)
        expected = sorted([*keys[50:], *new])
        found, complete = stream(cluster, 2)
        assert (sorted(found), complete) == (expected, True)

        cluster.kill9(0)
        cluster.kill9(1)
        found, complete = stream(cluster, 2)
        assert not complete
        assert set(keys[50:]) <= set(found)
        assert len(found) == len(set(found))
        assert cluster.http(2, "GET", "/buckets?buckets=true").json()["complete"] is False
        assert cluster.stats(2)["listings_ended_incomplete"] == 2


def test_a_preflist_says_which_owners_can_be_reached() -> None:
    with ClusterProcess() as cluster:
        path = f"{target('k')}/preflist"
        owners = cluster.http(0, "GET", path).json()["preflist"]
        assert sorted(owner["node"] for owner in owners) == ["n1", "n2", "n3"]
        assert all(owner["primary"] and owner["connected"] for owner in owners)
        assert len({owner["partition"] for owner in owners}) == 1
        cluster.kill9(2)
        after = cluster.http(0, "GET", f"/types/default{path}").json()["preflist"]
        assert {owner["node"]: owner["connected"] for owner in after} == {
            "n1": True,
            "n2": True,
            "n3": False,
        }


def test_listings_whose_clients_left_make_room_for_others() -> None:
    with ClusterProcess() as cluster:
        put_all(cluster, [b"%d" % number + b"x" * 900 for number in range(2000)])
        for _ in range(8):  # twice as many as a node runs at a time
            _leave_in_the_midst(cluster)
        found, complete = stream(cluster, 0)
        assert (len(found), complete) == (2000, True)


def _leave_in_the_midst(cluster: ClusterProcess) -> None:
    """A listing has begun, and its client is gone. Those of before need a moment to be missed."""
    until = time.monotonic() + 10
    status = b""
    while status != b"HTTP/1.1 200 OK":
        assert time.monotonic() < until, status
        with socket.create_connection(("127.0.0.1", cluster.port(0))) as connection:
            connection.sendall(b"GET /buckets/b/keys?keys=stream HTTP/1.1\r\nHost: h\r\n\r\n")
            status = connection.recv(15)
