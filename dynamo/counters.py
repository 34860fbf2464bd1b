"""What each counter of `dynamo.metrics` counts: the one table that pages and documents go by.

A counter that the code names in full has a line of its own. One whose name ends in a code that
errors or reasons go by belongs to a family, with the code as its label; the codes are those of the
program, never what a client sent. A test holds the table against the source. Knows no values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class Family(NamedTuple):
    """Counters whose names begin with `prefix`; the rest of the name is the value of `label`."""

    prefix: str
    name: str
    label: str
    help: str


class Described(NamedTuple):
    """A counter as it is shown: the family's name, what it counts, and its label, if it has one."""

    name: str
    help: str
    label: str = ""
    value: str = ""


#: What each counter counts, since the node started, by the part of the node.
COUNTERS: Final[Mapping[str, str]] = {
    # Expiry
    "expired_bodies_dropped": "Records of which bodies were let go, an hour after their values expired.",
    "expiries_stale": "Entries of the queue whose record had changed meanwhile, or was damaged.",
    "expiries_interrupted": "Looks at the queue of expired values that a failing storage ended.",
    # Coordinator
    "gets": "Reads that this node coordinated.",
    "gets_local": "Reads of this node's own copy alone.",
    "puts": "Writes that this node coordinated.",
    "deletes": "Deletes that this node coordinated.",
    "bodies_fetched_again": "Values asked for once more, since an answer held only a digest.",
    "reads_hedged": "Reads that asked others too, since an answer did not come in time.",
    "reads_with_stale_replies": "Reads for which some replica's answer was behind those of others.",
    "stale_replies": "Answers to them that were behind.",
    "reads_answered_stale": "Reads answered with less than their replicas together turned out to hold.",
    "read_repairs": "Records sent to replicas that a read found behind.",
    "read_repairs_blocking": "Records sent likewise that a read with blocking repair waited for.",
    "read_repair_bytes": "Bytes of both.",
    "read_repairs_done": "Read repairs that the replica has on disk.",
    "read_repairs_refused": "Read repairs that the replica refused.",
    "read_repairs_left": "Replicas that were too late to be repaired by a read of a large record.",
    "read_repairs_left_out": "Replicas found behind and left so, since read repair is off here.",
    "hints_left_out": "Primaries that missed a write which nobody keeps for them: hints are off here.",
    "read_repairs_failed": "Read repairs without an answer.",
    "stores_missed": "Replicas that a write did not reach, or that refused it.",
    "mints_moved_on": "Writes that went to another primary, since one certainly did nothing.",
    "stores_at_stand_ins": "Writes sent to a node that keeps them for a primary that is down.",
    "writes_missed": "Primaries that a write is owed to, since they or who stood in have missed it.",
    "writes_owed_by_nobody": "Primaries that missed a write which nobody is known to have.",
    "debts_noted": "Writes that a replica noted to owe to others which had missed them.",
    "debts_refused": "Writes that a replica did not note to owe; they are left to anti-entropy.",
    "debts_not_noted": "Writes that were to be noted as owed, without an answer.",
    "hedges_denied": "Reads that might have asked others too, and had to wait: too many had.",
    "mints_retried": "Writes tried at another replica, since one had too much to do.",
    "mint_retries_denied": "Writes given up since too many had been tried again already.",
    "mints_malformed": "Writes whose minter answered what cannot be read.",
    "contexts_too_long": "Reads answered without a context, since merges have made it too long.",
    "minters_told": "Minters of `lww` writes that were sent a record which hides what they minted.",
    "minters_refused_to_be_told": "Minters of `lww` writes that refused such a record.",
    "minters_not_told": "Minters of `lww` writes that did not answer to such a record.",
    "wars_reads_measured": "Reads of which this node measured the ways to each replica and back.",
    "wars_writes_measured": "Writes of which it did.",
    "wars_answers_left_out": "Replicas that gave no part of such a read or write.",
    "wars_clocks_reset": "Times that what was known of a peer's clock no longer held: it was set.",
    # Replica
    "fetches": "Records that this node was asked for, by itself or a peer.",
    "fetches_waited": "Of them, those that waited until what they met was on disk.",
    "mints": "Writes that this node gave their dot.",
    "stores": "Records of writes that this node merged in.",
    "repairs_stored": "Records of read repairs and refills that this node merged in.",
    "scans": "Pages of partitions that peers read to refill.",
    "records_full": "Writes refused since they would pass a cap of the record.",
    "records_large": "Writes that left a record near one of its caps.",
    "preconditions_failed": "Conditional writes whose condition did not hold here.",
    "stamps_not_adopted": "Stamps from a clock so far ahead that this node's does not follow.",
    "writes_waited": "Writes that waited for a storage that was too far behind.",
    "writes_waited_in_vain": "Of them, those whose time was up.",
    "flushes": "Syncs of the log, each for all who waited.",
    "flushes_failed": "Syncs that failed.",
    # Hints
    "hints_taken": "Hints that this node began to keep for an absent member.",
    "hints_delivered": "Hints that are gone, since their target has them on its disk.",
    "hints_changed_meanwhile": "Hints that were delivered and stay, since they hold more by now.",
    "hints_discarded": "Hints dropped, since the disk that they were on is an older one.",
    "hints_not_kept": "Owners that a write owed its record, without a note of it: repair is left.",
    "hints_left_to_antientropy": "Owners that missed a record, without a note of it, for the same.",
    "hints_not_removed": "Delivered hints that could not be removed; they are delivered again.",
    "hints_void": "Hints removed, since what they owed is gone.",
    "hints_damaged": "Alarm: a hint that failed its checksum; its key is left to repair.",
    "hint_scans_failed": "Times that the hints could not be read through, to count or drop them.",
    "fetches_hinted": "Records of absent members that this node was asked for.",
    "deliveries_stored": "Records that this node had missed, and merged in.",
    # Reaping
    "tombstones_reaped": "Tombstones that this node saw to be dropped by all owners.",
    "tombstones_dropped": "Tombstones that are gone here, whoever saw to it.",
    "births_dropped": "Records whose vectors have lost births that no member has any more.",
    "drops_refused": "Tombstones and births that were to go, and were not what they were to be.",
    "hints_looked_at": "Times that this node said what it owes of partitions, for reaping.",
    "settles": "Times that this node said that all had ended which it had under way.",
    "settles_failed": "Times that it could not say so in time.",
    "reaps_interrupted": "Times that the queue of tombstones could not be gone over.",
    "reap_scans_failed": "Times that the queue of tombstones could not be read, to count it.",
    "reap_facts_void": "Places in that queue that stood for nothing, and were removed.",
    # Listings
    "listings": "Lists of keys or buckets that this node began.",
    "listings_refused": "Lists refused, since the node made as many as it does at a time.",
    "listing_keys_read": "Keys read for a list, since replicas did not agree on them.",
    "listing_keys_unread": "Of them, those that could not be read.",
    "listing_buckets_read": "Keys read to know whether a bucket shows a value.",
    "listing_pages_incomplete": "Pages of a list that fewer replicas than a quorum gave.",
    "listing_pages_missed": "Pages of a list that a replica did not answer.",
    "listing_pages_partial": "Pages of a list that lack records, damaged at the replica.",
    "listing_pages_refused": "Pages of a list that a replica refused.",
    "key_pages_listed": "Pages of keys that this node gave, to itself or a peer.",
    "bucket_pages_listed": "Pages of buckets that this node gave, to itself or a peer.",
    # Bucket properties
    "properties_set": "Times that this node gave a bucket or type properties.",
    "properties_reset": "Times that this node reset the properties of a bucket or type.",
    "properties_uncertain": "Of both, those that a member missed that was up.",
    "properties_missed_by_down": "Members that were down at a change; they learn it on their return.",
    "properties_pushed_again": "Of both, those made anew above a change that a member knew.",
    "properties_learnt": "Properties that a peer told of and this node did not have.",
    "properties_asked_in_vain": "Times that a peer did not tell its properties.",
    "properties_pages_malformed": "Pages of properties that do not follow the one before.",
    "properties_damaged": "Alarm: the properties on disk cannot be read; the peers tell them.",
    "properties_unwritten": "Times that properties could not be written to the disk.",
    # Damage and refill
    "alarms": "Alarms of any kind; the log has a line for each.",
    "dots_with_two_values": "Alarm: one dot with two values; both are kept.",
    "foreign_dots": "Alarm: a dot of this incarnation that was minted elsewhere.",
    "marks_damaged": "Alarm: refill marks that cannot be read, so that everything is refilled.",
    "partitions_damaged": "Alarm: a partition that cannot be read through.",
    "records_damaged": "Alarm: a record that failed its checksum.",
    "records_quarantined": "Damaged records put aside.",
    "records_mended": "Damaged records that are served again.",
    "mends_failed": "Damaged records that were damaged again while they were mended.",
    "mends_without_a_copy": "Damaged records of which no peer had a copy.",
    "records_reseated": "Records whose place in the trees was written anew, for another secret.",
    "trees_keys_read": "Records read to build or verify hash trees.",
    "trees_rebuilt": "Hash trees built from the records.",
    "trees_verified": "Hash trees held against their records.",
    "trees_wrong": "Of them, those that were not what they had to be, and were replaced.",
    "records_set_aside": "Alarm: records with values that only this disk had, which went back in time.",
    "earlier_records_damaged": "Alarm: what a disk that went back had was damaged before it was judged.",
    "earlier_records_removed": "Records of a disk that went back that no peer knew.",
    "earlier_records_returned": "Records of a disk that went back that count, as no peer could tell.",
    "earlier_tombstones_dropped": "Tombstones that only this disk had, which went back in time.",
    "arrivals_forgotten": "Records that came before all members were met, beyond what is remembered.",
    "partitions_purged": "Partitions of a disk that went back, judged by what peers have.",
    "partitions_unpurged": "Partitions of a disk that went back that count as they were: all went back.",
    "partitions_refilled": "Partitions read back from all their peers.",
    "refill_records": "Records read back from peers.",
    "refill_records_skipped": "Records that a peer could not give, since they are damaged there.",
    "refill_pages_failed": "Pages of a refill that a peer did not give.",
    "refill_stores_failed": "Records read back that this node could not store.",
    "refills_interrupted": "Refills that the storage interrupted; they go on later.",
    # Handoff
    "hint_bytes_delivered": "Bytes of hints that their targets have on their disks.",
    "hint_batches_failed": "Batches of hints that failed as a whole; they are sent anew.",
    "hints_turned_down": "Times that a target refused a hint by itself; it is tried again.",
    "handoffs_interrupted": "Times that this node's storage kept hints from being delivered.",
    # Exchange
    "exchanges": "Exchanges with a peer that this node began.",
    "exchanges_failed": "Of them, those that broke off, since the peer did not answer.",
    "exchange_messages": "Questions to peers about what they keep, of the exchanges begun here.",
    "exchange_roots_asked": "Times that this node had a peer compare the roots of its hash trees.",
    "exchange_hash_bytes": "Bytes of hashes and keys that these exchanges took, to and fro.",
    "exchange_partitions_left_out": "Partitions that an exchange could say nothing certain of.",
    "exchange_leaves_dropped": "Leaves that differ, left to later exchanges: too many others did.",
    "exchange_suspects_dropped": "Keys that changed meanwhile, left to later ones for the same.",
    "exchange_suspects_left": "Keys left to later exchanges, since they changed at every look.",
    "exchange_keys_strange": "Keys that a peer told of, and that do not lie where it did.",
    "repairs_by_exchange_pulled": "Records that this node had missed, and took from a peer.",
    "repairs_by_exchange_pushed": "Records that a peer had missed, and took from this node.",
    "repair_bytes_by_exchange_pulled": "Bytes of records taken from a peer.",
    "repair_bytes_by_exchange_pushed": "Bytes of records taken by a peer.",
    "records_stuck": "Alarm: a record merged both ways in which two nodes still differ.",
    "roots_compared": "Roots of hash trees that peers had this node compare.",
    "records_read_for_exchange": "Records read over for keys that lie in leaves that differ.",
    "keys_looked_at": "Keys of which this node told vector and digest, to itself or a peer.",
    "records_given_to_exchange": "Records that this node gave, to be brought to who missed them.",
    "deliveries_by_exchange": "Records that an exchange brought here, and this node merged in.",
    # Cluster
    "addresses_damaged": "Alarm: the addresses of members on disk cannot be read; they are learnt.",
    "addresses_learnt": "Times that a member turned out to be dialled elsewhere.",
    "addresses_unwritten": "Times that the addresses of members could not be kept on disk.",
    "gossip_absurd": "Alarm: gossip that cannot be: of no member, or about what was never reached.",
    "gossip_cut_short": "Gossip that was not sent whole, since it or the round would be too large.",
    "gossip_malformed": "Gossip that cannot be read.",
    "gossip_of_other_rings": "Gossip of peers that have another ring.",
    "gossip_rounds": "Rounds of gossip.",
    "gossip_rounds_late": "Of them, those so late that this node must have stood still.",
    "gossip_told_behind": "Times that a peer knew of a later start of this node.",
    "gossip_unanswered": "Gossip that was sent and not answered.",
    "known_peers_unwritten": "Times that what is known of the peers could not be kept on disk.",
    "later_rings_asked": "Asks for the ring of a peer, since a request of it named a later epoch.",
    "later_rings_not_sent": "Of them, those that the peer did not answer with a ring.",
    "later_rings_not_taken": "Later rings of peers left alone, since no change has been agreed on here.",
    "later_rings_refused": "Rings of peers that are none, or not of this cluster.",
    "peer_requests_failed": "Requests about the ring, and heartbeats, that failed.",
    "own_pauses": "Times that this node found that it had itself stood still.",
    "peers_convicted": "Connections closed, since the peer was silent for longer than is likely.",
    "peers_doubted": "Times that a peer became one to be asked last, silent or slow as it was.",
    "connections_stale": "Silent connections closed, since the peer is known to have restarted.",
    "peers_behind": "Handshakes of peers that had lost what they once showed.",
    "peers_lost": "Connections to peers that ended.",
    "peers_refused": "Times that this node refused a peer.",
    "refused_by_peers": "Times that a peer refused this node.",
    # Wire
    "rpc_bytes_received": "Bytes from peers.",
    "rpc_bytes_sent": "Bytes to peers.",
    "rpc_frames_bad": "Connections closed for a frame that was damaged or none.",
    "rpc_frames_sent": "Frames to peers.",
    "rpc_frames_stalled": "Connections closed since a frame began and did not end.",
    "rpc_messages_received": "Messages from peers.",
    "rpc_messages_unread": "Messages that came behind one that closed the connection.",
    "rpc_connections_opened": "Connections between nodes that were opened.",
    "rpc_connections_lost": "Open connections between nodes that ended.",
    "rpc_connections_replaced": "Connections that a newer one of the same peer replaced.",
    "rpc_connections_duplicate": "Connections given up, since the pair of nodes has one.",
    "rpc_connections_capped": "Connections closed, since there are too many.",
    "rpc_connections_garbage": "Connections closed for bytes that no node sends.",
    "rpc_connections_refused": "Handshakes that this node refused.",
    "rpc_connections_refused_by_peer": "Handshakes that a peer refused.",
    "rpc_handshakes_timed_out": "Handshakes that did not end in time.",
    "rpc_dials": "Attempts to connect to a peer.",
    "rpc_dials_failed": "Of them, those that failed.",
    "rpc_handlers_failed": "Requests that met a bug here.",
    "rpc_waiters_failed": "Replies and failures that met a bug here.",
    "rpc_requests_lost": "Requests whose connection broke before their reply.",
    "rpc_requests_malformed": "Requests that cannot be read.",
    "rpc_requests_not_sent": "Requests that never left: no connection, or no room.",
    "rpc_requests_past_deadline": "Requests that nobody waited for any more.",
    "rpc_requests_timed_out": "Requests without a final reply by their deadline.",
    "rpc_requests_unknown": "Requests of a kind that this node does not know.",
    "rpc_replies_after_last": "Replies made to a call that had its last.",
    "rpc_replies_excessive": "First replies where only a last one may come.",
    "rpc_replies_unfinished": "Last replies to a mint that say nothing of its being on disk.",
    "rpc_replies_late": "Replies that came after their request had ended.",
    "rpc_replies_malformed": "Replies that cannot be read.",
    "rpc_replies_past_deadline": "Replies not sent, since nobody waited for them any more.",
    "rpc_replies_to_nothing": "Replies to what was never asked.",
    "rpc_replies_to_the_gone": "Replies whose connection had ended.",
    "rpc_replies_too_large": "Replies over the limit of a message.",
    "rpc_replies_unwritable": "Replies not sent, since the peer reads nothing.",
    "faults_changed": "Times that the faults injected into this node's messages were changed.",
    "faults_connections_cut_off": "Connections ended on purpose, since the two nodes are cut apart.",
    "faults_delays_capped": "Injected delays that were drawn above the limit, and cut to it.",
    "faults_messages_held": "Messages held by fault injection.",
    "faults_messages_unheld": "Messages refused since as many were held as may.",
    "faults_messages_cut_off": "Messages that were held, and whose connection ended meanwhile.",
    "faults_messages_abandoned": "Messages that were held as the node ended.",
    "faults_messages_failed": "Messages that met a bug as they were let go.",
    "faults_requests_expired": "Requests that were held until nobody waited for them any more.",
    "rpc_writes_paused": "Times that a peer took bytes more slowly than they came.",
    "rpc_writes_stalled": "Connections closed, since the peer took nothing for too long.",
    # Storage
    "storage_closes_failed": "Closes of the engine that failed.",
    "storage_notes_failed": "Times that what is synced could not be noted.",
    "storage_reads_failed": "Reads of the engine that failed.",
    "storage_reopened": "Times that the engine was reopened, after damage or a full disk.",
    "storage_seeks_slow": "Scans that had to step over thousands of deleted entries to begin.",
    "storage_stalls": "Writes that the engine would have held up.",
    # HTTP
    "http_bodies_cut_off": "Requests whose body ended early.",
    "http_bodies_too_slow": "Requests whose body came too slowly.",
    "http_listings_failed": "Lists that met an error after they had begun.",
    "http_streams_cut_off": "Replies in pieces that ended early: the client left, or a bug.",
    "http_connections_turned_away": "Connections of clients above the limit.",
    "http_failures": "Requests that met a bug, or an error without a status of its own: 500.",
    "http_replies_stalled": "Replies that the client did not read.",
    "http_requests_cut_off": "Requests that a stop of the node did not wait for.",
}

