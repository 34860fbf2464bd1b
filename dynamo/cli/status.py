"""`dynamo status`: how the cluster is, as the nodes that are asked tell it.

Nodes do not know each other's HTTP addresses: those named with --node speak for themselves, and they
say of the others whether they reach them. Exit codes: 0 all is well, 3 a node cannot be reached or
is not ready.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec

from dynamo.cli.client import Unreachable, fetch, node_address
from dynamo.cli.cluster_view import Report, as_json, is_well, render, rows
from dynamo.cli.live import SECONDS_DEFAULT, seconds_of, show_live, width_of
from dynamo.cli.parser import Commands
from dynamo.errors import ConfigError
from dynamo.status import NodeStatus

NODE_DEFAULT = "http://127.0.0.1:8098"
NODES_MAX = 256
AT_ONCE = 32
OK = 0
FAILED = 3
_T = TypeVar("_T")


def add_commands(commands: Commands) -> None:
    """Add `status` to the parser."""
    parser = commands.add_parser(
        "status",
        help="show how the nodes of a cluster are",
        description="Ask nodes how they are, and what they see of the others.",
        epilog="Exit codes: 0 all is well, 2 wrong usage, 3 a node cannot be reached or is not ready.",
        allow_abbrev=False,
    )
    add_node_flag(parser)
    add_look_flags(parser)
    parser.set_defaults(run=run, failure=FAILED)


def add_look_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--json` and `--watch`, of what is looked at once or again and again."""
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each look")
    parser.add_argument(
        "--watch",
        nargs="?",
        const=str(SECONDS_DEFAULT),
        metavar="SECONDS",
        help="look again and again, until Ctrl-C (default: every 2 seconds)",
    )


def add_node_flag(parser: argparse.ArgumentParser) -> None:
    """Add --node, which may be repeated."""
    parser.add_argument(
        "--node",
        action="append",
        metavar="URL",
        help=f"a node to ask; may be repeated (default: {NODE_DEFAULT})",
    )


def urls_of(arguments: argparse.Namespace) -> list[str]:
    """The nodes to ask, each once. Raises ConfigError for what is no URL of a node."""
    urls = [f"http://{node_address(url)}" for url in arguments.node or [NODE_DEFAULT]]
    if len(urls) > NODES_MAX:
        raise ConfigError(f"--node: {len(urls)} nodes are more than the {NODES_MAX} that are asked")
    return list(dict.fromkeys(urls))


def ask_all(urls: Sequence[str], ask: Callable[[str], _T]) -> list[_T]:
    """What `ask` makes of each URL, in their order; many at a time, so that one node that hangs
    costs its own timeout and no more."""
    with ThreadPoolExecutor(min(len(urls), AT_ONCE) or 1) as pool:
        return list(pool.map(ask, urls))


def run(arguments: argparse.Namespace) -> int:
    """Print the table, once or again and again. Raises ConfigError."""
    urls = urls_of(arguments)
    if arguments.watch is not None:
        every = seconds_of("--watch", arguments.watch)
        show_live(_Watch(urls, as_json=arguments.json), every=every, stream=sys.stdout)
    reports = ask_all(urls, _report)
    found = rows(reports)
    if arguments.json:
        print(_json(as_json(reports, found)))
    else:
        print("\n".join(render(reports, found, width=width_of(sys.stdout))))
    return OK if is_well(reports, found) else FAILED


class _Watch:
    """Looks that remember the last one: for rates, and for the names of nodes that are gone."""

    def __init__(self, urls: Sequence[str], *, as_json: bool) -> None:
        self._urls = urls
        self._as_json = as_json
        self._before: list[Report] = []

    def __call__(self, width: int | None) -> list[str]:
        names = {report.url: report.node for report in self._before}
        reports = [
            report if report.node else report._replace(node=names.get(report.url, ""))
            for report in ask_all(self._urls, _report)
        ]
        found = rows(reports, self._before)
        self._before = reports
        if self._as_json:
            return [_json(as_json(reports, found))]
        return render(reports, found, with_rates=True, width=width)


def _report(url: str) -> Report:
    try:
        status = msgspec.json.decode(fetch(url, "/admin/status"), type=NodeStatus)
    except Unreachable as error:
        return Report(url, "", None, error.message, time.monotonic())
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Report(url, "", None, "it answers, but not as a node does", time.monotonic())
    return Report(url, status.node, status, "", time.monotonic())


def _json(document: dict[str, Any]) -> str:
    return json.dumps(msgspec.to_builtins(document))
