"""A client's way into a simulated node: past the production admission, as over HTTP.

Knows nothing of what is asked, nor of who waits for the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from dynamo.errors import Overloaded, TooManyRequests
from dynamo.services import NodeServices
from dynamo.sim.cpu import Cpu

_T = TypeVar("_T")


class Visit:
    """One request, on a connection of its own from `address`; it brings `size` bytes."""

    def __init__(
        self, services: NodeServices, *, now: Callable[[], float], address: str, size: int
    ) -> None:
        """`now`: the node's clock."""
        self._services = services
        self._admission = services.admission
        self._client = self._admission.join(address)
        self._now = now
        self._size = size
        self._is_in = self._has_left = False

    def begin(
        self, make: Callable[[NodeServices], Coroutine[Any, Any, _T]], cpu: Cpu | None
    ) -> Coroutine[Any, Any, _T]:
        """What carries out the request. Without a processor it is admitted at once, with one when that
        gets to it. Raises as `Admission.admit`, and what `make` raises."""
        if cpu is not None:
            return self._carry_out(make, cpu)
        self._admit()
        return make(self._services)

    def leave(self) -> None:
        """It is over, however it went; may be called again."""
        if self._has_left:
            return
        self._has_left = True
        if self._is_in:
            self._admission.release(self._client, self._size)
        self._admission.leave(self._client)

    def _admit(self) -> None:
        self._admission.admit(self._client, self._size, self._now())
        self._is_in = True

    async def _carry_out(
        self, make: Callable[[NodeServices], Coroutine[Any, Any, _T]], cpu: Cpu
    ) -> _T:
        try:
            self._admit()
        except (Overloaded, TooManyRequests):
            cpu.spend(cpu.costs.refusal)
            raise
        cpu.spend(cpu.costs.request)
        return await make(self._services)
