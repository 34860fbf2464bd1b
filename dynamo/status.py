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
    that wait for a good copy. `back`: partitions of a disk that went back in time, whose earlier records
    are not judged yet. `aside`: records of such disks, of now and before, that are kept and not shown,
    as no peer knew their values.
    """

    unserved: int
    marked: int
    owed: tuple[str, ...]
    damaged: int
    back: int = 0
    aside: int = 0


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


#: What a node is at with one peer: nothing; roots and hashes; a straggler deadline to pass; keys of
#: leaves that differ; records; and why it is at nothing although it should be.
ExchangeState = Literal["idle", "comparing", "waiting", "listing", "moving", "down", "backing_off"]


class ExchangePair(msgspec.Struct, frozen=True, kw_only=True, rename={"cls": "class"}):
    """A partition of a class (by id) and another owner of it.

    `clean_s`: seconds since the beginning of the last exchange after which both had the same; None if
    there was none since this node's start. `reason`: why the last exchange could not settle it, "" if
    it did.
    """

    cls: int
    partition: int
    peer: str
    clean_s: float | None
    reason: str


class ExchangePeer(msgspec.Struct, frozen=True, kw_only=True):
    """Another owner of partitions of this node. `state`, `reason`: what this node is at with it, and
    why it is at nothing. `partitions`: shared with it. `begun_s`: seconds since the last exchange began,
    None if there was none. `suspects`: leaves and keys that wait for their second look.

    The numbers are since this node's start, of exchanges that this node began: keys that were looked at
    and that differed, records taken from the peer and brought to it.
    """

    peer: str
    datacenter: str
    state: ExchangeState
    reason: str
    partitions: int
    begun_s: float | None
    suspects: int
    exchanges: int
    failures: int
    keys_compared: int
    keys_differing: int
    pulled: int
    pushed: int
    bytes_pulled: int
    bytes_pushed: int


class ExchangeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How far this node's partitions agree with their other owners.

    `state`: whether exchanges begin by themselves; `reason`: why not, for people. `agreed_s`: so many
    seconds ago everything was in agreement; None while `never_clean` of the pairs have not been clean
    since this node's start, and without any pair.
    """

    node: str
    state: Literal["running", "paused", "outside_window", "off"]
    reason: str
    interval_s: float
    interval_remote_s: float
    agreed_s: float | None
    never_clean: int
    peers: tuple[ExchangePeer, ...]
    pairs: tuple[ExchangePair, ...]


class RepairProgress(msgspec.Struct, frozen=True, kw_only=True):
    """A repair on demand. `number`: which of this node's, from 1 at its start.

    `state`: it runs; all that it went over agrees; it is over and could not compare all; it was
    stopped; it failed. `reason`: of the last three. `passes`: over all pairs, until one finds nothing,
    the one under way included. `pairs_total`, `pairs_done`: of that one. `keys_compared`,
    `keys_differing`: looked at, and found to differ. `pulled`, `pushed`: records that were taken from
    others and brought to them. `eta_s`: an estimate, None for none. `waiting_for`: pairs that wait, by
    why. `unreached`: why, by peer.
    """

    number: int
    state: Literal["running", "done", "incomplete", "stopped", "failed"]
    reason: str
    passes: int
    pairs_done: int
    pairs_total: int
    keys_compared: int
    keys_differing: int
    pulled: int
    pushed: int
    bytes_pulled: int
    bytes_pushed: int
    elapsed_s: float
    eta_s: float | None
    waiting_for: dict[str, int]
    unreached: dict[str, str]


class FaultsStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Faults that are injected into this node's messages: how many `rules` there are, whether any of
    them `delays`; the peers that it is `cut` off from; messages that are `held` now."""

    rules: int
    delays: bool
    cut: tuple[str, ...]
    held: int


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One node. `epoch`: of its ring, 0 while there is none, and then no members. `refusals`: why
    peers refused this node, or this node them, by id or address. `requests`: client requests since
    the start, by counter. `alarms`: by kind, and of any kind under `alarms`. `faults`: None unless
    the node was started with `--fault-injection`."""

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
    faults: FaultsStatus | None = None


class WaitStatus(msgspec.Struct, frozen=True, kw_only=True):
    """So many records wait for the same."""

    why: str
    records: int


class TombstonesStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What one node knows of the tombstones that it keeps, and of records with long vectors.

    `counted`: False while those of an earlier start are still being counted. `tombstones`: records that
    nothing can be shown of any more. `births`: other records whose vectors are looked at for what may
    leave them. `oldest_s`: since the oldest tombstone was written, as of the last pass over them; None
    if none was met. `after_s`: for so long a tombstone is left alone. `trying`: records of the batch
    under way. `reaped`: tombstones that this node saw to be dropped everywhere, since its start;
    `dropped`: of its own copies, whoever saw to it; `shortened`: records that births have left here.
    `elsewhere`: records that are due, and that another owner sees to. `waiting`: of those that this node
    sees to, what the ones that were tried wait for.
    """

    node: str
    counted: bool
    tombstones: int
    births: int
    oldest_s: float | None
    after_s: int
    trying: int
    reaped: int
    dropped: int
    shortened: int
    elsewhere: int
    waiting: tuple[WaitStatus, ...]
