"""A machine of a simulated cluster: what of it lasts, and the process that runs on it now.

Knows nothing of how a process is started or ends.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Literal

from dynamo.config import NodeConfig
from dynamo.metrics import Metrics
from dynamo.services import NodeServices
from dynamo.sim.clock import SimClock
from dynamo.sim.cpu import Cpu
from dynamo.sim.disk import Disk
from dynamo.sim.loop import Process
from dynamo.sim.messages import MessageFaults
from dynamo.sim.world import SimWorld


class SimNode:
    """A machine of the cluster: its disk and clock last, its process comes and goes."""

    def __init__(
        self,
        name: str,
        *,
        config: NodeConfig,
        disk: Disk,
        messages: MessageFaults,
        cpu: Cpu | None = None,
    ) -> None:
        """`cpu`: its processor, if handling takes time."""
        self.name = name
        self.cpu = cpu
        self.config = config
        self.disk = disk
        self.rate = 1.0
        self.offset_ms = 0
        #: How often it was started.
        self.starts = 0
        self.process: Process | None = None
        self.services: NodeServices | None = None
        self.clock: SimClock | None = None
        self.world: SimWorld | None = None
        self.messages = messages
        self.metrics = Metrics()
        #: What starts before this one have counted.
        self.counted: Counter[str] = Counter()
        #: Until when it was paused last, and its clock ran slow: infinity if that goes on.
        self.paused_until = self.slow_until = -math.inf

    def __repr__(self) -> str:
        return f"SimNode({self.name} {self.state} starts={self.starts})"

    @property
    def state(self) -> Literal["down", "starting", "paused", "up"]:
        """`up`: it has started and takes requests, if perhaps not all of them."""
        if self.process is None:
            return "down"
        if self.process.state == "paused":
            return "paused"
        return "up" if self.services is not None and self.services.rpc_address else "starting"

    @property
    def is_up(self) -> bool:
        """True if it has a process, paused or not."""
        return self.process is not None

    def lagged_since(self, time: float) -> bool:
        """True if it was paused, or its clock ran slow, at any time since."""
        return max(self.paused_until, self.slow_until) >= time

    def count(self, name: str) -> int:
        """How often all its starts have counted this."""
        return self.counted[name] + self.metrics.count[name]
