"""How reads and writes spread over the replicas: as in the paper, and as this store really does it.

Each is a way to make a `Spread` from the legs of a model: when each replica shows a write, when the
coordinator knows of that, when a read is at each replica and when its answer is back. Pure.

The store (`dynamo.write_operation`, `dynamo.read_operation`):
- A coordinator that is a replica mints at itself: its own copy shows the write at once (W = 0), and
  acknowledges when it is synced. Any other has the first primary mint: the record that comes back goes
  to the other replicas, which so are a round trip later.
- A read asks one replica for the record (a coordinator that is a replica: itself, at once; any other:
  the first primary) and all others for vector and digest. An answer counts once the record it speaks
  of is in hand: who is ahead is asked again, for the record.
Left out: hedged requests (at most one read in twenty), an answer that waits for a sync under way,
and whatever is down.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, get_args

import numpy as np

from bench.pbs.fits import Floats, Indexes, Model

#: "paper": all n are asked, the r first answers count. "paper-r": r are asked, drawn anew each time (as
#: Cassandra does). "store": as above.
Kind = Literal["paper", "paper-r", "store"]
KINDS: Final[tuple[str, ...]] = get_args(Kind)
Coordinator = Literal["outside", "replica"]
COORDINATORS: Final[tuple[str, ...]] = get_args(Coordinator)
#: Who coordinates the read, where coordinators are replicas: anyone, drawn apart from the write's; the
#: same one; any other.
Pairing = Literal["independent", "same", "different"]
PAIRINGS: Final[tuple[str, ...]] = get_args(Pairing)


class FanOut(NamedTuple):
    """`new_keys`: the key was absent before the write, so that what is stale is "not found": the store
    never answers that while it knows of a record. Else the write replaces an older version."""

    kind: Kind = "paper"
    coordinator: Coordinator = "outside"
    pairing: Pairing = "independent"
    new_keys: bool = False


PAPER: Final = FanOut()


class Spread(NamedTuple):
    """Trials in rows, replicas in columns; milliseconds. `visible`, `acked`: since the write began.
    `asked`, `answered`: since the read began. `order`: of a read that asks only some, who is asked
    first, None where all are. `body`: whose answer is the record, which digests of others wait for;
    None where all answers are whole. `again`: what it takes to ask who is ahead once more, for the
    record; None where nothing is answered before that has come."""

    visible: Floats
    acked: Floats
    asked: Floats
    answered: Floats
    order: Floats | None = None
    body: Indexes | None = None
    again: Floats | None = None


def pair_up(
    generator: np.random.Generator, n: int, trials: int, pairing: Pairing
) -> tuple[Indexes, Indexes]:
    """Who coordinates the write, and who the read."""
    writer = generator.integers(0, n, trials)
    if pairing == "same":
        return writer, writer
    if pairing == "independent" or n == 1:
        return writer, generator.integers(0, n, trials)
    return writer, (writer + generator.integers(1, n, trials)) % n


def spread_model(
    model: Model, n: int, trials: int, fan_out: FanOut, generator: np.random.Generator
) -> Spread:
    """Of so many trials, all legs drawn independently."""
    shape = (trials, n)
    w, a = model.w.draw(generator, shape), model.a.draw(generator, shape)
    r, s = model.r.draw(generator, shape), model.s.draw(generator, shape)
    is_replica = fan_out.coordinator == "replica"
    remote = model.remote_ms
    writer = reader = None
    if is_replica or remote:
        pairing = fan_out.pairing if is_replica else "independent"
        # The replica near a coordinator is itself, if it is one.
        writer, reader = pair_up(generator, n, trials, pairing)
    if remote:
        assert writer is not None
        assert reader is not None
        for legs, near in ((w, writer), (a, writer), (r, reader), (s, reader)):
            legs += remote
            _at(legs, near, _take(legs, near) - remote)
    if is_replica:
        assert writer is not None
        assert reader is not None
        _at(w, writer, 0.0)
        _at(a, writer, model.own.draw(generator, (trials,)))
        _at(r, reader, 0.0)
        _at(s, reader, 0.0)
    elif fan_out.kind == "store":
        _mint(model, w, writer, generator)
    spread = Spread(w, w + a, r, r + s)
    if fan_out.kind == "paper-r":
        order = generator.random(shape)
        if reader is not None and is_replica:
            _at(order, reader, -1.0)  # itself
        return spread._replace(order=order)
    if fan_out.kind == "store":
        first = np.zeros(trials, dtype=np.intp) if reader is None or not is_replica else reader
        again = model.r.draw(generator, (trials,)) + model.s.draw(generator, (trials,))
        again += 2 * remote
        return spread._replace(body=first, again=None if fan_out.new_keys else again)
    return spread


def _mint(model: Model, w: Floats, near: Indexes | None, generator: np.random.Generator) -> None:
    """The first primary mints, and what it has minted comes back before the others are sent it."""
    trials = w.shape[0]
    hop = w[:, 0] + model.s.draw(generator, (trials,))
    if near is not None:
        hop += np.where(near == 0, 0.0, model.remote_ms)
    w[:, 1:] += hop[:, None]


def _at(legs: Floats, replica: Indexes, values: Floats | float) -> None:
    legs[np.arange(len(replica)), replica] = values


def _take(legs: Floats, replica: Indexes) -> Floats:
    taken: Floats = legs[np.arange(len(replica)), replica]
    return taken
