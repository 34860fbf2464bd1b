"""The commands of `python -m dynamo.sim`: run, search, shrink, planted.

Exit codes: 0 nothing found (shrink: done; planted: all found), 1 something found (shrink: nothing to
shrink; planted: one not found), 2 wrong usage, 130 interrupted. Knows nothing of how a run goes.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, NoReturn

from dynamo.errors import Malformed
from dynamo.sim.checks import Finding
from dynamo.sim.crew import cores
from dynamo.sim.draw import draw_plan
from dynamo.sim.history import AtRest, History, some
from dynamo.sim.names import key_names
from dynamo.sim.plan import Plan, read_plan, write_plan
from dynamo.sim.run import Result, run_plan
from dynamo.sim.search import Hunt, Outcome, catalogue, fresh_seed, hunt, search
from dynamo.sim.shrink import RUNS_MAX, shrink, sort_of

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130

_COMMAND: Final = "python -m dynamo.sim"
_SECONDS: Final = 60.0
#: Findings that are shown of a seed that a search found.
_SHOWN_MAX: Final = 5


class _Parser(argparse.ArgumentParser):
    """One line for what is wrong."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Raises SystemExit for wrong usage."""
    arguments = build_parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except Malformed as error:
        return _complain(error.message)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output went away (`| head`). The interpreter's flush at exit must not
        # meet the closed pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        return _complain(f"{error.filename or 'cannot go on'}: {error.strerror or error}")


def _complain(message: str) -> int:
    print(f"{_COMMAND}: {message}", file=sys.stderr)
    return USAGE


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(
        prog=_COMMAND,
        description="Whole clusters in one process, over a simulated clock, network and disk.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("run", help="one seed or one plan, in detail", allow_abbrev=False)
    _take_plan(one)
    one.add_argument("--write-plan", metavar="FILE", help="write the plan there before it is run")
    one.add_argument(
        "--trace", metavar="FILE", nargs="?", const="-", help="every entry of the trace"
    )
    one.add_argument("--key", metavar="KEY", help="all operations of a key (k0, k1, ...)")
    one.set_defaults(run=_run)

    many = commands.add_parser("search", help="new seeds, on all cores", allow_abbrev=False)
    many.add_argument("--seconds", type=_positive, help=f"for so long (default {_SECONDS:g})")
    many.add_argument(
        "--first", type=_seed, metavar="N", help="from this seed on, not from new ones"
    )
    many.add_argument("--count", type=_count, metavar="N", help="so many seeds, not for some time")
    many.add_argument("--jobs", type=_count, metavar="N", help="worker processes (default: cores)")
    many.add_argument("--until-found", action="store_true", help="stop at the first finding")
    many.set_defaults(run=_search)

    less = commands.add_parser("shrink", help="the least that still fails", allow_abbrev=False)
    _take_plan(less)
    less.add_argument("--invariant", metavar="NAME", help="of what (default: the first finding)")
    less.add_argument(
        "--out", metavar="FILE", help="where the plan goes (default shrunk-SEED.json)"
    )
    less.add_argument(
        "--runs", type=_count, default=RUNS_MAX, metavar="N", help=f"at most (default {RUNS_MAX})"
    )
    less.set_defaults(run=_shrink)

    bugs = commands.add_parser("planted", help="is each planted bug found?", allow_abbrev=False)
    bugs.add_argument("names", nargs="*", metavar="NAME", help="only these")
    bugs.add_argument("--jobs", type=_count, metavar="N", help="worker processes (default: cores)")
    bugs.add_argument("--record", metavar="DIR", help="write the plan that found each, NAME.json")
    bugs.add_argument("--module", default="dynamo.sim.planted", help=argparse.SUPPRESS)
    bugs.set_defaults(run=_planted)
    return parser


def _take_plan(parser: argparse.ArgumentParser) -> None:
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--seed", type=_seed, metavar="N", help="the plan of this seed")
    given.add_argument("--plan", metavar="FILE", help="the plan in this file; - is standard input")


def _number(text: str, least: int, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) >= least):
        raise argparse.ArgumentTypeError(f"{text!r} is no {what}")
    return int(text)


