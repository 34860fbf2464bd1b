"""The clients of PyPI, unmodified, make their whole round at three real nodes.

Each runs in an environment of its own (tests/support/client_venv.py) and says what it saw; what it
should have seen is written down here.
"""

from __future__ import annotations

import json
from typing import Any

from client_venv import client_python, find_python, run_client, why_pip_failed
from cluster_process import ClusterProcess

#: A bucket type beside the default one, and its replicas.
TYPE = ("carts", 2)

#: What `GET /` must name, or a client of 2016 does not use it.
RESOURCES = {
    "riak_kv_wm_buckets",
    "riak_kv_wm_bucket_type",
    "riak_kv_wm_keylist",
    "riak_kv_wm_object",
    "riak_kv_wm_ping",
    "riak_kv_wm_preflist",
    "riak_kv_wm_props",
    "riak_kv_wm_stats",
}
#: What is not built, and what a client would use if it were named.
ABSENT = {"riak_kv_wm_counter", "riak_kv_wm_mapred", "riak_kv_wm_index", "yz_wm_search"}

DEFAULTS = {
    "n_val": 3,
    "allow_mult": True,
    "last_write_wins": False,
    "dvv_enabled": True,
    "r": "quorum",
    "w": "quorum",
    "pr": 0,
    "pw": 0,
    "dw": 0,
}
LAST_WRITE = {"allow_mult": False, "last_write_wins": True, "r": 1}
MAP = {"fruit": ["fig"], "count": 1}
USERMETA = {"owner": "ada", "colour": "dark red"}


def _refused(received: int, *expected: int) -> str:
    return f"RiakError: 'Expected status {list(expected)}, received {received}'"


RIAK_SAW: dict[str, Any] = {
    "objects": {
        "missing": [False, None, None],
        "after put": [True, MAP, USERMETA, True],
        "found": ["application/json", USERMETA, True, True],
        "changed": [MAP | {"count": 2}, USERMETA],
        "binary": True,
        "generated": [True, "anything"],
        "deleted": [False, False, True],
        "back": [True, "back"],
    },
    "conflict": {
        "siblings": [
            ["milk", {"from": "milk"}, "text/plain", True],
            ["žito", {"from": "?ito"}, "text/plain", True],
        ],
        "refused": "ConflictError: 'Attempting to store an invalid object, "
        "resolve the siblings first'",
        "of a put": ["bread", "milk", "žito"],
        "after": [1, "bread+milk+žito"],
        "resolved": ["bread+milk+žito", 1],
    },
    "conditions": {"first": 1, "again": _refused(412, 200, 201, 204, 300), "after delete": 3},
    "names": {"read": True, "multiget": True},
    "listing": {
        "keys": True,
        "keys with a timeout": 11,
        "stream": True,
        "buckets": ["na mes/é", "round"],
        "buckets streamed": ["na mes/é", "round"],
        "no keys": [[], []],
    },
    "properties": {
        "before": DEFAULTS,
        "changed": DEFAULTS | LAST_WRITE | {"dvv_enabled": False},
        "last write": [1, "new"],
        "cleared": [True, True, "quorum"],
        "n_val": "RiakError: 'Error setting bucket properties.'",
    },
    "errors": {
        "too many": _refused(400, 200, 300, 404),
        "too many to write": _refused(400, 200, 201, 204, 300),
        "no timeout": "ValueError: timeout must be a positive integer",
        "damaged context": _refused(400, 200, 201, 204, 300),
        "key too long": _refused(414, 200, 300, 404),
        "too large": _refused(413, 200, 201, 204, 300),
        "index": _refused(400, 200, 201, 204, 300),
        "and after": MAP | {"count": 2},
    },
    "types": {
        "value": "typed",
        "elsewhere": False,
        "keys": [["k"], ["k"]],
        "buckets": [["typed"], ["typed"]],
        "preflist": 2,
        "n_val": 2,
        "unknown": "RiakError: 'Error getting bucket-type properties.'",
        "set": "all",
        "deleted": False,
    },
}

