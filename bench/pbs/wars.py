"""The WARS model by Monte Carlo: how fresh a read is at t after commit, and what it and the write take.

A write reaches replica i after W_i and is acknowledged after A_i more; a read reaches it after R_i, and
its answer is back after S_i more (P. Bailis et al., VLDB 2012, section 5). Trials are drawn in pieces,
so that memory is bounded however many there are. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Final, NamedTuple, Protocol

import numpy as np

from bench.pbs.closed_form import EXACT_N_MAX, KS, exponential_fresh, exponential_t, fresh_within
from bench.pbs.fan_out import PAPER, FanOut, Spread, spread_model
from bench.pbs.fits import NOTHING, Model
from bench.pbs.freshness import ROUNDING_MS, commits, fresh_from, latencies, thresholds
from bench.pbs.prediction import Prediction
from bench.pbs.quantiles import Quantiles

N_MAX: Final = 50
#: Of a whole (R, W) table.
GRID_N_MAX: Final = 9
TRIALS_MAX: Final = 1_000_000_000
SEED_MAX: Final = 2**63 - 1
TIMES_MAX: Final = 1000
TIME_MAX_MS: Final = 1e12
#: Shares, in percent, whose t is told; and quantiles of latencies.
SHARES: Final = ("50", "90", "99", "99.9")
LATENCIES: Final = ("50", "90", "95", "99", "99.9")
CURVE_POINTS: Final = 400
#: Numbers of a piece (trials x replicas): so few that they stay in the processor's cache.
_PIECE: Final = 1 << 16
#: Numbers that are kept to take quantiles of, over all cells (128 MiB).
_KEPT_MAX: Final = 1 << 24


class BadQuestion(Exception):
    """There is no such prediction; the message says why."""


class Source(Protocol):
    """Where trials come from."""

    def draw(self, trials: int, generator: np.random.Generator) -> Spread:
        """So many."""


class ModelSource(NamedTuple):
    """Legs drawn from a model, independently."""

    model: Model
    n: int
    fan_out: FanOut

    def draw(self, trials: int, generator: np.random.Generator) -> Spread:
        """As `Source`."""
        return spread_model(self.model, self.n, trials, self.fan_out, generator)


class Question(NamedTuple):
    """What is asked of all cells. `cells`: (r, w) of each. `at`: t (ms) by the name it has in the
    answer. `curve`: whether the curve is asked for, too."""

    n: int
    cells: tuple[tuple[int, int], ...]
    at: Mapping[str, float]
    trials: int
    seed: int
    curve: bool = True


class Answer(NamedTuple):
    """Of one cell; the fields are those of `Prediction`."""

    r: int
    w: int
    p_fresh: dict[str, float]
    t_ms: dict[str, float | None]
    read_latency_ms: dict[str, float]
    write_latency_ms: dict[str, float]
    curve: tuple[tuple[float, float], ...]


def grid_of(n: int) -> tuple[tuple[int, int], ...]:
    """All (r, w) of so many replicas."""
    return tuple((r, w) for r in range(1, n + 1) for w in range(1, n + 1))


def times(text: str) -> dict[str, float]:
    """ "0,5,0.5" as milliseconds, by what was written. Raises BadQuestion."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name = part.strip()
        try:
            value = float(name)
        except ValueError:
            raise BadQuestion(f"{name!r} is no time in milliseconds, in {text!r}") from None
        if not 0 <= value <= TIME_MAX_MS:
            raise BadQuestion(f"t is milliseconds, 0 to {TIME_MAX_MS:g}, not {name}")
        found[name] = value
    return found


def check(question: Question) -> None:
    """Raises BadQuestion."""
    n, trials = question.n, question.trials
    if not 1 <= n <= N_MAX:
        raise BadQuestion(f"n is {n}; it has to be from 1 to {N_MAX}")
    for r, w in question.cells:
        for name, value in (("r", r), ("w", w)):
            if not 1 <= value <= n:
                raise BadQuestion(f"{name} is {value}; it has to be from 1 to n, which is {n}")
    if len(question.cells) > GRID_N_MAX**2:
        raise BadQuestion(f"a grid has n of {GRID_N_MAX} at most, not {n}")
    if not 1 <= trials <= TRIALS_MAX:
        raise BadQuestion(f"trials are {trials}; they have to be from 1 to {TRIALS_MAX}")
    if not question.at or len(question.at) > TIMES_MAX:
        raise BadQuestion(f"{len(question.at)} times t are asked for, of 1 to {TIMES_MAX}")
    if not 0 <= question.seed <= SEED_MAX:
        raise BadQuestion(f"the seed is {question.seed}; it has to be from 0 to {SEED_MAX}")


def predict(
    model: Model,
    *,
    n: int,
    r: int,
    w: int,
    at: Mapping[str, float],
    trials: int,
    seed: int,
    fan_out: FanOut = PAPER,
    curve: bool = True,
) -> Prediction:
    """One cell. Raises BadQuestion."""
    question = Question(n, ((r, w),), at, trials, seed, curve)
    return predict_cells(model, question, fan_out)[0]


