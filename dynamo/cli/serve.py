"""`dynamo serve`: one node in this process, until a signal (or its parent's end) stops it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import resource
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import msgspec

from dynamo.cli.logs import start_logging
from dynamo.cli.parser import Commands
from dynamo.cluster_disk import read_cluster_file
from dynamo.cluster_file import parse_class
from dynamo.config import (
    LOG_FORMATS,
    LOG_LEVELS,
    NodeConfig,
    Settings,
    build_config,
    merge_settings,
    parse_settings,
)
from dynamo.errors import ConfigError

#: New objects that may hold others, until the youngest are looked through for cycles.
GC_OBJECTS: Final = 20_000


def add_commands(commands: Commands) -> None:
    """Add `serve` to the parser."""
    parser = commands.add_parser(
        "serve",
        help="run one node",
        description="Run one node. A flag wins over the configuration file, which has the same "
        'names (TOML: data-dir = "..."), but for --class: classes = { NAME = N }.',
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", metavar="FILE", help="TOML file with any of the settings below")
    add("--node-id", metavar="ID", help="default: the member with --rpc's address, else --rpc")
    add("--data-dir", metavar="DIR", help="where this node, and no other, keeps its data")
    add("--http", metavar="HOST:PORT", help="the REST API (default: 127.0.0.1:8098)")
    add("--rpc", metavar="HOST:PORT", help="for the other nodes (default: its cluster file entry)")
    add(
        "--peers",
        nargs="*",
        metavar="HOST:PORT",
        help="other nodes' addresses; one will do if the file lists all",
    )
    add("--datacenter", metavar="NAME", help="(default: dc1)")
    add("--rack", metavar="NAME", help="(default: rack1)")
    add("--host", metavar="NAME", help="the machine (default: the host of its address)")
    add("--weight", type=int, metavar="N", help="its share of the data (default: 1)")
    add(
        "--cluster",
        metavar="FILE",
        help="identity written by `dynamo init`; without it, loopback only",
    )
    add(
        "--class",
        dest="classes",
        action="append",
        metavar="NAME=N",
        help="without a cluster file: a bucket type and its replicas; may be repeated",
    )
    add(
        "--free-space-min",
        metavar="BYTES",
        help="refuse writes below this, such as 256MiB (default: the larger of 256MiB and 2 %%)",
    )
    add("--value-bytes-max", metavar="BYTES", help="largest value (default: 1MiB, at most 8MiB)")
    add(
        "--hint-window",
        type=int,
        metavar="SECONDS",
        help="take hints for an absent node for so long (default: 10800)",
    )
    add("--hint-bytes-max", metavar="BYTES", help="what all hints may take (default: 1GiB)")
    add("--handoff-rate", metavar="BYTES", help="of hints, delivered in a second (default: 16MiB)")
    add(
        "--exchange-interval",
        type=int,
        metavar="SECONDS",
        help="between exchanges with two peers, 0 for none (default: 10)",
    )
    add(
        "--exchange-interval-remote",
        type=int,
        metavar="SECONDS",
        help="the same, of other datacenters (default: 60)",
    )
    add(
        "--exchange-deadline",
        type=int,
        metavar="SECONDS",
        help="from one look at a difference to the next (default: 10)",
    )
    add(
        "--exchange-keys",
        type=int,
        metavar="N",
        help="keys looked at in a second by exchanges (default: 20000)",
    )
    add(
        "--exchange-rate",
        metavar="BYTES",
        help="moved in a second by exchanges (default: 16MiB)",
    )
    add(
        "--exchange-window",
        metavar="HH:MM-HH:MM",
        help="exchange in these hours (UTC) only (default: always)",
    )
    add(
        "--reap-after",
        type=int,
        metavar="SECONDS",
        help="leave tombstones alone for so long (default: 60)",
    )
    add(
        "--requests-max",
        type=int,
        metavar="N",
        help="of clients, carried out at once (default: 1024)",
    )
    add("--request-bytes-max", metavar="BYTES", help="of all of them (default: 64MiB)")
    add("--log-level", choices=LOG_LEVELS, help="(default: info)")
    add("--log-format", choices=LOG_FORMATS, help="json: one object a line (default: text)")
    add(
        "--access-log",
        action=argparse.BooleanOptionalAction,
        help="log a line for every request (default: no)",
    )
    add(
        "--measure-one-in",
        type=int,
        metavar="N",
        help="of N reads, and of N writes, measure one for /admin/wars (default: 32)",
    )
    add(
        "--fault-injection",
        action=argparse.BooleanOptionalAction,
        help="let /admin/faults delay this node's messages and cut it off: for tests (default: no)",
    )
    add(
        "--read-repair",
        action=argparse.BooleanOptionalAction,
        help="reads repair replicas that are behind; blocking repair is always done (default: yes)",
    )
    add(
        "--hints",
        action=argparse.BooleanOptionalAction,
        help="keep writes for nodes that are down, stand in for them, hand over (default: yes)",
    )
    add("--exit-with-parent", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the node to its end. Raises DynamoError, OSError where it cannot start."""
    config = load_config(arguments)
    if arguments.exit_with_parent:
        _check_pipe(sys.stdin.fileno())
    start_logging(
        sys.stderr,
        config.log_level,
        log_format=config.log_format,
        node=config.node_id,
        access_log=config.access_log,
    )
    _allow_open_files()
    # Here, not above: `dynamo get` should not pay for importing a whole node.
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config, exit_with_parent=arguments.exit_with_parent))


