"""`dynamo cluster`: a whole cluster of real node processes on loopback, to try things on."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from dynamo.cli.parser import Commands
from dynamo.cli.supervisor import (
    CannotStart,
    NodeProcess,
    check_ports,
    describe_exit,
    stop_all,
    wait_ready,
)
from dynamo.cluster_disk import read_cluster_file, write_cluster_file
from dynamo.cluster_file import (
    DEFAULT_CLASS,
    PARTITIONS_DEFAULT,
    REPLICAS_DEFAULT,
    ClusterFile,
    new_cluster,
)
from dynamo.config import LOG_FORMATS, LOG_LEVELS
from dynamo.errors import ConfigError
from ring.member import Member

LOOPBACK = "127.0.0.1"
NODES_DEFAULT = 3
NODES_MAX = 64
HTTP_PORT_DEFAULT = 8098
RPC_PORT_DEFAULT = 7400
READY_SECONDS = 60.0
WATCH_SECONDS = 0.2


def add_commands(commands: Commands) -> None:
    """Add `cluster` to the parser."""
    parser = commands.add_parser(
        "cluster",
        help="run several nodes on this machine until Ctrl-C",
        description="Run a cluster of real node processes on loopback, on consecutive ports. Its "
        "data and its cluster.toml stay in --data-dir: run it again there to carry on.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--nodes", type=int, metavar="N", help="(default: 3, or as many as the directory has)")
    add(
        "--http-port",
        type=int,
        default=HTTP_PORT_DEFAULT,
        metavar="PORT",
        help="REST of the first node (default: %(default)s)",
    )
    add("--rpc-port", type=int, metavar="PORT", help="between nodes, first node's (default: 7400)")
    add("--data-dir", required=True, metavar="DIR", help="for all of them: DIR/n1, DIR/n2, ...")
    add("--replicas", type=int, metavar="N", help="of every key (default: 3, or fewer nodes)")
    add("--partitions", type=int, metavar="Q", help="a power of two (default: 256)")
    add("--free-space-min", metavar="BYTES", help="as `dynamo serve`")
    add("--value-bytes-max", metavar="BYTES", help="as `dynamo serve`")
    add("--hint-window", metavar="SECONDS", help="as `dynamo serve`")
    add("--hint-bytes-max", metavar="BYTES", help="as `dynamo serve`")
    add("--handoff-rate", metavar="BYTES", help="as `dynamo serve`")
    add("--exchange-interval", metavar="SECONDS", help="as `dynamo serve`")
    add("--exchange-interval-remote", metavar="SECONDS", help="as `dynamo serve`")
    add("--exchange-deadline", metavar="SECONDS", help="as `dynamo serve`")
    add("--exchange-keys", metavar="N", help="as `dynamo serve`")
    add("--exchange-rate", metavar="BYTES", help="as `dynamo serve`")
    add("--exchange-window", metavar="HH:MM-HH:MM", help="as `dynamo serve`")
    add("--reap-after", metavar="SECONDS", help="as `dynamo serve`")
    add("--measure-one-in", metavar="N", help="as `dynamo serve`")
    add("--requests-max", metavar="N", help="as `dynamo serve`")
    add("--request-bytes-max", metavar="BYTES", help="as `dynamo serve`")
    add("--log-level", choices=LOG_LEVELS, default="info", help="(default: info)")
    add("--log-format", choices=LOG_FORMATS, help="as `dynamo serve`")
    add("--access-log", action="store_true", help="as `dynamo serve`")
    add("--fault-injection", action="store_true", help="as `dynamo serve`")
    add("--no-read-repair", dest="read_repair", action="store_false", help="as `dynamo serve`")
    add("--no-hints", dest="hints", action="store_false", help="as `dynamo serve`")
    add("--json", action="store_true", help="print the table as one line of JSON, for scripts")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the cluster until SIGINT or SIGTERM. Raises ConfigError, CannotStart, OSError."""
    if not arguments.data_dir:
        # As of an unset variable in a script: it would be the current directory.
        raise ConfigError("--data-dir is empty")
    directory = Path(arguments.data_dir).absolute()
    cluster_path = directory / "cluster.toml"
    with ExitStack() as held:
        is_there = directory.is_dir()
        if is_there:
            held.enter_context(_only_one(directory))
        is_new = not (is_there and cluster_path.exists())
        cluster = make_cluster(arguments) if is_new else read_cluster_file(cluster_path)
        if not is_new:
            _check_same(cluster, cluster_path, arguments)
        nodes = plan_nodes(cluster, directory, cluster_path, arguments)
        check_ports(nodes)
        # Not before: a first try with ports that are taken must not settle the cluster's ports.
        if not is_there:
            directory.mkdir(parents=True, exist_ok=True)
            held.enter_context(_only_one(directory))
        if is_new:
            write_cluster_file(cluster_path, cluster)
        _run_nodes(nodes, cluster_path, as_json=arguments.json)
    return 0


