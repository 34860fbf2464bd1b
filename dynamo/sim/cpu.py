"""The processor of a simulated machine: what handling takes, and the queue before it that comes of that.

Code takes no virtual time by itself. A machine that is given costs is busy for so long with each message
and each request of a client; whatever else comes due in its process waits meanwhile, as behind a turn of
a real event loop. Knows nothing of what is handled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from dynamo.ports import Call, Handler
from dynamo.sim.loop import current_process


class Costs(NamedTuple):
    """Seconds of the processor. `request`: a client's, at the node it asks; `refusal`: one that is shed
    there; `message`: a request of a node, itself included, with its reply."""

    request: float
    refusal: float
    message: float


class Cpu:
    """The processor of one machine: it lasts. `factor`: how many times as long everything takes now."""

    def __init__(self, costs: Costs) -> None:
        self.costs = costs
        self.factor = 1.0

    def __repr__(self) -> str:
        return f"Cpu({self.costs} x{self.factor:g})"

    def spend(self, seconds: float) -> None:
        """The running process has used it for so long, as it usually takes."""
        process = current_process()
        assert process is not None, "only processes have a processor"
        process.spend(seconds * self.factor)

    def wrap(self, handlers: Mapping[type, Handler]) -> Mapping[type, Handler]:
        """Those handlers, each of which takes its time. Follows changes of `handlers`."""
        return _Costly(self, handlers)


class _Costly(Mapping[type, Handler]):
    def __init__(self, cpu: Cpu, handlers: Mapping[type, Handler]) -> None:
        self._cpu = cpu
        self._handlers = handlers

    def __getitem__(self, kind: type) -> Handler:
        handler = self._handlers[kind]

        def handle(message: Any, call: Call) -> None:
            self._cpu.spend(self._cpu.costs.message)
            handler(message, call)

        return handle

    def __iter__(self) -> Iterator[type]:
        return iter(self._handlers)

    def __len__(self) -> int:
        return len(self._handlers)
