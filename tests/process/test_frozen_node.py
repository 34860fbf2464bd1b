"""A node that stood still, and goes on."""

from __future__ import annotations

import time

from cluster_process import ClusterProcess
from cluster_waits import wait_stat
from member_by_hand import MemberByHand

from dynamo.keys import routing_key
from dynamo.record import EMPTY, VALUE, encode_record, mint
from dynamo.rpc.messages import Body, Fetch, Ping, Pong, Refused, Reply, Store, Synced
from dynamo.version import birth_bytes, incarnation_bytes
from ring.partition import partition_of, token

FROZEN_SECONDS = 2.5


def test_a_node_that_stood_still_drops_what_nobody_waits_for_any_more() -> None:
    """Its socket holds what its peers asked meanwhile: that is answered, and not carried out."""
    cluster = ClusterProcess(nodes=2, replicas=2, partitions=8)
    del cluster.nodes[1]  # played by the test
    with cluster, MemberByHand(cluster, "n2") as peer:

        def store(key: bytes, deadline_ms: int) -> Store:
            routing = routing_key(b"default", b"b", key)
            partition = partition_of(token(routing, cluster.cluster.seed), 8)
            birth = birth_bytes(incarnation_bytes(1, b"87654321"), 1)
            record = mint(
                *(EMPTY, ()), birth=birth, counter=1, kind=VALUE, content=b"v", written_ms=1
            )
            return Store(routing, 0, partition, 1, deadline_ms, encode_record(record))

        def held(key: bytes) -> bytes:
            asked = store(key, 0)
            fetch = Fetch(asked.key, 0, asked.partition, 1, 5000, True)
            body = peer.answer(fetch)
            while isinstance(body, Refused) and body.code in ("refilling", "not_ready"):
                time.sleep(0.05)
                body = peer.answer(fetch)
            assert isinstance(body, Body), body
            return body.record

        for _ in range(3):
            assert isinstance(peer.answer(Ping(1000)), Pong)
        cluster.pause(0)
        streams = []
        for key, deadline_ms in ((b"late", 1000), (b"patient", 60_000)):
            peer.send(peer.frame(store(key, deadline_ms)))
            streams.append(peer._streams)
        time.sleep(FROZEN_SECONDS - 0.2)
        peer.send(peer.frame(store(b"fresh", 2000)))
        streams.append(peer._streams)
        time.sleep(0.2)
        cluster.resume(0)
        replies: list[Reply] = [peer.replies(stream)[-1] for stream in streams]
        assert isinstance(replies[0], Refused)
        assert (replies[0].code, replies[0].definite) == ("deadline_past", True)
        assert isinstance(replies[1], Synced)
        assert isinstance(replies[2], Synced)
        wait_stat(cluster, 0, "rpc_requests_past_deadline", 1)
        assert [bool(held(key)) for key in (b"late", b"patient", b"fresh")] == [False, True, True]
