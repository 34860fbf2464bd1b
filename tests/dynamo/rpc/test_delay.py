"""How late a frame is, by two clocks that have nothing in common."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo.rpc.delay import STAMP_BITS, STAMP_MASK, Delay

FLIGHT = 0.01


class Two:
    """Both ends of a connection. The sender's clock may stand still, or run at another rate."""

    def __init__(self, rate: float = 1.0) -> None:
        self.now = 5000.0
        self.rate = rate
        self.behind = 0.0
        self.reader = Delay(self.now)
        self.sender = Delay(self.theirs)

    @property
    def theirs(self) -> float:
        return self.now * self.rate - self.behind

    def read(self, stamps: int) -> float:
        """How late a frame is that is read now."""
        self.reader.heard = stamps >> STAMP_BITS
        return self.reader.late(stamps, self.now)

    def frame(self, waits: float = 0.0) -> float:
        """Send one that waits so long until it is read; how late it is found."""
        stamps = self.sender.stamps(self.theirs)
        self.now += FLIGHT + waits
        return self.read(stamps)

    def answer(self) -> None:
        """Let the sender hear the reader."""
        stamps = self.reader.stamps(self.now)
        self.now += FLIGHT
        self.sender.heard = stamps >> STAMP_BITS


def test_what_comes_as_always_is_not_late_and_what_waited_is_as_late_as_that() -> None:
    two = Two()
    for _ in range(5):
        assert two.frame() == pytest.approx(0.0, abs=0.002)
        two.now += 1
    assert two.frame(waits=3.0) == pytest.approx(3.0, abs=0.01)
    assert two.frame() == pytest.approx(0.0, abs=0.002)


def test_all_that_was_sent_while_the_reader_stood_still_is_late_up_to_the_end() -> None:
    two = Two()
    two.frame()
    two.answer()
    stamps = []
    for _ in range(600):
        stamps.append(two.sender.stamps(two.theirs))
        two.now += 1
    for number, sent in enumerate(stamps):
        assert two.read(sent) == pytest.approx(600 - number, abs=1)


def test_a_sender_whose_machine_stood_still_is_believed_again_once_it_has_heard() -> None:
    two = Two()
    two.frame()
    two.behind += 40  # its clock stood still with it
    assert two.frame() == pytest.approx(40, abs=0.1)
    two.answer()
    assert two.frame() < 0.1
    two.now += 1
    assert two.frame(waits=2.0) == pytest.approx(2.0, abs=0.1)


def test_clocks_that_drift_apart_make_nothing_late() -> None:
    for rate in (0.9995, 1.0005):
        two = Two(rate)
        for _ in range(10_000):
            assert two.frame() < 0.005
            two.now += 1
        assert two.frame(waits=5.0) == pytest.approx(5.0, abs=0.01)


@pytest.mark.parametrize("rate", [0.5, 0.9, 1.1, 2.0])
def test_however_fast_clocks_drift_apart_only_the_time_since_the_last_echo_is_in_doubt(
    rate: float,
) -> None:
    two = Two(rate)
    for _ in range(100):
        assert two.frame() <= 1 + 4 * FLIGHT
        two.answer()
        two.now += 1


def test_stamps_go_round() -> None:
    two = Two()
    two.sender.opened = two.now - (STAMP_MASK - 500) / 1000
    assert two.sender.stamps(two.now) >> STAMP_BITS > STAMP_MASK - 1000
    for _ in range(20):
        assert two.frame() == pytest.approx(0.0, abs=0.002)
        two.now += 0.1
    assert 0 < two.sender.stamps(two.now) >> STAMP_BITS < 10_000
    assert two.frame(waits=2.0) == pytest.approx(2.0, abs=0.01)


def test_stamps_that_say_nothing_make_nothing_late() -> None:
    two = Two()
    two.frame(waits=0)
    two.now += 100
    assert two.read(0) == 0.0


@given(st.lists(st.tuples(st.integers(0, (1 << 64) - 1), st.floats(0, 1e6)), max_size=20))
def test_no_stamps_make_a_frame_earlier_than_it_was_read(frames: list[tuple[int, float]]) -> None:
    two = Two()
    for stamps, waits in frames:
        two.now += waits
        assert 0.0 <= two.read(stamps) <= (STAMP_MASK + 1) / 1000
        assert 0 <= two.reader.stamps(two.now) < 1 << 64
