"""What a node does to its own messages while faults are injected: which are delayed by how much, and
to whom nothing passes.

A rule names peers and a leg of the WARS model, and gives a distribution of delays, or cuts the peers
off. Of several rules the first that fits counts; one of the leg itself goes before one of any leg. A
cut goes before all. Pure: chance is an argument; knows nothing of channels or of time.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple, get_args

import msgspec

from dynamo.errors import InvalidArgument

#: W carries a write to a replica (Mint, Store), A its acknowledgement (Minted, Synced, or why not), R a
#: read (Fetch), S its answer (Digest, Body, or why not); "*" is any message, where no rule has its leg.
Leg = Literal["W", "A", "R", "S", "*"]
LEGS: Final[tuple[Leg, ...]] = get_args(Leg)

RULES_MAX: Final = 256
PEERS_MAX: Final = 1_000
PARTS_MAX: Final = 16
#: A delay drawn above it is cut to it, and counted.
DELAY_MS_MAX: Final = 60_000.0
#: How far the weights of a distribution may be from 1 together; they are scaled to it.
WEIGHTS_OFF_MAX: Final = 0.01
#: Parameters of each kind of distribution.
KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "exponential": ("rate per ms",),
    "pareto": ("least ms", "alpha"),
    "constant": ("ms",),
}
#: Parameters that may be 0.
_FROM_ZERO: Final = ("constant",)


class Part(NamedTuple):
    """One component of a mix, with its share."""

    weight: float
    kind: str
    parameters: tuple[float, ...]

    def draw(self, chance: random.Random) -> float:
        """Milliseconds."""
        if self.kind == "exponential":
            return -math.log(1.0 - chance.random()) / self.parameters[0]
        if self.kind == "pareto":
            least, alpha = self.parameters
            # What exp cannot give is far above the limit of a delay.
            return least * math.exp(min(700.0, -math.log(1.0 - chance.random()) / alpha))
        return self.parameters[0]


class Rule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`peers`: whom it is about, () for all. Either `drop`, and nothing passes; or `delay`, a mix."""

    peers: tuple[str, ...] = ()
    leg: Leg = "*"
    delay: tuple[Part, ...] = ()
    drop: bool = False


