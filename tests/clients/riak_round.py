"""The whole round of the unmodified client of 2016, `riak` 2.7.0, against running nodes.

Run by the interpreter of its own environment: `riak_round.py TYPE PORT...`; prints one JSON object,
what the client saw, step by step. With the type `-` it only tries a node that has too few others.
Judges nothing: that is the test's.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import closing
from typing import Any

import riak_shim  # type: ignore[import-not-found]  # isort: skip  # noqa: F401
import riak  # type: ignore[import-not-found]  # isort: skip
from riak.resolver import last_written_resolver  # type: ignore[import-not-found]  # isort: skip

KEYS = [
    "plain",
    "two words",
    "a/b",
    "émile",
    "日本",
    "100%",
    "a+b",
    "c}d{",
    'quo"te',
    "q?r#s",
    "..",
]


def main(bucket_type: str, ports: list[int]) -> dict[str, Any]:
    nodes = [{"host": "127.0.0.1", "http_port": port} for port in ports]
    client = riak.RiakClient(protocol="http", nodes=nodes)
    seen: dict[str, Any] = {}
    if bucket_type == "-":
        return {"alone": alone(client)}
    for step in (node, objects, conflict, conditions, names, listing, properties, errors):
        seen[step.__name__] = step(client)
    seen["types"] = types(client, bucket_type)
    return seen


def node(client: Any) -> dict[str, Any]:
    with client._transport() as transport:
        version, resources = str(transport.server_version), sorted(transport.resources)
        stats = transport.stats()
    counted = ("riak_kv_version", "ring_num_partitions", "riak_kv_vnodes_running")
    return {
        "ping": client.ping(),
        "version": version,
        "resources": resources,
        "stats": {name: stats[name] for name in counted},
        "preflist": client.bucket("round").get_preflist("a/b é"),
    }


def objects(client: Any) -> dict[str, Any]:
    bucket = client.bucket("round")
    missing = bucket.get("k")
    new = bucket.new("k", data={"fruit": ["fig"], "count": 1})
    new.usermeta = {"owner": "ada", "colour": "dark red"}
    new.store(w=2, dw=2, pw=1, timeout=5000)
    found = bucket.get("k", r=2, pr=1, basic_quorum=True, notfound_ok=True, timeout=5000)
    found.data["count"] += 1
    found.store(return_body=False)
    text = bucket.new("t", data="grüße", content_type="text/plain")
    text.charset = "utf-8"
    text.store()
    binary = bucket.new("bin", encoded_data=bytes(range(256)), content_type="image/png")
    binary.store(return_body=False)
    generated = bucket.new(data="anything").store()
    changed = bucket.get("k")
    deleted = bucket.get("t").delete(r="quorum", w="quorum", timeout=5000)
    gone = bucket.get("t")
    seen = {
        "missing": [missing.exists, missing.data, missing.vclock],
        "after put": [new.exists, new.data, new.usermeta, new.vclock is not None],
        "found": [found.content_type, found.usermeta, bool(found.etag), found.last_modified > 1e9],
        "changed": [changed.data, changed.usermeta],
        "binary": bucket.get("bin").encoded_data == bytes(range(256)),
        "generated": [len(generated.key) > 10, bucket.get(generated.key).data],
        "deleted": [deleted.exists, gone.exists, gone.vclock is not None],
    }
    gone.data = "back"
    gone.store()
    seen["back"] = [bucket.get("t").exists, bucket.get("t").data]
    client.bucket("round").delete("never there")
    return seen


def conflict(client: Any) -> dict[str, Any]:
    bucket = client.bucket("round")
    # Two clients that do not know of each other; the third writes over what it read first.
    for value in ("milk", "žito"):
        blind = bucket.new("cart", data=value, content_type="text/plain")
        blind.usermeta = {"from": value.encode("ascii", "replace").decode()}
        blind.store(return_body=False)
    both = bucket.get("cart")
    siblings = sorted([s.data, s.usermeta, s.content_type, bool(s.etag)] for s in both.siblings)
    refused = error(both.store)
    third = bucket.new("cart", data="bread", content_type="text/plain").store()
    of_put = sorted(s.data for s in third.siblings)
    stale = both.vclock
    both.reload()
    merged = "+".join(sorted(s.data for s in both.siblings))
    both.siblings = [both.siblings[0]]
    both.data = merged
    both.store()
    after = bucket.get("cart")
    late = bucket.new("cart", data="late", content_type="text/plain")
    late.vclock = stale
    late.store(return_body=False)
    bucket.resolver = last_written_resolver
    resolved = bucket.get("cart")
    # Read once, or the client sends the text it took from a multipart as Latin-1.
    chosen = resolved.data
    resolved.store(return_body=False)
    bucket.resolver = None
    return {
        "siblings": siblings,
        "refused": refused,
        "of a put": of_put,
        "after": [len(after.siblings), after.data],
        "resolved": [chosen, len(bucket.get("cart").siblings)],
    }


def conditions(client: Any) -> dict[str, Any]:
    bucket = client.bucket("round")
    first = bucket.new("once", data=1).store(if_none_match=True)
    again = error(lambda: bucket.new("once", data=2).store(if_none_match=True))
    bucket.get("once").delete()
    once_more = bucket.new("once", data=3).store(if_none_match=True, return_body=False)
    return {"first": first.data, "again": again, "after delete": once_more.reload().data}


def names(client: Any) -> dict[str, Any]:
    bucket = client.bucket("na mes/é")
    for key in KEYS:
        bucket.new(key, data=key).store(return_body=False)
    read = [bucket.get(key).data for key in KEYS]
    many = client.multiget([("default", "na mes/é", key) for key in KEYS])
    return {"read": read == KEYS, "multiget": sorted(each.data for each in many) == sorted(KEYS)}


def listing(client: Any) -> dict[str, Any]:
    bucket = client.bucket("na mes/é")
    with closing(bucket.stream_keys()) as stream:
        streamed = [key for keys in stream for key in keys]
    with closing(client.stream_buckets(timeout=10_000)) as stream:
        buckets = [each.name for found in stream for each in found]
    return {
        "keys": sorted(bucket.get_keys()) == sorted(KEYS),
        "keys with a timeout": len(client.get_keys(bucket, timeout=10_000)),
        "stream": sorted(streamed) == sorted(KEYS),
        "buckets": sorted(each.name for each in client.get_buckets(timeout=10_000)),
        "buckets streamed": sorted(buckets),
        "no keys": [client.bucket("empty").get_keys(), list(client.bucket("empty").stream_keys())],
    }


def properties(client: Any) -> dict[str, Any]:
    bucket = client.bucket("props")
    before = bucket.get_properties()
    bucket.set_properties({"allow_mult": False, "last_write_wins": True, "r": 1})
    changed = bucket.get_properties()
    for value in ("old", "new"):
        bucket.new("k", data=value).store(return_body=False)
    one = bucket.get("k")
    cleared = bucket.clear_properties()
    bucket.allow_mult = True
    named = ("n_val", "allow_mult", "last_write_wins", "dvv_enabled", "r", "w", "pr", "pw", "dw")
    return {
        "before": {name: before[name] for name in named},
        "changed": {name: changed[name] for name in named},
        "last write": [len(one.siblings), one.data],
        "cleared": [cleared, bucket.allow_mult, bucket.r],
        "n_val": error(lambda: bucket.set_property("n_val", 7)),
    }


def types(client: Any, bucket_type: str) -> dict[str, Any]:
    of_type = client.bucket_type(bucket_type)
    bucket = of_type.bucket("typed")
    bucket.new("k", data="typed").store()
    bucket.set_property("allow_mult", True)
    with closing(of_type.stream_buckets()) as stream:
        streamed = [each.name for found in stream for each in found]
    seen = {
        "value": bucket.get("k").data,
        "elsewhere": client.bucket("typed").get("k").exists,
        "keys": [bucket.get_keys(), [key for keys in bucket.stream_keys() for key in keys]],
        "buckets": [[each.name for each in of_type.get_buckets()], streamed],
        "preflist": len(bucket.get_preflist("k")),
        "n_val": of_type.get_property("n_val"),
        "unknown": error(lambda: client.bucket_type("nowhere").bucket("b").get("k")),
    }
    of_type.set_property("r", "all")
    seen["set"] = of_type.get_property("r")
    of_type.set_property("r", "quorum")
    bucket.get("k").delete()
    seen["deleted"] = bucket.get("k").exists
    return seen


def errors(client: Any) -> dict[str, Any]:
    bucket = client.bucket("round")
    damaged = bucket.get("k")
    damaged.vclock._vclock = damaged.vclock._vclock[:-1] + b"\0"
    return {
        "too many": error(lambda: bucket.get("k", r=7)),
        "too many to write": error(lambda: bucket.new("k", data=1).store(w=9)),
        "no timeout": error(lambda: bucket.get("k", timeout=0)),
        "damaged context": error(damaged.store),
        "key too long": error(lambda: bucket.get("k" * 1025)),
        "too large": error(
            lambda: bucket.new("k", encoded_data=bytes(2 << 20), content_type="a/b").store()
        ),
        "index": error(lambda: bucket.new("i", data=1).add_index("a_int", 1).store()),
        "and after": bucket.get("k").data,
    }


def alone(client: Any) -> dict[str, Any]:
    bucket = client.bucket("round")
    return {
        "ping": client.ping(),
        "get": error(lambda: bucket.get("k")),
        "put": error(lambda: bucket.new("k", data=1).store(timeout=2000)),
        "get of one": bucket.get("k", r=1).exists,
        "set": error(lambda: bucket.set_property("r", 1)),
    }


def error(call: Callable[[], Any]) -> str:
    """The exception of `call` in a line, or what it returned."""
    try:
        return f"no error: {call()!r}"
    except Exception as raised:  # noqa: BLE001  # whatever the client makes of a reply is told
        return f"{type(raised).__name__}: {raised}"


if __name__ == "__main__":
    try:
        print(json.dumps(main(sys.argv[1], [int(port) for port in sys.argv[2:]])), flush=True)
    except BaseException:  # noqa: BLE001  # told, and the process ends with it
        # Not left to the interpreter: a client with a stream that failed waits for it at its end.
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
