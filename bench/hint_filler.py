"""Makes a node hold hints for another, in a process of its own, while neither of them runs.

The hints are taken by the production replica, one message each, as from a coordinator whose write the
other has missed; only the network is left out. What is said at the end is how many there are.

    python -m bench.hint_filler --cluster FILE --node-id ID --data-dir DIR --target ID --hints N \
        --run NAME
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Final

import uvloop

from bench.stopped_replica import stopped_config, stopped_replica, store_all
from bench.workload import value_of
from dynamo.config import NodeConfig
from dynamo.keys import routing_key
from dynamo.record import EMPTY, VALUE, Content, encode_content, encode_record, mint
from dynamo.rpc.messages import Reply, Store
from dynamo.version import birth_bytes, incarnation_bytes
from ring.preference import Planner
from ring.ring import Ring

CLASS: Final = 0
DEADLINE_MS: Final = 60_000


def main(arguments: list[str] | None = None) -> int:
    """Fill; returns 0, or 1 if a hint was not taken."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    for name in ("--cluster", "--node-id", "--data-dir", "--target", "--run"):
        parser.add_argument(name, required=True)
    parser.add_argument("--hints", type=int, required=True)
    asked = parser.parse_args(arguments)
    config = stopped_config(asked.cluster, asked.node_id, asked.data_dir)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        refused = runner.run(_fill(config, asked.target, asked.hints, asked.run))
    if refused:
        print(f"{len(refused)} hints were not taken: {refused[0]}", file=sys.stderr)
    return 1 if refused else 0


async def _fill(config: NodeConfig, target: str, hints: int, run: str) -> list[Reply]:
    async with stopped_replica(config) as (replica, ring):
        stores = islice(_stores(ring, config.node_id, target, run), hints)
        return await store_all(replica, stores)


def _stores(ring: Ring, holder: str, target: str, run: str) -> Iterator[Store]:
    """Writes of new keys that the target owns and the holder does not, without end."""
    chance = random.Random(f"{run} {target}")
    incarnation = incarnation_bytes(1, os.urandom(8))
    planner = Planner(ring, "dc1")
    index = ring.index(target)
    assert index is not None
    class_ = ring.class_with(CLASS)
    assert class_ is not None
    sequence = 0
    while True:
        key = routing_key(b"default", b"handoff", f"{chance.getrandbits(60):015x}-{run}".encode())
        plan = planner.plan(class_, key)
        if target not in plan.primaries or holder in plan.primaries:
            continue
        sequence += 1
        content = Content(value=value_of(chance), content_type=b"text/plain")
        record = mint(
            EMPTY,
            (),
            birth=birth_bytes(incarnation, sequence),
            counter=1,
            kind=VALUE,
            content=encode_content(content),
            written_ms=1,
        )
        yield Store(
            key,
            CLASS,
            plan.partition,
            ring.epoch,
            DEADLINE_MS,
            encode_record(record),
            hint_for=index,
        )


if __name__ == "__main__":
    sys.exit(main())
