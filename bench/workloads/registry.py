"""All workloads by name, and what they ask of load and target. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from bench.scenario import BadScenario
from bench.workloads.options import Options, decode_options
from bench.workloads.pair import PairOptions, Pairs
from bench.workloads.probe import ProbeOptions, Probes
from bench.workloads.protocol import Workload
from bench.workloads.register import RegisterOptions, Registers
from bench.workloads.session import SessionOptions, Sessions
from bench.workloads.set_add import SetAdd, SetAddOptions
from bench.workloads.visibility import Visibility, VisibilityOptions
from bench.workloads.ycsb import CORE, NO_SCANS, Ycsb, YcsbOptions


class _Kind(NamedTuple):
    """`build`: the workload, from its name and options. `directed`: it reads at single replicas."""

    options: type[Options]
    build: Callable[[str, Any], Workload]
    preset: Mapping[str, Any] = MappingProxyType({})
    directed: bool = False


class Wanted(NamedTuple):
    """What a workload asks of others. `rate`: arrivals a second, `value_bytes`: None for what the
    scenario says. `directed`: the target has to read at single replicas."""

    rate: float | None = None
    value_bytes: int | None = None
    directed: bool = False


_KINDS: Final[Mapping[str, _Kind]] = MappingProxyType(
    {
        "pair": _Kind(PairOptions, Pairs),
        "probe": _Kind(ProbeOptions, Probes, directed=True),
        "register": _Kind(RegisterOptions, Registers),
        "session": _Kind(SessionOptions, Sessions),
        "set-add": _Kind(SetAddOptions, SetAdd),
        "visibility": _Kind(VisibilityOptions, Visibility),
        **{name: _Kind(YcsbOptions, Ycsb, preset) for name, preset in CORE.items()},
    }
)


def names() -> tuple[str, ...]:
    """Of all workloads."""
    return tuple(sorted(_KINDS))


def make(name: str, options: Mapping[str, Any], *, n: int, nodes: int) -> Workload:
    """A workload for one run, on `nodes` nodes with `n` replicas of a key. Raises BadScenario for a name
    or an option that is not known, and for a value that makes no sense."""
    kind, decoded = _decode(name, options, n=n)
    if _is_directed(kind, decoded) and n != nodes:
        raise BadScenario(
            f"workload {name} reads at every node what that has of a key: it needs n = nodes, "
            f"not n = {n} of {nodes}"
        )
    return kind.build(name, decoded)


def wanted(name: str, options: Mapping[str, Any], *, n: int) -> Wanted:
    """What it asks of load and target. Raises BadScenario as `make`."""
    kind, decoded = _decode(name, options, n=n)
    if not isinstance(decoded, YcsbOptions):
        return Wanted(directed=_is_directed(kind, decoded))
    return Wanted(
        rate=decoded.target or None,
        value_bytes=decoded.fieldcount * decoded.fieldlength,
    )


def _is_directed(kind: _Kind, options: Options) -> bool:
    return kind.directed or (isinstance(options, SessionOptions) and options.poll_keys > 0)


def _decode(name: str, options: Mapping[str, Any], *, n: int) -> tuple[_Kind, Options]:
    kind = _KINDS.get(name)
    if kind is None:
        if name == "ycsb-e":
            raise BadScenario(f"workload {name}: {NO_SCANS}")
        raise BadScenario(f"there is no workload {name!r}; there are: {', '.join(names())}")
    given = {**kind.preset, **options}
    return kind, decode_options(kind.options, given, workload=name, n=n)
