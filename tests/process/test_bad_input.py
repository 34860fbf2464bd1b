"""Bad input at real nodes: what only the store can judge, and what must not get into a log."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest
from cluster_process import ClusterProcess

MIB = 1 << 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterProcess]:
    """Each test has a key of its own."""
    large = ["--value-bytes-max", "8MiB"]
    with ClusterProcess(classes=[("two", 2)], extra_args=large) as cluster:
        yield cluster


def test_a_record_that_would_be_too_large_is_409_with_what_is_there(
    cluster: ClusterProcess,
) -> None:
    assert cluster.put(0, "large", b"a" * (7 * MIB)).status == 204
    refused = cluster.put(1, "large", b"b" * (7 * MIB))
    body = refused.json()
    assert (refused.status, body["code"]) == (409, "record_full")
    assert (body["cap"], body["outcome"]) == ("record_bytes", "none")
    assert [sibling["value"] for sibling in body["siblings"]] == ["a" * (7 * MIB)]
    assert cluster.get(2, "large").body == b"a" * (7 * MIB)
    assert refused.context is not None
    assert cluster.put(1, "large", b"b" * (7 * MIB), context=refused.context).status == 204
    assert cluster.get(2, "large", query="r=3").body == b"b" * (7 * MIB)
    assert cluster.put(0, "large", b"c" * (8 * MIB + 1)).status == 413


def test_a_sibling_above_a_hundred_is_409_at_any_node(cluster: ClusterProcess) -> None:
    values = [b"%d" % number for number in range(100)]
    for number, value in enumerate(values):
        assert cluster.put(number % 3, "many", value, query="w=3").status == 204
    for node in range(3):
        refused = cluster.put(node, "many", b"one more")
        assert (refused.status, refused.json()["code"]) == (409, "record_full")
        shown = [sibling["value"].encode() for sibling in refused.json()["siblings"]]
        assert sorted(shown) == sorted(values)
    assert cluster.put(1, "many", b"resolved", context=refused.context).status == 204
    assert cluster.get(0, "many", query="r=3").siblings == [b"resolved"]


def test_counts_and_types_are_judged_by_the_ring(cluster: ClusterProcess) -> None:
    other = "/types/two/buckets/b/keys/k"
    for path, n in (("/buckets/b/keys/k", 3), (other, 2)):
        for method, field in (("GET", "r"), ("GET", "pr"), ("PUT", "w"), ("PUT", "dw")):
            fields = {"Content-Type": "a/b"}
            target = f"{path}?{field}={n + 1}"
            refused = cluster.http(0, method, target, headers=fields, body=b"")
            body = refused.json()
            assert (refused.status, body["code"]) == (400, "invalid_argument"), target
            assert (body["field"], str(n) in body["allowed"]) == (field, True)
    unknown = cluster.http(0, "GET", "/types/three/buckets/b/keys/k")
    assert (unknown.status, unknown.json()["code"]) == (404, "unknown_bucket_type")


def test_a_context_of_another_cluster_is_400() -> None:
    with ClusterProcess(nodes=1, replicas=1) as one, ClusterProcess(nodes=1, replicas=1) as other:
        for cluster in (one, other):
            assert cluster.put(0, "k", b"v").status == 204
        context = one.get(0, "k").context
        refused = other.put(0, "k", b"w", context=context)
        assert (refused.status, refused.json()["code"]) == (400, "bad_context")
        assert other.delete(0, "k", context=context).status == 400
        assert other.get(0, "k").body == b"v"


def test_no_key_value_or_header_gets_into_a_log_or_onto_the_disk_as_a_name() -> None:
    with ClusterProcess(
        extra_args=["--log-format", "json", "--log-level", "debug", "--access-log"]
    ) as cluster:
        marks = (b"..%2f..%2fMARK", b"k%0d%0alevel%3derror MARK", b"MARK%00%1b[31m")
        token = base64.b64encode(b"MARK" * 9).decode()
        for mark in marks:
            target = f"/buckets/b/keys/{mark.decode().replace(' ', '+')}"
            fields = {"Content-Type": "a/MARK", "X-Riak-Meta-A": "MARK"}
            for query in ("", "?w=MARK", "?returnbody=MARK"):
                cluster.http(0, "PUT", target + query, headers=fields, body=b"MARK")
            cluster.http(0, "GET", target, headers={"If-Match": "MARK", "Accept": "MARK"})
            refused = cluster.http(
                0, "PUT", target, headers={**fields, "X-Riak-Vclock": token}, body=b"MARK"
            )
            assert b"MARK" not in refused.body
        cluster.kill9(1)
        cluster.kill9(2)
        assert cluster.put(0, "MARK", b"MARK").status == 503
        names = [path.as_posix() for path in cluster.directory.rglob("*")]
        assert not [name for name in names if "MARK" in name]
        logged = 0
        for node in range(3):
            for line in cluster.log(node).splitlines():
                if line.startswith("{"):
                    said = json.loads(line)
                    logged += "MARK" in said.get("target", "")
                    # The access log may say which target it was, as it came: encoded.
                    said = {name: text for name, text in said.items() if name != "target"}
                    assert "MARK" not in json.dumps(said), line
        assert logged > 10
