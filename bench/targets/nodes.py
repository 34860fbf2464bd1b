"""A cluster of real node processes that the harness starts itself, and does to what a scenario says.

Nodes are paused, killed, restarted and set back as the machine does it to them; delays and partitions
they do to their own messages (`--fault-injection`). Whatever waits for a process runs in a thread, so
that the loop of the load does not stand still. No process or directory is left behind, nor a node that
stands still should the harness be killed. Knows nothing of loads.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import msgspec

from bench.faults import VERBS, Fault
from bench.processes import READY_SECONDS, store
from bench.scenario import Cluster
from bench.targets.http import HttpTarget, all_done
from bench.targets.protocol import TargetFailed
from bench.targets.rules import OF_MESSAGES
from dynamo.cli.supervisor import NodeProcess, stop_all, wait_ready
from dynamo.errors import DynamoError

#: Of `dynamo serve`.
INJECTION_FLAG: Final = "--fault-injection"
REPAIR_OFF: Final = ("--no-read-repair",)
HINTS_OFF: Final = ("--no-hints",)
EXCHANGE_OFF: Final = ("--exchange-interval", "0", "--exchange-interval-remote", "0")
#: Goes on with a node once it is told to, or whoever paused it is gone.
_GO_ON: Final = ("/bin/sh", "-c", 'read _; kill -CONT "$0"')

#: States of a thread that does nothing: stopped, traced, dead.
_STANDING: Final = frozenset("TtXZ")
STOP_SECONDS: Final = 5.0
STOP_POLL_SECONDS: Final = 0.001

T = TypeVar("T")


def flags_of(cluster: Cluster, *, injection: bool) -> tuple[str, ...]:
    """Those of `dynamo serve` that make nodes what the scenario asks for."""
    return (
        *((INJECTION_FLAG,) if injection else ()),
        *(() if cluster.repair else REPAIR_OFF),
        *(() if cluster.hints else HINTS_OFF),
        *(() if cluster.exchange else EXCHANGE_OFF),
        *cluster.flags,
    )


def needs_injection(cluster: Cluster, faults: Iterable[Fault]) -> bool:
    """Whether something is done to messages."""
    return bool(cluster.slow) or any(fault.do in OF_MESSAGES for fault in faults)


class NodesTarget(HttpTarget):
    """The port `Target`. `faults`: all that will be asked for. `parent`: where the data are kept, in a
    directory that goes at the end; None for the system's temporary directory."""

    name = "nodes"

    def __init__(
        self, cluster: Cluster, faults: Iterable[Fault] = (), *, parent: Path | None = None
    ) -> None:
        # The addresses are known once the nodes run.
        super().__init__(["127.0.0.1:1"], slow=cluster.slow)
        self._cluster = cluster
        self._injection = needs_injection(cluster, faults)
        self._parent = Path(tempfile.gettempdir()) if parent is None else parent
        self._stack = ExitStack()
        self.processes: list[NodeProcess] = []
        self._paused: dict[int, subprocess.Popen[bytes]] = {}
        self._images: dict[tuple[int, float], Path] = {}
        self._stopping = False
        #: One after the other, what is done to a node's process.
        self._locks: list[asyncio.Lock] = []

    # Coming and going ---------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """All nodes are ready. Raises TargetFailed."""
        try:
            await self._in_thread(self._start)
            self._locks = [asyncio.Lock() for _ in self.processes]
            await self._open()
        except BaseException:
            await self._finish()
            raise
        self._capabilities = msgspec.structs.replace(
            self._capabilities,
            verbs=tuple(v for v in VERBS if self._injection or v not in OF_MESSAGES),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """No process runs, no directory is left."""
        self._close_clients()
        await self._finish()

    def _start(self) -> None:
        cluster = self._cluster
        try:
            running = self._stack.enter_context(
                store(
                    cluster.nodes,
                    self._parent,
                    replicas=cluster.n,
                    flags=flags_of(cluster, injection=self._injection),
                    is_stopping=lambda: self._stopping,
                )
            )
        except (DynamoError, OSError) as error:
            raise TargetFailed(f"the nodes do not start: {error}") from None
        self.processes = list(running.nodes)
        self.addresses = running.addresses
        self.nodes = tuple(node.node_id for node in running.nodes)

    async def _finish(self) -> None:
        self._stopping = True
        for lock in self._locks:
            await lock.acquire()  # what is being done to a node comes to its end
        await self._in_thread(self._stop)

    def _stop(self) -> None:
        for index in list(self._paused):
            self._resume(index)
        self._stack.close()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """As `asyncio.to_thread`, and it has ended when this has, cancelled or not: a node that is
        being started would be nobody's otherwise."""
        running = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            self._stopping = True
            await asyncio.wait((running,))
            raise

    async def _restore(self) -> None:
        """Nothing has to be as it was: the nodes go."""

    # Faults -------------------------------------------------------------------------------------

    async def fault(self, fault: Fault) -> None:
        """As `Target.fault`; when it returns it is so, and a node that was restarted is ready."""
        self._check_verb(fault.do)
        self._check_nodes(fault)
        if fault.do in OF_MESSAGES:
            await super().fault(fault)
            return
        await self._each_of(fault, _BEGIN[fault.do])

    async def mend(self, fault: Fault) -> None:
        """As `Target.mend`; when it returns the nodes are ready again."""
        self._check_verb(fault.do)
        if fault.do in OF_MESSAGES:
            await super().mend(fault)
        elif fault.do in _END:
            await self._each_of(fault, _END[fault.do])

    async def image(self, fault: Fault) -> None:
        """The copies of the disks are taken that this "restore" puts back. Each node stands still
        meanwhile, so that its copy is of one instant, as if it had lost power then."""
        self._check_nodes(fault)
        await self._each_of(fault, NodesTarget._take_image)

    async def _each_of(self, fault: Fault, act: Callable[[NodesTarget, int, Fault], None]) -> None:
        await all_done(
            *(self._do(index, fault, act) for index in fault.nodes or range(len(self.nodes)))
        )

    async def _do(
        self, index: int, fault: Fault, act: Callable[[NodesTarget, int, Fault], None]
    ) -> None:
        async with self._locks[index]:
            try:
                await self._in_thread(lambda: act(self, index, fault))
            except (DynamoError, OSError) as error:
                raise TargetFailed(f"{fault.do} of {self.nodes[index]}: {error}") from None
            if index in self._gone and self.processes[index].exit_code() is None:
                self._gone.discard(index)
                if self._has_rules:
                    await self._apply()  # a node that starts knows of none

    # In a thread, one at a time a node ------------------------------------------------------------

    def _pause(self, index: int, fault: Fault) -> None:
        if index not in self._paused:
            pid = self._pid(index)
            # First who goes on with it: so it does not stand still for ever if we are killed.
            self._paused[index] = subprocess.Popen(  # noqa: S603 - our own words
                (*_GO_ON, str(pid)), stdin=subprocess.PIPE, process_group=0
            )
            os.kill(pid, signal.SIGSTOP)
            _await_stopped(pid)

    def _go_on(self, index: int, fault: Fault) -> None:
        self._resume(index)

    def _resume(self, index: int) -> None:
        waking = self._paused.pop(index, None)
        if waking is not None:
            waking.communicate(b"\n")

    def _crash(self, index: int, fault: Fault) -> None:
        self._gone.add(index)
        self._resume(index)
        process = self.processes[index].process
        if process is not None:
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()

    def _start_again(self, index: int, fault: Fault) -> None:
        node = self.processes[index]
        if node.exit_code() is None or self._stopping:
            return
        node.start()
        self._await_ready(node)

    def _restart(self, index: int, fault: Fault) -> None:
        self._gone.add(index)
        self._resume(index)
        stop_all([self.processes[index]], hurry=lambda: self._stopping)
        self._start_again(index, fault)

    def _take_image(self, index: int, fault: Fault) -> None:
        node = self.processes[index]
        image = node.data_dir.with_name(f"{node.node_id}.image-{len(self._images)}")
        was_paused = index in self._paused
        self._pause(index, fault)
        try:
            shutil.copytree(node.data_dir, image)
        finally:
            if not was_paused:
                self._resume(index)
        self._images[index, _image_at(fault)] = image

    def _put_back(self, index: int, fault: Fault) -> None:
        image = self._images.get((index, _image_at(fault)))
        if image is None:
            raise TargetFailed(f"restore: no image of {self.nodes[index]} was taken")
        self._crash(index, fault)
        node = self.processes[index]
        shutil.rmtree(node.data_dir)
        shutil.copytree(image, node.data_dir)
        self._start_again(index, fault)

    def _await_ready(self, node: NodeProcess) -> None:
        wait_ready([node], timeout=READY_SECONDS, is_stopping=lambda: self._stopping)

    def _pid(self, index: int) -> int:
        node = self.processes[index]
        if node.pid is None or node.exit_code() is not None:
            raise TargetFailed(f"{node.node_id} does not run")
        return node.pid


def _await_stopped(pid: int) -> None:
    """A signal takes its time: until no thread of it runs. Raises OSError if it does not stop."""
    states = [Path(f"/proc/{pid}/task/{task}/stat") for task in os.listdir(f"/proc/{pid}/task")]
    deadline = time.monotonic() + STOP_SECONDS
    while any(_state(path) not in _STANDING for path in states):
        if time.monotonic() > deadline:
            raise OSError(f"process {pid} does not stand still")
        time.sleep(STOP_POLL_SECONDS)


def _state(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "X"  # a thread that has ended


def _image_at(fault: Fault) -> float:
    return fault.at if fault.image_at is None else fault.image_at


_Act = Callable[[NodesTarget, int, Fault], None]
_BEGIN: Final[dict[str, _Act]] = {
    "pause": NodesTarget._pause,
    "crash": NodesTarget._crash,
    "restart": NodesTarget._restart,
    "restore": NodesTarget._put_back,
}
_END: Final[dict[str, _Act]] = {
    "pause": NodesTarget._go_on,
    "crash": NodesTarget._start_again,
}
