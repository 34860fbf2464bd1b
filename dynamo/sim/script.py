"""Scenarios as text: commands, a line of dashes, and all that came out, so that a diff is the review.

    # Comments and empty lines stay as they are.
    cluster nodes=3 n=3
    ----
    ok

    write a k v1
    read b k
    ----
    write a: ok
    read b: v1

A block is one or several commands, `----`, and its output up to an empty line. In a block of several
commands each output says which it is of, and those that have nothing to say say nothing. `repeat N`
... `end` does what is between so many times, with {i} counting from 1, and tells how often each
command gave what. `cluster` begins anew, with nothing left of what was before. After the form of
Cockroach's datadriven, as etcd's raft uses it. Knows nothing of files.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

from dynamo.sim.chance import stream
from dynamo.sim.cluster import Cluster
from dynamo.sim.line import Line, ScriptError
from dynamo.sim.loop import run_virtual
from dynamo.sim.run import quiet
from dynamo.sim.scene import ClusterLine, Scene, parse, parse_cluster

DASHES: Final = "----"
#: So many different results of one command of a loop are told apart.
RESULTS_MAX: Final = 6


class Source(NamedTuple):
    """A line of a scenario, and where it is."""

    where: str
    text: str


class Block(NamedTuple):
    """What is before a block, its own lines, and the commands among them."""

    before: tuple[str, ...]
    lines: tuple[str, ...]
    commands: tuple[Source, ...]


class Script(NamedTuple):
    """The blocks of a scenario, and what is after the last."""

    blocks: tuple[Block, ...]
    after: tuple[str, ...]


def run_script(text: str, *, name: str) -> str:
    """The same text with what really came out below each block. `name`: of its file, for errors.

    Raises ScriptError for what is no scenario.
    """
    script = read_script(text, name=name)
    for block in script.blocks:
        _check(block)
    out: list[str] = []
    for blocks in _scenes(script.blocks):
        first = blocks[0].commands[0]
        cluster = parse_cluster(*first)
        with quiet():
            outputs = run_virtual(
                _play(cluster, blocks), random=stream(cluster.seed, "loop", "scenario")
            )
        for block, output in zip(blocks, outputs, strict=True):
            out += [*block.before, *block.lines, DASHES, *output]
    out += script.after
    return "\n".join(out) + "\n"


def read_script(text: str, *, name: str) -> Script:
    """Take a scenario apart. Raises ScriptError."""
    blocks: list[Block] = []
    before: list[str] = []
    lines: list[str] = []
    commands: list[Source] = []
    in_output = False
    for number, line in enumerate(text.splitlines(), 1):
        is_empty = not line.strip()
        if in_output:
            in_output = not is_empty
            if is_empty:
                before.append(line)
        elif line == DASHES:
            if not commands:
                raise ScriptError(f"{name}:{number}: {DASHES} without a command before it")
            blocks.append(Block(tuple(before), tuple(lines), tuple(commands)))
            before, lines, commands, in_output = [], [], [], True
        elif is_empty and commands:
            raise ScriptError(f"{name}:{number}: no {DASHES} after the commands")
        elif not is_empty and not line.startswith("#"):
            lines.append(line)
            commands.append(Source(f"{name}:{number}", line))
        elif commands:
            lines.append(line)
        else:
            before.append(line)
    if commands:
        raise ScriptError(f"{commands[-1].where}: no {DASHES} after the commands")
    if not blocks:
        raise ScriptError(f"{name}:1: no command")
    return Script(tuple(blocks), tuple(before))


def _scenes(blocks: tuple[Block, ...]) -> Iterator[list[Block]]:
    """The blocks of each cluster. Raises ScriptError if there is none at first."""
    scene: list[Block] = []
    for block in blocks:
        where, text = block.commands[0]
        if text.split()[0] == "cluster" and scene:
            yield scene
            scene = []
        elif text.split()[0] != "cluster" and not scene:
            raise ScriptError(f"{where}: the first command must be cluster")
        scene.append(block)
    yield scene


class _Step(NamedTuple):
    """A command of a block (`times` is 0), or several that are repeated."""

    commands: tuple[Source, ...]
    times: int


def _steps(block: Block) -> Iterator[_Step]:
    """Raises ScriptError for a loop that does not end, or is none."""
    loop: list[Source] | None = None
    start, times = block.commands[0], 0
    for source in block.commands:
        where, text = source
        verb, *rest = text.split()
        if verb == "repeat":
            if loop is not None:
                raise ScriptError(f"{where}: a repeat in a repeat")
            if len(rest) != 1 or not rest[0].isdecimal() or not int(rest[0]):
                raise ScriptError(f"{where}: it is written repeat TIMES")
            loop, start, times = [], source, int(rest[0])
        elif verb == "end":
            if loop is None:
                raise ScriptError(f"{where}: an end without a repeat")
            yield _Step(tuple(loop), times)
            loop = None
        elif loop is not None:
            loop.append(source)
        else:
            yield _Step((source,), 0)
    if loop is not None:
        raise ScriptError(f"{start.where}: a repeat without an end")


def _check(block: Block) -> None:
    """Raises ScriptError for anything in it that is no command."""
    for step in _steps(block):
        for source in step.commands:
            where, text = source
            if text.split()[0] != "cluster":
                parse(where, text)
            elif source is block.commands[0]:
                parse_cluster(where, text)
            else:
                raise ScriptError(f"{where}: cluster comes first in its block")


async def _play(asked: ClusterLine, blocks: list[Block]) -> list[list[str]]:
    """What came of each block."""
    cluster = Cluster(
        nodes=asked.nodes,
        replicas=asked.replicas,
        partitions=asked.partitions,
        seed=asked.seed,
        formed=asked.formed,
        hint_window=asked.hint_window,
        hint_bytes=None
        if asked.hint_bytes is None
        else dict.fromkeys(asked.nodes, asked.hint_bytes),
        upkeep=asked.upkeep,
        datacenters=asked.datacenter_of(),
    )
    scene = Scene(cluster)
    outputs = []
    async with cluster:
        for block in blocks:
            outputs.append(await _output(scene, block))
    outputs[-1] += scene.end()
    return outputs


async def _output(scene: Scene, block: Block) -> list[str]:
    """All that came out of a block; "ok" if nothing did."""
    steps = [step for step in _steps(block) if not step.commands[0].text.startswith("cluster")]
    out: list[str] = []
    for step in steps:
        if step.times:
            out += await _repeat(scene, step)
            continue
        line = parse(*step.commands[0])
        result = await scene.run(line)
        out += _told_apart(line, result) if len(steps) > 1 else result
    out += scene.news()
    return out or ["ok"]


def _told_apart(line: Line, result: list[str]) -> list[str]:
    """A result that says which command it is of."""
    if not result:
        return []
    head = f"{line.verb} {' '.join(line.words[:1])}".rstrip()
    first, *more = result
    if all(text.startswith(" ") for text in more):
        return [f"{head}: {first}", *more]
    return [f"{head}:", *(f"  {text}" for text in result)]


async def _repeat(scene: Scene, step: _Step) -> list[str]:
    """How often each command of a loop gave what: numbers of this turn and the last are told as {i} and
    {i-1}, so that results that differ in these only are one."""
    results: list[Counter[str]] = [Counter() for _ in step.commands]
    for number in range(1, step.times + 1):
        for source, counter in zip(step.commands, results, strict=True):
            line = parse(source.where, source.text.replace("{i}", str(number)))
            text = "; ".join(await scene.run(line))
            text = re.sub(rf"(?<!\d){number}(?!\d)", "{i}", text)
            counter[re.sub(rf"(?<!\d){number - 1}(?!\d)", "{i-1}", text)] += 1
    out = []
    for source, counter in zip(step.commands, results, strict=True):
        for text, times in list(counter.items())[:RESULTS_MAX]:
            if text:
                out.append(f"{' '.join(source.text.split()[:3])}: {text} ({_times(times)})")
        if len(counter) > RESULTS_MAX:
            out.append(f"{source.text}: {len(counter) - RESULTS_MAX} other results")
    return out


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
