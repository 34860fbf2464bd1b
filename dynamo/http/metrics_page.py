"""`/metrics`: counters, gauges and latencies of the node, as Prometheus reads them.

`page` is pure: it makes the families of what it is given. Knows nothing of how they are kept.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from typing import Final

from aiohttp import hdrs

from dynamo.agreement import AntiEntropyStatus
from dynamo.counters import COUNTERS, FAMILIES, describe
from dynamo.http.admin import VERSION
from dynamo.http.exposition import (
    OPENMETRICS,
    TEXT,
    Kind,
    Metric,
    Sample,
    histogram_samples,
    render,
    wants_openmetrics,
)
from dynamo.http.process import ProcessFacts, read_process
from dynamo.http.reply import HttpReply
from dynamo.http.request import Load, Request
from dynamo.latency import OPERATIONS, STATUS_CLASSES, Histogram, RequestTimes
from dynamo.status import FaultsStatus, HintsStatus, NodeStatus, TombstonesStatus
from dynamo.wars_status import WarsStatus

PREFIX: Final = "dynamo_"
WARS_QUANTILES: Final = (0.5, 0.99)
#: Families that are no counters of `dynamo.counters`: name, kind, help.
OTHERS: Final[tuple[tuple[str, Kind, str], ...]] = (
    ("dynamo_build_info", "gauge", "1, with the versions that run."),
    ("dynamo_ready", "gauge", "1 if this node takes requests."),
    ("dynamo_uptime_seconds", "gauge", "Since this node started."),
    ("dynamo_start_number", "gauge", "Number of this start of the node, from 1."),
    ("dynamo_ring_epoch", "gauge", "Epoch of the ring; 0 while there is none."),
    ("dynamo_ring_members", "gauge", "Members of the ring, this node included."),
    ("dynamo_ring_partitions", "gauge", "Partitions of the ring."),
    ("dynamo_partitions_owned", "gauge", "Partitions this node is a primary of, by class."),
    ("dynamo_peers_connected", "gauge", "Peers that requests reach now."),
    ("dynamo_peer_up", "gauge", "1 if requests reach the peer now."),
    (
        "dynamo_peer_doubted",
        "gauge",
        "1 if the peer is up, and so silent or slow that it is asked last.",
    ),
    ("dynamo_peer_phi", "gauge", "How surprising the silence of a connected peer is; 8 convicts."),
    ("dynamo_peer_latency_seconds", "gauge", "That the peer's first replies take, smoothed."),
    ("dynamo_peer_stalled_seconds", "gauge", "Age of the oldest request the peer left unanswered."),
    ("dynamo_partitions_refilling", "gauge", "Partitions not yet read back from every peer."),
    ("dynamo_partitions_unserved", "gauge", "Of them, those that count toward no read."),
    ("dynamo_partitions_back", "gauge", "Of a disk that went back in time, not judged yet."),
    ("dynamo_records_aside", "gauge", "Of such disks, with values no peer knew: kept, not shown."),
    ("dynamo_records_unmended", "gauge", "Damaged records that wait for a good copy."),
    ("dynamo_hints_held", "gauge", "Hints not delivered yet, by target."),
    ("dynamo_hints_held_bytes", "gauge", "Bytes of hints not delivered yet, by target."),
    (
        "dynamo_hints_oldest_seconds",
        "gauge",
        "Age of the oldest hint not delivered yet, by target.",
    ),
    ("dynamo_hints_bytes_max", "gauge", "Bytes that all hints together may take."),
    ("dynamo_tombstones_kept", "gauge", "Tombstones on this node's disk, which wait to be reaped."),
    (
        "dynamo_tombstones_oldest_seconds",
        "gauge",
        "Since the oldest of them was written, as of the last time they were gone over.",
    ),
    ("dynamo_tombstones_blocked", "gauge", "Of those this node sees to, those tried in vain."),
    ("dynamo_vectors_long", "gauge", "Records with more births than are left alone."),
    (
        "dynamo_antientropy_oldest_clean_seconds",
        "gauge",
        "Everything this node keeps was in agreement with the peer so long ago, by peer; none while "
        "some of it has not been since the start.",
    ),
    ("dynamo_antientropy_pairs", "gauge", "Partitions shared with the peer, by peer."),
    (
        "dynamo_antientropy_pairs_never_clean",
        "gauge",
        "Of them, those not found in agreement since this node's start, by peer.",
    ),
    ("dynamo_antientropy_paused", "gauge", "1 while exchanges do not begin by themselves."),
    ("dynamo_trees_ready", "gauge", "Hash trees that can be compared."),
    ("dynamo_trees_building", "gauge", "Hash trees that are being built, or wait for it."),
    (
        "dynamo_repaired_keys",
        "counter",
        "Records brought up to date, by cause: read_repair (sent), hint (delivered), exchange (pulled "
        "or pushed).",
    ),
    ("dynamo_repaired_bytes", "counter", "Bytes of them, by cause."),
    ("dynamo_fault_injection", "gauge", "1 if faults can be injected into this node's messages."),
    ("dynamo_faults_delaying", "gauge", "1 while messages of this node are delayed on purpose."),
    ("dynamo_faults_peers_cut", "gauge", "Peers that this node is cut off from on purpose."),
    ("dynamo_faults_holding", "gauge", "Messages that are held on purpose now."),
    (
        "dynamo_stale_reply_age_seconds",
        "histogram",
        "Of replies to reads that were behind: since the newest write was made that they lacked.",
    ),
    (
        "dynamo_wars_seconds",
        "gauge",
        "What a leg takes (w, a: of a write there and back; r, s: of a read), by replica and "
        "quantile; of the last ten minutes.",
    ),
    ("dynamo_wars_clock_offset_seconds", "gauge", "What a peer's clock is proven to be ahead by."),
    ("dynamo_storage_refuses_writes", "gauge", "1 if the storage takes no writes."),
    ("dynamo_storage_free_bytes", "gauge", "Free space of the disk with the data."),
    ("dynamo_storage_write_number", "gauge", "Number of the last write."),
    ("dynamo_storage_synced_number", "gauge", "Number of the last write known to be on disk."),
    ("dynamo_http_connections_open", "gauge", "Connections of clients."),
    ("dynamo_http_requests_in_flight", "gauge", "Requests being answered, this one included."),
    ("dynamo_requests_admitted", "gauge", "Requests of clients in flight, which have a bound."),
    ("dynamo_requests_admitted_bytes", "gauge", "What those bring, which has a bound."),
    (
        "dynamo_loop_lag_seconds",
        "gauge",
        "How late the node was at the last look; sheds when it is.",
    ),
    (
        "dynamo_request_duration_seconds",
        "histogram",
        "From a request's headers to its reply, by operation and class of the status.",
    ),
    ("process_cpu_seconds", "counter", "Processor time of the process, user and system."),
    ("process_resident_memory_bytes", "gauge", "Resident memory of the process."),
    ("process_open_fds", "gauge", "Open files of the process."),
    ("process_max_fds", "gauge", "Files that the process may have open."),
)


async def get_metrics(request: Request) -> HttpReply:
    """200 with the page, in Prometheus' text format or, if that is preferred, OpenMetrics."""
    edge = request.edge
    openmetrics = wants_openmetrics(request.headers.getall(hdrs.ACCEPT, ()))
    metrics = page(
        edge.backend.status(),
        hints=edge.backend.hints(),
        tombstones=edge.backend.tombstones(),
        antientropy=edge.backend.antientropy(None, 1),
        wars=edge.backend.wars(wholes=False),
        ages=edge.backend.repair_ages(),
        counters=edge.metrics.snapshot(),
        times=edge.times,
        load=edge.load(),
        process=read_process(),
    )
    return HttpReply(
        200, OPENMETRICS if openmetrics else TEXT, render(metrics, openmetrics=openmetrics)
    )


