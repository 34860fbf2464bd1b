"""A cluster of real node processes on loopback, to kill, pause and restart, and a client for it.

Nodes are numbered from 0 in calls and named n1, n2, ... in the cluster. No process outlives the
`with` block, nor the test process should it be killed. What the nodes logged is printed at the end:
pytest shows it for a test that failed.
"""

from __future__ import annotations

import email.parser
import email.policy
import http.client
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
from free_ports import LOOPBACK, HeldPorts

from dynamo.cli.supervisor import NodeProcess, wait_ready
from dynamo.cluster_disk import write_cluster_file
from dynamo.cluster_file import ClusterFile, new_cluster
from ring.member import Member

READY_SECONDS = 60.0
STOP_SECONDS = 30.0
REQUEST_SECONDS = 60.0


class Reply(NamedTuple):
    """`headers` compare without case."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def context(self) -> str | None:
        """The context to hand back, as it came."""
        return self.headers.get("X-Riak-Vclock")

    @property
    def siblings(self) -> list[bytes]:
        """The values: of a 200 its body, of a 300 its parts, sorted; of anything else none."""
        if self.status == 200:
            return [self.body]
        if self.status != 300:
            return []
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + self.body)
        assert message.is_multipart(), "ask for the siblings with Accept: multipart/mixed"
        return sorted(_content(part) for part in message.iter_parts())

    def json(self) -> dict[str, Any]:
        """The body of an error or of a resource that speaks JSON."""
        return msgspec.json.decode(self.body, type=dict[str, Any])


def _content(part: Any) -> bytes:
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content


def request(
    address: str,
    method: str,
    target: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout: float = REQUEST_SECONDS,
) -> Reply:
    """One request on a connection of its own. Raises OSError, also for half a reply."""
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        connection.request(method, target, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())
    except http.client.HTTPException as error:
        raise ConnectionError(f"{address} broke off: {error!r}") from error
    finally:
        connection.close()


class ClusterProcess:
    """`nodes` real processes with a cluster file of their own; started, and ready, in `with`.

    `extra_args`: more arguments of `dynamo serve` for every node. `directory`: where the data is
    kept; a temporary one that goes at the end if it is not given. `classes`: more bucket types and
    their replicas.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        nodes: int = 3,
        replicas: int = 3,
        partitions: int = 64,
        classes: Sequence[tuple[str, int]] = (),
        extra_args: Sequence[str] = (),
    ) -> None:
        self._temporary = directory is None
        self.directory = (
            Path(tempfile.mkdtemp(prefix="dynamo-")) if directory is None else directory
        )
        self._ports = HeldPorts(2 * nodes)
        first_rpc, first_http = self._ports.first, self._ports.first + nodes
        self.cluster: ClusterFile = new_cluster(
            members=[Member(f"n{i + 1}", f"{LOOPBACK}:{first_rpc + i}") for i in range(nodes)],
            classes=[("default", replicas), *classes],
            partitions=partitions,
            entropy=os.urandom,
        )
        self.cluster_path = self.directory / "cluster.toml"
        self.nodes = [self._node(i, first_http + i, extra_args) for i in range(nodes)]

    def _node(self, i: int, http_port: int, extra_args: Sequence[str]) -> NodeProcess:
        member = self.cluster.members[i]
        data_dir, address = self.directory / member.id, f"{LOOPBACK}:{http_port}"
        return NodeProcess(
            node_id=member.id,
            http=address,
            rpc=member.address,
            data_dir=data_dir,
            log=self.directory / f"{member.id}.log",
            arguments=(
                *("--cluster", str(self.cluster_path), "--node-id", member.id),
                *("--data-dir", str(data_dir), "--http", address, *extra_args),
            ),
        )

    def __len__(self) -> int:
        return len(self.nodes)

    def __enter__(self) -> ClusterProcess:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            write_cluster_file(self.cluster_path, self.cluster)
            for node in self.nodes:
                node.start()
            self.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill what runs, show the ends of the logs, give back ports and disk."""
        for i in range(len(self)):
            self.kill9(i)
        for node in self.nodes:
            if node.log.exists():
                print(f"--- the end of {node.log.name}\n{node.log_tail()}")
        self._ports.release()
        if self._temporary:
            shutil.rmtree(self.directory)

    # Processes ----------------------------------------------------------------------------------

    def start(self, i: int, *, ready: bool = True) -> None:
        """Node i, which is down, runs again on its ports and data; `ready`: wait until it is."""
        assert not self.is_running(i), f"{self.nodes[i]} runs already"
        self.nodes[i].start()
        if ready:
            self.wait_ready(i)

    restart = start

    def wait_ready(self, i: int | None = None, *, timeout: float = READY_SECONDS) -> None:
        """Until /health/ready of node i, or of all nodes, says 200. Raises CannotStart."""
        waited = self.nodes if i is None else [self.nodes[i]]
        wait_ready(waited, timeout=timeout, is_stopping=lambda: False)

    def kill9(self, i: int) -> None:
        """Node i is gone, with no chance to do anything about it. May be down already."""
        process = self.nodes[i].process
        if process is not None:
            process.kill()
            process.wait()
            _close(process.stdin)

    def kill9_all(self) -> None:
        """All nodes are gone at once: none outlives another by more than the calls take."""
        for node in self.nodes:
            if node.process is not None:
                node.process.kill()
        for i in range(len(self)):
            self.kill9(i)

    def stop(self, i: int) -> int:
        """Node i has stopped by itself, asked by SIGTERM; returns its exit code."""
        process = self._process(i)
        process.terminate()
        code = process.wait(STOP_SECONDS)
        _close(process.stdin)
        return code

    def pause(self, i: int) -> None:
        """Node i stands still; its connections stay open."""
        self._process(i).send_signal(signal.SIGSTOP)

    def resume(self, i: int) -> None:
        """Node i goes on where it stood."""
        self._process(i).send_signal(signal.SIGCONT)

    def is_running(self, i: int) -> bool:
        node = self.nodes[i]
        return node.process is not None and node.exit_code() is None

    def _process(self, i: int) -> subprocess.Popen[bytes]:
        process = self.nodes[i].process
        assert process is not None
        return process

    def pid(self, i: int) -> int:
        pid = self.nodes[i].pid
        assert pid is not None
        return pid

    def port(self, i: int) -> int:
        """Of its REST API."""
        return int(self.nodes[i].http.rpartition(":")[2])

    def url(self, i: int) -> str:
        return f"http://{self.nodes[i].http}"

    @property
    def addresses(self) -> list[str]:
        """Of the nodes' REST APIs, "host:port"."""
        return [node.http for node in self.nodes]

    def data_dir(self, i: int) -> Path:
        return self.nodes[i].data_dir

    def log(self, i: int) -> str:
        """All that node i printed, in all its lives."""
        return self.nodes[i].log.read_text(errors="replace")

    # Requests -----------------------------------------------------------------------------------

    def http(
        self,
        i: int,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float = REQUEST_SECONDS,
    ) -> Reply:
        """One request to node i."""
        address = self.nodes[i].http
        return request(address, method, target, headers=headers, body=body, timeout=timeout)

    def get(
        self,
        i: int,
        key: str | bytes,
        *,
        bucket: str | bytes = "b",
        query: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Fetch; siblings come as multipart unless `headers` say otherwise."""
        accept = {"Accept": "multipart/mixed", **(headers or {})}
        return self.http(i, "GET", target(key, bucket, query), headers=accept)

    def put(
        self,
        i: int,
        key: str | bytes,
        value: bytes,
        *,
        bucket: str | bytes = "b",
        context: str | None = None,
        query: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Store; blind unless a context is given."""
        fields = {
            "Content-Type": "application/octet-stream",
            "Accept": "multipart/mixed",
            **_context(context),
            **(headers or {}),
        }
        return self.http(i, "PUT", target(key, bucket, query), headers=fields, body=value)

    def delete(
        self,
        i: int,
        key: str | bytes,
        *,
        bucket: str | bytes = "b",
        context: str | None = None,
        query: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Delete what the context covers, or what a read shows."""
        fields = {**_context(context), **(headers or {})}
        return self.http(i, "DELETE", target(key, bucket, query), headers=fields)

    def stats(self, i: int) -> dict[str, Any]:
        """Counters and facts of node i."""
        return self.http(i, "GET", "/stats").json()


def target(key: str | bytes, bucket: str | bytes = "b", query: str = "") -> str:
    """The request target of a key in the bucket type `default`."""
    path = f"/buckets/{quote(bucket, safe='')}/keys/{quote(key, safe='')}"
    return f"{path}?{query}" if query else path


def _context(context: str | None) -> dict[str, str]:
    return {} if context is None else {"X-Riak-Vclock": context}


def _close(pipe: Any) -> None:
    if pipe is not None:
        pipe.close()
