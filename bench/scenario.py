"""The shape of a scenario: what is set up, what clients do, what goes wrong, what must come of it.

Data only: `scene_files` reads one, `scenario_rules` checks it, `running` carries it out.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from bench.faults import Fault

TARGETS: Final = ("nodes", "http", "sim", "delay", "null")


class Load(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`loop`: "open" (arrivals come by a schedule, whatever the store does) or "closed" (each
    session asks again once it has its answer). `arrivals`: of an open loop. `rate`: arrivals a
    second, all sessions together. `in_flight_max`: arrivals beyond it are dropped and counted.
    Times in seconds. `drain`: how long after the last arrival answers are waited for."""

    loop: Literal["open", "closed"] = "open"
    arrivals: Literal["poisson", "constant"] = "poisson"
    rate: float = 200.0
    sessions: int = 16
    warmup: float = 1.0
    duration: float = 10.0
    in_flight_max: int = 1000
    timeout: float = 10.0
    drain: float = 10.0


class Cluster(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the target is to be. `properties`: of the bucket (`w`, `r`, `allow_mult`,
    `last_write_wins`, ...). `flags`: of `dynamo serve`, where the harness starts the nodes itself.
    `repair`: False turns read repair off; `hints`, `exchange` likewise. `slow`: delays of messages
    from the begin, leg -> distribution. `delay_ms`: of the register that shows a write so long
    after."""

    nodes: int = 3
    n: int = 3
    properties: dict[str, Any] = {}
    flags: tuple[str, ...] = ()
    repair: bool = True
    hints: bool = True
    exchange: bool = True
    slow: dict[str, list[list[Any]]] = {}
    delay_ms: float = 0.0


class Expect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One expectation: `figure` names a figure of the analysis ("fresh", "regular", "lost acknowledged
    writes", "read your writes", "agrees with prediction", "converged", ...); it must be at least /
    at most."""

    figure: str
    at_least: float | None = None
    at_most: float | None = None
    told: str = ""


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`targets`: on which it makes sense, the first is the default. `workload`: its name;
    `options`: of that workload. `control`: part of `selftest`. `seed`: of everything drawn."""

    name: str
    told: str
    targets: tuple[str, ...]
    workload: str
    options: dict[str, Any] = {}
    load: Load = Load()
    cluster: Cluster = Cluster()
    faults: tuple[Fault, ...] = ()
    predict: tuple[str, ...] = ()
    expect: tuple[Expect, ...] = ()
    control: bool = False
    seed: int = 1


class BadScenario(Exception):
    """The text is no scenario; the message says where and why."""
