"""Whether a store that keeps its promises could have answered so: the invariants, one check each.

Each check takes a Case, made once of a history and of what was found at rest, and yields findings.
They judge by what clients saw and by what is on the disks, with the history's own causal graph.
Sets of writes are bits of an int here, so that a run of hundreds of operations is judged in
milliseconds. Knows nothing of nodes' insides.

What a client may count on is worked out from where its write certainly lies: `holders` of an
operation were looked up on the disks when it was answered, and so was who held it for others
(`hinted`). Two rules follow, for any losses:

- A write stands while one disk certainly has it. A disk that was lost has it again once it has read
  all other owners, if one that had it did all the while. What is held for another (a hint) is
  certain until it leaves that disk; then its target has it.
- A read must see it if fewer than r of those who answered it could have done so without it. An owner
  could that had not got it when the read began; nor could one that knows that it lost its copy,
  until it counts again. Who answers for another counts only with something in hand, so one whose
  hints certainly had it could not. So a write that was acknowledged with the help of such nodes may
  be missed by owners who answer before it is delivered to them, and by nobody else.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from dynamo.sim.history import (
    FOREVER,
    GOES_BACK,
    AtRest,
    History,
    Loss,
    Operation,
    dot_name,
    left_by,
    some,
)

#: An answer may come so much (seconds) after the timeout.
GRACE: Final = 1.0
#: Errors that say that the store could not, rather than that the client should not have asked.
_FAILED_TO_SERVE: Final = frozenset(
    (
        "",
        "not_ready",
        "read_uncertain",
        "storage_corrupt",
        "storage_error",
        "storage_full",
        "storage_refuses_writes",
        "unavailable",
        "write_uncertain",
    )
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A promise that was broken: `invariant` is its number, as I4; `text` is for people."""

    invariant: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


@dataclass(frozen=True, slots=True)
class _Answer:
    """A record that somebody saw: `where`, and its siblings."""

    where: str | Operation
    seen: int


@dataclass(slots=True)
class _Key:
    """What there is of one key. `on_disk`: what the copies of its owners hold at rest; `final`: all that
    these, or what is held for an owner that is down, hold or cover, and what need not be there.
    `reaped`: when records of it went, and all that they covered. `fading`: what any write may have
    replaced."""

    key: bytes
    operations: list[Operation] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    reaped: list[tuple[float, int]] = field(default_factory=list)
    fading: int = 0
    on_disk: int = 0
    final: int = 0

    def excused(self, until: float = FOREVER) -> int:
        """What nobody need have had then."""
        return self.fading | self.gone(until)

    def gone(self, until: float = FOREVER) -> int:
        """What went for good up to then."""
        found = 0
        for at, covered in self.reaped:
            if at <= until:
                found |= covered
        return found