class FaultRules:
    """Rules in force, looked up by peer and leg."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.rules = tuple(rules)
        self._found: dict[tuple[str, Leg], tuple[Part, ...]] = {}

    def __repr__(self) -> str:
        return f"FaultRules({len(self.rules)} rules)"

    def is_cut(self, peer: str) -> bool:
        """True if nothing passes between this node and the peer."""
        return any(rule.drop and _is_about(rule, peer) for rule in self.rules)

    @property
    def delays(self) -> bool:
        """True if any message may be delayed."""
        return any(not rule.drop for rule in self.rules)

    def draw(self, peer: str, leg: Leg, chance: random.Random) -> float:
        """Milliseconds that the next message of this leg to the peer is late; 0.0 where no rule fits."""
        mix = self._found.get((peer, leg))
        if mix is None:
            mix = self._found[peer, leg] = self._find(peer, leg)
        if not mix:
            return 0.0
        part = mix[0]
        if len(mix) > 1:
            left = chance.random()
            for part in mix:
                left -= part.weight
                if left < 0.0:
                    break
        return part.draw(chance)

    def _find(self, peer: str, leg: Leg) -> tuple[Part, ...]:
        for wanted in (leg, "*"):
            for rule in self.rules:
                if not rule.drop and rule.leg == wanted and _is_about(rule, peer):
                    return rule.delay
        return ()


def _is_about(rule: Rule, peer: str) -> bool:
    return not rule.peers or peer in rule.peers


# From JSON ---------------------------------------------------------------------------------------


def parse_rules(given: object, peers: Iterable[str]) -> FaultRules:
    """The rules of a JSON list. `peers`: ids of the other members. Raises InvalidArgument."""
    if not isinstance(given, list):
        raise _wrong("rules", "is no list", "a list of rules")
    if len(given) > RULES_MAX:
        raise _wrong("rules", f"has {len(given)} entries", f"at most {RULES_MAX}")
    known = tuple(peers)
    return FaultRules(_rule(f"rules[{i}]", rule, known) for i, rule in enumerate(given))


def _rule(field: str, given: object, known: tuple[str, ...]) -> Rule:
    if not isinstance(given, dict):
        raise _wrong(
            field, "is no object", "an object with peers, leg and delay, or peers and drop"
        )
    for name in given:
        if name not in ("peers", "leg", "delay", "drop"):
            raise _wrong(field, "has an unknown member", "peers, leg, delay, drop")
    peers = _peers(f"{field}.peers", given.get("peers", []), known)
    drop = given.get("drop", False)
    if not isinstance(drop, bool):
        raise _wrong(f"{field}.drop", "is no boolean", "true, false")
    if drop:
        if "delay" in given or given.get("leg", "*") != "*":
            raise _wrong(field, "cuts a peer off, and goes by leg or delay", "either drop or delay")
        return Rule(peers=peers, drop=True)
    leg = given.get("leg", "*")
    if leg not in LEGS:
        raise _wrong(f"{field}.leg", "is no leg", ", ".join(LEGS))
    if "delay" not in given:
        raise _wrong(field, "says nothing to do", "either drop or delay")
    return Rule(peers=peers, leg=leg, delay=_mix(f"{field}.delay", given["delay"]))


def _peers(field: str, given: object, known: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(given, list) or len(given) > PEERS_MAX:
        raise _wrong(
            field, "is no list of node ids", f"at most {PEERS_MAX} ids, none for all others"
        )
    for name in given:
        if name not in known:
            raise _wrong(field, "names what is no other member", ", ".join(known) or "none")
    return tuple(dict.fromkeys(given))


def _mix(field: str, given: object) -> tuple[Part, ...]:
    allowed = f"1 to {PARTS_MAX} of [weight, kind, parameters...], of kind {', '.join(KINDS)}"
    if not isinstance(given, list) or not 0 < len(given) <= PARTS_MAX:
        raise _wrong(field, "is no distribution", allowed)
    parts = [_part(f"{field}[{i}]", part, allowed) for i, part in enumerate(given)]
    total = sum(part.weight for part in parts)
    if abs(total - 1.0) > WEIGHTS_OFF_MAX:
        raise _wrong(field, f"has weights that make {total:g}", "weights that make 1")
    return tuple(part._replace(weight=part.weight / total) for part in parts)


def _part(field: str, given: object, allowed: str) -> Part:
    if not isinstance(given, list) or len(given) < 2 or not isinstance(given[1], str):
        raise _wrong(field, "is no part of a distribution", allowed)
    weight, kind, *parameters = given
    names = KINDS.get(kind)
    if names is None:
        raise _wrong(field, "has an unknown kind", ", ".join(KINDS))
    if not _is_number(weight) or not 0.0 < weight <= 1.0 + WEIGHTS_OFF_MAX:
        raise _wrong(field, "has a wrong weight", "above 0, at most 1")
    if len(parameters) != len(names):
        raise _wrong(field, f"has {len(parameters)} parameters", f"{kind}: {', '.join(names)}")
    for name, value in zip(names, parameters, strict=True):
        if not _is_number(value) or value < 0.0 or (value == 0.0 and kind not in _FROM_ZERO):
            lowest = "0 or more" if kind in _FROM_ZERO else "above 0"
            raise _wrong(field, f"has a wrong {name}", f"a finite number, {lowest}")
    return Part(float(weight), kind, tuple(float(value) for value in parameters))


def _is_number(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # An int that no float holds raises where it is compared with one.
    return is_number and -1e300 < value < 1e300  # type: ignore[operator]


def _wrong(field: str, what: str, allowed: str) -> InvalidArgument:
    return InvalidArgument(f"{field} {what}", field=field, allowed=allowed)


def show_rules(rules: FaultRules) -> list[dict[str, Any]]:
    """As JSON that `parse_rules` reads."""
    return [
        {"peers": list(rule.peers), "drop": True}
        if rule.drop
        else {
            "peers": list(rule.peers),
            "leg": rule.leg,
            "delay": [[part.weight, part.kind, *part.parameters] for part in rule.delay],
        }
        for rule in rules.rules
    ]
