"""One batch of records on its way out: asks owners and members what the proof needs, in its order, and
has the owners drop what is proved (`antientropy.reaping`).

A batch that ends anywhere between, with this node or without, leaves nothing to be cleared up: what is
left is in the queues of those that have it. Nobody is told of a batch but by the next. Knows nothing of
how records are kept, nor of when it is time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from antientropy.reaping import Look, Place, first_look, held_by_all, second_look, started_anew
from dynamo.ask import ask_of
from dynamo.metrics import Metrics
from dynamo.ports import Failure, Transport
from dynamo.rpc.messages import Refused, Reply, Request
from dynamo.rpc.reap_messages import (
    Doomed,
    Drop,
    Dropped,
    Held,
    HintsSeen,
    Holds,
    LookHints,
    Settled,
    SettleUp,
    Shown,
)
from ring.ring import Ring

#: Records that one message names: an owner is kept by it for a millisecond or two.
CHUNK: Final = 64
ASK_TIMEOUT: Final = 10.0
#: Until all that clients may have under way has ended: longer operations hold up a batch.
SETTLE_TIMEOUT: Final = 30.0

GONE: Final = ""


class Batch:
    """Of one ring. `incarnations`: what the births of each member began with when last looked at."""

    def __init__(self, *, ring: Ring, transport: Transport, metrics: Metrics) -> None:
        self._ring = ring
        self._transport = transport
        self._count = metrics.count
        self._members = [member.id for member in ring.members]
        self.incarnations: dict[str, bytes] = {}

    async def look_for_incarnations(self) -> None:
        """Know under which incarnations the members mint."""
        await self._look((), ())

    async def run(self, doomed: Sequence[Doomed]) -> list[str]:
        """Try to have these records dropped everywhere: for each GONE, or why it waits."""
        ring = self._ring
        owners = [ring.all_owners(one.cls, one.partition) for one in doomed]
        waits, starts = await self._held(doomed, owners)
        left = [at for at, why in enumerate(waits) if not why]
        places = sorted({_place(doomed[at]) for at in left})
        if not places:
            return waits
        first, seen = await self._look(places, ())
        waiting = first_look(places, self._members, first)
        live = tuple(self.incarnations.values())
        for at in left:
            if any(birth.startswith(live) for birth in doomed[at].births):
                waits[at] = "a member has started to mint under what was to go"
            waits[at] = waits[at] or started_anew(owners[at], starts, first)
        if len(waiting) < len(places):
            why = await self._settle()
            if why:
                waiting = dict.fromkeys(places, why)
            else:
                second, _ = await self._look(places, self._shown(seen))
                waiting |= second_look(places, self._members, first, second)
        for at in left:
            waits[at] = waits[at] or waiting.get(_place(doomed[at]), "")
        left = [at for at, why in enumerate(waits) if not why]
        await self._drop(doomed, owners, left, waits)
        return waits

    # Steps --------------------------------------------------------------------------------------

    async def _held(
        self, doomed: Sequence[Doomed], owners: Sequence[Sequence[str]]
    ) -> tuple[list[str], dict[str, set[int]]]:
        """Why each record waits, "" if all owners hold it; and in which starts each owner said so."""
        waits: list[str] = []
        starts: dict[str, set[int]] = {}
        for start in range(0, len(doomed), CHUNK):
            chunk, of_chunk = doomed[start : start + CHUNK], owners[start : start + CHUNK]
            asked = _asked(of_chunk)
            answers = await self._ask(
                {
                    name: Holds(_ms(ASK_TIMEOUT), self._ring.epoch, tuple(chunk[at] for at in ats))
                    for name, ats in asked.items()
                },
                ASK_TIMEOUT,
            )
            held: dict[str, dict[int, str] | str] = {}
            for name, ats in asked.items():
                answer = answers[name]
                held[name] = _held(answer, ats)
                if isinstance(answer, Held):
                    starts.setdefault(name, set()).add(answer.start)
            waits += held_by_all(of_chunk, held)
        return waits, starts

    async def _look(
        self, places: Sequence[Place], known: Sequence[Shown]
    ) -> tuple[dict[str, Look | str], dict[str, HintsSeen]]:
        message = LookHints(_ms(ASK_TIMEOUT), self._ring.epoch, tuple(places), tuple(known))
        answers = await self._ask(dict.fromkeys(self._members, message), ASK_TIMEOUT)
        looks: dict[str, Look | str] = {}
        seen: dict[str, HintsSeen] = {}
        for name, answer in answers.items():
            if not isinstance(answer, HintsSeen):
                looks[name] = _why(answer)
                continue
            blocked = dict(answer.blocked)
            reasons = tuple(blocked.get(at, "") for at in range(len(places)))
            looks[name] = Look(answer.start, reasons, answer.taken)
            seen[name] = answer
            self.incarnations[name] = answer.incarnation
        return looks, seen

    async def _settle(self) -> str:
        """ "" once all members have settled, else who has not and why."""
        message = SettleUp(_ms(SETTLE_TIMEOUT), self._ring.epoch)
        answers = await self._ask(dict.fromkeys(self._members, message), SETTLE_TIMEOUT)
        for name in self._members:
            answer = answers[name]
            if not isinstance(answer, Settled):
                return f"{name}: {_why(answer)}"
        return ""

    async def _drop(
        self,
        doomed: Sequence[Doomed],
        owners: Sequence[Sequence[str]],
        left: Sequence[int],
        waits: list[str],
    ) -> None:
        for start in range(0, len(left), CHUNK):
            chunk = left[start : start + CHUNK]
            asked = _asked([owners[at] for at in chunk])
            answers = await self._ask(
                {
                    name: Drop(
                        _ms(ASK_TIMEOUT),
                        self._ring.epoch,
                        tuple(doomed[chunk[at]] for at in ats),
                    )
                    for name, ats in asked.items()
                },
                ASK_TIMEOUT,
            )
            for name, ats in asked.items():
                for at, why in _left_by(answers[name], ats):
                    waits[chunk[at]] = waits[chunk[at]] or f"{name} has not dropped it: {why}"
        self._count["tombstones_reaped"] += sum(
            not waits[at] and not doomed[at].births for at in left
        )

    async def _ask(
        self, messages: Mapping[str, Request], timeout: float
    ) -> dict[str, Reply | Failure]:
        return await ask_of(self._transport, messages, timeout)

    def _shown(self, seen: Mapping[str, HintsSeen]) -> list[Shown]:
        return [
            Shown(at, seen[name].start, seen[name].write_number)
            for at, name in enumerate(self._members)
            if name in seen
        ]


def _place(doomed: Doomed) -> Place:
    return (doomed.cls, doomed.partition)


def _asked(owners: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    """Of each owner, the positions of what is its."""
    found: dict[str, list[int]] = {}
    for at, names in enumerate(owners):
        for name in names:
            found.setdefault(name, []).append(at)
    return found


def _held(answer: Reply | Failure, ats: Sequence[int]) -> dict[int, str] | str:
    """What an owner said of each position: "" if it holds that, else why not; or why it said nothing."""
    if not isinstance(answer, Held):
        return _why(answer)
    found = {ats[position]: why for position, why in answer.refused if position < len(ats)}
    return found | {ats[position]: "" for position in answer.positions if position < len(ats)}


def _left_by(answer: Reply | Failure, ats: Sequence[int]) -> Iterator[tuple[int, str]]:
    """What an owner has left as it was, and why."""
    if not isinstance(answer, Dropped):
        yield from ((at, _why(answer)) for at in ats)
        return
    for position, why in answer.refused:
        if position < len(ats):
            yield ats[position], why


def _why(answer: Reply | Failure) -> str:
    if isinstance(answer, Failure):
        return answer.reason
    if isinstance(answer, Refused):
        return answer.detail or answer.code
    return f"it answers with {type(answer).__name__}"


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