def make_cluster(arguments: argparse.Namespace) -> ClusterFile:
    """A new cluster as the flags say. Raises ConfigError."""
    count = NODES_DEFAULT if arguments.nodes is None else arguments.nodes
    if not 1 <= count <= NODES_MAX:
        raise ConfigError(f"--nodes: {count} is not in 1..{NODES_MAX}")
    replicas = arguments.replicas
    if replicas is None:
        replicas = min(REPLICAS_DEFAULT, count)
    if not 1 <= replicas <= count:
        raise ConfigError(f"--replicas: {replicas} is not in 1..{count}, the number of nodes")
    return new_cluster(
        members=_members(count, _first(arguments.rpc_port, RPC_PORT_DEFAULT)),
        classes=[(DEFAULT_CLASS, replicas)],
        partitions=_first(arguments.partitions, PARTITIONS_DEFAULT),
        entropy=os.urandom,
    )


def _switches(arguments: argparse.Namespace) -> dict[str, bool]:
    return {
        "--access-log": arguments.access_log,
        "--fault-injection": arguments.fault_injection,
        "--no-read-repair": not arguments.read_repair,
        "--no-hints": not arguments.hints,
    }


def plan_nodes(
    cluster: ClusterFile, directory: Path, cluster_path: Path, arguments: argparse.Namespace
) -> list[NodeProcess]:
    """One process a member, none started yet. Raises ConfigError for ports out of range."""
    _check_ports_in_range("--http-port", arguments.http_port, len(cluster.members))
    passed_on = [
        part
        for flag, value in (
            ("--free-space-min", arguments.free_space_min),
            ("--value-bytes-max", arguments.value_bytes_max),
            ("--hint-window", arguments.hint_window),
            ("--hint-bytes-max", arguments.hint_bytes_max),
            ("--handoff-rate", arguments.handoff_rate),
            ("--exchange-interval", arguments.exchange_interval),
            ("--exchange-interval-remote", arguments.exchange_interval_remote),
            ("--exchange-deadline", arguments.exchange_deadline),
            ("--exchange-keys", arguments.exchange_keys),
            ("--exchange-rate", arguments.exchange_rate),
            ("--exchange-window", arguments.exchange_window),
            ("--reap-after", arguments.reap_after),
            ("--measure-one-in", arguments.measure_one_in),
            ("--requests-max", arguments.requests_max),
            ("--request-bytes-max", arguments.request_bytes_max),
            ("--log-level", arguments.log_level),
            ("--log-format", arguments.log_format),
        )
        if value is not None
        for part in (flag, value)
    ]
    passed_on += [flag for flag, is_on in _switches(arguments).items() if is_on]
    nodes = []
    for offset, member in enumerate(cluster.members):
        http = f"{LOOPBACK}:{arguments.http_port + offset}"
        data_dir = directory / member.id
        nodes.append(
            NodeProcess(
                node_id=member.id,
                http=http,
                rpc=member.address,
                data_dir=data_dir,
                log=directory / f"{member.id}.log",
                arguments=(
                    *("--cluster", str(cluster_path), "--node-id", member.id),
                    *("--data-dir", str(data_dir), "--http", http, *passed_on),
                ),
            )
        )
    addresses = [address for node in nodes for address in (node.http, node.rpc)]
    if len(set(addresses)) < len(addresses):
        raise ConfigError("--http-port and --rpc-port: the two runs of ports overlap")
    return nodes


def render_json(nodes: Sequence[NodeProcess], cluster_path: Path) -> str:
    """One line: {"cluster_file", "nodes": [{node, pid, http, rpc, data_dir, log, restart}]}."""
    return json.dumps(
        {
            "cluster_file": str(cluster_path),
            "nodes": [
                {
                    "node": node.node_id,
                    "pid": node.pid,
                    "http": f"http://{node.http}",
                    "rpc": node.rpc,
                    "data_dir": str(node.data_dir),
                    "log": str(node.log),
                    "restart": list(node.command),
                }
                for node in nodes
            ],
        }
    )


