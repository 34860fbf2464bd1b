"""The command `dynamo`: one parser, one module a subcommand, one line for every expected error.

Exit codes: 0 done, 1 not found (get, put, delete), could not start (serve, cluster) or not all could be
compared (repair), 2 wrong usage or configuration, 3 the store refused or could not be reached, is not
well (status) or has hints left (hints --sync), 4 a key has several values and one was asked for. Knows
nothing of what the subcommands do.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import metadata

from dynamo.cli import (
    antientropy,
    cluster,
    hints,
    init,
    objects,
    repair,
    serve,
    status,
    tombstones,
    top,
)
from dynamo.errors import ConfigError, DynamoError

USAGE = 2
FAILED = 1
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. `argv` without the program's name."""
    try:
        _fill_closed_streams()
        return _run(build_parser().parse_args(argv))
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(arguments: argparse.Namespace) -> int:
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except ConfigError as error:
        return _complain(error.message, USAGE)
    except DynamoError as error:
        return _complain(error.message, arguments.failure)
    except BrokenPipeError:
        # Whoever read our output went away (`| head`). The interpreter's flush at exit must not
        # meet the closed pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(arguments.failure)
    except OSError as error:
        return _complain(_reason(error), arguments.failure)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="dynamo",
        description="A leaderless replicated key-value store.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="version", version=f"dynamo-kv {metadata.version('dynamo-kv')}"
    )
    parser.set_defaults(failure=FAILED)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in (
        cluster,
        init,
        serve,
        status,
        hints,
        tombstones,
        antientropy,
        repair,
        top,
        objects,
    ):
        module.add_commands(commands)
    return parser


def _fill_closed_streams() -> None:
    # Closed by whoever started us (`>&-`). Their numbers must not go to a socket or to a file of the
    # engine, which something that prints would then write into.
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as we run
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _reason(error: OSError) -> str:
    what = error.strerror or str(error)
    return f"{error.filename}: {what}" if error.filename else what


def _complain(message: str, code: int) -> int:
    print(f"dynamo: {message}", file=sys.stderr)
    return code
