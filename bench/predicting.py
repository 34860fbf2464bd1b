"""What the models say of a run: from the delays that were injected, and from what nodes measured.

Pure: a function of the manifest, the analysis and the nodes' samples; so anybody gets the same again.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from bench.findings import Curve
from bench.history import Manifest
from bench.pbs.agreement import CurveAgreement, agree
from bench.pbs.fan_out import FanOut
from bench.pbs.fits import NOTHING, BadFits, Mix, Model, constant, decode_mix
from bench.pbs.measured import TooFewSamples
from bench.pbs.prediction import Prediction
from bench.pbs.resample import predict_measured
from bench.pbs.wars import BadQuestion, Question, predict_cells, times
from bench.scenario import BadScenario, Scenario
from dynamo.wars_status import WarsStatus

INJECTED: Final = "injected"
MEASURED: Final = "measured"
TRIALS: Final = 200_000
AT: Final = "0,1,2,5,10,20,50,100,200"
#: PBS counts from when the coordinator had its acknowledgements; from when the client knew it, where
#: a store does not tell.
ORIGINS: Final = ("coordinator commit", "client commit")
#: Faults under which a node does not answer.
FAILURES: Final = frozenset(("pause", "crash", "restart", "restore", "partition"))


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """A prediction, and how it agrees with what was measured; None where that is not asked."""

    prediction: Prediction
    agreement: CurveAgreement | None = None


def scenario_of(manifest: Manifest) -> Scenario:
    """The scenario as it was run. Raises BadScenario for one that this version does not know."""
    try:
        return msgspec.convert(manifest.scenario, Scenario)
    except msgspec.ValidationError as error:
        raise BadScenario(f"the manifest's scenario: {error}") from None


def predict_run(
    manifest: Manifest,
    scenario: Scenario,
    curves: Sequence[Curve],
    wars: Sequence[WarsStatus],
    seed: int,
) -> tuple[list[Compared], list[str]]:
    """All that the scenario asks for, of every (R, W), compared where it was measured; and why some are
    not there."""
    compared: list[Compared] = []
    missing: list[str] = []
    measured = {(one.r, one.w): one for one in _of_commit(curves)}
    n = manifest.replicas
    cells = tuple((r, w) for r in range(1, n + 1) for w in range(1, n + 1))
    if not scenario.predict or not measured.keys() & set(cells):
        return [], []
    question = Question(n, cells, times(AT), TRIALS, seed)
    for kind in scenario.predict:
        try:
            found = _predict(kind, manifest, scenario, question, wars)
        except (BadFits, BadQuestion, TooFewSamples) as error:
            missing.append(f"{kind}: {error}")
            continue
        for one in found:
            curve = measured.get((one.r, one.w))
            agreement = (
                None
                if curve is None
                else agree(
                    curve,
                    one,
                    one_sided=_is_one_sided(scenario),
                    not_applicable=_why_not(scenario, manifest),
                )
            )
            compared.append(Compared(prediction=one, agreement=agreement))
    return compared, missing


def _of_commit(curves: Sequence[Curve]) -> Iterator[Curve]:
    """Of each cell the curve whose clock is nearest to the model's."""
    for origin in reversed(ORIGINS):
        yield from (one for one in curves if one.origin == origin and one.reads)


def _predict(
    kind: str,
    manifest: Manifest,
    scenario: Scenario,
    question: Question,
    wars: Sequence[WarsStatus],
) -> list[Prediction]:
    fresh_keys = scenario.workload == "visibility"
    if kind == MEASURED:
        if not wars:
            raise TooFewSamples("the target's nodes measure nothing of themselves")
        return predict_measured(wars, question, new_keys=fresh_keys)
    is_replica = len(manifest.nodes) == manifest.replicas
    fan_out = FanOut(
        "store", "replica" if is_replica else "outside", _pairing(scenario), fresh_keys
    )
    sync = own_sync_ms(wars)
    found = predict_cells(injected_model(scenario, sync), question, fan_out)
    if not sync:
        return found
    note = f"acknowledgements wait for a sync, {sync:.2f} ms as the nodes measured it"
    return [
        msgspec.structs.replace(one, note=f"{one.note}; {note}" if one.note else note)
        for one in found
    ]


def own_sync_ms(wars: Sequence[WarsStatus]) -> float:
    """What the own copies of coordinators took to acknowledge, the median; 0 if that is not known."""
    own = [ms for one in wars if one.node in one.peers for ms in one.peers[one.node].a]
    return statistics.median(own) if own else 0.0


def injected_model(scenario: Scenario, sync_ms: float = 0.0) -> Model:
    """The delays that the scenario injects from its begin on, and the sync before each acknowledgement,
    which no message has to wait for otherwise. Raises BadFits."""
    slow = scenario.cluster.slow
    rest = slow.get("*")

    def mix(leg: str) -> Mix:
        rows = slow.get(leg, rest)
        return NOTHING if rows is None else decode_mix(rows, f"cluster.slow.{leg}")

    ack = mix("A").later(sync_ms)
    return Model(INJECTED, mix("W"), ack, mix("R"), mix("S"), own=constant(sync_ms))


def _pairing(scenario: Scenario) -> Any:
    reader: Mapping[str, str] = {"other": "different", "same": "same"}
    return reader.get(scenario.options.get("reader", "any"), "independent")


def _is_one_sided(scenario: Scenario) -> bool:
    """Repair, hints and exchanges bring what the model knows nothing of; so do keys written again."""
    cluster = scenario.cluster
    return cluster.repair or cluster.hints or cluster.exchange or scenario.workload != "visibility"


def _why_not(scenario: Scenario, manifest: Manifest) -> str:
    failures = sorted({fault.do for fault in scenario.faults} & FAILURES)
    if failures:
        return f"nodes did not answer ({', '.join(failures)})"
    if any(fault.do == "slow" for fault in scenario.faults):
        return "delays changed while it ran"
    return manifest.void
