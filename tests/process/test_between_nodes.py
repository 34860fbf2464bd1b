"""Bad input between nodes: a real node, and members and strangers that the test plays.

One row of the table each. Most rows are over at once; those that wait for a node's patience to end all
begin as the node is up, and run beside the others. At the end the node is as well as before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import bad_connections as connections
import bad_requests as requests
import pytest
from cluster_process import ClusterProcess
from cluster_waits import wait_stat
from member_by_hand import Guesser
from town import MEMBERS, PARTITIONS, Town

from dynamo.rpc.frame import FRAME_BYTES_MAX
from dynamo.rpc.handshake import MAGIC, VERSION

HELLO: Final = MAGIC + bytes([VERSION, 1])

ROWS: Final[Mapping[str, Callable[[Town], None]]] = {
    "HTTP": connections.says(lambda: b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an SSH banner": connections.says(lambda: b"SSH-2.0-OpenSSH_9.6\r\n"),
    "a TLS hello": connections.says(lambda: bytes.fromhex("16030102000100")),
    "random bytes": connections.says(lambda: b"\0" + os.urandom(500)),
    "another cluster": connections.is_refused("wrong_cluster", cluster_id="other"),
    "a guessed proof": connections.is_refused("bad_proof", handshake=Guesser),
    "this node's id": connections.is_refused("own_node_id", name="n1"),
    "no member": connections.is_refused("not_member", name="n9999"),
    "another version": connections.another_version,
    "less than it has shown": connections.less_than_was_shown,
    "a frame first": connections.says(connections.a_frame),
    "a proof first": connections.says(lambda: MAGIC + bytes([VERSION, 3, 0, 0])),
    "a packet longer than any": connections.says(lambda: HELLO + b"\xff\xff"),
    "a request before the proof": connections.frames_before_the_confirmation,
    "a frame of 16 MiB and a byte": connections.too_long(FRAME_BYTES_MAX + 1),
    "a frame of 2^31 bytes": connections.too_long(1 << 31),
    "a frame of 2^32 - 1 bytes": connections.too_long(0xFFFF_FFFF),
    "a bad checksum": connections.bad_checksum,
    "an unknown operation": requests.unknown_operation,
    "replies that nobody waits for": requests.replies_that_nobody_waits_for,
    "a deadline that is past": requests.deadline_past,
    "an older epoch": requests.older_epoch,
    "a newer epoch": lambda town: requests.newer_epoch(
        town, lambda ring: ring.successor(ring.members).to_bytes(), "later_rings_not_taken"
    ),
    "a newer epoch of another cluster": lambda town: requests.newer_epoch(
        town, requests.of_another_seed, "later_rings_refused"
    ),
    "a newer epoch that is no ring": lambda town: requests.newer_epoch(
        town, lambda ring: b"\xc1" * 100, "later_rings_refused"
    ),
    "a key of others": requests.not_an_owner,
    "a hint for nobody": requests.hint_for_nobody,
    "a dot that was never minted": requests.foreign_dot,
    "one dot with two values": requests.one_dot_with_two_values,
    "what is no message": requests.malformed,
    "nothing to deliver or to owe": requests.nothing_to_deliver_or_owe,
    # Gossip about members that nobody knows, and heartbeats that jump, belong here.
    "a thousand connections": connections.a_thousand_connections,
}
#: These wait for a node's patience to end, all at the same time.
SLOW_ROWS: Final[Mapping[str, Callable[[Town], None]]] = {
    "silence": connections.silent(b""),
    "half a header, then silence": connections.silent(MAGIC),
    "a header, then silence": connections.silent(HELLO + b"\0\x32"),
    "a byte a second": connections.silent(HELLO + b"\x01\x00" + bytes(30), dribbles=True),
    "a frame that stops": connections.frame_that_stops,
    "a frame, a byte a second": connections.frame_a_byte_a_second,
    "a reply after the timeout": requests.reply_after_the_timeout,
    "a peer that stops reading": connections.never_reads,
}


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    cluster = ClusterProcess(nodes=MEMBERS, replicas=1, partitions=PARTITIONS)
    del cluster.nodes[1:]  # played by the test
    with cluster:
        yield Town(cluster)


@pytest.fixture(scope="module")
def slow(town: Town) -> Iterator[dict[str, Future[None]]]:
    with ThreadPoolExecutor(len(SLOW_ROWS)) as pool:
        began = {name: pool.submit(row, town) for name, row in SLOW_ROWS.items()}
        # What it writes in vain is there before anybody looks at the node's memory.
        wait_stat(town.cluster, 0, "rpc_replies_unwritable", 1)
        yield began


@pytest.mark.parametrize("name", ROWS)
def test_bad_input_gets_its_answer(town: Town, slow: dict[str, Future[None]], name: str) -> None:
    ROWS[name](town)


@pytest.mark.parametrize("name", SLOW_ROWS)
def test_nobody_is_waited_for_too_long(
    town: Town, slow: dict[str, Future[None]], name: str
) -> None:
    slow[name].result(timeout=60)


def test_after_all_that_the_node_is_well_and_has_not_said_much(
    town: Town, slow: dict[str, Future[None]]
) -> None:
    cluster = town.cluster
    key, _, _ = town.place()
    assert cluster.put(0, key, b"v").status == 204
    assert cluster.get(0, key).body == b"v"
    log = cluster.log(0)
    for unwanted in ("Traceback", "met a bug", "CRITICAL"):
        assert unwanted not in log
    assert town.count("rpc_handlers_failed") == town.count("rpc_waiters_failed") == 0
    minutes = cluster.http(0, "GET", "/admin/status").json()["uptime_s"] / 60
    assert town.count("rpc_connections_garbage") >= 8
    assert len(re.findall("closed caller from", log)) <= 1 + minutes
    assert len(re.findall("closed refusal from", log)) <= 1 + minutes