class Case:
    """A history and what was found at rest, indexed for the checks."""

    def __init__(self, history: History, rest: AtRest) -> None:
        self.history = history
        self.rest = rest
        self.operations = history.operations
        self._bit = [1 << id for id in range(len(history.operations))]
        self._masks: dict[frozenset[int], int] = {}
        #: By id: all that a write covers.
        self.past = [self.bits(one.past) for one in history.operations]
        #: Writes of keys where the last write wins.
        self.lww = self.bits(one.id for one in history.operations if one.key in history.lww)
        for key in history.lww:
            self._order_writes(key)
        #: By id: the siblings that its answer showed.
        self.seen = [self.bits(one.seen) for one in history.operations]
        self._needs: dict[int, int] = {}
        self.keys: dict[bytes, _Key] = {}
        for operation in history.operations:
            self._key(operation.key).operations.append(operation)
        for key in rest.copies:
            self._key(key)
        for reaped in history.reaped:
            covered = self.bits(reaped.covered)
            if covered & ~self._key(reaped.key).gone():
                self._key(reaped.key).reaped.append((reaped.at, covered))
        for one in self.keys.values():
            losses = [loss for loss in history.losses if loss.key == one.key]
            one.losses = sorted(losses, key=lambda loss: loss.at)
            for copy in rest.copies.get(one.key, {}).values():
                one.on_disk |= self.bits(copy.ids or ())
            one.fading = self.bits(history.fading(one.key))
            held = self.bits(rest.hints.get(one.key, ()))
            one.final = self.closure(one.on_disk) | held | one.excused()

    def _order_writes(self, key: bytes) -> None:
        """Where the last write wins, each covers all below it."""
        orders = self.history.orders
        lower = 0
        for id in sorted(filter(orders.__contains__, self._ids_of(key)), key=orders.__getitem__):
            self.past[id] = lower
            lower |= self._bit[id]

    def _ids_of(self, key: bytes) -> Iterator[int]:
        return (one.id for one in self.operations if one.key == key)

    def _key(self, key: bytes) -> _Key:
        found = self.keys.get(key)
        if found is None:
            found = self.keys[key] = _Key(key)
        return found

    # Sets of writes -----------------------------------------------------------------------------

    def bits(self, ids: Iterable[int]) -> int:
        """The ids as bits; those of no operation are left out."""
        if not isinstance(ids, frozenset):
            ids = frozenset(ids)
        mask = self._masks.get(ids)
        if mask is None:
            known = len(self._bit)
            mask = sum(self._bit[id] for id in ids if 0 <= id < known)
            self._masks[ids] = mask
        return mask

    def closure(self, mask: int) -> int:
        """The writes and all that they cover."""
        found = mask
        for id in ids_of(mask):
            found |= self.past[id]
        return found

    def needs(self, id: int) -> int:
        """All that a record with this write must have seen: what its context covers, what its own
        answer showed beside it, and what those need. A record goes from disk to disk whole."""
        known = self._needs.get(id)
        if known is not None:
            return known
        operation = self.operations[id]
        needed = self._bit[id] | self.past[id]
        if operation.outcome == "ok" and operation.kind != "get":
            needed |= self.seen[id]
        self._needs[id] = needed  # also ends a circle, which only a broken run could make
        rest = needed & ~self._bit[id]
        while rest:
            other = rest.bit_length() - 1
            more = self.needs(other)
            needed |= more
            rest &= ~(more | self._bit[other])
        self._needs[id] = needed
        return needed

    @cached_property
    def puts(self) -> int:
        """All puts."""
        return self.bits(one.id for one in self.operations if one.kind == "put")

    @cached_property
    def answers(self) -> list[_Answer]:
        """Every record that somebody saw, in a client's hands, at rest on a disk, or read there."""
        found = [
            _Answer(one, self.seen[one.id]) for one in self.operations if one.answered and one.seen
        ]
        for key, copies in self.rest.copies.items():
            seen: set[int] = set()
            for node, copy in copies.items():
                mask = self.bits(copy.ids or ())
                if mask and mask not in seen:
                    seen.add(mask)
                    found.append(_Answer(f"the copy of {key!r} on the disk of {node}", mask))
        for key, reads in self.rest.reads.items():
            seen = set()
            for node, shown in reads.items():
                mask = self.bits(shown.seen)
                if mask and mask not in seen:
                    seen.add(mask)
                    found.append(_Answer(f"the read of {key!r} at {node} at rest", mask))
        return found

    # Where writes lie ---------------------------------------------------------------------------

    def certain(self, operation: Operation, until: float = FOREVER) -> frozenset[str]:
        """Nodes that at `until` certainly have what the operation wrote or showed."""
        return self._replay(operation, until)[0]

    def _replay(self, operation: Operation, until: float) -> tuple[frozenset[str], dict[int, bool]]:
        """Also, by place in the key's losses: did the node read from one who had it all the while."""
        certain = set(operation.holders or ()) | operation.hinted
        regained: dict[int, bool] = {}
        losses = self.keys[operation.key].losses
        if not losses:
            return frozenset(certain), regained
        wanted = left_by(operation)
        handed = self.history.handed
        events = [
            (one.at, 2, place)
            for place, one in enumerate(handed)
            if one.key == operation.key and operation.end <= one.at <= until
        ]
        for place, loss in enumerate(losses):
            if operation.end <= loss.at <= until:
                events.append((loss.at, 0, place))
                if loss.whole_at <= until:
                    events.append((loss.whole_at, 1, place))
        owners = self.history.owners.get(operation.key, ())
        sources: dict[int, set[str]] = {}
        for _, whole, place in sorted(events):
            if whole == 2:
                one = handed[place]
                if wanted <= one.taken:
                    certain.add(one.target)
                if not wanted <= one.left:
                    certain.discard(one.node)
                continue
            node = losses[place].node
            if whole:
                read_from = sources.pop(place, None)
                lost_still = any(losses[other].node == node for other in sources)
                regained[place] = bool(read_from) and not lost_still
                if regained[place]:
                    certain.add(node)
            else:
                certain.discard(node)
                for others in sources.values():
                    others.discard(node)
                sources[place] = certain.intersection(owners) if owners else set(certain)
        return frozenset(certain), regained

    def stands(self, operation: Operation) -> bool:
        """True if what it wrote or showed must still be there at rest."""
        return bool(operation.holders or operation.hinted) and bool(self.certain(operation))

    def stands_at_owner(self, operation: Operation) -> bool:
        """True if an owner must still have it at rest."""
        owners = self.history.owners.get(operation.key)
        certain = self.certain(operation) if self.stands(operation) else frozenset()
        return bool(certain.intersection(owners) if owners else certain)

    def could_answer_without(
        self, earlier: Operation, read: Operation
    ) -> tuple[int, tuple[Loss, ...]]:
        """How many of those who answered `read`, or made it, could have done so without knowing what
        `earlier` wrote or showed, and the losses because of which others could not."""
        if read.outcome == "ok" and read.kind != "get" and read.minter:
            if read.stand_in:
                return 1, ()  # it looks at what it holds for one of the others, which may be new
            return self._owners_without(earlier, read, (read.minter,))
        wanted = left_by(earlier)
        count, blank = self._owners_without(earlier, read, read.answerers)
        count += sum(not wanted <= held for held in read.stood_in.values())
        return count, blank

    def could_take_without(
        self, earlier: Operation, write: Operation
    ) -> tuple[int, tuple[Loss, ...]]:
        """The same, of owners that acknowledged a write."""
        return self._owners_without(earlier, write, None)

    def _owners_without(
        self, earlier: Operation, read: Operation, among: Iterable[str] | None
    ) -> tuple[int, tuple[Loss, ...]]:
        """`among`: the owners that are asked about; None: all of them."""
        holders = earlier.holders or frozenset()
        losses = self.keys[read.key].losses
        nodes = set(self.history.owners.get(read.key, ())) | holders
        count = 0 if among is not None else self.history.n - len(nodes)
        if among is not None:
            nodes.intersection_update(among)
        wanted = left_by(earlier)
        regained: dict[int, bool] | None = None
        blank: list[Loss] = []
        for node in sorted(nodes):
            had = wanted <= read.had[node] if node in read.had else False
            found: Loss | bool = node not in holders and not had
            for place, loss in enumerate(losses):
                if loss.node != node or loss.at > read.end:
                    continue
                if read.kind != "get" and loss.why in GOES_BACK and read.start < loss.whole_at:
                    found = True  # it mints on top of what has come since it found out
                    continue
                if had and loss.at < read.start:
                    continue
                if regained is None:
                    _, regained = self._replay(earlier, read.end)
                found = _after_loss(found, loss, earlier, read, regained.get(place, False))
            if isinstance(found, Loss):
                blank.append(found)
            else:
                count += found
        return count, tuple(blank)

    @cached_property
    def missed(self) -> list[Finding]:
        """Reads that did not see what they had to: I7, or, if it is a copy known to be lost that was
        counted, I12 (damaged) or I11; and writes that dropped what every minter had: I5."""
        found: list[Finding] = []
        for key in self.keys.values():
            found += self._missed_of(key)
        return found

    def _missed_of(self, key: _Key) -> Iterator[Finding]:
        promises = [one for one in key.operations if one.answered and (one.holders or one.hinted)]
        promises.sort(key=lambda one: one.end)
        ends = [one.end for one in promises]
        masks = [self._promise(one) for one in promises]
        #: What the first promises are of.
        total, totals = 0, [0]
        for mask in masks:
            total |= mask
            totals.append(total)
        for read in key.operations:
            if _answers_behind(read) < 1:
                continue
            before = bisect_left(ends, read.start)
            seen = self.closure(self.seen[read.id]) | key.excused(read.end)
            if totals[before] & ~seen:
                found = self._missed_by(read, seen, promises[:before], masks)
                yield from _first_of_each(found)

    def _promise(self, operation: Operation) -> int:
        if operation.kind == "get" or operation.needless:
            return self.seen[operation.id]
        return self._bit[operation.id]

    def _missed_by(
        self, read: Operation, seen: int, promises: list[Operation], masks: list[int]
    ) -> Iterator[Finding]:
        said = 0
        r = _answers_behind(read)
        for earlier, mask in zip(promises, masks, strict=False):
            missing = mask & ~seen & ~said
            if not missing:
                continue
            count, blank = self.could_answer_without(earlier, read)
            if count >= r:
                continue
            if read.outcome == "ok" and read.kind != "get":
                # One that knows that its copy is gone mints all the same.
                if not blank:
                    said |= missing
                    text = f"[{read}] was made where {some(ids_of(missing))} must have been"
                    yield Finding("I5", f"{text}, and dropped it uncovered: [{earlier}]")
                continue
            said |= missing
            text = f"[{read}] misses {some(ids_of(missing))}, which is there: [{earlier}]"
            risen = self.bits(read.shown) & _deleted_by(self, earlier)
            if earlier.kind == "delete" and risen:
                text += f", and shows {some(ids_of(risen))}, which that deleted"
            text += f"; {count} could have answered so"
            if count + len(blank) < r:
                yield Finding("I7", text)
            else:
                text += f", unless a lost copy was counted: {'; '.join(map(str, blank))}"
                rotten = any(loss.why == "rot" for loss in blank)
                yield Finding("I12" if rotten else "I11", text)


