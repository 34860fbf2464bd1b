"""What a scenario asks of a cluster, as simulated nodes are told it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bench.scenario import Cluster
from bench.targets.protocol import TargetFailed
from dynamo.config import COUNT_MAX, EXCHANGE_INTERVAL_DEFAULT
from dynamo.errors import InvalidArgument
from dynamo.property_schema import read_properties
from dynamo.sim.upkeep import Upkeep

NODES_MAX: Final = 26
#: Of `dynamo serve`, those that mean something here: each is a whole number.
FLAGS: Final[Mapping[str, str]] = {
    "--hint-window": "hint_window",
    "--measure-one-in": "measure_one_in",
    "--handoff-rate": "handoff_rate",
    "--exchange-interval": "exchange_interval",
    "--exchange-deadline": "exchange_deadline",
    "--exchange-keys": "exchange_keys",
    "--exchange-rate": "exchange_rate",
}


def names_of(cluster: Cluster) -> tuple[str, ...]:
    """Of the nodes: a, b, c, ... Raises TargetFailed."""
    if not 1 <= cluster.nodes <= NODES_MAX:
        raise TargetFailed(f"nodes = {cluster.nodes}: the simulator takes 1 to {NODES_MAX}")
    if not 1 <= cluster.n <= cluster.nodes:
        raise TargetFailed(f"n = {cluster.n}: it must be 1 to {cluster.nodes}, the nodes")
    return tuple(chr(ord("a") + number) for number in range(cluster.nodes))


def upkeep_of(cluster: Cluster) -> Upkeep:
    """What nodes do unasked. Nothing is reaped: delays let messages overtake each other."""
    return Upkeep(exchange=EXCHANGE_INTERVAL_DEFAULT if cluster.exchange else 0)


def changes_of(cluster: Cluster) -> dict[str, Any]:
    """Fields of `NodeConfig` that are not the default. Raises TargetFailed."""
    changes: dict[str, Any] = {}
    flags = iter(cluster.flags)
    for flag in flags:
        name, _, text = flag.partition("=")
        field = FLAGS.get(name)
        if field is None:
            raise TargetFailed(
                f"flags: the simulator does not take {flag}; it takes {', '.join(FLAGS)}"
            )
        text = text or next(flags, "")
        if not (text.isascii() and text.isdigit()) or int(text) > COUNT_MAX:
            raise TargetFailed(f"flags: {name} {text or 'without a number'}: it must be a number")
        changes[field] = int(text)
        if field == "exchange_interval":
            changes["exchange_interval_remote"] = changes[field]
    changes["read_repair"], changes["hints"] = cluster.repair, cluster.hints
    return changes


def check_properties(given: Mapping[str, object], n: int) -> None:
    """Raises TargetFailed for what is no property of a bucket, or another n_val."""
    try:
        read_properties(given, n)
    except InvalidArgument as error:
        raise TargetFailed(f"properties: {error.message}") from None
