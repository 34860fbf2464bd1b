"""Node processes on this machine: start them, see that they are ready, stop them, leave none.

Every child holds the reading end of a pipe whose writing end is here only (`--exit-with-parent`),
so that the children stop even when this process is killed with no chance to stop them. They are in
process groups of their own: a terminal's Ctrl-C reaches this process alone, which then stops them.
Knows nothing of rings or of what a node does.
"""

from __future__ import annotations

import http.client
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dynamo.errors import DynamoError

STOP_SECONDS = 10.0
POLL_SECONDS = 0.1
LOG_TAIL_LINES = 12
LOG_TAIL_BYTES = 16_384


class CannotStart(DynamoError):
    """A node did not become ready, or its ports are taken; the message says which and why."""

    code = "cannot_start"
    outcome = "none"


class NodeProcess:
    """One node: how it is started, and the process while there is one.

    `arguments`: those of `dynamo serve`, which also restart it by hand. `http`, `rpc`: "host:port".
    """

    def __init__(
        self,
        *,
        node_id: str,
        http: str,
        rpc: str,
        data_dir: Path,
        log: Path,
        arguments: Sequence[str],
    ) -> None:
        self.node_id = node_id
        self.http = http
        self.rpc = rpc
        self.data_dir = data_dir
        self.log = log
        self.command = (sys.executable, "-m", "dynamo", "serve", *arguments)
        self.process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"NodeProcess({self.node_id} pid={self.pid} http={self.http} rpc={self.rpc})"

    @property
    def pid(self) -> int | None:
        """Process id, or None before `start`."""
        return None if self.process is None else self.process.pid

    @property
    def restart(self) -> str:
        """The shell command that starts this node by hand."""
        return shlex.join(self.command)

    def start(self) -> None:
        """The process runs; what it prints goes to the end of its log. Raises OSError."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and flags
                (*self.command, "--exit-with-parent"),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                process_group=0,
            )

    def exit_code(self) -> int | None:
        """How the process ended (minus the signal's number if by a signal); None while it runs."""
        return None if self.process is None else self.process.poll()

    def is_ready(self) -> bool:
        """True if `/health/ready` answers 200 within a second."""
        connection = http.client.HTTPConnection(self.http, timeout=1.0)
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def log_tail(self) -> str:
        """The last lines of its log."""
        with self.log.open("rb") as log:
            size = log.seek(0, 2)
            log.seek(max(0, size - LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])


def check_ports(nodes: Sequence[NodeProcess]) -> None:
    """Raises CannotStart that names every address of the nodes that is taken."""
    taken = [address for node in nodes for address in (node.http, node.rpc) if _is_taken(address)]
    if taken:
        raise CannotStart(
            f"in use: {', '.join(taken)}. Is a cluster running already? "
            "Choose others with --http-port and --rpc-port (of `make run`: PORT and RPC_PORT)"
        )


def _is_taken(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        # As the node itself binds: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            return True
    return False


def wait_ready(
    nodes: Sequence[NodeProcess], *, timeout: float, is_stopping: Callable[[], bool]
) -> bool:
    """True once all are ready; False if `is_stopping` says so first.

    Raises CannotStart, with the end of its log, for a node that ended, or that is not ready after
    `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    waiting = list(nodes)
    while waiting:
        if is_stopping():
            return False
        for node in waiting:
            code = node.exit_code()
            if code is not None:
                raise CannotStart(
                    f"{node.node_id} {describe_exit(code)} before it was ready; "
                    f"the end of {node.log}:\n{node.log_tail()}"
                )
        waiting = [node for node in waiting if not node.is_ready()]
        if waiting and time.monotonic() > deadline:
            node = waiting[0]
            raise CannotStart(
                f"{', '.join(n.node_id for n in waiting)} not ready after {timeout:.0f} s; "
                f"the end of {node.log}:\n{node.log_tail()}"
            )
        if waiting:
            time.sleep(POLL_SECONDS)
    return True


def stop_all(nodes: Sequence[NodeProcess], *, hurry: Callable[[], bool]) -> None:
    """None of the processes is left: SIGTERM, then SIGKILL after 10 s or once `hurry` says so."""
    running = [node.process for node in nodes if node.process is not None]
    for process in running:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while any(process.poll() is None for process in running):
        if hurry() or time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    for process in running:
        _signal(process, signal.SIGKILL)
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def describe_exit(code: int) -> str:
    """ "exited with code 1", or "was killed by SIGKILL"."""
    if code >= 0:
        return f"exited with code {code}"
    return f"was killed by {signal.Signals(-code).name}"


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(number)
