"""What one-way delays are distributed like: the format of `wars.toml`, and how it is drawn from.

A model has a mixture of distributions for each leg: W carries a write to a replica, A its
acknowledgement back, R a read, S its answer. Milliseconds. Pure: reads no file, and chance is an
argument.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indexes = npt.NDArray[np.intp]

#: Kinds of distribution, with the names of their parameters.
KINDS: Final[dict[str, tuple[str, ...]]] = {
    "pareto": ("xm", "alpha"),
    "exponential": ("rate",),
    "constant": ("ms",),
}
#: Parameters outside of this are a slip of the pen, and would overflow.
PARAMETER_MIN: Final = 1e-9
PARAMETER_MAX: Final = 1e9
#: Below it, samples of a Pareto distribution overflow.
ALPHA_MIN: Final = 0.1
#: Weights may miss 1 by so much, for those that were rounded.
WEIGHTS_OFF_MAX: Final = 1e-6
ROWS_MAX: Final = 64
MODELS_MAX: Final = 1000
_LEGS: Final = ("W", "A", "R", "S")


class BadFits(Exception):
    """The text has no such model, or none at all; the message says where and why."""


class Component(NamedTuple):
    """`kind` of KINDS; `first`, `second`: its parameters, 0 for none. `plus`: what each sample has in
    addition (milliseconds)."""

    weight: float
    kind: str
    first: float
    second: float = 0.0
    plus: float = 0.0

    def of(self, exponential: Floats) -> Floats:
        """Samples, from as many of the standard exponential distribution: -ln U is one."""
        if self.kind == "pareto":  # xm / U^(1/alpha)
            return self.plus + self.first * np.exp(exponential / self.second)
        if self.kind == "exponential":  # -ln U / rate
            return self.plus + exponential / self.first
        return np.full_like(exponential, self.plus + self.first)


class Mix(NamedTuple):
    """A sample is one of a component, which is drawn by weight."""

    components: tuple[Component, ...]

    def later(self, ms: float) -> Mix:
        """The same, each sample so much longer."""
        return Mix(tuple(one._replace(plus=one.plus + ms) for one in self.components))

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        """Independent samples."""
        components = self.components
        if all(one.kind == "constant" for one in components):
            exponential = np.zeros(shape)
        else:
            exponential = generator.standard_exponential(shape)
        drawn = components[0].of(exponential)
        if len(components) > 1:
            chosen = generator.random(shape)
            below = components[0].weight
            for one in components[1:]:
                drawn = np.where(chosen < below, drawn, one.of(exponential))
                below += one.weight
        return drawn


def constant(ms: float) -> Mix:
    """Always the same."""
    return Mix((Component(1.0, "constant", ms),))


def exponential(rate: float) -> Mix:
    """`rate`: 1 / mean, per millisecond."""
    return Mix((Component(1.0, "exponential", rate),))


NOTHING: Final = constant(0.0)


class Model(NamedTuple):
    """`remote_ms`: is added to every leg of all replicas but one, the local one. `own`: how long the
    own copy of a coordinator that is itself a replica takes to acknowledge."""

    name: str
    w: Mix
    a: Mix
    r: Mix
    s: Mix
    remote_ms: float = 0.0
    own: Mix = NOTHING

    def exponential_rates(self) -> tuple[float, float] | None:
        """Of W, and of each of A, R and S, if all legs are exponential and the last three the same."""
        legs = (self.w, self.a, self.r, self.s)
        if any(len(leg.components) > 1 or leg.components[0].kind != "exponential" for leg in legs):
            return None
        if self.remote_ms or not self.a == self.r == self.s:
            return None
        return self.w.components[0].first, self.a.components[0].first


def decode_fits(text: str, origin: str) -> dict[str, Model]:
    """The models that the text spells, by name.

    A table a model: `W`, `A`, `R`, `S`, each a list of rows [weight, kind, parameters...], or `ARS` for
    three of them; `OWN`, if it is not to be nothing. Or `base`, another model's name, and
    `remote_one_way_ms`. `origin`: what messages call it. Raises BadFits.
    """
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise BadFits(f"{origin}: it is not TOML: {error or 'it nests too deeply'}") from None
    if not tables:
        raise BadFits(f"{origin}: there is no model in it")
    if len(tables) > MODELS_MAX:
        raise BadFits(f"{origin}: there are {len(tables)} models, more than {MODELS_MAX}")
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise BadFits(f"{origin}: {name} is not a table: a model begins with [{name}]")
    return {name: _model(name, tables, origin) for name in tables}


def find_model(models: Mapping[str, Model], name: str) -> Model:
    """The model of that name, whatever its case. Raises BadFits that lists all."""
    found = models.get(name)
    if found is None:
        alike = [model for one, model in models.items() if one.lower() == name.strip().lower()]
        if len(alike) != 1:
            raise BadFits(f"there is no model {name!r}; there are {', '.join(sorted(models))}")
        found = alike[0]
    return found


def decode_mix(rows: object, where: str) -> Mix:
    """Rows [weight, kind, parameters...]; `where`: what messages call them. Raises BadFits."""
    if not isinstance(rows, list) or not rows:
        raise BadFits(f"{where}: it has to be a list of rows [weight, kind, parameters...]")
    if len(rows) > ROWS_MAX:
        raise BadFits(f"{where}: there are {len(rows)} rows, more than {ROWS_MAX}")
    components = [_component(row, f"{where}, row {at}") for at, row in enumerate(rows, 1)]
    total = math.fsum(one.weight for one in components)
    if abs(total - 1) > WEIGHTS_OFF_MAX:
        raise BadFits(f"{where}: the weights sum to {total:g}, not to 1")
    return Mix(tuple(one._replace(weight=one.weight / total) for one in components))


def _component(row: object, where: str) -> Component:
    if not isinstance(row, list) or len(row) < 2:
        raise BadFits(f"{where}: it has to be [weight, kind, parameters...]")
    weight, kind, *parameters = row
    if not isinstance(kind, str) or kind not in KINDS:
        raise BadFits(f"{where}: there is no kind {kind!r}; there are {', '.join(KINDS)}")
    names = KINDS[kind]
    if len(parameters) != len(names):
        raise BadFits(
            f"{where}: {kind} takes {' and '.join(names)}, there are {len(parameters)} parameters"
        )
    checked = _number(weight, f"{where}: the weight", at_least=PARAMETER_MIN, at_most=1.0)
    # A delay of nothing is one; a rate, a scale or a shape of nothing is none.
    lowest = {"ms": 0.0, "alpha": ALPHA_MIN}
    values = [
        _number(
            value,
            f"{where}: {name}",
            at_least=lowest.get(name, PARAMETER_MIN),
            at_most=PARAMETER_MAX,
        )
        for name, value in zip(names, parameters, strict=True)
    ]
    return Component(checked, kind, *values)


def _number(value: object, what: str, *, at_least: float, at_most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadFits(f"{what} is no number: {value!r}")
    if not at_least <= value <= at_most:
        shown = f"{value:g}" if isinstance(value, float) or abs(value) < 10**15 else "too large"
        raise BadFits(f"{what} is {shown}; it has to be from {at_least:g} to {at_most:g}")
    return float(value)


def _model(
    name: str, tables: Mapping[str, dict[str, Any]], origin: str, above: tuple[str, ...] = ()
) -> Model:
    """`above`: the models that are based on this one, and led here."""
    table = tables[name]
    where = f"{origin}: [{name}]"
    if name in above:
        raise BadFits(f"{where}: it is based on itself")
    if "base" in table:
        _only(table, ("base", "remote_one_way_ms"), where)
        base = table["base"]
        if not isinstance(base, str) or base not in tables:
            raise BadFits(f"{where}: there is no model {base!r} to base it on")
        if "remote_one_way_ms" not in table:
            raise BadFits(f"{where}: it misses remote_one_way_ms")
        remote = table["remote_one_way_ms"]
        ms = _number(remote, f"{where}: remote_one_way_ms", at_least=0.0, at_most=PARAMETER_MAX)
        found = _model(base, tables, origin, (*above, name))
        return found._replace(name=name, remote_ms=found.remote_ms + ms)
    _only(table, (*_LEGS, "ARS", "OWN"), where)
    if "ARS" in table:
        both = [leg for leg in _LEGS[1:] if leg in table]
        if both:
            raise BadFits(f"{where}: it has ARS, and {both[0]} too")
        table = {**table, **dict.fromkeys(_LEGS[1:], table["ARS"])}
    missing = [leg for leg in _LEGS if leg not in table]
    if missing:
        raise BadFits(f"{where}: it misses {', '.join(missing)}")
    w, a, r, s = (decode_mix(table[leg], f"{where} {leg}") for leg in _LEGS)
    own = decode_mix(table["OWN"], f"{where} OWN") if "OWN" in table else NOTHING
    return Model(name, w, a, r, s, own=own)


def _only(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            raise BadFits(f"{where}: there is an unknown field {key!r}; known: {', '.join(known)}")
