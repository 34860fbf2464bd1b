"""The world of one start of one simulated node: its clock, disk, network and chance (`World`).

Puts together what the simulator has of each. Knows nothing of what goes wrong there.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping

from dynamo.config import NodeConfig
from dynamo.datadir import DataDirectory
from dynamo.metrics import Metrics
from dynamo.ports import Handler
from dynamo.rpc.links import Gate
from dynamo.rpc.network import Network
from dynamo.rpc.peers import PeerTransport
from dynamo.sim.clock import SimClock
from dynamo.sim.disk import Disk
from dynamo.sim.files import SimFiles
from dynamo.sim.messages import MessageFaults
from dynamo.sim.points import OnPoint, Point, WatchedHandlers, Witness
from dynamo.sim.storage import SimStorage


class SimWorld:
    """`chance`: nonces, incarnations and jitter of this start, and of no other. `on_point`: told where
    mints, stores and deliveries are, `on_peer` where peers are with theirs; `witness`: what is said.
    `moved`: counts requests that move records. `sieve`: the handlers without what is lost on the way to
    or from them."""

    def __init__(
        self,
        *,
        config: NodeConfig,
        clock: SimClock,
        disk: Disk,
        network: Network,
        messages: MessageFaults,
        on_point: OnPoint,
        on_peer: Callable[[str, Point], None],
        witness: Witness,
        moved: Counter[str],
        sieve: Callable[[Mapping[type, Handler]], Mapping[type, Handler]],
        chance: random.Random,
        sampling: random.Random,
    ) -> None:
        self.clock = clock
        self._config = config
        self._disk = disk
        self._network = network
        self._messages = messages
        self._on_point = on_point
        self._on_peer = on_peer
        self._witness = witness
        self._moved = moved
        self._sieve = sieve
        self.chance = chance
        self.sampling = sampling
        #: By kind: requests of peers, and of its own, that have got no last reply.
        self.unanswered: Counter[str] = Counter()

    def entropy(self, size: int, /) -> bytes:
        """From the stream of this start."""
        return self.chance.randbytes(size)

    async def sleep(self, seconds: float, /) -> None:
        """By this node's clock."""
        await self.clock.sleep(seconds)

    def open_directory(self) -> DataDirectory:
        """The production one, over the small files of the simulated disk."""
        files = SimFiles.open(self._disk)
        try:
            return DataDirectory(
                files,
                cluster_id=self._config.cluster.id,
                node_id=self._config.node_id,
                entropy=self.entropy,
            )
        except BaseException:
            files.release()
            raise

    async def open_storage(self, *, existed: bool, metrics: Metrics) -> SimStorage:
        """What is on the simulated disk."""
        return await SimStorage.open(self._disk, existed=existed, metrics=metrics)

    def transport(
        self, *, gate: Gate, metrics: Metrics, handlers: Mapping[type, Handler]
    ) -> PeerTransport:
        """The production one, over the simulated network; whole messages may get lost before those
        who execute them."""
        watched = WatchedHandlers(
            handlers,
            self._on_point,
            node=self._config.node_id,
            on_peer=self._on_peer,
            witness=self._witness,
            moved=self._moved,
        )
        self.unanswered = watched.unanswered
        return PeerTransport(
            node_id=self._config.node_id,
            secret=self._config.cluster.secret,
            gate=gate,
            network=self._network,
            clock=self.clock,
            random=self.chance,
            metrics=metrics,
            handlers=self._messages.wrap(self._sieve(watched)),
        )
