"""What a client sees of a record, and whether a conditional request holds for it.

Pure views: nothing here changes a record. Tombstones and expired values are siblings in storage and
never in a view. Where the last write wins, the one with the highest (stamp, dot, content hash) is all
there is: a tombstone or an expired value that is the highest hides what is below it. Knows nothing of
HTTP; the time is an argument.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dynamo.record import Record, Sibling, record_digest
from dynamo.rpc.messages import Condition
from dynamo.version import descends

_ANY = "*"


class View(msgspec.Struct, frozen=True, gc=False):
    """What a record shows at one time.

    `siblings`: the live values, oldest first by (written_ms, dot). `deleted`: the key was written,
    and nothing of it is live. Neither: the key is absent.
    """

    siblings: tuple[Sibling, ...]
    deleted: bool


_ABSENT = View((), False)
_DELETED = View((), True)


def view(record: Record, now_ms: int, lww: bool = False) -> View:
    """What `record` shows at `now_ms` (wall clock, milliseconds since 1970); `lww`: of the highest."""
    siblings = record.siblings
    if lww and len(siblings) > 1:
        siblings = (newest(siblings),)
    if len(siblings) == 1 and siblings[0].is_live(now_ms):
        return View(siblings, False)
    live = [sibling for sibling in siblings if sibling.is_live(now_ms)]
    if not live:
        return _DELETED if record.vector else _ABSENT
    live.sort(key=_age)
    return View(tuple(live), False)


def newest(siblings: Sequence[Sibling]) -> Sibling:
    """Of one or more siblings that with the highest (stamp, dot, content hash). Those written before
    the bucket's last write won have stamp 0: any that has one is above them."""
    return max(siblings, key=rank)


def rank(sibling: Sibling) -> tuple[int, bytes, int, bytes, int]:
    """What decides which write wins: stamp, dot, and for a dot that was minted twice what it holds."""
    return (
        sibling.stamp,
        sibling.birth,
        sibling.counter,
        sibling.content_hash,
        sibling.expires_ms,
    )


def _age(sibling: Sibling) -> tuple[int, bytes, int, bytes, int]:
    return (
        sibling.written_ms,
        sibling.birth,
        sibling.counter,
        sibling.content_hash,
        sibling.expires_ms,
    )


def etag(record: Record, siblings: Sequence[Sibling]) -> str:
    """A name for what is shown: the vtag of the one live sibling, else the record's digest in hex.

    `siblings`: the live ones, as `view` gives them. "" for an absent key.
    """
    if len(siblings) == 1:
        return siblings[0].vtag()
    return record_digest(record).hex()


def holds(condition: Condition, record: Record, now_ms: int, lww: bool = False) -> bool:
    """True if every part of `condition` that is given holds for what `record` shows at `now_ms`, where
    the last write wins (`lww`) the highest sibling alone.

    An object goes by its `etag`: the vtag of a single value, another name for several siblings, so
    that who has seen one value does not pass once there are more; a deleted or absent one by no
    name at all. "*" stands for any live sibling. Times are compared in
    whole seconds, as HTTP dates are written; nothing live was not modified since any time. What a
    vector covers was not modified, deletes included; what is not there, or no longer, was.
    """
    if condition.unmodified:
        vector = record.vector
        if not vector or not descends(condition.unmodified, vector):
            return False
    siblings = view(record, now_ms, lww).siblings
    if condition.if_match and not _is_named(condition.if_match, record, siblings):
        return False
    if condition.if_none_match and _is_named(condition.if_none_match, record, siblings):
        return False
    if condition.unmodified_since_ms:
        second = condition.unmodified_since_ms // 1000
        return all(sibling.written_ms // 1000 <= second for sibling in siblings)
    return True


def _is_named(names: tuple[str, ...], record: Record, siblings: tuple[Sibling, ...]) -> bool:
    if not siblings:
        return False
    return _ANY in names or etag(record, siblings) in names
