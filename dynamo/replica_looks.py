"""What one node answers to a peer that has found keys in which the two differ: what it holds of each,
as element, vector and digest, and then the records.

Records flow by these answers, so nothing is shown before it is on disk: what a power loss took back
here would be held elsewhere as if it had been acknowledged. A damaged record is said to be damaged, and
never to be absent. Reads storage and never writes it, as `dynamo.replica_reads`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from dynamo.commit import GroupCommit
from dynamo.errors import DynamoError, StorageCorrupt
from dynamo.metrics import Metrics
from dynamo.ports import Call, Handler
from dynamo.refusing import REFILLING
from dynamo.replica import Replica
from dynamo.rpc.exchange_messages import Looked, LookedAt, LookKeys, Pull, Pulled
from dynamo.seen import Seen

#: Keys looked at for one answer, so that it takes a few milliseconds.
LOOKED_MAX: Final = 256
#: Bytes of vectors, or of records, in one answer; one record may be larger.
ANSWER_BYTES: Final = 1 << 20

_ABSENT: Final = LookedAt(bytes(8), ())
_DAMAGED: Final = LookedAt(bytes(8), (), b"", "corrupt")
#: Of one entry of a vector.
_ENTRY_BYTES: Final = 32


class ReplicaLooks:
    """Handlers of LookKeys and Pull, over one node's replica."""

    def __init__(self, *, replica: Replica, commit: GroupCommit, metrics: Metrics) -> None:
        self._replica = replica
        self._commit = commit
        self._count = metrics.count

    def handlers(self) -> dict[type, Handler]:
        """By class of request."""
        return {LookKeys: self.on_look_keys, Pull: self.on_pull}

    def on_look_keys(self, message: LookKeys, call: Call) -> None:
        """Say what is held of each key, once it is on disk."""
        prefix = self._prefix(message, call)
        if prefix is None:
            return
        entries: list[LookedAt] = []
        bytes_left = ANSWER_BYTES
        try:
            for key in message.keys[:LOOKED_MAX]:
                if bytes_left <= 0:
                    break
                entry = self._look(prefix + key)
                bytes_left -= _ENTRY_BYTES * len(entry.vector)
                entries.append(entry)
        except DynamoError as error:
            self._replica.refusing.refuse_error(call, error)
            return
        self._count["keys_looked_at"] += len(entries)
        looked = message.keys[: len(entries)]
        reply = Looked(tuple(entries))
        self._when_synced([prefix + key for key in looked], call, lambda: call.reply(reply))

    def on_pull(self, message: Pull, call: Call) -> None:
        """Answer with the records, once they are on disk."""
        prefix = self._prefix(message, call)
        if prefix is None:
            return
        records: list[bytes] = []
        skipped: list[int] = []
        bytes_left = ANSWER_BYTES
        try:
            for at, key in enumerate(message.keys[:LOOKED_MAX]):
                seen, is_damaged = self._find(prefix + key)
                record = b"" if seen is None else seen.stored.record
                if records and len(record) > bytes_left:
                    break
                if is_damaged:
                    skipped.append(at)
                bytes_left -= len(record)
                records.append(record)
        except DynamoError as error:
            self._replica.refusing.refuse_error(call, error)
            return
        self._count["records_given_to_exchange"] += len(records)
        given = message.keys[: len(records)]
        reply = Pulled(tuple(records), tuple(skipped))
        self._when_synced([prefix + key for key in given], call, lambda: call.reply(reply))

    # Inside -------------------------------------------------------------------------------------

    def _prefix(self, message: LookKeys | Pull, call: Call) -> bytes | None:
        """Of the partition's storage keys; None, and the call is answered, if nothing can be said."""
        replica = self._replica
        refusing = replica.refusing
        if message.epoch > refusing.epoch:
            replica.on_later_epoch(call.peer, message.epoch)
        place = (message.cls, message.partition)
        prefix = replica.prefixes.get(place)
        if prefix is None or message.epoch < replica.changed_epochs[place]:
            refusing.refuse(call, refusing.not_mine(owned=prefix is not None))
            return None
        if replica.is_incomparable(place):
            refusing.refuse(call, REFILLING)
            return None
        return prefix

    def _look(self, storage_key: bytes) -> LookedAt:
        seen, is_damaged = self._find(storage_key)
        if is_damaged:
            return _DAMAGED
        if seen is None:
            return _ABSENT
        _, element = self._replica.hasher.read(storage_key, seen.stored)
        shown = seen.digest()
        return LookedAt(element.to_bytes(8), shown.vector, shown.digest)

    def _find(self, storage_key: bytes) -> tuple[Seen | None, bool]:
        """(what is held, True if it is damaged: then what is held is not all)."""
        replica = self._replica
        try:
            seen = replica.look(storage_key)
        except StorageCorrupt:
            return None, True
        return seen, storage_key in replica.damaged

    def _when_synced(
        self, storage_keys: Iterable[bytes], call: Call, then: Callable[[], None]
    ) -> None:
        unsynced = self._replica.unsynced
        pending = max((unsynced.get(key, 0) for key in storage_keys), default=0)

        def synced(error: DynamoError | None) -> None:
            if error is None:
                then()
            else:
                self._replica.refusing.refuse_unsynced(call, error)

        self._commit.when_synced(pending, synced)
