"""What a node remembers of where members are: over restarts, damage and a full disk."""

from __future__ import annotations

import pytest
from blobs import Blobs

from dynamo.cluster.addresses import AddressBook
from dynamo.metrics import Metrics


def book(blobs: Blobs) -> AddressBook:
    return AddressBook(blobs=blobs, metrics=Metrics())


async def test_addresses_outlive_a_restart_and_the_latest_start_counts() -> None:
    blobs = Blobs()
    first = book(blobs)
    assert first.note("b", 3, "x:1")
    assert not first.note("b", 2, "y:1")
    assert not first.note("b", 4, "x:1")
    assert first.note("c", 1, "z:1")
    assert first.note("c", 2, "")
    assert not first.note("d", 1, "")
    await first.keep()
    again = book(blobs)
    assert (again.addresses, again.start_of("b")) == ({"b": "x:1"}, 4)
    assert again.note("b", 5, "")
    again.keep_only(frozenset("a"))
    await again.keep()
    assert book(blobs).addresses == {}


async def test_a_full_disk_is_tried_again() -> None:
    blobs = Blobs()
    blobs.full = True
    one = book(blobs)
    one.note("b", 1, "x:1")
    await one.keep()
    assert blobs.files == {}
    blobs.full = False
    await one.keep()
    assert book(blobs).addresses == {"b": "x:1"}


async def test_a_disk_that_is_full_for_days_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    blobs = Blobs()
    blobs.full = True
    one = book(blobs)
    one.note("b", 1, "x:1")
    for _ in range(1_000):
        await one.keep()
    assert len(caplog.records) == 10


def test_a_damaged_file_is_an_alarm_and_learnt_again(caplog: pytest.LogCaptureFixture) -> None:
    blobs = Blobs()
    blobs.files["addresses"] = b"\xc1"
    assert book(blobs).addresses == {}
    assert "ALARM" in caplog.text
