"""One real node of a large cluster whose other members are played by the test."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from cluster_process import ClusterProcess
from cluster_waits import wait_stat, wait_until
from member_by_hand import MemberByHand

from dynamo.keys import routing_key
from dynamo.record import EMPTY, VALUE, Content, encode_content, encode_record, mint
from dynamo.rpc.codec import encode
from dynamo.rpc.messages import AskRing, Ping, Refused, Reply, RingIs
from dynamo.version import birth_bytes, incarnation_bytes
from ring.partition import partition_of, token
from ring.ring import Ring

#: The first is a process, the others are played.
MEMBERS: Final = 40
PARTITIONS: Final = 256
MIB: Final = 1 << 20
CONTENT: Final = encode_content(Content(value=b"v", content_type=b"a/b"))

#: A request that anybody may make at any time.
PING: Final = encode(Ping(5000))

#: A key, its routing key and its partition.
Place = tuple[str, bytes, int]


class Town:
    """One real node, n1, which owns some of the keys, and names for the members that are played."""

    def __init__(self, cluster: ClusterProcess) -> None:
        self.cluster = cluster
        self._names = iter(range(2, MEMBERS + 1))
        self._keys = iter(range(1_000_000))
        with self.member() as peer:
            reply = peer.answer(AskRing(5000))
            wait_until(lambda: self._is_ready(peer), "n1 is ready")
        assert isinstance(reply, RingIs)
        self.ring = Ring.from_bytes(reply.ring)

    def _is_ready(self, peer: MemberByHand) -> bool:
        peer.answer(PING)  # reads, and answers, what the node asks
        return self.cluster.http(0, "GET", "/health/ready").status == 200

    def name(self) -> str:
        """A member that nobody has played yet."""
        return f"n{next(self._names)}"

    def member(self, *, source: str = "127.0.0.1", receive_bytes: int = 0) -> MemberByHand:
        return MemberByHand(self.cluster, self.name(), source=source, receive_bytes=receive_bytes)

    def place(self, *, mine: bool = True) -> Place:
        """A new key, its routing key and its partition, which n1 owns or (not `mine`) does not."""
        for number in self._keys:
            key = f"key{number}"
            routing = routing_key(b"default", b"b", key.encode())
            partition = partition_of(token(routing, self.ring.seed), PARTITIONS)
            if self.ring.owns("n1", 0, partition) == mine:
                return key, routing, partition
        raise AssertionError("no key left")

    def count(self, name: str) -> int:
        found = self.cluster.stats(0).get(name, 0)
        assert isinstance(found, int)
        return found

    def wait_counted(self, name: str, before: int, more: int = 1) -> None:
        wait_stat(self.cluster, 0, name, before + more)

    def wait_gone(self, name: str) -> None:
        """Until n1 knows that this member is not connected."""
        wait_until(lambda: name not in self.cluster.stats(0)["connected_nodes"], f"{name} is gone")

    def status(self, key: str) -> int:
        return self.cluster.get(0, key).status

    def resident_bytes(self) -> int:
        pages = Path(f"/proc/{self.cluster.pid(0)}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


def record(value: bytes, *, sequence: int = 1, incarnation: bytes = b"") -> bytes:
    """One write of another node, encoded."""
    birth = birth_bytes(incarnation or incarnation_bytes(1, b"elsewher"), sequence)
    content = encode_content(Content(value=value, content_type=b"a/b"))
    return encode_record(
        mint(EMPTY, (), birth=birth, counter=1, kind=VALUE, content=content, written_ms=1)
    )


def code(reply: Reply) -> tuple[str, bool]:
    assert isinstance(reply, Refused), reply
    return reply.code, reply.definite
