"""`dynamo tombstones`: what waits to be reaped at nodes, how old it is, and what it waits for.

Each node tells of its own copies only; those to ask are named with --node. Exit codes: 0 all have
answered, 3 a node cannot be reached.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

import msgspec

from dynamo.cli.client import Unreachable, fetch
from dynamo.cli.live import seconds_of, show_live, width_of
from dynamo.cli.parser import Commands
from dynamo.cli.status import add_look_flags, add_node_flag, ask_all, urls_of
from dynamo.cli.tombstones_view import Seen, document, is_told, render
from dynamo.status import TombstonesStatus

OK = 0
FAILED = 3


def add_commands(commands: Commands) -> None:
    """Add `tombstones` to the parser."""
    parser = commands.add_parser(
        "tombstones",
        help="show which deletes wait to be forgotten, and what for",
        description="Ask nodes how many tombstones they keep, how old those are, and what they wait for"
        " before they go for good. Each tells of its own copies only.",
        epilog="Exit codes: 0 all have answered, 2 wrong usage, 3 a node cannot be reached.",
        allow_abbrev=False,
    )
    add_node_flag(parser)
    add_look_flags(parser)
    parser.set_defaults(run=run, failure=FAILED)


def run(arguments: argparse.Namespace) -> int:
    """Print the table, once or again and again. Raises ConfigError."""
    urls = urls_of(arguments)

    def look(width: int | None) -> list[str]:
        return _lines(ask_all(urls, _report), width, as_json=arguments.json)

    if arguments.watch is not None:
        show_live(look, every=seconds_of("--watch", arguments.watch), stream=sys.stdout)
    reports = ask_all(urls, _report)
    print("\n".join(_lines(reports, width_of(sys.stdout), as_json=arguments.json)))
    return OK if is_told(reports) else FAILED


def _lines(reports: Sequence[Seen], width: int | None, *, as_json: bool) -> list[str]:
    if as_json:
        return [json.dumps(msgspec.to_builtins(document(reports)))]
    return render(reports, width=width)


def _report(url: str) -> Seen:
    try:
        status = msgspec.json.decode(fetch(url, "/admin/tombstones"), type=TombstonesStatus)
    except Unreachable as error:
        return Seen(url, None, error.message)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Seen(url, None, "it answers, but not as a node does")
    return Seen(url, status, "")