def _first_of_each(findings: Iterable[Finding]) -> Iterator[Finding]:
    """One finding of each invariant, which says how many more there are."""
    by_invariant: dict[str, list[Finding]] = {}
    for finding in findings:
        by_invariant.setdefault(finding.invariant, []).append(finding)
    for invariant, found in by_invariant.items():
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        yield Finding(invariant, found[0].text + more)


def _answers_behind(operation: Operation) -> int:
    """How many replicas must have answered for what it showed: a write shows what its minter had."""
    if operation.kind == "get":
        return operation.reads_needed if operation.outcome == "ok" else 0
    if operation.needless:
        return operation.reads_needed
    return 1 if operation.outcome == "ok" else 0


def _after_loss(
    before: Loss | bool, loss: Loss, earlier: Operation, read: Operation, regained: bool
) -> Loss | bool:
    """Could a node answer `read` without what `earlier` left, in view of one more loss?

    `before`: what is known without it. True: it could. False: it has it. A loss: it could, had it
    not to know that its copy is gone. `regained`: it has read the others since.
    """
    waits = loss.noticed and read.end < loss.counts_at
    if loss.at < earlier.end:
        # It had it at the end, or had not: only one that does not count to this day is out.
        return loss if before is True and waits else before
    if before is True and loss.at >= read.start:
        return True  # it may have answered before the loss
    if regained and loss.whole_at <= read.start:
        return False
    if loss.noticed and loss.whole_in_time and regained:
        return loss  # once it counted, it had it again
    return loss if waits else True


