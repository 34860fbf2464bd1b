"""Predictions from what nodes have measured of themselves: three ways to draw from it.

"iid": every leg by itself, from all there is of it, a coordinator's own copy apart (the paper's way).
"per replica": from what this coordinator has measured of this replica, both legs of one message
together. "whole vectors": all of one real write and all of one real read, which keeps together what has
hit all replicas at once, as pauses do. Requests spread as the store spreads them; where it asks again
for a record, that takes what any message to another node has. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from bench.pbs.fan_out import Pairing, Spread, pair_up
from bench.pbs.fits import Floats, Indexes
from bench.pbs.measured import Measured, Pool, TooFewSamples, counts_of, gather
from bench.pbs.prediction import Prediction
from bench.pbs.wars import BadQuestion, Question, Source, simulate, told
from dynamo.wars_status import WarsStatus

#: Of fewer samples nothing is told: of all messages, and of whole operations.
SAMPLES_MIN: Final = 100
#: Of one replica, by one coordinator.
PAIR_MIN: Final = 30
#: Times that a pair of operations with the wrong coordinators is drawn again.
REDRAWN_MAX: Final = 200
MODEL: Final = "measured"


class ByMessage(NamedTuple):
    """A `Source` that draws each message by itself. `pooled`: of whichever replica, and each leg."""

    measured: Measured
    pooled: bool
    new_keys: bool
    pairing: Pairing

    def draw(self, trials: int, generator: np.random.Generator) -> Spread:
        """As `Source`."""
        measured = self.measured
        coordinators = len(measured.coordinators)
        writer, reader = pair_up(generator, coordinators, trials, self.pairing)
        chosen = generator.choice(len(measured.sets), trials, p=measured.set_shares)
        replicas = measured.sets[chosen]
        if self.pooled:
            w, a = self._apart(measured.pooled_writes, writer, replicas, generator)
            r, s = self._apart(measured.pooled_reads, reader, replicas, generator)
        else:
            w, a = _together(measured.writes, writer, replicas, generator)
            r, s = _together(measured.reads, reader, replicas, generator)
        again = None if self.new_keys else _again(measured, trials, generator)
        body = measured.body[reader, chosen]
        return Spread(w, w + a, r, r + s, body=body, again=again)

    def _apart(
        self, pool: Pool, node: Indexes, replicas: Indexes, generator: np.random.Generator
    ) -> tuple[Floats, Floats]:
        own = (replicas == self.measured.nodes[node][:, None]).astype(np.intp)
        row = np.zeros_like(own)
        return pool.out[pool.any(row, own, generator)], pool.back[pool.any(row, own, generator)]


class ByOperation(NamedTuple):
    """A `Source` that draws whole writes and whole reads."""

    measured: Measured
    new_keys: bool
    pairing: Pairing

    def draw(self, trials: int, generator: np.random.Generator) -> Spread:
        """As `Source`."""
        measured = self.measured
        writes, reads = measured.whole_writes, measured.whole_reads
        chosen = generator.choice(len(measured.sets), trials, p=_shares_of_whole(measured))
        write, read = writes.any(chosen, generator), reads.any(chosen, generator)
        if self.pairing != "independent" and len(measured.coordinators) > 1:
            for _ in range(REDRAWN_MAX):
                is_same = writes.node[write] == reads.node[read]
                wrong = np.flatnonzero(is_same != (self.pairing == "same"))
                if not len(wrong):
                    break
                write[wrong] = writes.any(chosen[wrong], generator)
                read[wrong] = reads.any(chosen[wrong], generator)
        w, r = writes.out[write], reads.out[read]
        again = None if self.new_keys else _again(measured, trials, generator)
        return Spread(
            w, w + writes.back[write], r, r + reads.back[read], body=reads.body[read], again=again
        )


def predict_measured(
    documents: Sequence[WarsStatus],
    question: Question,
    *,
    new_keys: bool = False,
    pairing: Pairing = "independent",
) -> list[Prediction]:
    """Every cell asked for, by each of the three for which there are enough samples.

    `new_keys`, `pairing`: as of `FanOut`. Raises TooFewSamples, BadQuestion.
    """
    measured = gather(documents)
    n = measured.sets.shape[1]
    if question.n != n:
        raise BadQuestion(f"n is {question.n}, but the keys that were measured have {n} replicas")
    sources: dict[str, Source] = {
        "iid": ByMessage(measured, pooled=True, new_keys=new_keys, pairing=pairing),
        "per replica": ByMessage(measured, pooled=False, new_keys=new_keys, pairing=pairing),
        "whole vectors": ByOperation(measured, new_keys=new_keys, pairing=pairing),
    }
    lacking = _lacking(measured)
    if len(lacking) == len(sources):
        raise TooFewSamples(f"too few samples: {lacking['iid']}; {counts_of(documents)}")
    coordinator, note = _coordinator(measured), _note(measured, lacking)
    found = [
        (
            place,
            told(
                answer,
                question,
                model=MODEL,
                sampling=name,
                fan_out="store",
                coordinator=coordinator,
                note=note,
            ),
        )
        for place, (name, source) in enumerate(sources.items())
        if name not in lacking
        for answer in simulate(source, question)
    ]
    found.sort(key=lambda one: (one[1].r, one[1].w, one[0]))
    return [prediction for _, prediction in found]


def _lacking(measured: Measured) -> dict[str, str]:
    """Ways to draw for which there are too few samples, and why."""
    lacking: dict[str, str] = {}
    pools = {"writes": measured.pooled_writes, "reads": measured.pooled_reads}
    for kind, pool in pools.items():
        others, own = pool.counts[0].tolist()
        is_replica = bool((measured.nodes >= 0).any())
        if (len(measured.names) > 1 and others < SAMPLES_MIN) or (is_replica and own < PAIR_MIN):
            lacking["iid"] = (
                f"messages of {kind}: {others} to other nodes, of {SAMPLES_MIN} at least, and {own} to "
                f"own copies, of {PAIR_MIN} at least, are needed (one operation in {measured.sampled} "
                "is measured)"
            )
    for kind, pool in {"writes": measured.writes, "reads": measured.reads}.items():
        row, column = np.unravel_index(np.argmin(pool.counts), pool.counts.shape)
        least = int(pool.counts[row, column])
        if least < PAIR_MIN:
            lacking["per replica"] = (
                f"{kind} of {measured.names[column]} by {measured.coordinators[row]}: {least}, of "
                f"{PAIR_MIN} at least"
            )
    for kind, whole in {"writes": measured.whole_writes, "reads": measured.whole_reads}.items():
        usable = int(whole.counts.sum())
        if usable < SAMPLES_MIN or not _shares_of_whole(measured).any():
            lacking["whole vectors"] = f"whole {kind}: {usable}, of {SAMPLES_MIN} at least"
    return lacking


def _shares_of_whole(measured: Measured) -> Floats:
    """Of sets that have both whole writes and whole reads; all 0 if there is none."""
    shares = np.where(measured.whole_reads.counts > 0, measured.whole_writes.counts, 0)
    total = max(1, int(shares.sum()))
    return shares / total


def _together(
    pool: Pool, node: Indexes, replicas: Indexes, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    at = pool.any(np.broadcast_to(node[:, None], replicas.shape), replicas, generator)
    return pool.out[at], pool.back[at]


def _again(measured: Measured, trials: int, generator: np.random.Generator) -> Floats:
    pool = measured.pooled_reads
    zeros = np.zeros(trials, dtype=np.intp)
    column = zeros if pool.counts[0, 0] else zeros + 1
    at = pool.any(zeros, column, generator)
    return pool.out[at] + pool.back[at]


def _coordinator(measured: Measured) -> str:
    """ "mixed": some are replicas of a key and some are not."""
    inside = [bool((measured.sets == node).any(axis=1).all()) for node in measured.nodes]
    outside = [not (measured.sets == node).any() for node in measured.nodes]
    return "replica" if all(inside) else "outside" if all(outside) else "mixed"


def _note(measured: Measured, lacking: dict[str, str]) -> str:
    nodes = measured.coordinators
    parts = [f"writes and reads go through {', '.join(nodes)}, as measured there"]
    silent = [name for name in measured.names if name not in nodes]
    if silent:
        parts.append(f"not asked: {', '.join(silent)}")
    if measured.partial:
        parts.append(f"{measured.partial} operations were not answered by every replica")
    if measured.left_out:
        parts.append(f"{measured.left_out} operations with other nodes are left out")
    parts += [f"too few samples for {name}: {why}" for name, why in lacking.items()]
    return "; ".join(parts)
