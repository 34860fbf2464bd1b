"""The scenarios that come with the harness, and those of others: found by name or path, changed by
`--set`, checked.

Knows nothing of how a scenario is carried out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from bench.scenario import BadScenario, Scenario
from bench.scenario_rules import check

SUFFIX = ".toml"


def names() -> list[str]:
    """Of those that come with the harness."""
    files = (one.name for one in resources.files("bench.scenes").iterdir())
    return sorted(one.removesuffix(SUFFIX) for one in files if one.endswith(SUFFIX))


def find(name: str, settings: Sequence[str] = ()) -> Scenario:
    """The scenario of that name, or in the file at that path; `settings`: "load.rate=50" replaces
    one value by one of TOML (text may go without quotes). Raises BadScenario."""
    text, origin = _read(name)
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadScenario(f"{origin}: {error}") from None
    for setting in settings:
        _set(data, setting)
    try:
        scenario = msgspec.convert(data, Scenario)
    except msgspec.ValidationError as error:
        raise BadScenario(f"{origin}: {error}") from None
    check(scenario, origin)
    return scenario


def every() -> list[Scenario]:
    """All that come with the harness, by name."""
    return [find(name) for name in names()]


def _read(name: str) -> tuple[str, str]:
    if name in names():
        return resources.files("bench.scenes").joinpath(name + SUFFIX).read_text("utf-8"), name
    path = Path(name)
    if path.suffix != SUFFIX and "/" not in name:
        raise BadScenario(
            f"no scenario {name!r}; there are: {', '.join(names())}, or a file's path"
        )
    try:
        return path.read_text("utf-8"), name
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise BadScenario(f"{name}: cannot be read: {why}") from None


def _set(data: dict[str, Any], setting: str) -> None:
    name, equals, text = setting.partition("=")
    *path, last = name.strip().split(".")
    if not equals or not last or not all(path):
        raise BadScenario(f"--set {setting}: it must be NAME=VALUE, such as load.rate=50")
    at = data
    for part in path:
        below = at.setdefault(part, {})
        if not isinstance(below, dict):
            raise BadScenario(f"--set {setting}: {part!r} is not a table")
        at = below
    at[last] = _value(text.strip())


def _value(text: str) -> Any:
    """As TOML has it; else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
