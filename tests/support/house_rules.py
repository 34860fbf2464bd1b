"""The rules of the house as functions: syntax trees in, one line for each breach out.

Reads modules, never imports them. What cannot be seen in a syntax tree (a storage passed on under
another name, `__import__` of a computed string) is not seen here. Knows nothing of which modules
there are, nor of their ranks.
"""

from __future__ import annotations

import ast
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("ring", "antientropy", "dynamo", "bench")  # from the bottom up

#: What ring/ and antientropy/ may import, besides themselves: nothing that can tell the time, draw
#: lots, or reach outside.
_PURE_IMPORTS = """
    __future__ array bisect collections collections.abc enum fractions functools hashlib heapq itertools
    math mmh3 msgspec re sortedcontainers struct typing
"""
#: What only adapters and assembly may import.
_OUTSIDE = """
    aiohttp argparse datetime fcntl http io multidict multiprocessing os pathlib queue rocksdict secrets
    select selectors shutil signal socket ssl subprocess sys tempfile threading time urllib uuid uvloop
"""
PURE_IMPORTS = frozenset(_PURE_IMPORTS.split())
OUTSIDE = frozenset(_OUTSIDE.split())
REACHING_BUILTINS = frozenset(("open", "print", "input", "exec", "eval", "__import__"))
WRITES = frozenset(("put", "write"))
STORAGE_TYPES = frozenset(("Storage", "RocksStorage", "MemoryStorage"))
STORAGE_NAMES = frozenset(("storage", "_storage"))


class Module(NamedTuple):
    """A module of the house: its dotted name and its syntax tree."""

    name: str
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]


def read_modules(root: Path) -> list[Module]:
    """Every module of the four packages under `root`."""
    return [
        module(".".join(path.relative_to(root).with_suffix("").parts), path.read_text())
        for package in PACKAGES
        for path in sorted((root / package).rglob("*.py"))
    ]


def module(name: str, text: str) -> Module:
    """The module of that name (a package's ends in `.__init__`, or is the package's) and text."""
    return Module(name.removesuffix(".__init__"), ast.parse(text))


# 1. Imports point down ----------------------------------------------------------------------------


def package_breaches(modules: Iterable[Module]) -> Iterator[str]:
    """Imports of a package above one's own."""
    for one in modules:
        for name in sorted(_sources(one.tree)):
            package = name.partition(".")[0]
            if package in PACKAGES and PACKAGES.index(package) > PACKAGES.index(one.package):
                yield f"{one.name} imports {name}, which is above it"


def rank_breaches(modules: Iterable[Module], ranks: Mapping[str, int]) -> Iterator[str]:
    """Modules of `dynamo` without a rank, ranks without a module, and imports not strictly down."""
    mine = [one for one in modules if one.package == "dynamo"]
    names = {one.name for one in mine}
    for name in sorted(names - ranks.keys()):
        yield f"{name} has no rank"
    for name in sorted(ranks.keys() - names):
        yield f"{name} has a rank and does not exist"
    for one in mine:
        for name in sorted(inner_imports(one, names)):
            if one.name in ranks and name in ranks and ranks[name] >= ranks[one.name]:
                yield f"{one.name} imports {name}, which is not below it"


def cycles(modules: Iterable[Module]) -> Iterator[str]:
    """Modules that import themselves over others."""
    every = list(modules)
    names = {one.name for one in every}
    edges = {one.name: inner_imports(one, names) for one in every}
    # What imports nothing that is left cannot be in a cycle; take such away until none is.
    while free := {name for name, below in edges.items() if not below & edges.keys()}:
        edges = {name: below for name, below in edges.items() if name not in free}
    if edges:
        yield f"a cycle among {', '.join(sorted(edges))}"


