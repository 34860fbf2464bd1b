"""Values with an end, with real nodes: by header and by bucket, over restarts and crashes."""

from __future__ import annotations

import json

from cluster_process import ClusterProcess
from cluster_waits import wait_connected, wait_until

JSON = {"Content-Type": "application/json"}
KEYS = 20


def test_what_expires_is_gone_everywhere_and_stays_gone() -> None:
    with ClusterProcess(partitions=8) as cluster:
        given = json.dumps({"props": {"ttl": 2}}).encode()
        props = cluster.http(0, "PUT", "/buckets/b/props", headers=JSON, body=given)
        assert props.status == 204
        for number in range(KEYS):
            assert cluster.put(number % 3, f"goes{number}", b"v", query="w=3").status == 204
            lasts = {"X-Dynamo-Expires": "0"} if number % 2 else {"X-Dynamo-Expires": "3600"}
            stays = cluster.put(0, f"stays{number}", b"v", query="w=3", headers=lasts)
            assert stays.status == 204
        shown = cluster.get(1, "stays0")
        assert (shown.body, "X-Dynamo-Expires" in shown.headers) == (b"v", True)
        assert "X-Dynamo-Expires" not in cluster.get(1, "stays1").headers
        wait_until(lambda: cluster.get(0, f"goes{KEYS - 1}").status == 404, "values expire")
        _check_gone(cluster)

        cluster.kill9_all()
        for i in range(3):
            cluster.start(i, ready=False)
        cluster.wait_ready()
        wait_connected(cluster)
        _check_gone(cluster)
        assert (
            cluster.get(2, "stays0").headers["X-Dynamo-Expires"]
            == (shown.headers["X-Dynamo-Expires"])
        )
        for i in range(3):
            assert cluster.stats(i).get("read_repairs", 0) == 0

        gone = cluster.get(0, "goes0")
        lasts = {"X-Dynamo-Expires": "0", "If-None-Match": "*"}
        anew = cluster.put(0, "goes0", b"new", context=gone.context, headers=lasts)
        assert anew.status == 204
        assert cluster.get(1, "goes0", query="r=3").siblings == [b"new"]


def _check_gone(cluster: ClusterProcess) -> None:
    for number in range(KEYS):
        found = cluster.get(number % 3, f"goes{number}", query="r=3")
        assert (found.status, found.headers["X-Riak-Deleted"]) == (404, "true")
        assert found.context
        assert cluster.get(number % 3, f"stays{number}").body == b"v"
    for i in range(3):
        listed = cluster.http(i, "GET", "/buckets/b/keys?keys=true").json()
        assert (len(listed["keys"]), listed["complete"]) == (KEYS, True)
