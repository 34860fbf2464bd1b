"""`dynamo top`: what nodes do, live: requests a second, how long they take, the busiest counters."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

from dynamo.cli.client import Unreachable, fetch
from dynamo.cli.live import SECONDS_DEFAULT, seconds_of, show_live
from dynamo.cli.parser import Commands
from dynamo.cli.status import FAILED, add_node_flag, ask_all, urls_of
from dynamo.cli.top_view import Sight, render


def add_commands(commands: Commands) -> None:
    """Add `top` to the parser."""
    parser = commands.add_parser(
        "top",
        help="show what the nodes do, live",
        description="Show requests a second, how long those of the last minute took, and the counters "
        "that grow fastest; until Ctrl-C.",
        allow_abbrev=False,
    )
    add_node_flag(parser)
    parser.add_argument(
        "--every",
        default=str(SECONDS_DEFAULT),
        metavar="SECONDS",
        help="between two looks (default: %(default)s)",
    )
    parser.set_defaults(run=run, failure=FAILED)


def run(arguments: argparse.Namespace) -> int:
    """Look and show until Ctrl-C. Raises ConfigError."""
    every = seconds_of("--every", arguments.every)
    show_live(_Top(urls_of(arguments)), every=every, stream=sys.stdout)


class _Top:
    """Looks that remember the last one."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = urls
        self._before: list[Sight] = []

    def __call__(self, width: int | None) -> list[str]:
        sights = ask_all(self._urls, _sight)
        lines = render(sights, self._before, width=width)
        self._before = sights
        return lines


def _sight(url: str) -> Sight:
    try:
        stats = json.loads(fetch(url, "/stats"))
    except Unreachable as error:
        return Sight(url, None, error.message, time.monotonic())
    except (ValueError, RecursionError):
        stats = None
    if not isinstance(stats, dict):
        return Sight(url, None, "it answers, but not as a node does", time.monotonic())
    return Sight(url, stats, "", time.monotonic())