def page(
    status: NodeStatus,
    *,
    hints: HintsStatus,
    tombstones: TombstonesStatus,
    antientropy: AntiEntropyStatus,
    wars: WarsStatus,
    ages: Histogram,
    counters: Mapping[str, int],
    times: RequestTimes,
    load: Load,
    process: ProcessFacts,
) -> list[Metric]:
    """All families. One without a value, such as what the system does not tell, is left out."""
    samples = {
        **_gauges(status, load, process),
        **_hints(hints),
        **_tombstones(tombstones),
        **_antientropy(antientropy),
        **_wars(wars),
        "dynamo_stale_reply_age_seconds": histogram_samples(ages, {}),
        "dynamo_request_duration_seconds": _times(times),
    }
    others = [
        Metric(name, kind, text, found) for name, kind, text in OTHERS if (found := samples[name])
    ]
    return [*others, *_counters(counters)]


def _gauges(status: NodeStatus, load: Load, process: ProcessFacts) -> dict[str, list[Sample]]:
    own = next((member for member in status.members if member.id == status.node), None)
    refill, storage = status.refill, status.storage
    versions = {"version": VERSION, "python": platform.python_version()}
    return {
        "dynamo_build_info": [Sample(1, {**versions, "node": status.node})],
        "dynamo_ready": _one(int(status.ready)),
        "dynamo_uptime_seconds": _one(status.uptime_s),
        "dynamo_start_number": _one(status.start),
        "dynamo_ring_epoch": _one(status.epoch),
        "dynamo_ring_members": _one(len(status.members)),
        "dynamo_ring_partitions": _one(status.partitions),
        "dynamo_partitions_owned": [
            Sample(count, {"class": name})
            for name, count in (own.partitions if own is not None else {}).items()
        ],
        "dynamo_peers_connected": _one(sum(peer.connected for peer in status.peers)),
        "dynamo_peer_up": [Sample(int(peer.connected), {"peer": peer.id}) for peer in status.peers],
        "dynamo_peer_doubted": [
            Sample(int(peer.state == "doubted"), {"peer": peer.id}) for peer in status.peers
        ],
        "dynamo_peer_phi": [
            Sample(peer.phi, {"peer": peer.id}) for peer in status.peers if peer.phi is not None
        ],
        "dynamo_peer_latency_seconds": [
            Sample(peer.latency_ms / 1000, {"peer": peer.id})
            for peer in status.peers
            if peer.latency_ms
        ],
        "dynamo_peer_stalled_seconds": [
            Sample(peer.stalled_ms / 1000, {"peer": peer.id}) for peer in status.peers
        ],
        "dynamo_partitions_refilling": _one(refill.marked),
        "dynamo_partitions_unserved": _one(refill.unserved),
        "dynamo_partitions_back": _one(refill.back),
        "dynamo_records_aside": _one(refill.aside),
        "dynamo_records_unmended": _one(refill.damaged),
        **_faults(status.faults),
        "dynamo_storage_refuses_writes": _one(int(storage.refusal is not None)),
        "dynamo_storage_free_bytes": _one(storage.free_bytes),
        "dynamo_storage_write_number": _one(storage.write_number),
        "dynamo_storage_synced_number": _one(storage.synced_number),
        "dynamo_http_connections_open": _one(load.connections),
        "dynamo_http_requests_in_flight": _one(load.requests),
        "dynamo_requests_admitted": _one(load.admitted),
        "dynamo_requests_admitted_bytes": _one(load.admitted_bytes),
        "dynamo_loop_lag_seconds": _one(load.lag),
        "process_cpu_seconds": _one(process.cpu_s),
        "process_resident_memory_bytes": _one(process.resident_bytes),
        "process_open_fds": _one(process.open_files),
        "process_max_fds": _one(process.open_files_max),
    }


