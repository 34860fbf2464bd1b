"""What a node knows of itself and of its peers, for people and for what watches over it.

Plain values that go into JSON as they are. No secret and no path is among them. Knows nothing of
where they come from.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class MemberStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A member of the ring. `partitions`: how many it is a primary of, by replication class."""

    id: str
    address: str
    datacenter: str
    rack: str
    host: str
    weight: int
    partitions: dict[str, int]


class PeerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Another member, as this node sees it now.

    `stalled_ms`: since the oldest request that it has left without any reply; 0 if there is none.
    `refusal`: why one of the two does not talk to the other, or None. `state`: doubted is one that is
    up, and so silent or slow that it is asked last; `state_s`: for how long. `phi`: how surprising its
    silence is, 8 convicts; None while it is not connected. `latency_ms`: that its first replies take,
    smoothed; 0 if unknown. As gossip has told:
    `address`, where it is dialled; `start` and `heartbeat`, its rounds of gossip in that start;
    `heard_ms`, since the last of them that this node has heard of, None if it never has.
    """

    id: str
    connected: bool
    stalled_ms: int
    refusal: str | None
    state: Literal["up", "doubted", "down"] = "up"
    state_s: float = 0.0
    phi: float | None = None
    latency_ms: float = 0.0
    address: str = ""
    start: int = 0
    heartbeat: int = 0
    heard_ms: int | None = None


class TreesStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The hash trees of the partitions that this node owns.

    `trees`: how many there are; `ready`: of them, those that can be compared, the rest is being built.
    `leaves`: of each. `built`, `verified`, `wrong`: how often any was, since the node started.
    `all_verified_s`: every tree has been held against its records within so many seconds; None if not
    every one has yet.
    """

    trees: int
    ready: int
    leaves: int
    built: int
    verified: int
    wrong: int
    all_verified_s: float | None = None


class RefillStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What this node has not got back of what it may have lost.

    `unserved`: partitions that count toward no read. `marked`: those and the ones that count again
    though not every peer has been read. `owed`: peers that partitions wait for. `damaged`: records
    that wait for a good copy.
    """

    unserved: int
    marked: int
    owed: tuple[str, ...]
    damaged: int


class StorageStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The node's own storage. `opened`: what the last open found, "clean" if nothing was lost.
    `refusal`: why it takes no writes, or None. `free_bytes`: of its disk; None if that is not known.
    """

    opened: str
    refusal: str | None
    free_bytes: int | None
    write_number: int
    synced_number: int


#: Of a target: it gets its hints; it is down; a batch failed, and the next waits; it refuses some or
#: all; nothing is left.
TargetState = Literal["delivering", "down", "waiting", "refused", "done"]


class HintTarget(msgspec.Struct, frozen=True, kw_only=True):
    """What a node keeps for another, and how its delivery goes.

    `hints`, `bytes`: not delivered yet. `oldest_s`: age of the oldest of them. `reason`: why it does
    not go on, "" if it does. `refused`: hints that the target turned down at the last try, by code.
    `delivered`, `bytes_delivered`: since the node's start. Rates: of the last ten seconds.
    """

    target: str
    hints: int
    bytes: int
    oldest_s: float
    state: TargetState
    reason: str
    refused: dict[str, int]
    delivered: int
    bytes_delivered: int
    hints_per_s: float
    bytes_per_s: float


class HintsStatus(msgspec.Struct, frozen=True, kw_only=True):
    """All hints of a node. `counted`: False while those of an earlier start are still being counted.

    `bytes_max`: what all may take. `window_s`: for how long they are taken for an absent member.
    `rate_max`: bytes delivered in a second, at most.
    """

    node: str
    counted: bool
    hints: int
    bytes: int
    bytes_max: int
    window_s: int
    rate_max: int
    targets: tuple[HintTarget, ...]


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One node. `epoch`: of its ring, 0 while there is none, and then no members. `refusals`: why
    peers refused this node, or this node them, by id or address. `requests`: client requests since
    the start, by counter. `alarms`: by kind, and of any kind under `alarms`."""

    node: str
    cluster: str
    start: int
    uptime_s: float
    ready: bool
    reasons: tuple[str, ...]
    epoch: int
    partitions: int
    members: tuple[MemberStatus, ...]
    peers: tuple[PeerStatus, ...]
    refusals: dict[str, str]
    refill: RefillStatus
    storage: StorageStatus
    requests: dict[str, int]
    alarms: dict[str, int]
