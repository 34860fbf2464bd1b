"""The registers: one shows a write exactly so long after its commit, one does nothing."""

from __future__ import annotations

import pytest

from bench.faults import Fault
from bench.targets.protocol import Setup, Target, TargetFailed
from bench.targets.registers import DelayRegister, NullRegister

DELAY = 1_000


class Hand:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.time = 5_000

    def __call__(self) -> int:
        return self.time


async def test_a_write_is_visible_exactly_the_delay_after_its_commit() -> None:
    now = Hand()
    register: Target = DelayRegister(DELAY, now)
    wrote = await register.write("k", 1)
    assert (wrote.outcome, wrote.committed) == ("ok", 5_000)
    now.time = 5_000 + DELAY - 1
    assert (await register.read("k")).seen == ()
    now.time += 1
    assert (await register.read("k")).seen == (1,)


async def test_the_newest_visible_is_read_and_keys_are_apart() -> None:
    now = Hand()
    register = DelayRegister(DELAY, now)
    for version in (1, 2, 3):
        await register.write("k", version, elements=(version,))
        now.time += DELAY // 2
    # The first is visible for half a delay, the second just became so.
    reply = await register.read("k")
    assert (reply.seen, reply.elements) == ((2,), (2,))
    assert (await register.read("other")).seen == ()
    now.time += 10 * DELAY
    assert (await register.read("k")).seen == (3,)
    await register.setup(Setup(run="next", n=1))
    assert (await register.read("k")).seen == ()


async def test_the_null_register_answers_at_once() -> None:
    register: Target = NullRegister()
    assert (await register.write("k", 1)).outcome == "ok"
    assert (await register.read("k")).outcome == "ok"


@pytest.mark.parametrize("register", [DelayRegister(0, Hand()), NullRegister()])
async def test_a_register_has_no_faults(register: Target) -> None:
    for act in (register.fault, register.mend, register.image):
        with pytest.raises(TargetFailed, match="pause"):
            await act(Fault(do="pause", at=0.0))
    assert await register.wars() is None
    assert await register.trees_equal() is None


def test_a_delay_below_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        DelayRegister(-1, Hand())