def inner_imports(one: Module, names: Container[str]) -> set[str]:
    """Modules among `names` that it imports. `from package import module` means the module alone."""
    found: set[str] = set()
    for node in ast.walk(one.tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name in names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in names:
                    found.add(inner)
                elif node.module in names:
                    found.add(node.module)
    return found


# 2. and 3. Who may reach outside ------------------------------------------------------------------


def purity_breaches(modules: Iterable[Module]) -> Iterator[str]:
    """async, an import that is not on the list, or a builtin that reaches outside."""
    for one in modules:
        for name in sorted(_sources(one.tree)):
            if name not in PURE_IMPORTS and name.partition(".")[0] not in PACKAGES:
                yield f"{one.name} imports {name}"
        yield from _relative(one)
        for node in ast.walk(one.tree):
            if isinstance(
                node, ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith | ast.Await
            ) or (isinstance(node, ast.comprehension) and node.is_async):
                yield f"{one.name}:{getattr(node, 'lineno', '?')} is async"
        yield from _reaching(one)


def reach_breaches(modules: Iterable[Module]) -> Iterator[str]:
    """Imports of what only adapters may import, builtins that reach outside, chance not handed in."""
    for one in modules:
        for name in sorted(_sources(one.tree)):
            if name.partition(".")[0] in OUTSIDE:
                yield f"{one.name} imports {name}"
        yield from _relative(one)
        yield from _reaching(one)
        yield from _chance(one)


def _sources(tree: ast.Module) -> set[str]:
    """Names of the modules that are imported from; `from a import b` gives a."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.add(node.module)
    return found


def _relative(one: Module) -> Iterator[str]:
    for node in ast.walk(one.tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield f"{one.name}:{node.lineno} has a relative import"


def _reaching(one: Module) -> Iterator[str]:
    for node in ast.walk(one.tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in REACHING_BUILTINS
        ):
            yield f"{one.name}:{node.lineno} calls {node.func.id}"


def _chance(one: Module) -> Iterator[str]:
    """Uses of the module `random`, but for `random.Random` as a type. An argument may have its name."""
    handed_in = {
        id(inner)
        for node in ast.walk(one.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(arg.arg == "random" for arg in (*node.args.args, *node.args.kwonlyargs))
        for statement in node.body
        for inner in ast.walk(statement)
    }
    called = {id(node.func) for node in ast.walk(one.tree) if isinstance(node, ast.Call)}
    for node in ast.walk(one.tree):
        if isinstance(node, ast.ImportFrom) and node.module == "random":
            yield f"{one.name}:{node.lineno} imports from random; name random.Random instead"
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "random"
            and id(node) not in handed_in
            and (node.attr != "Random" or id(node) in called)
        ):
            yield f"{one.name}:{node.lineno} uses random.{node.attr}"


# 4. One writer ------------------------------------------------------------------------------------


def writer_breaches(modules: Iterable[Module]) -> Iterator[str]:
    """Uses of `put` or `write` of what is, by its name or its annotation, a storage; and imports of
    `Write`, a batch's entry, which nobody else needs."""
    for one in modules:
        storages = STORAGE_NAMES | _annotated(one.tree)
        for node in ast.walk(one.tree):
            if (
                isinstance(node, ast.Attribute)
                and node.attr in WRITES
                and _last_name(node.value) in storages
            ):
                yield f"{one.name}:{node.lineno} writes storage ({ast.unparse(node)})"
            if (
                isinstance(node, ast.ImportFrom)
                and node.module == "dynamo.ports"
                and any(alias.name == "Write" for alias in node.names)
            ):
                yield f"{one.name}:{node.lineno} imports Write"


def _annotated(tree: ast.Module) -> frozenset[str]:
    """Names of arguments and variables that are said to be a storage, or made by one's class."""
    found: set[str | None] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation is not None:
            if _names(node.annotation) & STORAGE_TYPES:
                found.add(node.arg)
        elif isinstance(node, ast.AnnAssign):
            if _names(node.annotation) & STORAGE_TYPES:
                found.add(_last_name(node.target))
        elif isinstance(node, ast.Assign) and _names(node.value) & STORAGE_TYPES:
            found.update(_last_name(target) for target in node.targets)
    return frozenset(name for name in found if name is not None)


def _names(node: ast.expr) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _last_name(node: ast.expr) -> str | None:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


# Style --------------------------------------------------------------------------------------------


def undocumented(modules: Iterable[Module]) -> Iterator[str]:
    """Modules that do not open with what they are."""
    for one in modules:
        if not (ast.get_docstring(one.tree) or "").strip():
            yield f"{one.name} has no docstring"


def global_statements(modules: Iterable[Module]) -> Iterator[str]:
    """`global` statements: state of a module, which two nodes in one process would share."""
    for one in modules:
        for node in ast.walk(one.tree):
            if isinstance(node, ast.Global):
                yield f"{one.name}:{node.lineno} has global {', '.join(node.names)}"
