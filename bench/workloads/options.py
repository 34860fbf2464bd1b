"""Options of workloads: what all take, and how a scenario's table becomes one. Pure.

A name that no workload knows is refused with the list of those it does know: a misspelt option that
is passed over would make a run that measures something else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from bench.scenario import BadScenario

_O = TypeVar("_O", bound="Options")

#: Nothing here counts further.
COUNT_MAX: Final = 1_000_000
#: No offset, pause or horizon is longer (milliseconds).
MS_MAX: Final = 600_000.0


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every workload takes. `r`, `w`: of each read and write, None for the bucket's own.
    `final`: whether all keys written are read at the end; `final_r`: from so many replicas, None for
    all; `final_keys`: at most so many of them, a sample if there are more."""

    r: int | None = None
    w: int | None = None
    final: bool = True
    final_r: int | None = None
    final_keys: int = 2_000

    def check(self, n: int) -> None:
        """Raises ValueError for what makes no sense where a key has `n` replicas."""
        for name in ("r", "w", "final_r"):
            count = getattr(self, name)
            if count is not None and not 1 <= count <= n:
                raise ValueError(f"{name} = {count}: it must be 1 to {n}, the replicas of a key")
        whole("final_keys", self.final_keys, 1)


def whole(name: str, value: int, least: int, most: int = COUNT_MAX) -> None:
    """Raises ValueError if it is out of range."""
    if not least <= value <= most:
        raise ValueError(f"{name} = {value}: it must be {least} to {most}")


def share(name: str, value: float) -> None:
    """Raises ValueError if it is no share, 0 to 1."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} = {value}: it must be 0 to 1")


def milliseconds(name: str, value: float, least: float = 0.0) -> None:
    """Raises ValueError if it is out of range, or no number."""
    if not math.isfinite(value) or not least <= value <= MS_MAX:
        raise ValueError(f"{name} = {value}: it must be {least:g} to {MS_MAX:g} milliseconds")


def decode_options(kind: type[_O], given: Mapping[str, Any], *, workload: str, n: int) -> _O:
    """The options of a workload, checked. Raises BadScenario with those that it knows."""
    known = [field.encode_name for field in msgspec.structs.fields(kind)]
    unknown = [str(name) for name in given if name not in known]
    if unknown:
        raise BadScenario(
            f"workload {workload} has no option {', '.join(map(repr, unknown))}; "
            f"it has: {', '.join(sorted(known))}"
        )
    try:
        options = msgspec.convert(dict(given), kind)
        options.check(n)
    except (msgspec.ValidationError, ValueError) as error:
        raise BadScenario(f"workload {workload}: {error}") from None
    return options