def predict_cells(model: Model, question: Question, fan_out: FanOut = PAPER) -> list[Prediction]:
    """Of every cell asked for, all from the same trials. Raises BadQuestion."""
    answers = simulate(ModelSource(model, question.n, fan_out), question)
    return [
        told(
            one,
            question,
            model=model.name,
            sampling="iid",
            fan_out=fan_out.kind,
            coordinator=fan_out.coordinator,
            note=_note(model, fan_out, question.n, one),
        )
        for one in answers
    ]


def told(
    answer: Answer,
    question: Question,
    *,
    model: str,
    sampling: str,
    fan_out: str,
    coordinator: str,
    note: str,
) -> Prediction:
    """An answer, with what was asked. The rest is as of `Prediction`."""
    n, r, w = question.n, answer.r, answer.w
    return Prediction(
        model=model,
        n=n,
        sampling=sampling,
        fan_out=fan_out,
        coordinator=coordinator,
        trials=question.trials,
        seed=question.seed,
        note=note,
        k_fresh={str(k): fresh_within(k, n=n, r=r, w=w) for k in KS},
        **answer._asdict(),
    )


def _note(model: Model, fan_out: FanOut, n: int, answer: Answer) -> str:
    if fan_out.coordinator == "outside":
        rates = model.exponential_rates()
        if rates is None or fan_out.kind != "paper" or n > EXACT_N_MAX:
            return ""
        if (answer.r, answer.w) != (1, 1):
            return ""
        p = exponential_fresh(0.0, n=n, w_rate=rates[0], other_rate=rates[1])
        t = exponential_t(0.999, n=n, w_rate=rates[0], other_rate=rates[1])
        return f"R = W = 1 exactly: {100 * p:.2f} % fresh at t = 0, 99.9 % from {t:.3g} ms"
    who = {"independent": "drawn apart", "same": "the same", "different": "never the same"}
    own = "takes no time" if model.own == NOTHING else "takes OWN"
    return (
        f"coordinators of write and read are {who[fan_out.pairing]}; their own copy shows a write at "
        f"once, and to acknowledge it {own}"
    )


def simulate(source: Source, question: Question) -> list[Answer]:
    """An answer for each cell, in their order. Raises BadQuestion."""
    check(question)
    piles = _Piles(question)
    generator = np.random.Generator(np.random.SFC64(question.seed))
    for trials in _pieces(question.trials, question.n):
        piles.add(source.draw(trials, generator))
    return [piles.answer(r, w) for r, w in question.cells]


def _pieces(trials: int, n: int) -> Iterator[int]:
    size = max(1, _PIECE // n)
    for begin in range(0, trials, size):
        yield min(size, trials - begin)


class _Piles:
    """What is kept of all trials."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._rs = sorted({r for r, _ in question.cells})
        self._ws = sorted({w for _, w in question.cells})
        self._times = np.array(list(question.at.values())) + ROUNDING_MS
        piles = len(question.cells) + len(self._rs) + len(self._ws)
        keep = piles * question.trials <= _KEPT_MAX

        def pile() -> Quantiles:
            return Quantiles(question.trials, keep=keep)

        self._cells = {cell: pile() for cell in question.cells}
        self._reads = {r: pile() for r in self._rs}
        self._writes = {w: pile() for w in self._ws}
        self._fresh = {cell: np.zeros(len(self._times), dtype=np.int64) for cell in self._cells}

    def add(self, spread: Spread) -> None:
        """One piece of the trials."""
        commit = commits(spread)
        latency = latencies(spread)
        fresh = fresh_from(spread, self._rs)
        for r in self._rs:
            self._reads[r].add(latency[:, r - 1])
        for w in self._ws:
            self._writes[w].add(commit[:, w - 1])
        for (r, w), pile in self._cells.items():
            late = thresholds(fresh[r], commit[:, w - 1])
            pile.add(late)
            counts = [np.count_nonzero(late <= t) for t in self._times]
            self._fresh[r, w] += np.array(counts, dtype=np.int64)

    def answer(self, r: int, w: int) -> Answer:
        """Once all trials are in."""
        question = self._question
        pile = self._cells[r, w]
        curve = pile.curve(CURVE_POINTS) if question.curve else ()
        fresh = zip(question.at, self._fresh[r, w].tolist(), strict=True)
        return Answer(
            r=r,
            w=w,
            p_fresh={name: count / question.trials for name, count in fresh},
            t_ms=dict(zip(SHARES, pile.at(*_shares(SHARES)), strict=True)),
            read_latency_ms=_finite(self._reads[r]),
            write_latency_ms=_finite(self._writes[w]),
            curve=curve,
        )


def _finite(pile: Quantiles) -> dict[str, float]:
    found = zip(LATENCIES, pile.at(*_shares(LATENCIES)), strict=True)
    return {name: value for name, value in found if value is not None}


def _shares(names: Sequence[str]) -> list[Fraction]:
    return [Fraction(name) / 100 for name in names]
