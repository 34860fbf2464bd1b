"""What a scenario does to simulated nodes: faults begun and ended, those that overlap too.

A node stands still, or is down, until the last fault that asks for it is over. Knows nothing of clients.
"""

from __future__ import annotations

from typing import Any, Final

from bench.faults import Fault, Verb
from bench.targets.protocol import TargetFailed
from bench.targets.rules import OF_MESSAGES, rules_of
from bench.targets.sim_delays import Delays
from dynamo.errors import DynamoError, InvalidArgument
from dynamo.rpc.fault_rules import FaultRules, parse_rules
from dynamo.sim.cluster import Cluster
from dynamo.sim.disk import Image

#: A node that was started is ready in so many seconds, or does not come up.
READY_SECONDS: Final = 120.0
LOOK_SECONDS: Final = 0.01


class SimulatedFaults:
    """Of one cluster. `slow`: delays from the begin, leg -> distribution."""

    def __init__(self, cluster: Cluster, delays: Delays, slow: dict[str, list[list[Any]]]) -> None:
        """Raises TargetFailed for a distribution that is none."""
        self.cluster = cluster
        self.nodes = tuple(cluster.nodes)
        self._delays = delays
        self._slow = slow
        #: Those that are on, in the order they began.
        self._active: list[Fault] = []
        self._cuts: set[tuple[str, str]] = set()
        self._images: dict[tuple[str, float], Image] = {}
        self._set_delays()

    async def begin(self, fault: Fault) -> None:
        """As `Target.fault`: when it returns it is so, and a node that was restarted is ready."""
        self._check(fault)
        if fault.do == "restart":
            for name in self._named(fault):
                await self._restart(name)
            return
        if fault.do == "restore":
            for name in self._named(fault):
                await self._put_back(name, fault)
            return
        self._active.append(fault)
        cluster = self.cluster
        for name in self._named(fault):
            if fault.do == "pause":
                cluster.pause(name)
            elif fault.do == "crash" and cluster.nodes[name].is_up:
                cluster.crash(name)
        if fault.do in OF_MESSAGES:
            self._set_messages()

    async def end(self, fault: Fault) -> None:
        """As `Target.mend`; when it returns the nodes are ready again. What another fault does goes
        on."""
        if fault not in self._active:
            return
        self._active.remove(fault)
        if fault.do in OF_MESSAGES:
            self._set_messages()
            return
        for name in self._named(fault):
            if fault.do == "pause" and not self._is_held(name, "pause"):
                self.cluster.resume(name)
            elif fault.do == "crash":
                await self._start(name)

    def take_images(self, fault: Fault) -> None:
        """Copies are taken of the disks that this "restore" puts back: of what is synced."""
        self._check(fault)
        for name in self._named(fault):
            self._images[name, _image_at(fault)] = self.cluster.nodes[name].disk.image()

    def _named(self, fault: Fault) -> tuple[str, ...]:
        return tuple(self.nodes[index] for index in fault.nodes) or self.nodes

    def _is_held(self, name: str, verb: Verb) -> bool:
        return any(fault.do == verb and name in self._named(fault) for fault in self._active)

    def _check(self, fault: Fault) -> None:
        for index in (*fault.nodes, *fault.peers):
            if not 0 <= index < len(self.nodes):
                raise TargetFailed(f"{fault.do}: there is no node {index} of {len(self.nodes)}")
        if fault.do == "slow" and fault.slow is None:
            raise TargetFailed("slow: by which distribution?")
        if fault.do == "slow" and fault.slow is not None:
            self._parse([fault])
        if fault.do == "partition" and not 0 < len(set(fault.nodes)) < len(self.nodes):
            raise TargetFailed("partition: name some of the nodes, and not all")

    async def _start(self, name: str) -> None:
        """It runs and takes requests, unless a crash keeps it down. Raises TargetFailed."""
        if self._is_held(name, "crash"):
            return
        if not self.cluster.nodes[name].is_up:
            self.cluster.start(name)
        try:
            await self.cluster.until(
                lambda: self._is_ready(name),
                f"node {name} is ready",
                patience=READY_SECONDS,
                interval=LOOK_SECONDS,
            )
        except TimeoutError as error:
            raise TargetFailed(str(error)) from None

    def _is_ready(self, name: str) -> bool:
        """Ready, or held up by another fault: then nobody waits for it."""
        node = self.cluster.nodes[name]
        if node.state in ("paused", "down"):
            return True
        return node.state == "up" and node.services is not None and node.services.ready().ready

    async def _restart(self, name: str) -> None:
        node = self.cluster.nodes[name]
        if node.state == "paused":
            self.cluster.resume(name)
        if node.state == "up":
            try:
                await self.cluster.stop(name)
            except (DynamoError, OSError) as error:
                raise TargetFailed(f"node {name} does not stop: {error}") from None
        elif node.is_up:
            self.cluster.crash(name)
        await self._start(name)

    async def _put_back(self, name: str, fault: Fault) -> None:
        image = self._images.get((name, _image_at(fault)))
        if image is None:
            raise TargetFailed(f"restore: no image of node {name} was taken")
        node = self.cluster.nodes[name]
        if node.is_up:
            self.cluster.crash(name)
        node.disk.restore(image)
        await self._start(name)

    # Messages -----------------------------------------------------------------------------------

    def _set_messages(self) -> None:
        self._set_delays()
        wanted = {
            pair
            for fault in self._active
            if fault.do == "partition"
            for inside in self._named(fault)
            for outside in self.nodes
            if outside not in self._named(fault)
            for pair in ((inside, outside), (outside, inside))
        }
        network = self.cluster.network
        for pair in sorted(wanted - self._cuts):
            network.cut(*pair)
        for pair in sorted(self._cuts - wanted):
            network.heal(*pair)
        self._cuts = wanted

    def _set_delays(self) -> None:
        slow = [fault for fault in self._active if fault.do == "slow"]
        self._delays.set(self._parse(slow))

    def _parse(self, faults: list[Fault]) -> dict[str, FaultRules]:
        """Node -> its delays. Raises TargetFailed for a distribution that is none."""
        given = rules_of(faults, self.nodes, self._slow)
        try:
            return {
                name: parse_rules(given[name], [peer for peer in self.nodes if peer != name])
                for name in self.nodes
            }
        except InvalidArgument as error:
            raise TargetFailed(f"slow: {error.message}; allowed: {error.details}") from None


def _image_at(fault: Fault) -> float:
    return fault.at if fault.image_at is None else fault.image_at
