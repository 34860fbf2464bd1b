"""`dynamo-bench predict`: how fresh reads would be, of a published model, of one's own fits, or of a
cluster that runs, from what its nodes have measured.

Reads what it is given and prints; what is predicted is in `bench.pbs`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.parser import Parser
from bench.pbs.fan_out import COORDINATORS, KINDS, PAIRINGS, Coordinator, FanOut, Kind
from bench.pbs.fits import BadFits, Model, decode_fits, find_model
from bench.pbs.measured import TooFewSamples, replicas_of
from bench.pbs.prediction import Prediction
from bench.pbs.resample import predict_measured
from bench.pbs.wars import (
    N_MAX,
    BadQuestion,
    Question,
    check,
    grid_of,
    predict_cells,
    times,
)
from bench.wars_documents import BadDocuments, get_documents

PUBLISHED: Final = Path(__file__).parent / "pbs" / "wars.toml"
TRIALS: Final = 1_000_000
#: There are about a thousand samples of each leg.
TRIALS_MEASURED: Final = 200_000
FITS_BYTES_MAX: Final = 1 << 20
N_DEFAULT: Final = 3


def main(arguments: Sequence[str]) -> int:
    """Print one prediction, or the whole (R, W) table. 2 for wrong usage."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    try:
        if asked.origin is None:
            model = _model(asked)
            question = _question(asked, N_DEFAULT, TRIALS)
            predictions = predict_cells(model, question, _fan_out(asked))
        else:
            _only_measured(asked)
            documents = get_documents(asked.origin)
            question = _question(asked, replicas_of(documents), TRIALS_MEASURED)
            predictions = predict_measured(
                documents,
                question,
                new_keys=asked.new_keys,
                pairing=asked.coordinators or "independent",
            )
    except (BadFits, BadQuestion) as error:
        parser.error(str(error))
    except (BadDocuments, TooFewSamples) as error:
        return parser.failed(error)
    if asked.json:
        is_several = asked.grid or asked.origin is not None
        _print_json(predictions, is_several=is_several, with_curve=asked.curve)
    else:
        from bench.predict_table import print_predictions  # what draws it takes long to import

        print_predictions(predictions)
    return 0


def _parser() -> Parser:
    parser = Parser(
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
    parser.add_argument(
        "--from",
        dest="origin",
        metavar="URL,URL",
        help="nodes that run, as http://host:port, or the directory of a run: predicts from what they "
        "have measured, drawn in three ways, for every R and W or for the ones named",
    )
    parser.add_argument("-n", type=int, metavar="N", help=f"replicas, to {N_MAX} (default: 3)")
    parser.add_argument("-r", type=int, metavar="R", help="answers that a read waits for")
    parser.add_argument("-w", type=int, metavar="W", help="acknowledgements that a write waits for")
    parser.add_argument("--grid", action="store_true", help="every R and W, whatever -r and -w say")
    parser.add_argument(
        "--trials",
        type=int,
        metavar="N",
        help=f"default: {TRIALS}, with --from {TRIALS_MEASURED}",
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
        help="with --fan-out store or --from: keys that are written once: stale is 'not found'",
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


def _question(asked: argparse.Namespace, n: int, trials: int) -> Question:
    """`n`, `trials`: where they are not named."""
    n = n if asked.n is None else asked.n
    trials = trials if asked.trials is None else asked.trials
    missing = [f"-{name}" for name in ("r", "w") if getattr(asked, name) is None]
    is_grid = asked.grid or (asked.origin is not None and len(missing) == 2)
    if missing and not is_grid:
        raise BadQuestion(f"{' and '.join(missing)} missing: name both, or ask for the --grid")
    one = ((1, 1),) if is_grid else ((asked.r, asked.w),)
    question = Question(n, one, times(asked.at), trials, asked.seed, asked.curve)
    check(question)
    if is_grid:
        question = question._replace(cells=grid_of(n))
        check(question)
    return question


def _only_measured(asked: argparse.Namespace) -> None:
    for name in ("model", "fits", "fan_out", "coordinator"):
        if getattr(asked, name) is not None:
            option = name.replace("_", "-")
            raise BadQuestion(f"--{option} does not go with --from: it is as it was measured")


def _fan_out(asked: argparse.Namespace) -> FanOut:
    kind: Kind = asked.fan_out or "paper"
    coordinator: Coordinator = asked.coordinator or "outside"
    if asked.coordinators and coordinator != "replica":
        raise BadQuestion("--coordinators speaks of replicas: it goes with --coordinator replica")
    if asked.new_keys and kind != "store":
        raise BadQuestion("--new-keys goes with --fan-out store, or with --from")
    return FanOut(kind, coordinator, asked.coordinators or "independent", asked.new_keys)


def _print_json(predictions: list[Prediction], *, is_several: bool, with_curve: bool) -> None:
    cells = [msgspec.to_builtins(one) for one in predictions]
    if not with_curve:
        for cell in cells:
            del cell["curve"]
    first = predictions[0]
    shown = {"model": first.model, "n": first.n, "cells": cells} if is_several else cells[0]
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode() + "\n")
