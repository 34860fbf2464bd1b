"""The rules of the house: imports point down, the lower packages are pure, adapters alone reach
outside, one writer of storage. Each is held against the tree and shown to fire on a planted breach.
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from house_rules import (
    Module,
    cycles,
    global_statements,
    module,
    package_breaches,
    purity_breaches,
    rank_breaches,
    reach_breaches,
    read_modules,
    undocumented,
    writer_breaches,
)

ROOT = Path(__file__).parents[1]


@functools.cache
def modules() -> list[Module]:
    """All of the tree. Read by the first test that asks, not by every process that collects tests."""
    return read_modules(ROOT)


#: The modules of `dynamo`, a line a rank, from the bottom up. A module imports lines above its own
#: only: neither what is below it nor its neighbours.
RANKS = """
    errors memo metrics counters latency status hybrid_clock believed_time tail cluster.phi pace flights
    reservoir clock_bounds wars_status
    varint keys strict_toml cursor lane cluster.view hint_keys
    version agreement
    rpc.fields
    rpc.exchange_messages rpc.reap_messages
    record stored context rpc.messages cluster.rumour handoff_status
    leaf earlier resolve requests ports cluster_file liveness listing_pages seen known_records
    stamped quorum config readiness properties patience last_write retry_budget
    wars property_schema tail stand_ins telling queues
    property_table hedging write_tally read_tally read_repair write_refusals
    body_requests absences answers

    rpc.codec rpc.delay rpc.handshake rpc.pending rpc.network rpc.fault_rules rpc.holding
    rpc.frame rpc.loopback rpc.fault_injection
    rpc.channel
    rpc.connection rpc.held_channel
    rpc.links rpc.dial
    rpc.faulty_links
    rpc.peers

    arrivals commit ask backlog sync_point admission reap_queue
    refusing cluster.later_ring reap_batch refill_marks
    own_records
    merging hint_account exchange_what set_back stale_reads
    hint_store
    replica cluster.topology read_operation write_operation listing_ask cluster.detector
    watched
    operations
    purge mend own_copy
    coordinator refill world replica_reads replica_deliver key_listing property_keeper cluster.addresses
    property_learning cluster.gossip kept_trees expiry replica_reap settling
    bucket_properties cluster.membership
    recovery trees overview bucket_listing replica_listing handoff repair_selection reaper
    replica_trees replica_looks exchange_budget exchange_stuck
    exchange_moves
    exchange_keys
    exchange_round
    exchange_lane repair_run
    listing exchanges
    repairs
    services

    clock precise cluster_disk rpc.tcp
    store.files store.worker store.space store.recent store.gaps store.note store.engine store.memory
    store.enginelog store.salvage store.alarm
    store.opening
    store.rocks
    datadir
    http.stamps http.ids http.limits http.dates http.target http.backend http.exposition http.process
    http.strict_json http.catalog http.schemas http.prose
    http.request http.conditions http.write_headers http.parameters
    http.reply http.access_log
    http.operations http.route
    http.siblings
    http.errors
    http.body http.node http.admin http.tombstones http.wars
    http.json_body
    http.codes
    http.openapi
    http.metrics_page
    http.objects http.stream
    http.buckets http.hints http.antientropy http.repair http.faults
    http.listing
    http.routes
    http.refusals
    http.connection
    http.server
    http.document
    http

    sim.upkeep sim.chance sim.trace sim.loop sim.points sim.sieve sim.line sim.kinds
    sim.clock sim.cpu sim.database sim.plan sim.history sim.link
    sim.door sim.combined sim.disk sim.hints sim.stream sim.messages sim.checks
    sim.draw sim.storage sim.files sim.network sim.last_write
    sim.world sim.apart
    sim.node
    sim.cluster
    sim.ledger sim.names sim.patches sim.convergence sim.reaps
    sim.testimony sim.losses
    sim.faults sim.workload sim.scene
    sim.exact sim.exact_lww
    sim.run sim.crew sim.planted_hints sim.planted_trees sim.planted_set_back
    sim.planted
    sim.shrink sim.search sim.script
    sim.cli
    sim.__main__

    node

    cli.parser cli.logs cli.client cli.supervisor cli.tables cli.live
    cli.cluster_view cli.top_view cli.hints_view cli.antientropy_view cli.repair_view cli.tombstones_view
    cli.cluster cli.init cli.serve cli.objects cli.status
    cli.top cli.hints cli.antientropy cli.repair cli.tombstones
    cli
    __main__

    dynamo store rpc cluster sim
