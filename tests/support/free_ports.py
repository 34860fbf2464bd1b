"""Runs of TCP ports on loopback that no other test, in any process, takes meanwhile.

A port is held by binding the UDP port of the same number, which nothing else here uses and which
the kernel frees however the holder ends. The ports are below those that outgoing connections get,
so that a node that is killed finds its port free when it comes back.
"""

from __future__ import annotations

import random
import socket
from types import TracebackType

LOOPBACK = "127.0.0.1"
FIRST, LAST = 12_000, 32_000
ATTEMPTS = 500


class HeldPorts:
    """`count` consecutive ports from `first` on; held until `release`."""

    def __init__(self, count: int) -> None:
        chance = random.Random()
        for _ in range(ATTEMPTS):
            first = chance.randrange(FIRST, LAST - count)
            held = _hold(range(first, first + count))
            if held is not None:
                self.first = first
                self._held = held
                return
        raise RuntimeError(f"no {count} free ports in a row after {ATTEMPTS} attempts")

    def __enter__(self) -> HeldPorts:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.release()

    def release(self) -> None:
        for held in self._held:
            held.close()


def _hold(ports: range) -> list[socket.socket] | None:
    held: list[socket.socket] = []
    for port in ports:
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        held.append(claim)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                claim.bind((LOOPBACK, port))
                probe.bind((LOOPBACK, port))
            except OSError:
                for one in held:
                    one.close()
                return None
    return held
