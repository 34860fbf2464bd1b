"""`dynamo hints`: what nodes keep for others that missed it, and how its delivery goes.

Each node tells of its own hints only; those to ask are named with --node. Exit codes: 0 all have
answered (and, with --sync, nothing is left), 3 a node cannot be reached, or is not synced in time.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from dynamo.cli.client import Unreachable, fetch, send
from dynamo.cli.hints_view import Held, Synced, document, is_told, render, render_synced
from dynamo.cli.live import seconds_of, show_live, width_of
from dynamo.cli.parser import Commands
from dynamo.cli.status import add_look_flags, add_node_flag, ask_all, urls_of
from dynamo.errors import ConfigError
from dynamo.status import HintsStatus

SYNC_SECONDS = 60.0
SYNC_SECONDS_MAX = 300.0
#: A node answers a little later than what it was asked to wait.
ANSWER_SECONDS = 5.0
OK = 0
FAILED = 3


def add_commands(commands: Commands) -> None:
    """Add `hints` to the parser."""
    parser = commands.add_parser(
        "hints",
        help="show what nodes keep for others that missed it",
        description="Ask nodes what they keep for others, and how its delivery goes. Each tells of its"
        " own hints only.",
        epilog="Exit codes: 0 all have answered and, with --sync, nothing is left, 2 wrong usage, 3 a"
        " node cannot be reached, or hints are left at the timeout.",
        allow_abbrev=False,
    )
    add_node_flag(parser)
    add_look_flags(parser)
    parser.add_argument(
        "--sync",
        action="store_true",
        help="wait until all hints that the nodes have now are delivered",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        help=f"of --sync (default: {SYNC_SECONDS:.0f}, at most {SYNC_SECONDS_MAX:.0f})",
    )
    parser.set_defaults(run=run, failure=FAILED)


def run(arguments: argparse.Namespace) -> int:
    """Print the table, once or again and again, or wait for a sync point. Raises ConfigError."""
    urls = urls_of(arguments)
    if arguments.sync:
        if arguments.watch is not None:
            raise ConfigError("--sync and --watch do not go together")
        return _sync(urls, _timeout_of(arguments), as_json=arguments.json)
    if arguments.timeout is not None:
        raise ConfigError("--timeout is of --sync")
    if arguments.watch is not None:
        every = seconds_of("--watch", arguments.watch)
        show_live(_look(urls, as_json=arguments.json), every=every, stream=sys.stdout)
    reports = ask_all(urls, _report)
    print("\n".join(_lines(reports, width_of(sys.stdout), as_json=arguments.json)))
    return OK if is_told(reports) else FAILED


def _timeout_of(arguments: argparse.Namespace) -> float:
    if arguments.timeout is None:
        return SYNC_SECONDS
    seconds = seconds_of("--timeout", arguments.timeout)
    if seconds > SYNC_SECONDS_MAX:
        raise ConfigError(f"--timeout: at most {SYNC_SECONDS_MAX:.0f} seconds are waited")
    return seconds


def _look(urls: Sequence[str], *, as_json: bool) -> Callable[[int | None], list[str]]:
    return lambda width: _lines(ask_all(urls, _report), width, as_json=as_json)


def _lines(reports: Sequence[Held], width: int | None, *, as_json: bool) -> list[str]:
    return [_json(document(reports))] if as_json else render(reports, width=width)


def _report(url: str) -> Held:
    try:
        status = msgspec.json.decode(fetch(url, "/admin/hints"), type=HintsStatus)
    except Unreachable as error:
        return Held(url, None, error.message)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Held(url, None, "it answers, but not as a node does")
    return Held(url, status, "")


def _sync(urls: Sequence[str], timeout: float, *, as_json: bool) -> int:
    answers = ask_all(urls, partial(_wait_synced, timeout=timeout))
    if as_json:
        print(
            _json(
                {
                    "synced": not any(a.error for a in answers),
                    "asked": [a._asdict() for a in answers],
                }
            )
        )
    else:
        print("\n".join(render_synced(answers, width=width_of(sys.stdout))))
    return FAILED if any(answer.error for answer in answers) else OK


def _wait_synced(url: str, *, timeout: float) -> Synced:
    path = f"/admin/hints/sync?timeout={int(timeout * 1000)}"
    try:
        answer = send(url, "POST", path, seconds=timeout + ANSWER_SECONDS)
    except Unreachable as error:
        return Synced(url, {}, {}, error.message)
    try:
        fields = json.loads(answer.body)
        if answer.status == 200:
            return Synced(url, fields["delivered"], {}, "")
        return Synced(url, {}, fields.get("undelivered", {}), fields["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return Synced(url, {}, {}, f"HTTP {answer.status}: it answers, but not as a node does")


def _json(value: dict[str, Any]) -> str:
    return json.dumps(msgspec.to_builtins(value))
