"""`dynamo antientropy`: how far nodes agree with each other, and whether they go on comparing.

Each node tells of its own partitions only; those to ask are named with --node. Exit codes: 0 all have
answered, 3 a node cannot be reached or refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

import msgspec

from dynamo.agreement import PAIRS_SHOWN, PAIRS_SHOWN_MAX, AntiEntropyStatus
from dynamo.cli.antientropy_view import Seen, document, is_told, render
from dynamo.cli.client import Unreachable, send
from dynamo.cli.live import seconds_of, show_live, width_of
from dynamo.cli.parser import Commands
from dynamo.cli.status import add_look_flags, add_node_flag, ask_all, urls_of
from dynamo.cli.tables import paragraph
from dynamo.errors import ConfigError

PATH: Final = "/admin/antientropy"
ANSWER_SECONDS: Final = 5.0
OK = 0
FAILED = 3
_STRANGE: Final = "it answers, but not as a node does"


class _Done(NamedTuple):
    """What one URL said to a pause or resume. `error`: why it did not, "" if it did."""

    url: str
    paused: bool | None
    error: str


def add_commands(commands: Commands) -> None:
    """Add `antientropy` to the parser."""
    parser = commands.add_parser(
        "antientropy",
        help="show how far replicas agree, and since when",
        description="Ask nodes since when all that they keep is in agreement with the other owners, or"
        " keep them from comparing by themselves. Each tells of its own only.",
        epilog="Exit codes: 0 all have answered, 2 wrong usage, 3 a node cannot be reached or refused.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "action",
        nargs="?",
        choices=("show", "pause", "resume"),
        default="show",
        help="show how it goes (default); begin no exchange any more; begin them again",
    )
    add_node_flag(parser)
    add_look_flags(parser)
    parser.add_argument("--partition", type=int, metavar="P", help="tell of this partition alone")
    parser.add_argument(
        "--pairs",
        type=int,
        nargs="?",
        const=PAIRS_SHOWN,
        metavar="N",
        help="also list this many pairs of partition and peer, those first that agreed the longest ago"
        f" (default: {PAIRS_SHOWN}, at most {PAIRS_SHOWN_MAX})",
    )
    parser.add_argument("--reason", metavar="TEXT", help="of a pause, for others to read")
    parser.set_defaults(run=run, failure=FAILED)


def run(arguments: argparse.Namespace) -> int:
    """Print the table, once or again and again, or pause or resume. Raises ConfigError."""
    urls = urls_of(arguments)
    looks = (arguments.partition, arguments.pairs, arguments.watch)
    if arguments.action != "show":
        if any(flag is not None for flag in looks):
            raise ConfigError(f"{arguments.action} does not look: leave out what is for that")
        return _switch(urls, arguments.action, arguments.reason, as_json=arguments.json)
    if arguments.reason is not None:
        raise ConfigError("--reason is of pause")
    path = _path(arguments.partition, arguments.pairs)
    wants_pairs = arguments.pairs is not None or arguments.partition is not None
    look = _look(urls, path, pairs=wants_pairs, as_json=arguments.json)
    if arguments.watch is not None:
        every = seconds_of("--watch", arguments.watch)
        show_live(lambda width: look(width)[0], every=every, stream=sys.stdout)
    lines, told = look(width_of(sys.stdout))
    print("\n".join(lines))
    return OK if told else FAILED


def _path(partition: int | None, pairs: int | None) -> str:
    if partition is not None and partition < 0:
        raise ConfigError(f"--partition: {partition} is below 0")
    if pairs is not None and not 0 < pairs <= PAIRS_SHOWN_MAX:
        raise ConfigError(f"--pairs: {pairs} is not in 1..{PAIRS_SHOWN_MAX}")
    query = {"partition": partition, "limit": pairs}
    return PATH + "?" + "&".join(f"{name}={n}" for name, n in query.items() if n is not None)


def _look(
    urls: Sequence[str], path: str, *, pairs: bool, as_json: bool
) -> Callable[[int | None], tuple[list[str], bool]]:
    def look(width: int | None) -> tuple[list[str], bool]:
        reports = ask_all(urls, partial(_report, path=path))
        if as_json:
            lines = [json.dumps(msgspec.to_builtins(document(reports)))]
        else:
            lines = render(reports, pairs=pairs, width=width)
        return lines, is_told(reports)

    return look


def _report(url: str, *, path: str) -> Seen:
    try:
        answer = send(url, "GET", path, seconds=ANSWER_SECONDS)
        if answer.status != 200:
            return Seen(url, None, str(answer.error()["message"]))
        return Seen(url, msgspec.json.decode(answer.body, type=AntiEntropyStatus), "")
    except Unreachable as error:
        return Seen(url, None, error.message)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Seen(url, None, _STRANGE)


def _switch(urls: Sequence[str], action: str, reason: str | None, *, as_json: bool) -> int:
    if reason is not None and action != "pause":
        raise ConfigError("--reason is of pause")
    given = {"reason": reason} if reason else None
    done = ask_all(urls, partial(_switched, action=action, given=given))
    if as_json:
        print(json.dumps({"asked": [one._asdict() for one in done]}))
    else:
        for one in done:
            text = one.error or ("it begins no exchange any more" if one.paused else "it goes on")
            print("\n".join(paragraph(f"{one.url}: {text}", width=width_of(sys.stdout))))
    return FAILED if any(one.error for one in done) else OK


def _switched(url: str, *, action: str, given: dict[str, str] | None) -> _Done:
    try:
        answer = send(url, "POST", f"{PATH}/{action}", seconds=ANSWER_SECONDS, given=given)
        if answer.status != 200:
            return _Done(url, None, str(answer.error()["message"]))
        return _Done(url, bool(json.loads(answer.body)["paused"]), "")
    except Unreachable as error:
        return _Done(url, None, error.message)
    except (ValueError, KeyError, TypeError):
        return _Done(url, None, _STRANGE)