def _faults(faults: FaultsStatus | None) -> dict[str, list[Sample]]:
    return {
        "dynamo_fault_injection": _one(int(faults is not None)),
        "dynamo_faults_delaying": _one(int(faults is not None and faults.delays)),
        "dynamo_faults_peers_cut": _one(len(faults.cut) if faults is not None else 0),
        "dynamo_faults_holding": _one(faults.held if faults is not None else 0),
    }


def _hints(hints: HintsStatus) -> dict[str, list[Sample]]:
    """A target that has nothing left is shown with 0, for as long as the node remembers it."""
    label = "target"
    return {
        "dynamo_hints_held": [Sample(one.hints, {label: one.target}) for one in hints.targets],
        "dynamo_hints_held_bytes": [
            Sample(one.bytes, {label: one.target}) for one in hints.targets
        ],
        "dynamo_hints_oldest_seconds": [
            Sample(one.oldest_s, {label: one.target}) for one in hints.targets
        ],
        "dynamo_hints_bytes_max": _one(hints.bytes_max),
    }


def _tombstones(tombstones: TombstonesStatus) -> dict[str, list[Sample]]:
    oldest = tombstones.oldest_s
    return {
        "dynamo_tombstones_kept": _one(tombstones.tombstones),
        "dynamo_tombstones_oldest_seconds": _one(0.0 if oldest is None else oldest),
        "dynamo_tombstones_blocked": _one(sum(wait.records for wait in tombstones.waiting)),
        "dynamo_vectors_long": _one(tombstones.births),
    }


