"""All connections of a node that injects faults: they hold messages, and there are none to whom it is
cut off.

To the peer that looks as if the network had ended the connection: it is told nothing. Knows nothing of
what the rules are.
"""

from __future__ import annotations

from typing import Any, Final

from dynamo.rpc.channel import Channel
from dynamo.rpc.connection import Connection
from dynamo.rpc.fault_injection import FaultInjection
from dynamo.rpc.handshake import Hello, Refusal
from dynamo.rpc.held_channel import HeldChannel
from dynamo.rpc.links import Links

CUT: Final = "cut off by fault injection"


class FaultyLinks(Links):
    """Other arguments as of `Links`."""

    def __init__(self, *, faults: FaultInjection, **rest: Any) -> None:
        super().__init__(**rest)
        self._faults = faults
        faults.on_cut = lambda peer: self.disconnect(peer, CUT)

    def make_channel(self, **arguments: Any) -> Channel:
        """One that holds messages."""
        return HeldChannel(faults=self._faults, **arguments)

    def judge(self, connection: Connection, peer: Hello, last_session: bytes) -> Refusal | None:
        if self._faults.is_cut(peer.greeting.node_id):
            self.metrics.count["faults_connections_cut_off"] += 1
            # Closed before the refusal can be sent: nothing passes.
            connection.close(CUT)
            return Refusal("cut", CUT)
        return super().judge(connection, peer, last_session)