def _seed(text: str) -> int:
    return _number(text, 0, "seed: a whole number from 0 on")


def _count(text: str) -> int:
    return _number(text, 1, "whole number from 1 on")


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return number


# One run ------------------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace) -> int:
    plan = _plan_of(arguments)
    keys = [name.decode() for name in key_names(plan)]
    if arguments.key is not None and arguments.key not in keys:
        return _complain(f"the plan has no key {arguments.key!r}, but {' '.join(keys)}")
    if arguments.write_plan is not None:
        _write(arguments.write_plan, write_plan(plan))
    print(plan, end="\n\n", flush=True)
    notes: list[str] = []

    def look(history: History, rest: AtRest) -> None:
        if arguments.key is not None:
            notes.extend(_story(arguments.key.encode(), history, rest))

    start = time.perf_counter()
    with _lines_to(arguments.trace) as watch:
        result = run_plan(plan, watch=watch, look=look)
    seconds = time.perf_counter() - start
    for line in notes:
        print(line)
    _print_result(result, seconds)
    if result.findings:
        given = _given(arguments)
        print(f"\nreplay: {_COMMAND} run {given}\nshrink: {_COMMAND} shrink {given}")
    return FAILED if result.findings else OK


def _plan_of(arguments: argparse.Namespace) -> Plan:
    """Raises Malformed, OSError."""
    if arguments.plan is None:
        return draw_plan(arguments.seed)
    data = sys.stdin.buffer.read() if arguments.plan == "-" else Path(arguments.plan).read_bytes()
    try:
        return read_plan(data)
    except Malformed as error:
        raise Malformed(f"{arguments.plan}: {error.message}") from None


def _given(arguments: argparse.Namespace) -> str:
    if arguments.plan is None:
        return f"--seed {arguments.seed}"
    return f"--plan {shlex.quote(arguments.plan)}"


def _write(path: str, content: bytes) -> None:
    if path == "-":
        print(content.decode(), end="")
    else:
        Path(path).write_bytes(content)


@contextmanager
def _lines_to(path: str | None) -> Iterator[Callable[[str], None] | None]:
    """What takes lines for the file; None for none."""
    if path is None:
        yield None
    elif path == "-":
        yield _writer(sys.stdout)
    else:
        with Path(path).open("w", encoding="utf-8") as file:
            yield _writer(file)


def _writer(file: IO[str]) -> Callable[[str], None]:
    def write(line: str) -> None:
        file.write(line + "\n")

    return write


def _story(key: bytes, history: History, rest: AtRest) -> Iterator[str]:
    """All that happened to a key: its operations and losses in order, and what is there at rest."""
    yield f"key {key.decode()}, kept by {' '.join(history.owners.get(key, ()))}:"
    told = [(one.start, f"  {one}") for one in history.operations if one.key == key]
    told += [(loss.at, f"  lost: {loss}") for loss in history.losses if loss.key == key]
    for _, line in sorted(told):
        yield line
    for node, copy in rest.copies.get(key, {}).items():
        yield f"  at rest {node} has {'damage' if copy.ids is None else some(copy.ids)}"
    for node, shown in rest.reads.get(key, {}).items():
        yield f"  at rest {node} answers {some(shown.seen)}, shows {some(shown.values)}"
    yield ""


def _print_result(result: Result, seconds: float) -> None:
    print(f"{result.operations} operations: {_counted(sorted(result.outcomes.items()))}")
    print(
        f"{result.messages} messages, {result.virtual_seconds:.1f} virtual seconds"
        f" in {seconds:.2f} s"
    )
    print(f"faults that came to something: {_counted(result.injected.most_common())}")
    print(f"trace {result.trace}")
    print(f"findings: {len(result.findings) or 'none'}")
    for finding in result.findings:
        print(finding)


def _counted(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts) or "none"


# Many ---------------------------------------------------------------------------------------------


