"""The command `dynamo-bench`: one subcommand a measurement, each in a module of its own.

A module is imported only when it is asked for. Knows nothing of what they measure.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple


class _Command(NamedTuple):
    purpose: str
    run: Callable[[list[str]], int]


def _floor(arguments: list[str]) -> int:
    from bench.versus import main

    return main(arguments)


def _handoff(arguments: list[str]) -> int:
    from bench.handoff import main

    return main(arguments)


def _exchange(arguments: list[str]) -> int:
    from bench.exchange import main

    return main(arguments)


def _gossip(arguments: list[str]) -> int:
    from bench.gossip import main

    return main(arguments)


def _hotpath(arguments: list[str]) -> int:
    from bench.hotpath import main

    return main(arguments)


def _memory(arguments: list[str]) -> int:
    from bench.memory import main

    return main(arguments)


def _placement(arguments: list[str]) -> int:
    argparse.ArgumentParser(prog="dynamo-bench placement").parse_args(arguments)
    from bench.placement import main

    main()
    return 0


def _trees(arguments: list[str]) -> int:
    from bench.trees import main

    return main(arguments)


COMMANDS: Final = {
    "floor": _Command("requests a second of the store and of the floor, in one run", _floor),
    "handoff": _Command("hints a second to a node that returns, and who feels it", _handoff),
    "exchange": _Command("what it takes to find d differences among a million keys", _exchange),
    "gossip": _Command(
        "rounds until all know, and bytes a member, with a thousand of them", _gossip
    ),
    "hotpath": _Command("Python calls and blocks per get and put, counted", _hotpath),
    "memory": _Command("resident memory of a node with a million small objects", _memory),
    "placement": _Command("what it costs to place a large ring and to plan a key", _placement),
    "trees": _Command("what hash trees cost: memory, a rebuild, each write", _trees),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one measurement with the arguments that follow its name; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="dynamo-bench",
        description="Measure the store.",
        epilog="\n".join(f"{name:12}{command.purpose}" for name, command in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", choices=sorted(COMMANDS), metavar="COMMAND")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="its own arguments")
    asked = parser.parse_args(arguments)
    return COMMANDS[asked.command].run(asked.rest)
