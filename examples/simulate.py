"""Three nodes in one process, in virtual time: what a client sees while one of them is cut off.

    python examples/simulate.py

Minutes of the cluster's time take milliseconds, and every run is the same.
"""

from __future__ import annotations

import asyncio

from dynamo.errors import DynamoError
from dynamo.sim import Cluster, ReadOptions, simulate


async def scene(cluster: Cluster) -> None:
    await cluster.write("a", b"cart", b"bread")
    cluster.cut(("c",), ("a", "b"))
    await cluster.write("a", b"cart", b"milk")  # two of three are enough
    try:
        await cluster.read("c", b"cart", ReadOptions(timeout_ms=500))
    except DynamoError as error:
        print(f"at c: {error.message}")
    cluster.heal()
    await asyncio.sleep(60)
    await cluster.settle()
    print(f"c has {cluster.siblings('c', b'cart')} after {cluster.loop.time():.0f} s")


if __name__ == "__main__":
    simulate(scene)