def _antientropy(status: AntiEntropyStatus) -> dict[str, list[Sample]]:
    peers, repaired = status.peers, status.repaired
    return {
        "dynamo_antientropy_oldest_clean_seconds": [
            Sample(one.oldest_clean_s, {"peer": one.peer})
            for one in peers
            if one.oldest_clean_s is not None
        ],
        "dynamo_antientropy_pairs": [Sample(one.partitions, {"peer": one.peer}) for one in peers],
        "dynamo_antientropy_pairs_never_clean": [
            Sample(one.never_clean, {"peer": one.peer}) for one in peers
        ],
        "dynamo_antientropy_paused": _one(int(status.state == "paused")),
        "dynamo_trees_ready": _one(status.trees.ready),
        "dynamo_trees_building": _one(status.trees.trees - status.trees.ready),
        "dynamo_repaired_keys": [
            Sample(one.keys, {"cause": cause}) for cause, one in repaired.items()
        ],
        "dynamo_repaired_bytes": [
            Sample(one.bytes, {"cause": cause}) for cause, one in repaired.items()
        ],
    }


def _wars(wars: WarsStatus) -> dict[str, list[Sample]]:
    found = []
    for peer, legs in wars.peers.items():
        for leg, values in (("w", legs.w), ("a", legs.a), ("r", legs.r), ("s", legs.s)):
            ordered = sorted(values)
            found += [
                Sample(
                    ordered[int(len(ordered) * q)] / 1000,
                    {"peer": peer, "leg": leg, "quantile": str(q)},
                )
                for q in WARS_QUANTILES
                if ordered
            ]
    return {
        "dynamo_wars_seconds": found,
        "dynamo_wars_clock_offset_seconds": [
            Sample(legs.clock_offset_ms / 1000, {"peer": peer}) for peer, legs in wars.peers.items()
        ],
    }


def _times(times: RequestTimes) -> list[Sample]:
    return [
        sample
        for operation, name in enumerate(OPERATIONS)
        for index, status_class in enumerate(STATUS_CLASSES)
        for sample in histogram_samples(
            times.since_start(operation, index), {"operation": name, "status": status_class}
        )
    ]


def _counters(counters: Mapping[str, int]) -> Iterable[Metric]:
    """What has never happened is shown as 0, so that the first time is seen as a change."""
    undescribed = "A counter of this node."
    families: dict[str, tuple[str, list[Sample]]] = {
        name: (text, [Sample(counters.get(name, 0))]) for name, text in COUNTERS.items()
    }
    families |= {family.name: (family.help, []) for family in FAMILIES}
    for counter, value in counters.items():
        if counter in COUNTERS:
            continue
        shown = describe(counter)
        if shown is None:
            families[counter] = (undescribed, [Sample(value)])
        else:
            families[shown.name][1].append(Sample(value, {shown.label: shown.value}))
    for name, (text, samples) in sorted(families.items()):
        if samples:
            yield Metric(PREFIX + name, "counter", text, samples)


def _one(value: float | None) -> list[Sample]:
    return [] if value is None else [Sample(value)]