def load_config(arguments: argparse.Namespace) -> NodeConfig:
    """The node that the flags and the files they name describe. Raises ConfigError."""
    settings = _flags(arguments)
    if arguments.config is not None:
        settings = merge_settings(_file(Path(arguments.config)), settings)
    for name in ("data_dir", "cluster"):
        # The one byte that no path can hold; argv cannot, a file can.
        if "\0" in (getattr(settings, name) or ""):
            raise ConfigError(f"{name.replace('_', '-')}: it holds a NUL character")
    cluster = None
    if settings.cluster is not None:
        path = Path(settings.cluster)
        cluster = read_cluster_file(path)
        _warn_if_readable_to_all(path)
    return build_config(settings, cluster)


def _flags(arguments: argparse.Namespace) -> Settings:
    classes = [parse_class(text) for text in arguments.classes or ()]
    if len(dict(classes)) < len(classes):
        raise ConfigError("--class: one name is given twice")
    said = {
        name: getattr(arguments, name)
        for name in Settings.__struct_fields__
        if name not in ("classes", "peers")
    }
    peers = None if arguments.peers is None else tuple(arguments.peers)
    return Settings(classes=dict(classes) or None, peers=peers, **said)


def _file(path: Path) -> Settings:
    try:
        settings = parse_settings(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration file {path}: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}") from None
    # A path in a file is relative to that file, so that it means the same wherever one starts from.
    beside = {
        name: str(path.parent / value)
        for name in ("data_dir", "cluster")
        if (value := getattr(settings, name))
    }
    return msgspec.structs.replace(settings, **beside)


def _warn_if_readable_to_all(path: Path) -> None:
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        print(f"dynamo: {path} holds a secret and others may read it: chmod 600", file=sys.stderr)


def _allow_open_files() -> None:
    """As many files as the system lets this process have: connections and tables count alike."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _check_pipe(descriptor: int) -> None:
    # uvloop aborts the whole process for a file that cannot be polled.
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        raise ConfigError("--exit-with-parent: standard input is not a pipe")


async def _serve(config: NodeConfig, *, exit_with_parent: bool) -> int:
    from dynamo.node import Node

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if exit_with_parent:
        await loop.connect_read_pipe(lambda: _Parent(stop.set), sys.stdin)
    if config.development:
        print(
            "dynamo: no cluster file, so this node uses the development identity, whose secret "
            "everybody knows, and stays on loopback",
            file=sys.stderr,
        )
    node = Node(config)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        if await _first(stopped, asyncio.ensure_future(node.start())):
            _spare_the_collector()
            print(_started(config, node.http_address, node.rpc_address), flush=True)
            await _first(stopped, asyncio.ensure_future(node.wait_closed()))
    finally:
        stopped.cancel()
        await node.close()
    return 0


def _spare_the_collector() -> None:
    """Collect cycles rarely, and none of what there is now: a request leaves none behind but where it
    met an error, and the collector would look through all that is in flight every few requests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_OBJECTS, 10, 50)


async def _first(stopped: asyncio.Future[Literal[True]], work: asyncio.Future[None]) -> bool:
    """True once `work` is done (what it raised is raised), False if the node was stopped first."""
    await asyncio.wait((stopped, work), return_when=asyncio.FIRST_COMPLETED)
    if work.done():
        work.result()
        return True
    work.cancel()
    await asyncio.wait((work,))
    return False


def _started(config: NodeConfig, http: str, rpc: str) -> str:
    return f"node {config.node_id}: http://{http} rpc {rpc} data {config.data_dir}"


class _Parent(asyncio.Protocol):
    """Calls `gone` when the other end of the pipe closes, however its holder ended."""

    def __init__(self, gone: Callable[[], None]) -> None:
        self._gone = gone

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone()
