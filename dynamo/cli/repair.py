"""`dynamo repair`: nodes compare what they keep with the other owners now, and bring both up to date.

Exit codes: 0 all that was compared agrees, 1 not all could be compared, 2 wrong usage, 3 a node refused,
failed or cannot be reached, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import msgspec

from dynamo.agreement import RepairStatus
from dynamo.cli.client import Answer, Unreachable, send
from dynamo.cli.live import Redrawn, width_of
from dynamo.cli.parser import Commands
from dynamo.cli.repair_view import (
    Told,
    document,
    is_over,
    render_progress,
    render_result,
    show_running,
)
from dynamo.cli.status import add_node_flag, ask_all, urls_of
from dynamo.errors import ConfigError

PATH: Final = "/admin/repair"
ANSWER_SECONDS: Final = 5.0
#: Until a repair that runs has put down what it is at.
STOP_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.25
#: Between two lines where nothing is redrawn in place.
LINE_SECONDS: Final = 5.0
#: A node that does not answer for so long is given up.
SILENCE_SECONDS: Final = 15.0
OK = 0
INCOMPLETE = 1
USAGE = 2
FAILED = 3
INTERRUPTED = 130
_STRANGE: Final = "it answers, but not as a node does"


def add_commands(commands: Commands) -> None:
    """Add `repair` to the parser."""
    parser = commands.add_parser(
        "repair",
        help="compare replicas now, and bring them up to date",
        description="Nodes compare all that they keep with the other owners, again and again until"
        " nothing differs; each its own only. It is safe to stop, and to start again.",
        epilog="Exit codes: 0 all that was compared agrees, 1 not all could be compared, 2 wrong usage,"
        " 3 a node refused, failed or cannot be reached, 130 stopped by Ctrl-C.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "action",
        nargs="?",
        choices=("start", "status", "stop"),
        default="start",
        help="start one and wait (default), say how it is, or stop it",
    )
    add_node_flag(parser)
    parser.add_argument("--partition", metavar="P", type=int, help="this partition only")
    parser.add_argument("--type", metavar="T", help="this bucket type only")
    parser.add_argument("--bucket", metavar="B", help="this bucket only (type: default)")
    parser.add_argument("--peer", metavar="ID", help="compare with this member only")
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    parser.add_argument("--no-wait", action="store_true", help="start it, and leave it to itself")
    parser.set_defaults(run=run, failure=FAILED)


def run(arguments: argparse.Namespace) -> int:
    """Start, wait and say what came of it. Raises ConfigError."""
    urls = urls_of(arguments)
    given = _given(arguments)
    if arguments.action == "start":
        return _Runs(urls, given, as_json=arguments.json).run(waits=not arguments.no_wait)
    if given or arguments.no_wait:
        raise ConfigError(f"{arguments.action} takes no more than --node and --json")
    stops = arguments.action == "stop"
    told = ask_all(urls, partial(_ask, "DELETE" if stops else "GET"))
    _print(told, as_json=arguments.json)
    return FAILED if any(one.error for one in told) else OK


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The body of the request."""
    given = {"partition": arguments.partition, "type": arguments.type, "peer": arguments.peer}
    if arguments.bucket is not None:
        bucket = os.fsencode(arguments.bucket)
        try:
            given["bucket"] = bucket.decode("utf-8")
        except UnicodeDecodeError:
            given["encoded_bucket"] = quote(bucket, safe="")
    for name, value in given.items():
        if value == "":
            raise ConfigError(f"--{name}: it is empty")
        if isinstance(value, str) and not value.isprintable() and name in ("type", "peer"):
            raise ConfigError(f"--{name}: {value!a} is no name")
    return {name: value for name, value in given.items() if value is not None}


