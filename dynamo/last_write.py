"""Which writes a replica refuses for their stamps, where the last write wins.

Pure: what counts is decided by records and the time alone. Knows neither storage nor the clock that
stamps (`dynamo.hybrid_clock`); which of several writes is the last one `dynamo.resolve` says.
"""

from __future__ import annotations

from dynamo.hybrid_clock import AHEAD_MS_MAX
from dynamo.record import Record, encode_record
from dynamo.resolve import newest, rank
from dynamo.rpc.messages import Refused


def refused_ahead(write: Record, stamp: int, now_ms: int) -> Refused | None:
    """Why a write is not stored that was stamped by a clock too far ahead, or None. `stamp`: the
    highest of `write`; `now_ms`: wall clock of who is to store it.

    The clock is told by when the minter says that it wrote: what had to be stamped above a record
    from the future, by a clock that is right, is taken. So a key that a wrong clock has left with
    such stamps can be written at once, by those whose clocks are right.
    """
    ahead_ms = newest(write.siblings).written_ms - now_ms
    if ahead_ms <= AHEAD_MS_MAX:
        return None
    detail = f"the clock that stamped the write is {ahead_ms} ms ahead of this node's"
    return Refused("ahead", True, detail, stamp=stamp)


def refused_older(write: Record, merged: Record) -> Refused | None:
    """Why a write does not count with which this record is the result, or None: another is shown."""
    if not write.siblings or not merged.siblings:
        return None  # what no minter sends; there is nothing that could be hidden
    shown, wrote = newest(merged.siblings), newest(write.siblings)
    if rank(shown) <= rank(wrote):
        return None
    detail = f"older than {shown.stamp}, which this node has: another write hides this one"
    return Refused("older", False, detail, record=encode_record(merged), stamp=shown.stamp)
