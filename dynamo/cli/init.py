"""`dynamo init`: write the file that gives a new cluster its identity."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from dynamo.cli.parser import Commands
from dynamo.cluster_disk import write_cluster_file
from dynamo.cluster_file import (
    PARTITIONS_DEFAULT,
    ClusterFile,
    new_cluster,
    parse_class,
    parse_member,
)


def add_commands(commands: Commands) -> None:
    """Add `init` to the parser."""
    parser = commands.add_parser(
        "init",
        help="write the cluster file that every node of a new cluster is given",
        allow_abbrev=False,
    )
    parser.add_argument("--cluster", required=True, metavar="FILE", help="the file to write")
    parser.add_argument(
        "--member",
        action="append",
        default=[],
        metavar="ID=HOST:PORT[,DC[,RACK[,HOST[,WEIGHT]]]]",
        help="a node and where its peers dial it; once for each. Without any, the members are what "
        "the nodes' --peers say",
    )
    parser.add_argument(
        "--class",
        dest="classes",
        action="append",
        default=[],
        metavar="NAME=N",
        help="a bucket type and its replicas per datacenter; may be repeated (default: default=3)",
    )
    parser.add_argument(
        "--partitions",
        type=int,
        default=PARTITIONS_DEFAULT,
        metavar="Q",
        help="a power of two, never changed later (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the file and say what to do with it. Raises ConfigError."""
    path = Path(arguments.cluster)
    cluster = new_cluster(
        members=[parse_member(text) for text in arguments.member],
        classes=[parse_class(text) for text in arguments.classes],
        partitions=arguments.partitions,
        entropy=os.urandom,
    )
    write_cluster_file(path, cluster)
    print(_next_steps(path, cluster))
    return 0


def _next_steps(path: Path, cluster: ClusterFile) -> str:
    classes = ", ".join(f"{name}={replicas}" for name, replicas in cluster.classes)
    lines = [
        f"{path}: cluster {cluster.id}, {cluster.partitions} partitions, classes {classes}.",
        "It holds the secret: copy it to every node, readable to its owner only, and start",
    ]
    if cluster.members:
        lines += [
            f"  dynamo serve --cluster {path} --node-id {member.id} "
            f"--data-dir DIR --http {_bare_host(member.address)}:8098"
            for member in cluster.members
        ]
    else:
        lines.append(
            f"  dynamo serve --cluster {path} --rpc OWN_HOST:7400 --peers HOST:7400 HOST:7400 ... "
            "--data-dir DIR --http OWN_HOST:8098"
        )
        lines.append("on each of them. The first start waits until all have met.")
    return "\n".join(lines)


def _bare_host(address: str) -> str:
    return address.rpartition(":")[0]
