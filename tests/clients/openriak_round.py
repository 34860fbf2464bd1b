"""The whole round of the unmodified client of 2026, `openriak` 0.1.4, against running nodes.

Run by the interpreter of its own environment: `openriak_round.py TYPE PORT...`; prints one JSON
object, what the client saw, step by step. With the type `-` it only tries a node that has too few
others. Judges nothing: that is the test's.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import sys
from collections.abc import Awaitable
from typing import Any

import openriak.models as m  # type: ignore[import-not-found]
from openriak import Config, OpenRiak
from smithy_core.documents import Document  # type: ignore[import-not-found]

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
    "..x",
]
TEXT = {"bucket": "round", "content_type": "text/plain"}
MULTIPART, JSON = "multipart/mixed", "application/json"


async def main(bucket_type: str, ports: list[int]) -> dict[str, Any]:
    clients = [OpenRiak(Config(endpoint_uri=f"http://127.0.0.1:{port}")) for port in ports]
    seen: dict[str, Any] = {}
    if bucket_type == "-":
        return {"alone": await alone(clients[0])}
    for number, step in enumerate(
        (node, objects, conflict, conditions, names, listing, properties, errors)
    ):
        seen[step.__name__] = await step(clients[number % len(clients)])
    seen["types"] = await types(clients[0], bucket_type)
    return seen


async def node(client: Any) -> dict[str, Any]:
    ping = await client.ping(m.PingInput())
    root = await client.get_root(m.GetRootInput(accept=JSON))
    stats = await client.get_stats(m.GetStatsInput(accept=JSON, timeout=5000))
    head = await client.head_stats(m.HeadStatsInput())
    counted = ("riak_kv_version", "ring_num_partitions", "riak_kv_vnodes_running")
    counters = json.loads(await stats.body.read())
    return {
        "ping": [ping.status_code, ping.body],
        "resources": sorted(json.loads(await root.body.read())),
        "stats": {name: counters[name] for name in counted},
        "head": [head.status_code, head.content_type],
    }


async def objects(client: Any) -> dict[str, Any]:
    missing = await error(get(client, "k"))
    put = await client.put_default_object(
        m.PutDefaultObjectOperationInput(
            **TEXT,
            key="k",
            body=b"gr\xc3\xbc\xc3\x9fe",
            riak_headers={"meta-owner": "ada"},
            w="2",
            dw="quorum",
            pw="one",
            node_confirms=2,
            timeout=5000,
            asis=True,
            sync_on_write="all",
        )
    )
    found = await get(client, "k", r="quorum", pr="one", basic_quorum=True, notfound_ok=True)
    changed = await client.put_default_object_return_body(
        m.PutDefaultObjectReturnBodyInput(
            **TEXT, key="k", body=b"changed", riak_headers=context(found)
        )
    )
    fresh = await error(get(client, "k", if_none_match=changed.etag))
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    unmodified = await error(get(client, "k", if_modified_since=later))
    head = await client.head_default_object(
        m.HeadDefaultObjectOperationInput(bucket="round", key="k")
    )
    created = await client.create_default_object(
        m.CreateDefaultObjectOperationInput(**TEXT, body=b"new")
    )
    posted = await client.post_default_object(
        m.PostDefaultObjectInput(**TEXT, key="posted", body=b"p", content_encoding="gzip")
    )
    generated = created.location.rpartition("/")[2]
    deleted = await client.delete_default_object(
        m.DeleteDefaultObjectOperationInput(
            bucket="round", key="k", rw="quorum", riak_headers=context(changed)
        )
    )
    gone = await error(get(client, "k", deleted_v_clock=True))
    empty = await client.put_default_object(
        m.PutDefaultObjectOperationInput(**TEXT, key="empty", body=b"")
    )
    return {
        "missing": missing,
        "put": put.status_code,
        "found": [
            (await found.body.read()).decode(),
            found.content_type,
            {name.lower(): value for name, value in found.riak_headers.items()}["meta-owner"],
            found.etag is not None,
            found.last_modified.year > 2024,
        ],
        "changed": [changed.status_code, (await changed.body.read()).decode()],
        "fresh": [fresh, unmodified],
        "head": [head.status_code, head.etag == changed.etag],
        "created": [len(generated) > 10, await read(client, generated)],
        "posted": [posted.status_code, (await get(client, "posted")).content_encoding],
        "deleted": [deleted.status_code, gone],
        "empty": [empty.status_code, await read(client, "empty")],
    }


async def conflict(client: Any) -> dict[str, Any]:
    for value in (b"milk", b"bread"):
        await put(client, "cart", value)
    names = await error(get(client, "cart"))
    seen: dict[str, Any] = {"names": names.partition("\n")[0]}
    for accept in (MULTIPART, JSON):
        try:
            await get(client, "cart", accept=accept)
        except m.MultipleChoicesError as choices:
            seen[accept] = [choices.content_type.partition(";")[0], bool(choices.vclock)]
            vclock, body = choices.vclock, choices.body
    siblings = json.loads(body)["siblings"]
    one = await get(client, "cart", vtag=siblings[0]["vtag"])
    await put(client, "cart", b"milk and bread", riak_headers={"vclock": vclock})
    return {
        **seen,
        "values": sorted(each["value"] for each in siblings),
        "one": (await one.body.read()).decode() == siblings[0]["value"],
        "resolved": await read(client, "cart"),
    }


async def conditions(client: Any) -> dict[str, Any]:
    first = await put(client, "once", b"1", if_none_match="*")
    again = await error(put(client, "once", b"2", if_none_match="*"))
    found = await get(client, "once")
    wrong = await error(put(client, "once", b"3", if_match='"nonsense"'))
    past = found.last_modified - datetime.timedelta(hours=1)
    since = await error(put(client, "once", b"4", if_unmodified_since=past))
    right = await put(client, "once", b"5", if_match=found.etag, riak_headers=context(found))
    late = await error(put(client, "once", b"6", riak_headers=latest(found)))
    found = await get(client, "once")
    last = await put(client, "once", b"7", riak_headers=latest(found) | context(found))
    return {
        "first": first.status_code,
        "refused": [again, wrong, since],
        "right": right.status_code,
        "not modified": [late, last.status_code, await read(client, "once")],
    }


async def names(client: Any) -> dict[str, Any]:
    for key in KEYS:
        await put(client, key, key.encode(), bucket="names")
    return {"read": [await read(client, key, bucket="names") for key in KEYS] == KEYS}


async def listing(client: Any) -> dict[str, Any]:
    keys = await client.list_default_keys(
        m.ListDefaultKeysOperationInput(bucket="names", timeout=10_000, props=False)
    )
    stream = await client.stream_default_keys(m.StreamDefaultKeysInput(bucket="names"))
    buckets = await client.list_default_buckets(m.ListDefaultBucketsInput(timeout=10_000))
    streamed = await client.stream_default_buckets(m.StreamDefaultBucketsInput())
    none = await client.list_default_keys(m.ListDefaultKeysOperationInput(bucket="empty"))
    chunks = objects_in((await stream.body.read()).decode())
    return {
        "keys": sorted(keys.body.as_value()["keys"]) == sorted(KEYS),
        "stream": sorted(key for chunk in chunks for key in chunk["keys"]) == sorted(KEYS),
        "complete": [keys.body.as_value()["complete"], chunks[-1]],
        "buckets": sorted(buckets.body.as_value()["buckets"]),
        "buckets streamed": sorted(
            name
            for chunk in objects_in((await streamed.body.read()).decode())
            for name in chunk["buckets"]
        ),
        "no keys": none.body.as_value()["keys"],
    }


async def properties(client: Any) -> dict[str, Any]:
    async def props() -> dict[str, Any]:
        got = await client.get_default_bucket_properties(
            m.GetDefaultBucketPropertiesInput(bucket="props", timeout=5000)
        )
        all_props: dict[str, Any] = got.body.as_value()["props"]
        return {name: all_props[name] for name in ("n_val", "allow_mult", "last_write_wins", "r")}

    async def change(value: dict[str, Any]) -> Any:
        return await client.set_default_bucket_properties(
            m.SetDefaultBucketPropertiesInput(
                bucket="props", content_type=JSON, props=Document({"props": value})
            )
        )

    before = await props()
    done = await change({"allow_mult": False, "last_write_wins": True, "r": 1})
    changed = await props()
    for value in (b"old", b"new"):
        await put(client, "k", value, bucket="props")
    last = await read(client, "k", bucket="props")
    refused = await error(change({"n_val": 7}))
    reset = await client.reset_default_bucket_properties(
        m.ResetDefaultBucketPropertiesInput(bucket="props")
    )
    return {
        "before": before,
        "changed": [done.status_code, changed],
        "last write": last,
        "n_val": refused.partition(":")[0],
        "reset": [reset.status_code, await props() == before],
    }


async def errors(client: Any) -> dict[str, Any]:
    long = m.GetDefaultObjectOperationInput(bucket="round", key="k" * 1025)
    return {
        "too many": kind(await error(get(client, "k", r="7"))),
        "no timeout": kind(await error(get(client, "k", timeout=0))),
        "damaged context": kind(
            await error(put(client, "k", b"x", riak_headers={"vclock": "AAAA"}))
        ),
        "key too long": await error(client.get_default_object(long)),
        "too large": await error(put(client, "k", bytes(2 << 20))),
        "index": kind(await error(put(client, "k", b"x", riak_headers={"index-a_int": "1"}))),
    }


async def types(client: Any, bucket_type: str) -> dict[str, Any]:
    typed = {"bucket_type": bucket_type, "bucket": "typed"}
    stored = await client.put_object(
        m.PutObjectOperationInput(**typed, key="k", content_type="text/plain", body=b"typed")
    )
    found = await client.get_object(m.GetObjectInput(**typed, key="k"))
    keys = await client.list_keys(m.ListKeysOperationInput(**typed))
    stream = await client.stream_keys(m.StreamKeysInput(**typed))
    buckets = await client.list_buckets(m.ListBucketsOperationInput(bucket_type=bucket_type))
    of_type = await client.get_bucket_type_properties(
        m.GetBucketTypePropertiesInput(bucket_type=bucket_type)
    )
    change = Document({"props": {"r": "all"}})
    changed = await client.set_bucket_properties(
        m.SetBucketPropertiesInput(**typed, content_type=JSON, props=change)
    )
    props = await client.get_bucket_properties(m.GetBucketPropertiesInput(**typed))
    reset = await client.reset_bucket_properties(m.ResetBucketPropertiesInput(**typed))
    deleted = await client.delete_object(m.DeleteObjectInput(**typed, key="k"))
    nowhere = m.GetObjectInput(bucket_type="nowhere", bucket="b", key="k")
    return {
        "value": [stored.status_code, (await found.body.read()).decode()],
        "elsewhere": kind(await error(get(client, "k", bucket="typed"))),
        "keys": [keys.body.as_value()["keys"], objects_in((await stream.body.read()).decode())],
        "buckets": buckets.body.as_value()["buckets"],
        "n_val": of_type.body.as_value()["props"]["n_val"],
        "props": [changed.status_code, props.body.as_value()["props"]["r"], reset.status_code],
        "deleted": deleted.status_code,
        "unknown": kind(await error(client.get_object(nowhere))),
    }


async def alone(client: Any) -> dict[str, Any]:
    async def refused(call: Awaitable[Any]) -> list[Any]:
        try:
            return ["no error", repr(await call)]
        except m.TimeoutError as raised:
            return ["TimeoutError", bool(raised.message)]

    keys = m.ListDefaultKeysOperationInput(bucket="round")
    return {
        "ping": (await client.ping(m.PingInput())).body,
        "get": await refused(get(client, "k")),
        "put": await refused(put(client, "k", b"v", timeout=2000)),
        "keys complete": (await client.list_default_keys(keys)).body.as_value()["complete"],
    }


async def get(client: Any, key: str, *, bucket: str = "round", **options: Any) -> Any:
    return await client.get_default_object(
        m.GetDefaultObjectOperationInput(bucket=bucket, key=key, **options)
    )


async def read(client: Any, key: str, *, bucket: str = "round") -> str:
    data: bytes = await (await get(client, key, bucket=bucket)).body.read()
    return data.decode()


async def put(client: Any, key: str, body: bytes, **options: Any) -> Any:
    return await client.put_default_object(
        m.PutDefaultObjectOperationInput(**{**TEXT, "key": key, "body": body, **options})
    )


def context(found: Any) -> dict[str, str]:
    """What a write sends of what a read got."""
    return {"vclock": found.riak_headers["Vclock"]}


def latest(found: Any) -> dict[str, str]:
    """What a write sends that is only meant for what a read got."""
    return {"if-not-modified": found.riak_headers["Vclock"]}


def objects_in(text: str) -> list[dict[str, Any]]:
    """The JSON objects that follow each other in a stream."""
    found, at, decoder = [], 0, json.JSONDecoder()
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        found.append(value)
        at += len(text[at:]) - len(text[at:].lstrip())
    return found


async def error(call: Awaitable[Any]) -> str:
    """The exception of `call`, or what it returned."""
    try:
        return f"no error: {await call!r}"
    except m.MultipleChoicesError as choices:
        return f"MultipleChoicesError: {choices.body}"
    except Exception as raised:  # noqa: BLE001  # whatever the client makes of a reply is told
        message = getattr(raised, "message", raised)
        return f"{type(raised).__name__}: {message}"


def kind(text: str) -> str:
    """The name of the exception alone: its message is the node's to word."""
    name, _, message = text.partition(": ")
    return name if message else text


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], [int(port) for port in sys.argv[2:]]))))