def ids_of(mask: int) -> Iterator[int]:
    """The ids that are bits of it, from the lowest."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


# The invariants -----------------------------------------------------------------------------------


def check_i1(case: Case) -> Iterator[Finding]:
    """Durability: at the answer the disks of enough distinct nodes had the write, so many of them of
    owners as it asked for and as its answer says, and it is there at rest unless every disk that had it
    was lost. (Deletes of which more than the tombstone came to light are I4.)"""
    for key in case.keys.values():
        for one in key.operations:
            if one.kind == "get" or not one.answered or one.holders is None:
                continue
            if one.needless and (not one.seen or case.seen[one.id] & key.gone(one.end)):
                continue
            yield from _acknowledged_early(case, one, key)
        for one in _vanished(case, key):
            if not _resurrected(case, key, one):
                rest = " ".join(sorted(case.certain(one)))
                yield Finding("I1", f"[{one}] was acknowledged and is lost, though {rest} had it")


def check_i2(case: Case) -> Iterator[Finding]:
    """No silent drop: at rest a key's siblings are the causally maximal surviving writes, no more, no
    less, and a read shows those of them that are values."""
    for key in case.keys.values():
        copies = case.rest.copies.get(key.key)
        if not copies:
            continue
        said: set[int] = set()
        for node, copy in copies.items():
            mask = case.bits(copy.ids or ())
            if mask not in said:
                said.add(mask)
                for id, covered in _beside(case, mask):
                    yield Finding(
                        "I2",
                        f"at rest {node} keeps {some(covered)} of {key.key!r} beside {id},"
                        " which covers it",
                    )
        yield from _dropped(case, key)
        if key.key in case.history.lww:
            continue  # `dynamo.sim.last_write` looks at those
        maximal = key.on_disk
        for id in ids_of(key.on_disk):
            maximal &= ~case.past[id]
        hideable = case.bits(one.id for one in key.operations if one.expires)
        for node, shown in case.rest.reads.get(key.key, {}).items():
            seen = case.bits(shown.seen)
            if (seen ^ maximal) & ~key.gone():
                yield Finding(
                    "I2",
                    f"at rest a read of {key.key!r} at {node} saw {some(shown.seen)},"
                    f" the disks hold {some(ids_of(maximal))}",
                )
            hidden = maximal & seen & case.puts & ~hideable & ~case.bits(shown.values)
            if hidden:
                yield Finding(
                    "I2", f"at rest a read of {key.key!r} at {node} hides {some(ids_of(hidden))}"
                )


def check_i3(case: Case) -> Iterator[Finding]:
    """One dot names one write."""
    for dot, one, other in case.history.two_writes:
        yield Finding(
            "I3",
            f"dot {dot_name(dot)} names [{_named(case, one)}] and [{_named(case, other)}]",
        )


def check_i4(case: Case) -> Iterator[Finding]:
    """No resurrection: once converged, nothing that an acknowledged delete covers is shown. A record
    goes for good on proof alone, and from then on no read shows anything that it covered."""
    for line in case.history.broken_reaps:
        yield Finding("I4", line)
    yield from _back_after_reaping(case)
    for key in case.keys.values():
        said = 0
        for one in key.operations:
            if one.kind != "delete" or not one.answered:
                continue
            if one.key in case.history.lww and not case.bits(left_by(one)) & ~key.gone():
                continue  # what has a lower stamp and was written since is above what nobody knows of
            risen = _deleted_by(case, one) & ~said
            if not risen:
                continue
            places = []
            found = 0
            for where, values in _shown_after(case, key):
                if values & risen:
                    found |= values & risen
                    places.append(where)
            if found and case.stands_at_owner(one):
                said |= found
                yield Finding(
                    "I4",
                    f"{some(ids_of(found))} of {key.key!r} is shown by {'; '.join(places)},"
                    f" though deleted by [{one}]",
                )


def check_i5(case: Case) -> Iterator[Finding]:
    """Honest context: a write removes what its context covers, nothing else, and one of another key
    is refused."""
    for one in case.operations:
        if one.foreign_context and (one.answered or one.code == "write_uncertain"):
            yield Finding("I5", f"[{one}] was given the context of another key, and taken")
        if one.code == "bad_context" and not one.foreign_context:
            yield Finding("I5", f"[{one}] was refused, though its context is one of this key")
        if one.kind != "get" and one.outcome == "ok" and one.id not in one.seen:
            yield Finding("I5", f"[{one}] is not in its own answer")
        if one.kind == "get" and one.outcome == "ok" and one.key not in case.history.lww:
            yield from _wrongly_shown(case, one)
    yield from (finding for finding in case.missed if finding.invariant == "I5")
    for one, places in _effects(case):
        if one.foreign_context:
            yield Finding("I5", f"[{one}] had the context of another key, and is in {places}")
    judged: dict[int, tuple[list[tuple[int, list[int]]], int]] = {}
    for answer in case.answers:
        known = judged.get(answer.seen)
        if known is None:
            needed = 0
            for write in ids_of(answer.seen):
                needed |= case.needs(write)
            vanished = needed & ~case.closure(answer.seen)
            known = judged[answer.seen] = list(_beside(case, answer.seen)), vanished
        beside, vanished = known
        if vanished:
            vanished &= ~_excused_before(case, answer)
        if isinstance(answer.where, Operation):  # at rest it is I2
            for write, covered in beside:
                yield Finding(
                    "I5",
                    f"[{answer.where}] shows {some(covered)} beside {write}, which covers it",
                )
        if vanished:
            yield Finding(
                "I5",
                f"[{answer.where}]: {some(ids_of(vanished))} vanished, covered by no write of it,"
                f" though {_who_showed(case, answer.seen, vanished)}",
            )


def check_i6(case: Case) -> Iterator[Finding]:
    """Convergence: at rest all copies of a key are the same bytes, no hint is left for who is up, and
    nobody repairs any more."""
    for key, copies in case.rest.copies.items():
        forms: dict[bytes, list[str]] = {}
        for node, copy in copies.items():
            if copy.ids is not None:
                forms.setdefault(copy.form, []).append(f"{node} {some(copy.ids)}")
        if len(forms) > 1:
            told = " / ".join(", ".join(nodes) for nodes in forms.values())
            yield Finding("I6", f"at rest the copies of {key!r} differ: {told}")
    for line in case.rest.undelivered:
        yield Finding("I6", f"at rest {line}")
    for line in case.rest.apart:
        yield Finding("I6", line)
    if case.rest.repairs:
        yield Finding("I6", f"{case.rest.repairs} repairs were sent at rest")


def check_i7(case: Case) -> Iterator[Finding]:
    """Quorum reads see what acknowledged writes and earlier reads left on enough primaries, and one
    with blocking repair is answered only once n - r + 1 of them hold it."""
    for one in case.operations:
        if one.kind != "get" or one.outcome != "ok" or not one.blocking or not one.seen:
            continue
        if one.holders is None or case.seen[one.id] & case.keys[one.key].gone(one.end):
            continue  # nobody looked, or it may have gone as it was answered
        lost = _lost_during(one, case.keys[one.key])
        needed = case.history.n - one.reads_needed + 1
        if len(one.holders | lost) < needed:
            yield Finding("I7", f"[{one}] was answered before {needed} primaries held it")
    yield from (finding for finding in case.missed if finding.invariant == "I7")


def check_i9(case: Case) -> Iterator[Finding]:
    """A hint leaves a disk only after its target has synced what it held."""
    for line in case.history.broken_hints:
        yield Finding("I9", line)


def check_i11(case: Case) -> Iterator[Finding]:
    """Recovery returns whole records of writes that somebody made; who may have lost some counts
    toward no r."""
    for one in case.operations:
        if one.answered:
            yield from _invented(case, one, one.key, one.seen, one.end)
    for key, copies in case.rest.copies.items():
        for node, copy in copies.items():
            where = f"the copy of {key!r} on the disk of {node}"
            if copy.wrong:
                yield Finding("I11", f"{where} is no record: {copy.wrong}")
            yield from _invented(case, where, key, copy.ids or frozenset(), FOREVER)
    yield from (finding for finding in case.missed if finding.invariant == "I11")


def check_i12(case: Case) -> Iterator[Finding]:
    """A damaged copy is never served, nor read as absent, and is fetched again from another."""
    for line in case.history.unreadable:
        yield Finding("I12", line)
    for key, copies in case.rest.copies.items():
        damaged = [node for node, copy in copies.items() if copy.damaged]
        good = [node for node, copy in copies.items() if copy.ids]
        if not damaged:
            continue
        if good:
            yield Finding(
                "I12",
                f"at rest the copy of {key!r} at {' '.join(damaged)} is damaged,"
                f" though {' '.join(good)} has a good one",
            )
            continue
        for node, shown in case.rest.reads.get(key, {}).items():
            if not shown.seen:
                yield Finding(
                    "I12",
                    f"at rest a read of {key!r} at {node} found nothing,"
                    f" though the copy at {' '.join(damaged)} is damaged",
                )
    yield from (finding for finding in case.missed if finding.invariant == "I12")


def check_i13(case: Case) -> Iterator[Finding]:
    """Nothing is synced or written after a failed sync."""
    for line in case.rest.breaches:
        yield Finding("I13", line)


def check_i14(case: Case) -> Iterator[Finding]:
    """A write that was refused for want of space has no effect; reads go on, and deletes, as long as
    no engine has met the very end."""
    for one in case.operations:
        spared = one.kind == "get" or (one.kind == "delete" and not case.rest.ends_met)
        if spared and one.code in _DISK_FULL:
            yield Finding("I14", f"[{one}] was refused, though it may use what is kept free")
    for one, places in _effects(case):
        if one.code in _DISK_FULL and not one.foreign_context:
            yield Finding("I14", f"[{one}] was refused, the disk being full, and is in {places}")


def check_i17(case: Case) -> Iterator[Finding]:
    """One write is minted once."""
    for write, one, other in case.history.two_dots:
        dots = f"{dot_name(one)} and {dot_name(other)}"
        yield Finding("I17", f"[{_named(case, write)}] has two dots, {dots}")


def check_i18(case: Case) -> Iterator[Finding]:
    """Answers come in time, always; after the heal operations succeed."""
    rest = case.rest
    reachable = rest.reachable or case.history.n
    for one in case.operations:
        if one.cut_off:
            continue
        if one.end > one.start + one.timeout + GRACE:
            yield Finding("I18", f"[{one}] had {one.timeout:g} s and {GRACE:g} s of grace")
        elif (
            one.start >= rest.healed_at
            and one.timeout >= rest.patience
            and max(one.writes_needed, one.reads_needed) <= reachable
            and not one.answered
            and one.code in _FAILED_TO_SERVE
        ):
            yield Finding("I18", f"[{one}] failed, though all was healed at {rest.healed_at:.4f} s")
    for line in rest.errors:
        yield Finding("I18", line)


def check_i19(case: Case) -> Iterator[Finding]:
    """What was refused definitely has no effect."""
    for one, places in _effects(case):
        if not one.foreign_context and one.code not in _DISK_FULL:
            yield Finding("I19", f"[{one}] failed definitely, and is in {places}")


CHECKS: Final[tuple[Callable[[Case], Iterator[Finding]], ...]] = (
    check_i1,
    check_i2,
    check_i3,
    check_i4,
    check_i5,
    check_i6,
    check_i7,
    check_i9,
    check_i11,
    check_i12,
    check_i13,
    check_i14,
    check_i17,
    check_i18,
    check_i19,
)


def check_all(history: History, rest: AtRest) -> list[Finding]:
    """Everything wrong with a run, by invariant."""
    case = Case(history, rest)
    return [finding for check in CHECKS for finding in check(case)]


# Parts of them ------------------------------------------------------------------------------------

#: How an edge and a replica say that the disk is full.
_DISK_FULL: Final = frozenset(("storage_full", "disk_full"))


def _acknowledged_early(case: Case, one: Operation, key: _Key) -> Iterator[Finding]:
    """A write, or what a needless delete found gone, was not yet where its answer says."""
    lost = _lost_during(one, key)
    handed = frozenset(
        hint.node
        for hint in case.history.handed
        if hint.key == one.key and one.start <= hint.at <= one.end and left_by(one) <= hint.ids
    )
    owners, others = (one.holders or frozenset()) | lost, one.hinted | lost | handed
    also = f" (and {' '.join(sorted(lost))} lost its copy)" if lost else ""
    if len(owners | others) < one.w or len(owners) < one.pw:
        yield Finding("I1", f"[{one}] was acknowledged too early{also}")
    elif len(owners) < one.primary_acks or len(others) < one.fallback_acks:
        told = f"{one.primary_acks} owners and {one.fallback_acks} others"
        yield Finding("I1", f"[{one}] says that {told} have it{also}")
    elif one.outcome == "ok" and 0 < one.primary_acks + one.fallback_acks < one.w:
        yield Finding("I1", f"[{one}] counts {one.primary_acks} and {one.fallback_acks}")


def _lost_during(operation: Operation, key: _Key) -> frozenset[str]:
    """Nodes whose copy was lost while the operation was on its way: they may have counted."""
    return frozenset(
        loss.node for loss in key.losses if operation.start <= loss.at <= operation.end
    )


def _vanished(case: Case, key: _Key) -> Iterator[Operation]:
    """Acknowledged writes that must still be there at rest, and are not."""
    if not case.rest.copies.get(key.key):
        return
    for one in key.operations:
        if one.kind == "get" or one.outcome != "ok":
            continue
        if not key.final >> one.id & 1 and case.stands(one):
            yield one


def _dropped(case: Case, key: _Key) -> Iterator[Finding]:
    """What an answer showed and is gone at rest, other than acknowledged writes (I1)."""
    said = case.bits(one.id for one in _vanished(case, key))
    for one in key.operations:
        if not one.answered or (one.kind != "get" and not one.needless):
            continue
        missing = case.seen[one.id] & ~key.final & ~said
        if not missing:
            continue
        if all(loss.at < one.start for loss in key.losses) or case.stands(one):
            said |= missing
            yield Finding("I2", f"{some(ids_of(missing))}, shown by [{one}], is gone at rest")


def _beside(case: Case, mask: int) -> Iterator[tuple[int, list[int]]]:
    """Siblings that cover others of the same record, with those. Where the last write wins they may:
    those are hidden until the next write."""
    if mask & (mask - 1) and not mask & case.lww:
        for id in ids_of(mask):
            covered = case.past[id] & mask & ~(1 << id)
            if covered:
                yield id, list(ids_of(covered))


def _deleted_by(case: Case, delete: Operation) -> int:
    """Puts that no read may show once the delete has converged."""
    covered = case.past[delete.id]
    if delete.needless:
        seen = case.seen[delete.id]
        covered = (covered | case.closure(seen)) & ~seen
    return covered & case.puts


def _excused_before(case: Case, answer: _Answer) -> int:
    """What need not have been there at the time of the answer, of its key."""
    first = case.operations[next(ids_of(answer.seen))]
    until = answer.where.end if isinstance(answer.where, Operation) else FOREVER
    return case.keys[first.key].excused(until)


def _back_after_reaping(case: Case) -> Iterator[Finding]:
    """What a record covered that went for good, shown by a read that started after that."""
    for key in case.keys.values():
        said = 0
        if not key.reaped:
            continue
        at_rest = [
            (f"a read at {node} at rest", case.bits(one.values), FOREVER)
            for node, one in case.rest.reads.get(key.key, {}).items()
        ]
        shown = [
            (f"[{one}]", case.bits(one.shown), one.start)
            for one in key.operations
            if one.kind == "get" and one.outcome == "ok" and one.shown
        ]
        for where, values, start in (*shown, *at_rest):
            risen = values & key.gone(start) & ~said
            if risen:
                said |= risen
                yield Finding("I4", f"{where} shows {some(ids_of(risen))}, which had been reaped")


def _shown_after(case: Case, key: _Key) -> list[tuple[str, int]]:
    """The values that reads showed once all was converged."""
    shown = [
        (f"a read at {node} at rest", case.bits(one.values))
        for node, one in case.rest.reads.get(key.key, {}).items()
    ]
    shown += [
        (f"[{one}]", case.bits(one.shown))
        for one in key.operations
        if one.start >= case.rest.at and one.outcome == "ok" and one.kind == "get"
    ]
    return shown


def _resurrected(case: Case, key: _Key, write: Operation) -> bool:
    """True if the write is a delete, and what it deleted is shown at rest."""
    if write.kind != "delete":
        return False
    risen = _deleted_by(case, write)
    return any(values & risen for _, values in _shown_after(case, key))


def _wrongly_shown(case: Case, get: Operation) -> Iterator[Finding]:
    """The context of an answer covers the siblings of its record: all must have been shown."""
    seen, shown = case.seen[get.id], case.bits(get.shown)
    if shown & ~seen:
        yield Finding("I5", f"[{get}] shows {some(ids_of(shown & ~seen))}, not in its record")
    for id in ids_of(seen & case.puts & ~shown):
        if not case.operations[id].expires:
            yield Finding("I5", f"[{get}] does not show {id}, which its context covers")


def _who_showed(case: Case, seen: int, vanished: int) -> str:
    """Which write's own answer showed what has vanished where that write is known."""
    known = 0
    for id in ids_of(seen):
        known |= case.needs(id)
    for id in ids_of(known):
        one = case.operations[id]
        if one.outcome == "ok" and one.kind != "get" and case.seen[id] & vanished:
            return f"[{one}] was made beside it"
    return "it covers what covers it"


def _invented(
    case: Case, where: str | Operation, key: bytes, ids: frozenset[int], until: float
) -> Iterator[Finding]:
    for id in ids if len(ids) < 2 else sorted(ids):
        write = case.operations[id] if 0 <= id < len(case.operations) else None
        if write is None or write.kind == "get" or write.key != key or write.start > until:
            yield Finding("I11", f"[{where}] has write {id}, which nobody had made of this key")


def _effects(case: Case) -> Iterator[tuple[Operation, str]]:
    """Writes that failed definitely, and where they are all the same."""
    refused = {
        one.id: one for one in case.operations if one.kind != "get" and one.outcome == "none"
    }
    if not refused:
        return
    mask = case.bits(refused)
    places: dict[int, str] = {}
    for answer in case.answers:
        for id in ids_of(answer.seen & mask):
            places.setdefault(id, f"[{answer.where}]")
    for id, one in refused.items():
        if case.history.was_minted(id):
            places.setdefault(id, "a record that a replica minted")
        if id in places:
            yield one, places[id]


def _named(case: Case, id: int) -> str:
    known = 0 <= id < len(case.operations)
    return str(case.operations[id]) if known else f"write {id}, which nobody made"
