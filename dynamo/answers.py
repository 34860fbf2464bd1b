"""What a client is told: what a record shows, with its context, and what a write came to.

Knows nothing of who asked which replicas.
"""

from __future__ import annotations

from typing import Final

from dynamo.context import ContextSealer
from dynamo.errors import Malformed, RecordFull
from dynamo.memo import ObjectMemo
from dynamo.metrics import Metrics
from dynamo.ports import Clock
from dynamo.record import EMPTY, Record, highest_stamp, read_record
from dynamo.requests import Found, Written
from dynamo.resolve import view
from dynamo.rpc.messages import Minted
from dynamo.write_tally import WriteTally

#: Of what records read lately show, with its context: how many, and of what size.
FOUNDS_MAX: Final = 12_288
FOUND_BYTES_MAX: Final = 1024
#: Births in the vector of such a record: it, and the context that is made of it, are kept as well.
FOUND_BIRTHS_MAX: Final = 16

ABSENT: Final = Found(EMPTY, (), False, b"")


class Answers:
    """Of one coordinator."""

    __slots__ = ("_clock", "_count", "_founds", "_sealer")

    def __init__(self, *, sealer: ContextSealer, clock: Clock, metrics: Metrics) -> None:
        self._sealer = sealer
        self._clock = clock
        self._count = metrics.count
        self._founds: ObjectMemo[Record, Found] = ObjectMemo(count_max=FOUNDS_MAX)

    def found(self, routing: bytes, record: Record, lww: bool) -> Found:
        """What a record of a key shows now, with the context of what is shown."""
        if not record.vector:
            return ABSENT
        found = self._founds.get(routing, record)
        if found is not None:
            expires_ms = found.siblings[0].expires_ms
            if not expires_ms or self._clock.wall_ms() < expires_ms:
                return found
        seen = view(record, self._clock.wall_ms(), lww)
        found = Found(record, seen.siblings, seen.deleted, self._context(routing, record))
        if seen.siblings and _shows_the_same_until_it_ends(record):
            self._founds.put(routing, record, found)
        return found

    def written(
        self, routing: bytes, minted: Minted, tally: WriteTally, returnbody: bool, lww: bool
    ) -> Written:
        """What a write came to. Raises Malformed if the minter's record is none, or does not hold the
        dot it names."""
        record = read_record(minted.record)
        for sibling in record.siblings:
            if sibling.counter == minted.counter and sibling.birth == minted.birth:
                vtag = sibling.vtag()
                break
        else:
            raise Malformed("the record does not hold the write")
        primaries, fallbacks = len(tally.acked), len(tally.stand_ins)
        if not returnbody:
            return Written(record, (), False, b"", vtag, primaries, fallbacks)
        seen = view(record, self._clock.wall_ms(), lww)
        context = self._context(routing, record)
        return Written(record, seen.siblings, seen.deleted, context, vtag, primaries, fallbacks)

    def _context(self, routing: bytes, record: Record) -> bytes:
        """The token for what was shown; b"", counted, if merges have made it too long to give."""
        siblings = record.siblings
        stamp = siblings[0].stamp if len(siblings) == 1 else highest_stamp(record)
        try:
            return self._sealer.seal(routing, record.vector, stamp)
        except RecordFull:
            self._count["contexts_too_long"] += 1
            return b""


def _shows_the_same_until_it_ends(record: Record) -> bool:
    """True for one small value of a record with few births: what it shows depends on nothing but on
    whether it has expired, and costs little to keep."""
    siblings = record.siblings
    if len(siblings) != 1 or len(record.vector) > FOUND_BIRTHS_MAX:
        return False
    content = siblings[0].content
    return content is not None and len(content) <= FOUND_BYTES_MAX