def _search(arguments: argparse.Namespace) -> int:
    first = fresh_seed() if arguments.first is None else arguments.first
    jobs = arguments.jobs or cores()
    seconds = arguments.seconds
    if seconds is None:
        seconds = _SECONDS if arguments.count is None else math.inf
    bound = f" for {seconds:g} s" if seconds < math.inf else f", {arguments.count} of them"
    print(f"seeds from {first} on{bound}, in {jobs} processes", flush=True)

    def told(what: Outcome | str) -> None:
        line = what if isinstance(what, str) else f"seed {what.seed}: {_invariants(what.findings)}"
        print(line, flush=True)

    tally = search(
        first=first,
        jobs=jobs,
        seconds=seconds,
        count=arguments.count,
        until_found=arguments.until_found,
        told=told,
    )
    if tally.interrupted:
        print("interrupted")
    print(tally)
    for outcome in tally.found:
        print(f"\nseed {outcome.seed}: {_COMMAND} run --seed {outcome.seed}")
        _print_findings(outcome.findings)
    for line in tally.died:
        print(f"\nerror: {line}")
    if tally.failed:
        return FAILED
    return INTERRUPTED if tally.interrupted else OK


def _invariants(findings: Iterable[Finding]) -> str:
    return " ".join(dict.fromkeys(finding.invariant for finding in findings))


def _print_findings(findings: Sequence[Finding]) -> None:
    for finding in findings[:_SHOWN_MAX]:
        print(f"  {finding}")
    if len(findings) > _SHOWN_MAX:
        print(f"  and {len(findings) - _SHOWN_MAX} more")


# Less ---------------------------------------------------------------------------------------------


def _shrink(arguments: argparse.Namespace) -> int:
    plan = _plan_of(arguments)
    out = arguments.out or f"shrunk-{plan.seed}.json"
    findings = run_plan(plan).findings
    if not findings:
        print(f"{_given(arguments)} has no findings: there is nothing to shrink")
        return FAILED
    _write(out, write_plan(plan))  # where nothing can be written, that is known before the work
    name = arguments.invariant or findings[0].invariant
    first = next((finding for finding in findings if finding.invariant == name), None)
    if first is None:
        return _complain(f"no finding is of {name}; there are {_invariants(findings)}")
    wanted = sort_of(first)
    print(f"shrinking what shows {wanted}: {first}", flush=True)
    least = [plan]

    def fails(changed: Plan) -> bool:
        is_wanted = any(sort_of(finding) == wanted for finding in run_plan(changed).findings)
        if is_wanted:
            least[0] = changed
        return is_wanted

    def told(line: str) -> None:
        print(line, flush=True)

    interrupted = False
    try:
        shrink(plan, fails, runs_max=arguments.runs, told=told)
    except KeyboardInterrupt:
        interrupted = True
        print("interrupted: this is the least so far")
    _write(out, write_plan(least[0]))
    print(f"\n{least[0]}\n")
    _print_findings(run_plan(least[0]).findings)
    print(f"\nreplay: {_COMMAND} run --plan {shlex.quote(out)}")
    return INTERRUPTED if interrupted else OK


# Planted bugs -------------------------------------------------------------------------------------


def _planted(arguments: argparse.Namespace) -> int:
    try:
        bugs = catalogue(arguments.module).PLANTED
    except ModuleNotFoundError as error:
        return _complain(f"no bugs are planted: {error}")
    names = arguments.names or list(bugs)
    unknown = [name for name in names if name not in bugs]
    if unknown:
        return _complain(f"no bug is called {unknown[0]}; there are {' '.join(bugs)}")

    def told(what: Hunt | str) -> None:
        if isinstance(what, str):
            print(f"error: {what}", flush=True)
            return
        if what.seeds:
            came = f"seed {what.seeds[0]}: {_counted(what.invariants.most_common())}"
            came += f" in {len(what.seeds)} of {what.tried} seeds"
        else:
            came = f"NOT FOUND in {what.tried} seeds"
        print(f"{what.name:32} {came} ({bugs[what.name].what})", flush=True)

    hunts = hunt(names, module=arguments.module, jobs=arguments.jobs or cores(), told=told)
    if arguments.record:
        for one in hunts:
            if one.seeds:
                path = Path(arguments.record) / f"{one.name}.json"
                path.write_bytes(write_plan(draw_plan(one.seeds[0])))
    found = sum(bool(one.seeds) for one in hunts)
    print(f"{found} of {len(names)} planted bugs found")
    return OK if found == len(names) else FAILED
