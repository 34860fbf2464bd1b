"""Plans of faults: drawn the same for ever, printed, written and read again, each part on its own."""

from __future__ import annotations

import msgspec
import pytest

from dynamo.errors import Malformed
from dynamo.sim.draw import draw_plan
from dynamo.sim.plan import Fault, read_plan, write_plan

PLAN = draw_plan(0)


def test_a_plan_is_written_and_read_again() -> None:
    for plan in map(draw_plan, range(50)):
        assert read_plan(write_plan(plan)) == plan


def test_a_plan_can_be_read_by_a_person() -> None:
    plan = msgspec.structs.replace(
        PLAN,
        bursts=PLAN.bursts[:1],
        faults=(
            Fault(1.25, "partition", ("a", "b"), 2.0),
            Fault(3.0, "crash_at", ("c",), 0.3, 2, "minted"),
        ),
    )
    head, *lines = str(plan).splitlines()
    assert head.startswith("seed 0: ")
    said = [" ".join(line.split()) for line in lines]
    assert "1.250 s partition a b for 2 s" in said
    assert "3.000 s crash_at c for 0.3 s at minted (2)" in said


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"\xff\xfe", write_plan(PLAN)[:-20], b'{"seed": "x"}']
)
def test_what_is_no_plan_is_refused(content: bytes) -> None:
    with pytest.raises(Malformed):
        read_plan(content)
