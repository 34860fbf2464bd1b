"""A fixed history of writes, and what a storage must hold after any number of them.

Write `n` is the same in every process, so that an image of a disk can be judged without its writer:
the highest write that is there says which prefix it must be.
"""

from __future__ import annotations

import random

from dynamo.errors import StorageCorrupt
from dynamo.ports import Family, Storage, Write

FAMILIES: tuple[Family, ...] = ("records", "hints", "facts")
State = dict[tuple[Family, bytes], bytes]


def value(number: int, size: int) -> bytes:
    """`size` bytes that say which write they are of."""
    return random.Random(number).randbytes(size)


def writes(number: int) -> list[Write]:
    """The entries of one write: one key of its own, and shared keys that come and go."""
    size = 40_000 if number % 97 == 60 else number * 37 % 400
    entries = [Write("records", b"n%08d" % number, value(number, size))]
    if number % 3:
        entries.append(Write("facts", b"last", b"%d" % number))
    if number % 5 == 0:
        entries.append(Write("hints", b"h%d" % (number % 20), value(-number, 50)))
    if number % 5 == 3:
        entries.append(Write("hints", b"h%d" % ((number - 8) % 20), None))
        entries.append(Write("records", b"n%08d" % (number - 3), None))
    return entries


def apply(storage: Storage, number: int) -> int:
    """Do the write; returns its write number."""
    entries = writes(number)
    if len(entries) == 1:
        family, key, data = entries[0]
        assert data is not None
        return storage.put(family, key, data)
    return storage.write(entries)


def state_after(count: int) -> State:
    """What is held after so many writes."""
    state: State = {}
    for number in range(count):
        for family, key, data in writes(number):
            if data is None:
                state.pop((family, key), None)
            else:
                state[family, key] = data
    return state


def dump(storage: Storage) -> State:
    """Everything in a storage. Raises StorageCorrupt."""
    found: State = {}
    for family in FAMILIES:
        start = b"\x01"  # the storage's own facts come before
        while page := storage.scan(family, start, b"\xff", count_max=50, bytes_max=100_000):
            found.update(((family, key), data) for key, data in page)
            start = page[-1][0] + b"\0"
    return found


def check_prefix(state: State, count_max: int) -> int:
    """Assert that the state is that after some number of writes; returns the number."""
    # Write n leaves a record that only write n + 3 takes away.
    numbers = [int(key[1:]) for family, key in state if family == "records"]
    count = max(numbers, default=-1) + 1
    assert count <= count_max
    expected = state_after(count)
    assert state.keys() == expected.keys()
    assert state == expected
    return count


def check_nothing_invented(storage: Storage, count_max: int, *, count_min: int = 0) -> int:
    """Assert that whatever can be read was once written under its key; returns how many keys cannot
    be read. With `count_min`, that what those writes left is there, or cannot be read."""
    written: dict[tuple[Family, bytes], set[bytes | None]] = {}
    for number in range(count_max):
        for family, key, data in writes(number):
            before: set[bytes | None] = {None} if number >= count_min else set()
            values = written.setdefault((family, key), before)
            if number < count_min:
                values.clear()
            values.add(data)
    corrupt = 0
    for (family, key), values in written.items():
        if not count_min:
            values.add(None)
        try:
            assert storage.get(family, key) in values
        except StorageCorrupt:
            corrupt += 1
    return corrupt
