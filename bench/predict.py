"""`dynamo-bench predict`: how fresh reads would be, of a published model or one's own fits.

Reads the files that it is given and prints; what is predicted is in `bench.pbs`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from bench.pbs.fan_out import COORDINATORS, KINDS, PAIRINGS, Coordinator, FanOut, Kind
from bench.pbs.fits import BadFits, Model, decode_fits, find_model
from bench.pbs.prediction import Prediction
from bench.pbs.wars import (
    N_MAX,
    TRIALS_MAX,
    BadQuestion,
    Question,
    check,
    grid_of,
    predict_cells,
    times,
)

PUBLISHED: Final = Path(__file__).parent / "pbs" / "wars.toml"
TRIALS: Final = 1_000_000
FITS_BYTES_MAX: Final = 1 << 20
N_DEFAULT: Final = 3


class _Parser(argparse.ArgumentParser):
    """Wrong usage is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str]) -> int:
    """Print one prediction, or the whole (R, W) table. 2 for wrong usage."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    try:
        model = _model(asked)
        question = _question(asked)
        fan_out = _fan_out(asked)
    except (BadFits, BadQuestion) as error:
        parser.error(str(error))
    predictions = predict_cells(model, question, fan_out)
    if asked.json:
        _print_json(predictions, is_grid=asked.grid, with_curve=asked.curve)
    else:
        from bench.predict_table import print_predictions  # what draws it takes long to import

        print_predictions(predictions)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="dynamo-bench predict",
        description="How fresh a read that starts t after a write has committed is, and what both take.",
        allow_abbrev=False,
    )
    parser.add_argument("--model", metavar="NAME", help="of the fits, whatever its case")
    parser.add_argument(
        "--fits",
        metavar="FILE",
        type=Path,
        help="TOML as bench/pbs/wars.toml, which is the default",
    )
    parser.add_argument("-n", type=int, metavar="N", help=f"replicas, to {N_MAX} (default: 3)")
    parser.add_argument("-r", type=int, metavar="R", help="answers that a read waits for")
    parser.add_argument("-w", type=int, metavar="W", help="acknowledgements that a write waits for")
    parser.add_argument("--grid", action="store_true", help="every R and W, whatever -r and -w say")
    parser.add_argument(
        "--trials", type=int, metavar="N", help=f"to {TRIALS_MAX} (default: {TRIALS})"
    )
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn (default: 1)")
    parser.add_argument(
        "--at",
        default="0,5,10,50",
        metavar="T,T",
        help="ms after commit (default: %(default)s)",
    )
    parser.add_argument(
        "--fan-out",
        choices=KINDS,
        help="how requests spread: as in the paper (all n are asked), to r only, or as this store does",
    )
    parser.add_argument(
        "--coordinator",
        choices=COORDINATORS,
        help="whether coordinators are replicas themselves: their own copy has a write at once",
    )
    parser.add_argument(
        "--coordinators",
        choices=PAIRINGS,
        help="of replicas: who reads is drawn apart from who writes (the default), the same, or another",
    )
    parser.add_argument(
        "--new-keys",
        action="store_true",
        help="with --fan-out store: keys that are written once, so that a stale answer is 'not found'",
    )
    parser.add_argument("--json", action="store_true", help="one object")
    parser.add_argument("--curve", action="store_true", help="with --json: (t, p) as well, to plot")
    return parser


def _model(asked: argparse.Namespace) -> Model:
    path: Path = asked.fits or PUBLISHED
    models = decode_fits(_read(path), str(path))
    if asked.model is None:
        if asked.fits is None or len(models) > 1:
            raise BadQuestion(f"--model is missing; there are {', '.join(sorted(models))}")
        return next(iter(models.values()))
    return find_model(models, asked.model)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(FITS_BYTES_MAX + 1)
        if len(data) > FITS_BYTES_MAX:
            raise BadFits(f"{path}: it has more than {FITS_BYTES_MAX} bytes")
        return data.decode()
    except OSError as error:
        raise BadFits(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise BadFits(f"{path}: it is not UTF-8: {error}") from None


def _question(asked: argparse.Namespace) -> Question:
    n = N_DEFAULT if asked.n is None else asked.n
    trials = TRIALS if asked.trials is None else asked.trials
    cells: tuple[tuple[int, int], ...] = ((1, 1),)
    if not asked.grid:
        missing = [f"-{name}" for name in ("r", "w") if getattr(asked, name) is None]
        if missing:
            raise BadQuestion(f"{' and '.join(missing)} missing: name both, or ask for the --grid")
        cells = ((asked.r, asked.w),)
    question = Question(n, cells, times(asked.at), trials, asked.seed, asked.curve)
    check(question)
    if asked.grid:
        question = question._replace(cells=grid_of(n))
        check(question)
    return question


def _fan_out(asked: argparse.Namespace) -> FanOut:
    kind: Kind = asked.fan_out or "paper"
    coordinator: Coordinator = asked.coordinator or "outside"
    if asked.coordinators and coordinator != "replica":
        raise BadQuestion("--coordinators speaks of replicas: it goes with --coordinator replica")
    if asked.new_keys and kind != "store":
        raise BadQuestion("--new-keys goes with --fan-out store")
    return FanOut(kind, coordinator, asked.coordinators or "independent", asked.new_keys)


def _print_json(predictions: list[Prediction], *, is_grid: bool, with_curve: bool) -> None:
    cells = [msgspec.to_builtins(one) for one in predictions]
    if not with_curve:
        for cell in cells:
            del cell["curve"]
    first = predictions[0]
    shown = {"model": first.model, "n": first.n, "cells": cells} if is_grid else cells[0]
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode() + "\n")