def render_text(nodes: Sequence[NodeProcess]) -> str:
    """The table, and what to try."""
    rows = [("node", "pid", "http", "rpc", "data")]
    rows += [
        (node.node_id, str(node.pid), f"http://{node.http}", node.rpc, str(node.data_dir))
        for node in nodes
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = "\n".join(
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    first, last = nodes[0], nodes[-1]
    here, there = f"http://{first.http}", f"http://{last.http}"
    text = "text/plain"
    status = f"{_ask_all(nodes, 'status')} --watch"
    return f"""\
{table}

Try, in another terminal:

  # how the nodes are, live
  {status}

  # a write at {first.node_id}, read at {last.node_id}
  curl -X PUT -H 'Content-Type: {text}' -d 'bread' {here}/buckets/carts/keys/alice
  curl -i {there}/buckets/carts/keys/alice

  # a second write that has not seen the first: both are kept, as siblings
  curl -X PUT -H 'Content-Type: {text}' -d 'milk' {there}/buckets/carts/keys/alice
  curl -i -H 'Accept: multipart/mixed' {here}/buckets/carts/keys/alice

  # a write with the context of that read replaces what it showed
  context=$(curl -si {here}/buckets/carts/keys/alice | tr -d '\\r' | sed -n 's/^X-Riak-Vclock: //p')
  curl -X PUT -H 'Content-Type: {text}' -H "X-Riak-Vclock: $context" -d 'bread and milk' \
{here}/buckets/carts/keys/alice

  # deleted: a 404, with the context that a later write needs
  curl -X DELETE {there}/buckets/carts/keys/alice
  curl -i {here}/buckets/carts/keys/alice

{_losing(nodes) if len(nodes) > 1 else ""}\
Logs: {first.log.parent}/*.log. Ctrl-C stops them all, but not one that you started again by hand;
their data stays.
"""


def _ask_all(nodes: Sequence[NodeProcess], command: str) -> str:
    flags = [part for node in nodes for part in ("--node", f"http://{node.http}")]
    return shlex.join([*nodes[0].command[:3], command, *flags])


def _losing(nodes: Sequence[NodeProcess]) -> str:
    """What to try with a node that dies; it needs another one that goes on."""
    last = nodes[-1]
    put = "curl -si -X PUT -H 'Content-Type: text/plain' -d 'figs'"
    return f"""\
  # kill {last.node_id}, and write: X-Dynamo-Acks says how many have it; the hints are for {last.node_id}
  kill -9 {last.pid}
  for key in 1 2 3 4 5 6 7 8 9; do {put} http://{nodes[0].http}/buckets/carts/keys/$key | \
grep -i acks; done
  {_ask_all(nodes[:-1], "hints")}

  # start it again, in a terminal of its own: it gets what it has missed
  {last.restart}

"""


class _Signals:
    """SIGINT, SIGTERM and SIGHUP ask to stop; another of them, while stopping, to hurry.

    A plain count that is polled: a lock that a handler takes may be held by what it interrupted.
    """

    def __init__(self) -> None:
        self._received = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
            signal.signal(signal.SIGHUP, self._on_signal)

    def stop(self) -> bool:
        return self._received > 0

    def hurry(self) -> bool:
        return self._received > 1

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._received += 1


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    # Two that start at once both find the ports free; each would get some of the nodes to run, and
    # take those of the other for its own. The directory itself is locked: nothing is left in it.
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(f"another `dynamo cluster` is running in {directory}") from None
        yield
    finally:
        os.close(descriptor)


def _run_nodes(nodes: Sequence[NodeProcess], cluster_path: Path, *, as_json: bool) -> None:
    """All run until a signal; none is left, however this ends."""
    signals = _Signals()
    try:
        for node in nodes:
            node.start()
        if wait_ready(nodes, timeout=READY_SECONDS, is_stopping=signals.stop):
            print(render_json(nodes, cluster_path) if as_json else render_text(nodes))
            sys.stdout.flush()
            _watch(nodes, signals.stop)
    finally:
        stop_all(nodes, hurry=signals.hurry)


def _watch(nodes: Sequence[NodeProcess], is_stopping: Callable[[], bool]) -> None:
    """Say so when a node ends, until `is_stopping`."""
    alive = list(nodes)
    while not is_stopping():
        for node in list(alive):
            code = node.exit_code()
            if code is not None:
                alive.remove(node)
                print(
                    f"{node.node_id} {describe_exit(code)}. To start it again:\n  {node.restart}",
                    file=sys.stderr,
                    flush=True,
                )
        time.sleep(WATCH_SECONDS)


def _members(count: int, rpc_port: int) -> list[Member]:
    _check_ports_in_range("--rpc-port", rpc_port, count)
    return [
        Member(id=f"n{number + 1}", address=f"{LOOPBACK}:{rpc_port + number}")
        for number in range(count)
    ]


def _check_ports_in_range(flag: str, first: int, count: int) -> None:
    if not 1 <= first <= 65_536 - count:
        raise ConfigError(f"{flag}: {count} ports from {first} on are not all in 1..65535")


def _check_same(cluster: ClusterFile, path: Path, arguments: argparse.Namespace) -> None:
    has = len(cluster.members)
    first_port = int(cluster.members[0].address.rpartition(":")[2]) if has else 0
    if (
        not first_port
        or cluster.members != tuple(_members(has, first_port))
        or [name for name, _ in cluster.classes] != [DEFAULT_CLASS]
    ):
        raise ConfigError(f"{path} is not a cluster file that `dynamo cluster` wrote")
    replicas = dict(cluster.classes)[DEFAULT_CLASS]
    for flag, said, agreed in (
        ("--nodes", _first(arguments.nodes, has), has),
        ("--rpc-port", _first(arguments.rpc_port, first_port), first_port),
        ("--replicas", _first(arguments.replicas, replicas), replicas),
        ("--partitions", _first(arguments.partitions, cluster.partitions), cluster.partitions),
    ):
        if said != agreed:
            raise ConfigError(
                f"{flag}: {said} was asked for, but the cluster in {path.parent} was made with "
                f"{agreed}; ask for that, or choose another --data-dir"
            )


def _first(said: int | None, default: int) -> int:
    return default if said is None else said
