"""A whole node: its services over the operating system, with HTTP in front of them.

The one place where production's clock, disk, network and randomness are chosen. Knows nothing of
what the services do.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dynamo.clock import SystemClock
from dynamo.config import NodeConfig
from dynamo.datadir import DataDirectory
from dynamo.http.ids import Ids
from dynamo.http.limits import CONNECTIONS_DEFAULT, Limits
from dynamo.http.server import HttpServer
from dynamo.metrics import Metrics
from dynamo.ports import Handler
from dynamo.precise import make_alarm
from dynamo.rpc.fault_injection import FaultInjection
from dynamo.rpc.links import Gate
from dynamo.rpc.peers import PeerTransport
from dynamo.rpc.tcp import TcpNetwork
from dynamo.services import NodeServices
from dynamo.store.rocks import RocksStorage

DATABASE: Final = "db"


class Machine:
    """The `World` of a real node: this machine. Make it inside the running loop."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self.clock = SystemClock()
        self.chance = random.Random(os.urandom(16))
        self.sampling = random.Random(os.urandom(16))

    def entropy(self, size: int, /) -> bytes:
        """From the operating system."""
        return os.urandom(size)

    async def sleep(self, seconds: float, /) -> None:
        """By the running loop."""
        await asyncio.sleep(seconds)

    def open_directory(self) -> DataDirectory:
        """That of the configuration."""
        config = self._config
        return DataDirectory.open(
            Path(config.data_dir),
            cluster_id=config.cluster.id,
            node_id=config.node_id,
            entropy=os.urandom,
        )

    async def open_storage(self, *, existed: bool, metrics: Metrics) -> RocksStorage:
        """RocksDB, in the data directory."""
        return await RocksStorage.open(
            Path(self._config.data_dir) / DATABASE,
            clock=self.clock,
            metrics=metrics,
            existed=existed,
            free_space_min=self._config.free_space_min,
        )

    def transport(
        self, *, gate: Gate, metrics: Metrics, handlers: Mapping[type, Handler]
    ) -> PeerTransport:
        """Over TCP."""
        return PeerTransport(
            node_id=self._config.node_id,
            secret=self._config.cluster.secret,
            gate=gate,
            network=TcpNetwork(),
            clock=self.clock,
            # Nonces of handshakes come from it.
            random=random.SystemRandom(),
            metrics=metrics,
            handlers=handlers,
            faults=FaultInjection(
                make_alarm=make_alarm,
                chance=random.Random(os.urandom(16)),
                clock=self.clock,
                metrics=metrics,
            )
            if self._config.fault_injection
            else None,
        )


#: How long a node that starts waits to be connected with its peers, and for them to tell what it may
#: have missed, before it listens to clients: so that nobody hears from it that others are down.
SETTLE_SECONDS: Final = 3.0


class Node:
    """One node of a cluster, with its HTTP server."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.metrics = Metrics()
        self.services: NodeServices | None = None
        self._http: HttpServer | None = None
        self.http_address = ""
        self.rpc_address = ""

    async def start(self) -> None:
        """Serve. Raises DynamoError or OSError where that cannot be; call `close` all the same."""
        config = self.config
        machine = Machine(config)
        self.services = services = NodeServices(config, world=machine, metrics=self.metrics)
        await services.start()
        # Clients go to another node as long as nobody listens here; a refusal would be an error to them.
        await services.settled(SETTLE_SECONDS)
        self.rpc_address = services.rpc_address
        self._http = HttpServer(
            backend=services,
            clock=machine.clock,
            ids=Ids(random=random.Random(os.urandom(16))),
            limits=Limits(
                value_bytes_max=config.value_bytes_max, connections_max=_connections_max()
            ),
            metrics=self.metrics,
            admission=services.admission,
            access_log=config.access_log,
        )
        self.http_address = await self._http.start(config.http)
        services.serve()

    async def wait_closed(self) -> None:
        """Until a task that the node lives by fails; raises what it raised."""
        assert self.services is not None
        await self.services.wait_closed()

    async def close(self) -> None:
        """Stop taking requests, finish what runs, sync, release everything. Safe at any point."""
        if self.services is not None:
            self.services.stop_serving()
        if self._http is not None:
            await self._http.close()
        if self.services is not None:
            await self.services.close()


def _connections_max() -> int:
    """How many clients may be connected: half of the files that may be open, the rest is for
    storage and peers. An engine that cannot open its next log takes no more writes."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return CONNECTIONS_DEFAULT
    return max(1, min(CONNECTIONS_DEFAULT, files // 2))