OPENRIAK_SAW: dict[str, Any] = {
    "objects": {
        "missing": "NotFoundError: not found",
        "put": 204,
        "found": ["grüße", "text/plain", "ada", True, True],
        "changed": [200, "changed"],
        "fresh": [
            "CallError: Unknown error for operation openriak.v3_4.api#GetDefaultObject"
            " - status: 304 - reason: 304"
        ]
        * 2,
        "head": [200, True],
        "created": [True, "new"],
        "posted": [204, "gzip"],
        "deleted": [204, "NotFoundError: not found"],
        "empty": [204, ""],
    },
    "conflict": {
        "names": "MultipleChoicesError: Siblings:",
        "multipart/mixed": ["multipart/mixed", True],
        "application/json": ["application/json", True],
        "values": ["bread", "milk"],
        "one": True,
        "resolved": "milk and bread",
    },
    "conditions": {
        "first": 204,
        "refused": ["PreconditionFailedError: the condition does not hold"] * 3,
        "right": 204,
        "not modified": ["ConflictError: the condition does not hold", 204, "7"],
    },
    "names": {"read": True},
    "listing": {
        "keys": True,
        "stream": True,
        "complete": [True, {"keys": [], "complete": True}],
        "buckets": ["names", "round"],
        "buckets streamed": ["names", "round"],
        "no keys": [],
    },
    "properties": {
        "before": {
            name: DEFAULTS[name] for name in ("n_val", "allow_mult", "last_write_wins", "r")
        },
        "changed": [204, {"n_val": 3} | LAST_WRITE],
        "last write": "new",
        "n_val": "BadRequestError",
        "reset": [204, True],
    },
    "errors": {
        "too many": "BadRequestError",
        "no timeout": "BadRequestError",
        "damaged context": "BadRequestError",
        "key too long": "CallError: Unknown error for operation "
        "openriak.v3_4.api#GetDefaultObject - status: 414 - reason: 414",
        "too large": "CallError: Unknown error for operation "
        "openriak.v3_4.api#PutDefaultObject - status: 413 - reason: 413",
        "index": "BadRequestError",
    },
    "types": {
        "value": [204, "typed"],
        "elsewhere": "NotFoundError",
        "keys": [["k"], [{"keys": ["k"]}, {"keys": [], "complete": True}]],
        "buckets": ["typed"],
        "n_val": 2,
        "props": [204, "all", 204],
        "deleted": 204,
        "unknown": "NotFoundError",
    },
}


def test_the_client_of_2016_makes_its_whole_round() -> None:
    python = client_python("riak", at_least=(3, 11), before=["setuptools"])
    with ClusterProcess(classes=[TYPE]) as cluster:
        seen = json.loads(run_client(python, "riak_round.py", TYPE[0], *_ports(cluster)))
        node = seen.pop("node")
        assert seen == RIAK_SAW
        assert (node["ping"], node["version"]) == (True, "3.4.0")
        assert set(node["resources"]) >= RESOURCES
        assert not set(node["resources"]) & ABSENT
        _check_stats(node["stats"])
        assert sorted(owner["node"] for owner in node["preflist"]) == ["n1", "n2", "n3"]
        assert all(owner["primary"] for owner in node["preflist"])

        cluster.kill9(1)
        cluster.kill9(2)
        alone = json.loads(run_client(python, "riak_round.py", "-", _ports(cluster)[0]))["alone"]
        assert alone == {
            "ping": True,
            "get": _refused(503, 200, 300, 404),
            "put": _refused(503, 200, 201, 204, 300),
            "get of one": True,
            "set": "no error: None",  # the others learn it before they serve again
        }


def test_the_client_of_2026_makes_its_whole_round() -> None:
    python = client_python("openriak", at_least=(3, 12))
    with ClusterProcess(classes=[TYPE]) as cluster:
        seen = json.loads(run_client(python, "openriak_round.py", TYPE[0], *_ports(cluster)))
        node = seen.pop("node")
        assert seen == OPENRIAK_SAW
        assert (node["ping"], node["head"]) == ([200, "OK"], [200, "application/json"])
        assert set(node["resources"]) >= RESOURCES
        _check_stats(node["stats"])

        cluster.kill9(1)
        cluster.kill9(2)
        alone = json.loads(run_client(python, "openriak_round.py", "-", _ports(cluster)[0]))
        told = ["TimeoutError", True]
        assert alone["alone"] == {
            "ping": "OK",
            "get": told,
            "put": told,
            "keys complete": False,
        }


def test_why_a_client_is_missing_is_told_apart_from_a_wrong_one() -> None:
    unreached = (
        "WARNING: Retrying (Retry(total=0)) after connection broken by "
        "'NewConnectionError(...)': /simple/six/\nERROR: No matching distribution found for six"
    )
    changed = (
        "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have "
        "updated the package versions, please update the hashes."
    )
    assert why_pip_failed(unreached) == "no index"
    assert why_pip_failed(changed) == "other"
    assert why_pip_failed(unreached + changed) == "other"
    assert why_pip_failed("ERROR: No matching distribution found for six") == "other"
    assert find_python((3, 99)) is None


def _ports(cluster: ClusterProcess) -> list[str]:
    return [str(cluster.port(i)) for i in range(len(cluster))]


def _check_stats(stats: dict[str, Any]) -> None:
    assert stats["riak_kv_version"] == "3.4.0"
    assert stats["ring_num_partitions"] == 64
    assert stats["riak_kv_vnodes_running"] > 0
