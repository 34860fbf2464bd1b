"""The table of counters, held against the source that counts."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from dynamo.counters import ALARMS, COUNTERS, FAMILIES, describe

SOURCE = Path(__file__).parents[2] / "dynamo"


def trees() -> Iterator[tuple[str, ast.AST]]:
    for path in sorted(SOURCE.rglob("*.py")):
        yield str(path.relative_to(SOURCE)), ast.parse(path.read_text())


def counted(tree: ast.AST) -> Iterator[str]:
    """The names, or their beginnings with a `*`, that counters are given in a module."""
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=key) if (
                name in ("count", "_count")
            ):
                yield from names(key)
            case ast.Call(
                func=ast.Attribute(attr="_alarm"), args=[ast.Constant(value=str(name)), *_]
            ):
                yield name


def names(key: ast.expr) -> Iterator[str]:
    match key:
        case ast.Constant(value=str(name)):
            yield name
        case ast.IfExp(body=body, orelse=other):
            yield from names(body)
            yield from names(other)
        case ast.JoinedStr(values=[ast.Constant(value=str(start)), *_]):
            yield f"{start}*"
        case ast.BinOp(left=ast.Constant(value=str(start)), op=ast.Add()):
            yield f"{start}*"
        case ast.Name():
            pass  # of `_alarm`, whose callers are read instead; of the simulator's look at any
        case _:
            raise AssertionError(f"a counter's name that cannot be read: {ast.dump(key)}")


def test_every_counter_in_the_source_is_described() -> None:
    undescribed = {
        f"{name} in {module}"
        for module, tree in trees()
        for name in counted(tree)
        if describe(name) is None or (name.endswith("*") and describe(name + "x") is None)
    }
    assert not undescribed, f"add to dynamo/counters.py: {sorted(undescribed)}"


def test_every_described_counter_is_in_the_source() -> None:
    found = {name for _, tree in trees() for name in counted(tree)}
    assert set(COUNTERS) - found == set()
    assert {f"{family.prefix}*" for family in FAMILIES} - found == set()
    assert set(ALARMS) <= found


def test_counters_and_families_are_told_apart() -> None:
    assert describe("refused_by_peers") == (
        "refused_by_peers",
        COUNTERS["refused_by_peers"],
        "",
        "",
    )
    refused = describe("refused_disk_full")
    assert refused is not None
    assert (refused.name, refused.label, refused.value) == ("refused", "code", "disk_full")
    assert describe("unheard_of") is None
    shown = [*COUNTERS, *(family.name for family in FAMILIES)]
    assert len(set(shown)) == len(shown)


def test_every_help_is_a_sentence() -> None:
    for text in (*COUNTERS.values(), *(family.help for family in FAMILIES)):
        assert text.endswith(".")
        assert text[0].isupper()
