"""Random streams: one a purpose, the same everywhere."""

from __future__ import annotations

from dynamo.sim.chance import stream


def test_a_stream_is_the_same_wherever_and_whenever_it_is_asked_for() -> None:
    # The number itself: a stream must not change with a version or a process.
    assert stream(7, "link", "a", "b").getrandbits(32) == 3_938_959_894
    assert stream(7, "link", "a", "b").random() == stream(7, "link", "a", "b").random()


def test_streams_of_other_names_or_seeds_are_others() -> None:
    names: list[tuple[object, ...]] = [(), ("a",), ("b",), ("a", "b"), ("ab",), (1,), (1, 1)]
    drawn = {stream(seed, *name).random() for seed in (1, 2) for name in names}
    assert len(drawn) == 2 * len(names)