class _Runs:
    """Repairs that were started here, one a node, until they are over."""

    def __init__(self, urls: Sequence[str], given: dict[str, Any], *, as_json: bool) -> None:
        self._urls = urls
        self._given = given
        self._as_json = as_json
        #: As they were told last, by URL.
        self._told: dict[str, Told] = {}
        self._heard: dict[str, float] = {}

    def run(self, *, waits: bool) -> int:
        """Returns the exit code."""
        try:
            ask_all(self._urls, self._start)
            self._leave_out_strangers()
            if waits:
                self._wait()
        except KeyboardInterrupt:
            return self._stop()
        _print(self._all(), as_json=self._as_json)
        return self._code(waits=waits)

    def _all(self) -> list[Told]:
        return [self._told[url] for url in self._urls if url in self._told]

    def _running(self) -> list[str]:
        return [one.url for one in self._all() if not is_over([one])]

    def _start(self, url: str) -> None:
        told = _ask("POST", url, given=self._given)
        # Noted at once: who is interrupted stops what has been started.
        self._told[url] = told
        self._heard[url] = time.monotonic()

    def _leave_out_strangers(self) -> None:
        """Of nodes that do not keep the partition none is missed, if another does."""
        if any(one.progress is not None for one in self._told.values()):
            self._told = {url: one for url, one in self._told.items() if one.owners is None}

    def _wait(self) -> None:
        shown = Redrawn(sys.stdout)
        said, before = time.monotonic(), [""]
        try:
            while not is_over(self._all()):
                lines = [] if self._as_json else self._lines(shown, said)
                if lines and lines != before:
                    shown.show(lines)
                    said, before = time.monotonic(), lines
                time.sleep(LOOK_SECONDS)
                ask_all(self._running(), self._look)
        finally:
            shown.clear()

    def _lines(self, shown: Redrawn, said: float) -> list[str]:
        if not shown.is_terminal and time.monotonic() - said < LINE_SECONDS:
            return []
        return render_progress(self._all(), width=width_of(sys.stdout))

    def _look(self, url: str) -> None:
        before = self._told[url]
        now = _ask("GET", url)
        if now.progress is None and now.error:
            if time.monotonic() - self._heard[url] > SILENCE_SECONDS:
                self._told[url] = before._replace(error=now.error, status=None)
            return
        self._heard[url] = time.monotonic()
        assert before.progress is not None
        number = 0 if now.progress is None else now.progress.number
        if number == before.progress.number:
            self._told[url] = now
        else:
            why = "another repair has been started there since"
            if number < before.progress.number:
                why = "the node was started anew meanwhile, which ended it; start it again"
            self._told[url] = before._replace(error=why, status=None)

    def _stop(self) -> int:
        """Ctrl-C: what was started is stopped, as long as it is what runs."""
        ask_all(self._running(), self._stop_at)
        _print(self._all(), as_json=self._as_json)
        return INTERRUPTED

    def _stop_at(self, url: str) -> None:
        self._look(url)
        if not is_over([self._told[url]]):
            self._told[url] = _ask("DELETE", url)

    def _code(self, *, waits: bool) -> int:
        told = self._all()
        states = {one.progress.state for one in told if one.progress is not None}
        if any(one.error for one in told):
            return USAGE if not states and self._is_misused() else FAILED
        if "failed" in states or "stopped" in states:
            return FAILED
        return INCOMPLETE if waits and "incomplete" in states else OK

    def _is_misused(self) -> bool:
        return all(one.status is None and one.misused for one in self._all())


def _print(told: Sequence[Told], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(msgspec.to_builtins(document(told))))
    else:
        print("\n".join(render_result(told, width=width_of(sys.stdout))))


def _ask(method: str, url: str, *, given: dict[str, Any] | None = None) -> Told:
    seconds = STOP_SECONDS if method == "DELETE" else ANSWER_SECONDS
    try:
        answer = send(url, method, PATH, seconds=seconds, given=given)
    except Unreachable as error:
        return Told(url, None, f"no answer: {error.message}")
    try:
        if answer.status < 300:
            return Told(url, msgspec.json.decode(answer.body, type=RepairStatus))
        return _refused(url, answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Told(url, None, _STRANGE)


def _refused(url: str, answer: Answer) -> Told:
    fields = answer.error()
    message = str(fields["message"])
    if fields.get("code") == "repair_running":
        running = msgspec.convert(fields.get("repair"), RepairStatus)
        message = f"{show_running(running)}; `dynamo repair status` tells of it, `... stop` ends it"
    elif isinstance(fields.get("allowed"), str):
        message += f"; it may be: {fields['allowed']}"
    owners = fields.get("owners")
    return Told(
        url,
        None,
        message,
        owners if isinstance(owners, dict) else None,
        misused=answer.status == 400,
    )
