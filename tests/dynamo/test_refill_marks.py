"""Marks of what a disk may lack: they get there though it is nearly full, and end on disk first."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dynamo.errors import StorageRefusesWrites
from dynamo.metrics import Metrics
from dynamo.ports import Write
from dynamo.refill_marks import RefillMark, RefillMarks
from dynamo.store.memory import MemoryStorage

PLACE = (0, 1)
BACK = RefillMark(("a",), serving=False, back=7)


class Refusing(MemoryStorage):
    """`low`: only what may use the space that is kept free is taken; `stopped`: nothing."""

    low = stopped = False

    def write(self, writes: Sequence[Write], *, reserve: bool = False) -> int:
        if self.stopped or (self.low and not reserve):
            raise StorageRefusesWrites("no room", reason="disk_full")
        return super().write(writes, reserve=reserve)


def marks(storage: MemoryStorage) -> RefillMarks:
    return RefillMarks(storage=storage, metrics=Metrics(), alarm=lambda name, text: None)


def test_marks_come_and_go_on_a_disk_that_is_nearly_full() -> None:
    storage = Refusing()
    storage.low = True
    one = marks(storage)
    one.mark_refill([(PLACE, BACK)])
    assert marks(storage).refilling == {PLACE: BACK}
    one.refilled(PLACE)
    one.note_must_refill(True, back=True)
    assert marks(storage).refilling == {}
    assert marks(storage).must_set_back


def test_a_mark_that_cannot_be_written_counts_and_one_that_cannot_be_taken_back_does_too() -> None:
    storage = Refusing()
    one = marks(storage)
    one.mark_refill([(PLACE, BACK)])
    storage.stopped = True
    other = (0, 2)
    with pytest.raises(StorageRefusesWrites):
        one.mark_refill([(other, BACK), (PLACE, RefillMark(("a",), serving=False))])
    assert one.refilling == {PLACE: BACK, other: BACK}
    with pytest.raises(StorageRefusesWrites):
        one.refilled(PLACE)
    assert one.is_back(PLACE)