#: Those of COUNTERS that are alarms of one kind.
ALARMS: Final = (
    "addresses_damaged",
    "dots_with_two_values",
    "earlier_records_damaged",
    "foreign_dots",
    "hints_damaged",
    "gossip_absurd",
    "marks_damaged",
    "partitions_damaged",
    "properties_damaged",
    "records_damaged",
    "records_stuck",
    "trees_wrong",
    "records_set_aside",
)

#: Counters with a code at the end of their name.
FAMILIES: Final = (
    Family(
        "http_refused_",
        "http_refused",
        "code",
        "Requests that the HTTP server turned down, by the code in the reply.",
    ),
    Family(
        "http_error_",
        "http_errors",
        "code",
        "Requests that the store answered with an error, by the code in the reply.",
    ),
    Family(
        "storage_stopped_",
        "storage_stopped",
        "reason",
        "Times that the storage stopped taking writes, by reason.",
    ),
    Family(
        "listings_ended_",
        "listings_ended",
        "how",
        "Lists of keys or buckets that ended: complete, incomplete (and said so), or abandoned.",
    ),
    Family(
        "properties_refused_",
        "properties_refused",
        "code",
        "Properties of peers that this node does not take, by code.",
    ),
    Family(
        "hints_refused_",
        "hints_refused",
        "reason",
        "Hints that this node did not take, by reason.",
    ),
    Family(
        "deliveries_refused_",
        "deliveries_refused",
        "code",
        "Records that this node had missed and did not take, by code.",
    ),
    Family(
        "requests_shed_",
        "requests_shed",
        "why",
        "Requests refused before anything was done: requests, bytes or lag over their bound, a client "
        "over its share, a lane full.",
    ),
    Family(
        "refused_",
        "refused",
        "code",
        "Requests of coordinators that this node's replica refused, by code.",
    ),
)


def describe(counter: str) -> Described | None:
    """How a counter is shown; None for one that the table does not have."""
    text = COUNTERS.get(counter)
    if text is not None:
        return Described(counter, text)
    for family in FAMILIES:
        if counter.startswith(family.prefix):
            return Described(family.name, family.help, family.label, counter[len(family.prefix) :])
    return None
