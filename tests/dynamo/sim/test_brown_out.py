"""A brown-out, and what is left of the cluster after it: with admission, and with it switched off.

Three nodes at about 70 % of what they can do, then everything takes ten times as long for some seconds,
or three times as much comes. The clients are the same in all scenes: they try for ever, and come back
when they are told to where they are told.
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import pytest
from open_loop import OpenLoop

from dynamo.sim import Cluster, Costs, run_virtual
from dynamo.sim.chance import stream

#: Of one core that does about 150 requests a second with all three: small numbers make a quick test.
COSTS = Costs(request=0.008, refusal=0.0008, message=0.004)
RATE = 98.0
CALM_SECONDS, TROUBLE_SECONDS, AFTER_SECONDS = 10, 4, 10

Trouble = Literal["ten times slower", "three times as much"]


class Outcome(NamedTuple):
    """Goodput a second before, and in the last five seconds of AFTER_SECONDS; what queued up."""

    before: float
    after: float
    queue_max: int
    running_max: int
    shed: int
    untouched: int
    trace: str


def play(seed: int, trouble: Trouble, *, sheds: bool) -> Outcome:
    async def scene() -> Outcome:
        async with Cluster(seed=seed, costs=COSTS, sheds=sheds) as cluster:
            load = OpenLoop(cluster, rate=RATE)
            began = int(cluster.loop.time()) + 1
            await load.run(began + CALM_SECONDS - cluster.loop.time())
            if trouble == "ten times slower":
                cluster.brown_out(10)
                await load.run(TROUBLE_SECONDS)
                cluster.brown_out(1)
            else:
                await load.run(TROUBLE_SECONDS, times=3)
            over = int(cluster.loop.time()) + 1
            await load.run(over + AFTER_SECONDS - cluster.loop.time())
            await load.stop()
            untouched = _check_untouched(cluster, load)
            return Outcome(
                before=load.goodput(began + 2, began + CALM_SECONDS - 1),
                after=load.goodput(over + AFTER_SECONDS - 5, over + AFTER_SECONDS - 1),
                queue_max=load.queue_max,
                running_max=load.running_max,
                shed=load.tries["overloaded"] + load.tries["too_many_requests"],
                untouched=untouched,
                trace=cluster.trace.hash,
            )

    return run_virtual(scene(), random=stream(seed, "loop"))


#: What a scene came to; two tests ask for the same one.
played = functools.cache(play)


def _check_untouched(cluster: Cluster, load: OpenLoop) -> int:
    """I19: what was never taken is nowhere. How many writes that was true of."""
    for key in load.refused:
        for node in cluster.nodes:
            assert cluster.siblings(node, key) == (), f"{key!r} was shed, and is at {node}"
    return len(load.refused)


@pytest.mark.parametrize(
    ("seeds", "trouble"),
    [((1, 2, 3), "ten times slower"), ((3, 4, 5), "three times as much")],
)
def test_goodput_is_back_within_ten_seconds_and_queues_are_bounded(
    seeds: tuple[int, ...], trouble: Trouble
) -> None:
    outcomes = [played(seed, trouble, sheds=True) for seed in seeds]
    for outcome in outcomes:
        assert outcome.before > 0.9 * RATE
        assert outcome.queue_max < 600
        assert outcome.running_max < 50
        assert outcome.shed > 100
    # One run may still be at it: who comes back when, a queue more or less, is chance.
    back = sorted(outcome.after / outcome.before for outcome in outcomes)
    assert back[len(back) // 2] >= 0.95, back


@pytest.mark.parametrize("trouble", ["ten times slower", "three times as much"])
def test_without_admission_it_does_not_come_back(trouble: Trouble) -> None:
    outcome = play(1, trouble, sheds=False)
    assert outcome.before > 0.9 * RATE
    assert outcome.after < 0.1 * outcome.before
    assert outcome.queue_max > 2000
    assert outcome.shed == 0


def test_what_was_shed_is_nowhere() -> None:
    assert played(2, "ten times slower", sheds=True).untouched > 10


def test_a_brown_out_goes_the_same_way_every_time() -> None:
    assert play(2, "ten times slower", sheds=True) == played(2, "ten times slower", sheds=True)


async def _no_brown_out_without_costs() -> None:
    async with Cluster() as cluster:
        with pytest.raises(ValueError, match="nothing takes 10 times as long"):
            cluster.brown_out(10)


def test_where_handling_takes_no_time_nothing_browns_out() -> None:
    run_virtual(_no_brown_out_without_costs(), random=stream(0, "loop"))
