"""How far repairs on demand are at several nodes, and what became of them, as a terminal shows it.

Pure: what the nodes said in, lines out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from dynamo.agreement import RepairStatus
from dynamo.cli.tables import cut, paragraph, show_bytes, show_names, show_seconds
from dynamo.status import RepairProgress

BAR_CHARACTERS: Final = 20


class Told(NamedTuple):
    """What one URL said last. `error`: why it said nothing, or what it refused with, "" if it did not.
    `owners`: of a partition that it does not keep, by class. `misused`: what it was asked
    makes no sense."""

    url: str
    status: RepairStatus | None
    error: str = ""
    owners: Mapping[str, Sequence[str]] | None = None
    misused: bool = False

    @property
    def name(self) -> str:
        """The node's, as far as it has told it."""
        return self.url if self.status is None else self.status.node

    @property
    def progress(self) -> RepairProgress | None:
        """Of its run, if it has one."""
        return None if self.status is None else self.status.progress


def is_over(told: Sequence[Told]) -> bool:
    """True once nothing that was told of runs any more."""
    return not any(one.status is not None and one.status.is_running for one in told)


def render_progress(told: Sequence[Told], *, width: int | None) -> list[str]:
    """A bar a node, and what it waits for."""
    lines = []
    longest = max((len(one.name) for one in told), default=0)
    for one in told:
        progress = one.progress
        if progress is None:
            lines.append(cut(f"{one.name.ljust(longest)}  {one.error or 'nothing yet'}", width))
            continue
        text = (
            f"{one.name.ljust(longest)}  {_bar(progress)}  {_pass(progress)}, {_counts(progress)}"
        )
        if progress.state != "running":
            text += f", {progress.state}"
        elif progress.eta_s is not None:
            text += f", about {show_seconds(progress.eta_s)} left"
        lines.append(cut(text, width))
        lines += [cut(line, width) for line in _waits(one, progress)]
    return lines


def render_result(told: Sequence[Told], *, width: int | None = None) -> list[str]:
    """A line a node: what was compared, found and moved, or how far it is; and what is amiss."""
    lines = []
    for one in told:
        lines += paragraph(f"{one.name}: {_result(one)}", width=width)
    return lines


def show_running(status: RepairStatus) -> str:
    """Of a node that is asked for a second one."""
    far = "" if status.progress is None else f", {_pass(status.progress)}"
    return f"a repair runs there already{far}"


def document(told: Sequence[Told]) -> dict[str, Any]:
    """{"state", "asked": [{url, error, repair}]}; the state is the worst of all."""
    return {
        "state": _worst(told),
        "asked": [
            {"url": one.url, "error": one.error or None, "repair": one.status} for one in told
        ],
    }


def _worst(told: Sequence[Told]) -> str:
    states = {
        "error" if one.error else "none" if one.progress is None else one.progress.state
        for one in told
    }
    order = ("error", "failed", "running", "stopped", "incomplete", "done")
    return next((state for state in order if state in states), "none")


def _bar(progress: RepairProgress) -> str:
    total = progress.pairs_total
    share = min(1.0, progress.pairs_done / total) if total else 1.0
    filled = int(share * BAR_CHARACTERS)
    return f"[{'#' * filled}{'.' * (BAR_CHARACTERS - filled)}] {int(share * 100):3d} %"


def _pass(progress: RepairProgress) -> str:
    which = f"pass {progress.passes}, " if progress.passes > 1 else ""
    return f"{which}{progress.pairs_done} of {progress.pairs_total} pairs"


def _counts(progress: RepairProgress) -> str:
    return (
        f"{progress.keys_compared} keys looked at, {progress.keys_differing} differ, "
        f"{progress.pulled} pulled, {progress.pushed} pushed"
    )


def _waits(one: Told, progress: RepairProgress) -> list[str]:
    if progress.state != "running":
        return []
    lines = [f"  {one.name}: {text}" for text in _left(progress)]
    if progress.unreached:
        lines.append(f"  {one.name} does not reach {_unreached(progress)}")
    return lines


def _left(progress: RepairProgress) -> list[str]:
    """Pairs that wait, or were left, by why."""
    return [
        f"{_pairs(count)} not compared yet: {why}" for why, count in progress.waiting_for.items()
    ]


def _unreached(progress: RepairProgress) -> str:
    return show_names([f"{peer} ({why})" for peer, why in progress.unreached.items()])


def _result(one: Told) -> str:
    progress = one.progress
    if one.error:
        return one.error
    if progress is None:
        return "no repair since the start of the node"
    moved = (
        f"{progress.keys_compared} keys looked at, {progress.keys_differing} differed; "
        f"{progress.pulled} records pulled ({show_bytes(progress.bytes_pulled)}), "
        f"{progress.pushed} pushed ({show_bytes(progress.bytes_pushed)}); "
        f"{_passes(progress.passes)}, {show_seconds(progress.elapsed_s)}"
    )
    head = {
        "running": f"it runs, {_pass(progress)}",
        "done": f"{_pairs(progress.pairs_total)} compared, all agree",
        "incomplete": f"not everything could be compared, {_pass(progress)}",
        "stopped": f"stopped at {_pass(progress)}; start it again at any time",
        "failed": f"failed at {_pass(progress)}",
    }[progress.state]
    if progress.reason and not progress.unreached:
        head += f" ({progress.reason})"
    parts = [head, moved]
    if progress.unreached:
        parts.append(f"not reached: {_unreached(progress)}")
    if progress.state in ("running", "incomplete"):
        parts += _left(progress)
    return "; ".join(parts)


def _pairs(count: int) -> str:
    return f"{count} pair" if count == 1 else f"{count} pairs"


def _passes(count: int) -> str:
    return "1 pass" if count == 1 else f"{count} passes"
