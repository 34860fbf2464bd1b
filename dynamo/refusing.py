"""What a replica says to a request that it does not carry out, and what of that is counted and logged.

A refusal is definite if nothing has happened, and says so. Knows neither the records nor when a
request is refused: the replica decides that (`dynamo.replica`).
"""

from __future__ import annotations

import logging
from typing import Final

from dynamo.backlog import BUSY
from dynamo.errors import DynamoError, Malformed, StorageCorrupt, StorageRefusesWrites
from dynamo.metrics import Metrics
from dynamo.ports import Call, Storage
from dynamo.rpc.messages import Refused

log = logging.getLogger(__name__)

REFILLING: Final = Refused("refilling", True, "this partition is being refilled")
LACKS_SOME: Final = Refused(
    "refilling", False, "this node's copy is being restored: it has the write, which does not count"
)
STAMPS_USED_UP: Final = Refused("stamps_used_up", True, "the record has the highest stamp there is")
DAMAGED: Final = Refused("corrupt", True, "this node's record is damaged and being mended")


#: Why a hint is not taken, for counters, and what of it is said.
NO_HINTS: Final = {
    "owner": "this node owns the partition, so it stands in for nobody",
    "epoch": "the member is named by the ring of another epoch",
    "unknown_member": "the ring has no such member",
    "not_owner": "that member does not own the partition",
    "datacenter": "that member is in another datacenter",
    "itself": "this node owes nothing to itself",
    "nothing": "this node has no record of the key",
    "window": "the hint window of that member is over",
    "live": "that member is up, and as many hints as it can have wait for it",
    "full": "the hints take as much room as they may",
    "other_kind": "a hint of another kind waits for that member",
    "damaged": "a hint for that member is damaged here, and cannot be put aside now",
    "discarding": "this node drops the hints of an older disk",
}


class HintRefused(StorageRefusesWrites):
    """A hint is not taken; `why` is a key of NO_HINTS. Nothing was done."""

    def __init__(self, why: str) -> None:
        super().__init__(NO_HINTS[why], reason="hint_refused")
        self.why = why


class Refusing:
    """Refuses what is asked of one node, and counts it by code."""

    def __init__(self, *, storage: Storage, metrics: Metrics) -> None:
        self._storage = storage
        self._count = metrics.count
        #: Of the ring that is served; 0 while there is none.
        self.epoch = 0

    def not_mine(self, *, owned: bool) -> Refused:
        """For a partition of others; `owned`: of this node, by a newer ring than the asker's."""
        if not self.epoch:
            return Refused("not_ready", True, "this node has no ring yet")
        if not owned:
            return Refused("not_owner", True, "not an owner of this partition", epoch=self.epoch)
        return Refused("stale_epoch", True, "the partition has new owners", epoch=self.epoch)

    def takes_no_writes(self, reason: str) -> Refused:
        """For a write while the storage gives this reason for taking none (`Storage.refusal`)."""
        return Refused(reason, True, _TOLD.get(reason, _NO_WRITES), epoch=self.epoch)

    def no_hint(self, why: str, *, definite: bool = True) -> Refused:
        """For a hint that is not taken; `why` as in NO_HINTS. Counted by that."""
        self._count["hints_refused_" + why] += 1
        return Refused("hint_refused", definite, NO_HINTS[why], epoch=self.epoch)

    def refuse(self, call: Call, refused: Refused) -> None:
        """Answer the call with this refusal."""
        self._count["refused_" + refused.code] += 1
        call.reply(refused)

    def refuse_error(self, call: Call, error: DynamoError) -> None:
        """Refuse what met this error while it was carried out."""
        if isinstance(error, HintRefused):
            self.refuse(call, self.no_hint(error.why))
            return
        code, definite = code_of(error)
        self.refuse(call, Refused(code, definite, self._told(code, error), epoch=self.epoch))

    def alarm(self, counter: str, line: str) -> None:
        """Count an alarm, and say so in the log the 1st, 2nd, 4th, ... time: one cause can have many."""
        self._count["alarms"] += 1
        self._count[counter] += 1
        count = self._count[counter]
        if count & (count - 1) == 0:
            log.error("ALARM %s (%s so far): %s", counter, count, line)

    def refuse_unsynced(self, call: Call, error: DynamoError) -> None:
        """What was met or written may not be on disk, whatever kind of error says so."""
        code = "sync_failed" if self._storage.refusal() == "sync_failed" else "storage_error"
        self.refuse(call, Refused(code, False, self._told(code, error), epoch=self.epoch))

    def _told(self, code: str, error: DynamoError) -> str:
        """What a client may read: an engine's own words name files, so they stay in the log."""
        if code == "malformed":
            return error.message
        count = self._count["refused_" + code] + 1
        if count & (count - 1) == 0:
            log.warning("%s (%s so far): %s", code, count, error.message)
        return _TOLD.get(code, _NO_WRITES)


def code_of(error: DynamoError) -> tuple[str, bool]:
    """The code that a refusal for this error has, and whether it is definite."""
    if isinstance(error, StorageCorrupt):
        return "corrupt", True
    if isinstance(error, StorageRefusesWrites):
        return str(error.details.get("reason", "storage_error")), True
    if isinstance(error, Malformed):
        return "malformed", True
    return "storage_error", error.outcome == "none"


_NO_WRITES: Final = "this node takes no writes"
_TOLD: Final = {
    "corrupt": "this node's record is damaged",
    "storage_error": "this node's storage failed",
    "sync_failed": "this node could not sync its log and takes no more writes",
    "damaged": "this node's database is damaged and being rebuilt",
    "disk_full": "this node is short of disk space",
    "storage_busy": BUSY,
}
