"""Fills a node that does not run with records that all owners of their keys have alike.

They are stored by the production replica, one message each; the same arguments give the same records at
every node. What is said at the end is how many of them this node owns, and how long they took.

    python -m bench.record_filler --cluster FILE --node-id ID --data-dir DIR --keys N
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

import uvloop

from bench.stopped_replica import stopped_config, stopped_replica, store_all
from bench.workload import value_of
from dynamo.config import NodeConfig
from dynamo.keys import routing_key
from dynamo.record import EMPTY, VALUE, Content, encode_content, encode_record, mint
from dynamo.rpc.messages import Reply, Store
from dynamo.version import RANDOM_BYTES, birth_bytes, incarnation_bytes
from ring.preference import Planner
from ring.ring import Ring

BUCKET: Final = "exchange"
CLASS: Final = 0
DEADLINE_MS: Final = 60_000
#: Values that records have, in turn: to make one for each would take longer than to store it.
_VALUES: Final = 1_000


def main(arguments: list[str] | None = None) -> int:
    """Fill; returns 0, or 1 if a record was not taken."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    for name in ("--cluster", "--node-id", "--data-dir"):
        parser.add_argument(name, required=True)
    parser.add_argument("--keys", type=int, required=True)
    asked = parser.parse_args(arguments)
    config = stopped_config(asked.cluster, asked.node_id, asked.data_dir)
    began = time.monotonic()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stored, refused = runner.run(_fill(config, asked.keys))
    if refused:
        print(f"a record was not taken: {refused[0]}", file=sys.stderr)
        return 1
    seconds = time.monotonic() - began
    print(f"{config.node_id}: {stored:,} of {asked.keys:,} records in {seconds:.1f} s", flush=True)
    return 0


def key_of(number: int) -> str:
    """The key with this number, of the bucket `BUCKET`."""
    return f"key-{number:07}"


async def _fill(config: NodeConfig, keys: int) -> tuple[int, list[Reply]]:
    async with stopped_replica(config) as (replica, ring):
        stored = 0

        def counted() -> Iterator[Store]:
            nonlocal stored
            for store in _stores(config, ring, keys):
                stored += 1
                yield store

        refused = await store_all(replica, counted())
        return stored, refused


def _stores(config: NodeConfig, ring: Ring, keys: int) -> Iterator[Store]:
    """The first write of each key that this node owns."""
    chance = random.Random(1)
    # Of no node, and the same at all of them.
    minter = blake2b(config.cluster.id.encode(), digest_size=RANDOM_BYTES).digest()
    incarnation = incarnation_bytes(1, minter)
    contents = [
        encode_content(Content(value=value_of(chance), content_type=b"text/plain"))
        for _ in range(_VALUES)
    ]
    planner = Planner(ring, config.datacenter)
    class_ = ring.class_with(CLASS)
    assert class_ is not None
    for number in range(keys):
        key = routing_key(b"default", BUCKET.encode(), key_of(number).encode())
        plan = planner.plan(class_, key)
        if config.node_id not in plan.primaries:
            continue
        record = mint(
            EMPTY,
            (),
            birth=birth_bytes(incarnation, number + 1),
            counter=1,
            kind=VALUE,
            content=contents[number % _VALUES],
            written_ms=1,
        )
        yield Store(key, CLASS, plan.partition, ring.epoch, DEADLINE_MS, encode_record(record))


if __name__ == "__main__":
    sys.exit(main())
