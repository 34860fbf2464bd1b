"""Clients that write and read known keys through all nodes of a cluster while things happen to it.

Each client is one thread with one connection a node, which it keeps as long as it can. It writes keys
of its own, once each, and reads what was acknowledged to it or to others. Where nobody listens it goes
to the next node, as a client library does. Judges nothing: it tells what was answered, by whom and
when.
"""

from __future__ import annotations

import collections
import http.client
import random
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple

import msgspec
from cluster_process import target

#: Longer than any request may take: what takes longer is a finding.
CLIENT_SECONDS = 20.0
#: From a request to the next, so that a small machine is not what is measured.
BREATH = 0.004


class Answer(NamedTuple):
    """`node`: who was asked, from 0. `began`, `ended`: monotonic seconds. `status`: 0 if the connection
    ended first. `body`: of an error."""

    node: int
    method: str
    key: str
    began: float
    ended: float
    status: int
    body: bytes

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    @property
    def blamed(self) -> set[str]:
        """Nodes that the error names; none if it names nobody, or is none."""
        if self.status < 400:
            return set()
        return set(msgspec.json.decode(self.body).get("reasons", {}))

    @property
    def outcome(self) -> str:
        """none or unknown, of what is not a success."""
        if self.status == 0:
            return "unknown"
        said: str = msgspec.json.decode(self.body)["outcome"]
        return said


class Written(NamedTuple):
    """An acknowledged write. `at`: when (monotonic seconds). `acks`: X-Dynamo-Acks."""

    key: str
    value: bytes
    node: int
    at: float
    seconds: float
    acks: str


class QuorumLoad:
    """Runs in `with`; `addresses`: host:port of each node's REST API, in order."""

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        name: str = "load",
        clients: int = 5,
        w: str = "w=2",
        r: str = "r=2",
    ) -> None:
        """`name`: of its keys; another for each load of the same cluster."""
        self._addresses = addresses
        self._name = name
        self._w, self._r = w, r
        self.clients = clients
        #: In the order in which they were acknowledged.
        self.acked: list[Written] = []
        #: Every answer to a read, and every one to a write that was not acknowledged.
        self.answers: list[Answer] = []
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(clients)
        ]
        self._bugs: list[Exception] = []

    def __enter__(self) -> QuorumLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        if self._bugs and error is None:
            raise self._bugs[0]

    # What came of it ----------------------------------------------------------------------------

    @property
    def errors(self) -> list[Answer]:
        """All that is no success: a key that was acknowledged is never absent, either."""
        return [answer for answer in self.answers if answer.status != 200]

    def acks_since(self, at: float) -> collections.Counter[str]:
        """How often each X-Dynamo-Acks was answered since then (monotonic seconds)."""
        return collections.Counter(write.acks for write in self.acked if write.at >= at)

    def times(self, since: float, until: float) -> list[float]:
        """Seconds that every request took that was under way between these two (monotonic seconds)."""
        spans = [(answer.began, answer.ended) for answer in self.answers]
        spans += [(write.at - write.seconds, write.at) for write in self.acked]
        return [ended - began for began, ended in spans if began < until and ended > since]

    def has_acked(self, more: int) -> int:
        """Wait until so many more writes are acknowledged; how many are."""
        goal = len(self.acked) + more
        until = time.monotonic() + CLIENT_SECONDS
        while len(self.acked) < goal:
            assert time.monotonic() < until, f"{len(self.acked)} of {goal} writes"
            time.sleep(0.01)
        return len(self.acked)

    # A client -----------------------------------------------------------------------------------

    def _run(self, number: int) -> None:
        chance = random.Random(number)
        connections = [
            http.client.HTTPConnection(address, timeout=CLIENT_SECONDS)
            for address in self._addresses
        ]
        turn = 0
        try:
            while not self._over.is_set():
                turn += 1
                key = f"{self._name}-{number}-{turn}"
                self._write(connections, chance.randrange(len(connections)), key)
                if self.acked:
                    # Mostly what is new, which is where something can be missing.
                    newest = min(len(self.acked), 20 if turn % 2 else 10_000)
                    written = self.acked[-1 - chance.randrange(newest)]
                    self._read(connections, chance.randrange(len(connections)), written)
                time.sleep(BREATH)
        except Exception as error:  # noqa: BLE001 - raised where the load ends
            self._bugs.append(error)
        finally:
            for connection in connections:
                connection.close()

    def _write(self, connections: list[http.client.HTTPConnection], node: int, key: str) -> None:
        value = f"value of {key}".encode()
        answer, acks = self._ask(connections, node, "PUT", key, value)
        if answer.status == 204:
            self.acked.append(Written(key, value, answer.node, answer.ended, answer.seconds, acks))
        else:
            self.answers.append(answer)

    def _read(
        self, connections: list[http.client.HTTPConnection], node: int, written: Written
    ) -> None:
        answer, _ = self._ask(connections, node, "GET", written.key, None)
        assert answer.status != 200 or answer.body == written.value, answer
        self.answers.append(answer)

    def _ask(
        self,
        connections: list[http.client.HTTPConnection],
        node: int,
        method: str,
        key: str,
        value: bytes | None,
    ) -> tuple[Answer, str]:
        headers = {"Content-Type": "application/octet-stream"}
        path = target(key, query=self._r if value is None else self._w)
        began = time.monotonic()
        while True:
            connection = connections[node]
            try:
                if connection.sock is None:
                    connection.connect()
            except ConnectionRefusedError:
                assert time.monotonic() < began + CLIENT_SECONDS, "no node listens"
                node = (node + 1) % len(connections)
                continue
            asked = time.monotonic()
            try:
                connection.request(method, path, body=value, headers=headers)
                reply = connection.getresponse()
                status, acks, body = reply.status, reply.headers["X-Dynamo-Acks"], reply.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                status, acks, body = 0, "", repr(error).encode()
            return Answer(node, method, key, asked, time.monotonic(), status, body), acks or ""