"""

#: `sim.chance` makes all the chance that the simulator hands in.
ADAPTERS = (
    "clock",
    "precise",
    "cluster_disk",
    "datadir",
    "rpc.tcp",
    "store.",
    "http.",
    "sim.chance",
)
ASSEMBLY = (
    *("node", "cli", "cli.", "__main__"),
    *("sim.crew", "sim.search", "sim.cli", "sim.__main__"),
)
#: Modules of bench/ that are pure; its others may reach outside.
BENCH_PURE = (
    *("workload", "workloads", "workloads.", "history", "findings", "faults", "targets.protocol"),
    *("staleness", "latency", "pbs", "scenario"),
)
#: Who may write to storage: the one writer, and what storage is made of.
WRITERS = (
    # The replica is these: what it does, and what it does it to, its own records and others'.
    "dynamo.replica",
    "dynamo.own_records",
    "dynamo.queues",  # what is written beside a record
    "dynamo.reap_queue",
    "dynamo.refill_marks",
    "dynamo.set_back",
    "dynamo.hint_store",
    "dynamo.hint_account",
    "dynamo.kept_trees",
    "dynamo.store.",
    "dynamo.sim.database",
    "dynamo.sim.disk",
    "dynamo.sim.storage",
    "dynamo.sim.planted",  # it breaks what it can, on purpose
    "dynamo.sim.planted_hints",
)

Rule = Callable[[Iterable[Module]], Iterator[str]]


def _ranks() -> dict[str, int]:
    lines = [line.split() for line in RANKS.splitlines() if line.strip()]
    return {
        name if name == "dynamo" else f"dynamo.{name}": rank
        for rank, names in enumerate(lines)
        for name in names
    }


def _is_one_of(name: str, places: Iterable[str], package: str = "") -> bool:
    """A place that ends in a dot stands for all modules below it."""
    return any(
        name == package + place or (place.endswith(".") and name.startswith(package + place))
        for place in places
    )


def _lower() -> list[Module]:
    return [one for one in modules() if one.package in ("ring", "antientropy")]


def _services() -> list[Module]:
    """Modules of dynamo that are neither adapters nor assembly, and the pure ones of bench."""
    return [one for one in modules() if _is_bound(one.name)]


def _is_bound(name: str) -> bool:
    if name.startswith("dynamo"):
        return not _is_one_of(name, (*ADAPTERS, *ASSEMBLY), "dynamo.")
    return _is_one_of(name, BENCH_PURE, "bench.")


def _not_writers() -> list[Module]:
    return [one for one in modules() if not _is_one_of(one.name, WRITERS)]


def test_imports_between_packages_point_down() -> None:
    assert list(package_breaches(modules())) == []


def test_imports_inside_dynamo_point_down_its_ranks() -> None:
    assert list(rank_breaches(modules(), _ranks())) == []


def test_no_module_imports_itself_over_others() -> None:
    assert list(cycles(modules())) == []


def test_ring_and_antientropy_are_pure() -> None:
    assert list(purity_breaches(_lower())) == []


def test_only_adapters_and_assembly_reach_outside() -> None:
    assert list(reach_breaches(_services())) == []


def test_the_replica_is_the_only_writer_of_storage() -> None:
    assert list(writer_breaches(_not_writers())) == []


def test_every_module_says_what_it_is() -> None:
    tests = [module(f"tests.{path.stem}", path.read_text()) for path in _test_files()]
    assert list(undocumented([*modules(), *tests])) == []


def test_no_module_keeps_state() -> None:
    assert list(global_statements(modules())) == []


def test_tests_are_no_packages() -> None:
    # A tests/ring/__init__.py would shadow the package `ring`.
    assert [path for path in _test_files() if path.name == "__init__.py"] == []


def test_the_tree_is_really_read() -> None:
    names = {one.name for one in modules()}
    assert {"ring.ring", "antientropy.stale", "dynamo", "dynamo.node", "bench"} <= names
    assert len(_services()) > 20
    assert _is_bound("bench.staleness")
    assert not _is_bound("bench.cli")


MACHINE_PATH = re.compile(r"(?<![\w.$~}])/(?:work|root|home|Users)/\w")


def test_nothing_names_a_path_of_some_machine() -> None:
    found = [
        f"{path}:{number}: {line.strip()}"
        for path in _text_files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []
    assert MACHINE_PATH.search("see /" + "home/me/x")


def test_importing_the_library_loads_no_server() -> None:
    code = (
        "import sys, dynamo.coordinator, dynamo.cli.objects, ring.ring\n"
        "print(*{'aiohttp', 'rocksdict', 'uvloop'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("\n", "")


def _in_ranks(ranks: dict[str, int]) -> Rule:
    return lambda modules: rank_breaches(modules, ranks)


BREACHES: tuple[tuple[Rule, str, str], ...] = (
    (package_breaches, "ring.x", "import dynamo.version"),
    (package_breaches, "antientropy.x", "def f():\n    from dynamo import version"),
    (package_breaches, "dynamo.x", "from bench import placement"),
    (_in_ranks({"dynamo.x": 1, "dynamo.y": 1}), "dynamo.x", "import dynamo.y"),
    (_in_ranks({"dynamo.x": 1, "dynamo.y": 2}), "dynamo.x", "from dynamo.y import f"),
    (_in_ranks({"dynamo.x": 1, "dynamo.y": 2}), "dynamo.x", "from dynamo import y"),
    (_in_ranks({"dynamo.y": 2}), "dynamo.x", ""),
    (_in_ranks({"dynamo.x": 1, "dynamo.y": 2, "dynamo.z": 2}), "dynamo.x", ""),
    (cycles, "dynamo.x", "from dynamo.y import f"),
    (purity_breaches, "ring.x", "import time"),
    (purity_breaches, "ring.x", "from random import Random"),
    (purity_breaches, "ring.x", "from . import member"),
    (purity_breaches, "ring.x", "async def f() -> None: ..."),
    (purity_breaches, "ring.x", "def f(a):\n    return [x async for x in a]"),
    (purity_breaches, "ring.x", "x = open('f')"),
    (reach_breaches, "dynamo.x", "import os"),
    (reach_breaches, "dynamo.x", "def f():\n    import os.path"),
    (reach_breaches, "dynamo.x", "from time import monotonic"),
    (reach_breaches, "dynamo.x", "from aiohttp import web"),
    (reach_breaches, "dynamo.x", "import rocksdict"),
    (reach_breaches, "dynamo.x", "import socket as wire"),
    (reach_breaches, "dynamo.x", "import random\nx = random.Random()"),
    (reach_breaches, "dynamo.x", "import random\ndef f():\n    return random.random()"),
    (reach_breaches, "dynamo.x", "from random import choice"),
    (writer_breaches, "dynamo.x", "def f(storage):\n    storage.put('records', b'', b'')"),
    (writer_breaches, "dynamo.x", "def f(self):\n    self._node._storage.write([])"),
    (writer_breaches, "dynamo.x", "def f(disk: Storage | None):\n    keep = disk.put"),
    (writer_breaches, "dynamo.x", "async def f():\n    x = await RocksStorage.open()\n    x.put()"),
    (writer_breaches, "dynamo.x", "from dynamo.ports import Write"),
    (undocumented, "dynamo.x", "x = 1"),
    (global_statements, "dynamo.x", "def f():\n    global x\n    x = 1"),
)


@pytest.mark.parametrize(("rule", "name", "text"), BREACHES)
def test_a_planted_breach_is_found(rule: Rule, name: str, text: str) -> None:
    other = module(
        "dynamo.y", f'"""A neighbour."""\n{"from dynamo.x import g" if rule is cycles else ""}'
    )
    assert not [line for line in rule([other]) if "a rank" not in line]
    found = list(rule([module(name, text), other]))
    assert len(found) == 1, found


def _test_files() -> list[Path]:
    return sorted((ROOT / "tests").rglob("*.py"))


def _text_files() -> list[Path]:
    kinds = {".py", ".md", ".toml", ".json", ".yml", ".yaml", ".txt", ".cfg", ""}
    return [
        path
        for path in sorted(ROOT.rglob("*"))
        if path.suffix in kinds and path.is_file() and not _is_made(path.relative_to(ROOT))
    ]


def _is_made(path: Path) -> bool:
    """True for what tools leave in the tree."""
    made = re.compile(r"\.venv|\.git|\.\w+_cache|\.hypothesis|__pycache__|build|.*\.egg-info")
    return any(made.fullmatch(part) for part in path.parts)


def test_every_package_of_the_tree_is_in_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = project["tool"]["setuptools"]["packages"]
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for name in ("ring", "antientropy", "dynamo", "bench")
        for path in (ROOT / name).rglob("__init__.py")
    }
    assert set(listed) == found
