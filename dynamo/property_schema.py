"""Bucket properties as people write them, what is kept of them, and what they come to.

A bucket keeps only what it was given; its bucket type stands behind it, the defaults behind both.
Properties that this store does not honour are refused, never kept. Knows nothing of JSON's bytes, of
stamps, of disks or peers.

`allow_mult`, `last_write_wins` and `dvv_enabled` together say one thing: whether concurrent values are
all shown or the last one wins. They go together in four ways only:

    allow_mult  last_write_wins  dvv_enabled     conflicts
    true        false            true            siblings   (the default)
    false       false            true            lww
    false       false            false           lww
    false       true             false           lww

What one request gives has to fit one of these, else it is refused. What it does not give follows: what
the bucket was given before stays where it fits and is forgotten where it does not, then the bucket
type has its say, then the defaults.

    given alone               then it is                       from the defaults
    allow_mult=true           true,  false, true               siblings
    allow_mult=false          false, as it was, as it was      lww
    last_write_wins=true      false, true,  false              lww
    last_write_wins=false     as it was, false, as it was      siblings
    dvv_enabled=true          as it was, false, true           siblings
    dvv_enabled=false         refused while siblings are shown, since they rest on version vectors
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, cast

import msgspec

from dynamo.errors import InvalidArgument, Malformed
from dynamo.properties import DEFAULT_PROPERTIES, BucketProperties
from dynamo.requests import TTL_S_MAX, Count

#: What an encoded `Own` is at most.
VALUES_BYTES_MAX: Final = 1_024


class Own(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The properties that a bucket or a type was given itself; None for one that it was not."""

    allow_mult: bool | None = None
    last_write_wins: bool | None = None
    dvv_enabled: bool | None = None
    r: Count | None = None
    w: Count | None = None
    pr: Count | None = None
    pw: Count | None = None
    dw: Count | None = None
    rw: Count | None = None
    node_confirms: Count | None = None
    notfound_ok: bool | None = None
    basic_quorum: bool | None = None
    ttl: int | Literal["default"] | None = None


NOTHING: Final = Own()


class _Policy(NamedTuple):
    allow_mult: bool
    last_write_wins: bool
    dvv_enabled: bool


_POLICIES: Final = (
    _Policy(True, False, True),
    _Policy(False, False, True),
    _Policy(False, False, False),
    _Policy(False, True, False),
)
_DEFAULT_POLICY: Final = Own(allow_mult=True, last_write_wins=False, dvv_enabled=True)
#: The least that each count may be.
_COUNTS: Final = {"r": 1, "w": 1, "pr": 0, "pw": 0, "dw": 0, "rw": 1, "node_confirms": 0}
#: What "default" of each count comes to, as it is shown.
_SHOWN: Final[dict[str, Count]] = {
    "r": "quorum",
    "w": "quorum",
    "pr": 0,
    "pw": 0,
    "dw": 0,
    "rw": "default",
    "node_confirms": 0,
}
_FLAGS: Final = ("notfound_ok", "basic_quorum")
_WORDS: Final = ("one", "quorum", "all", "default")
_N_VAL: Final = "n_val"
#: Seconds after which what is written expires, 0 for never.
_TTL: Final = "ttl"
#: All that can be set, and is shown.
PROPERTY_NAMES: Final = (_N_VAL, *_Policy._fields, *_COUNTS, *_FLAGS, _TTL)

_NAME_SHOWN_MAX: Final = 64


# What a request gives ---------------------------------------------------------------------------


def read_properties(given: Mapping[str, object], n: int) -> Own:
    """What a request gives; "default" for a count or the ttl means: no longer any of its
    own.

    `n`: the replicas of the bucket type. Raises InvalidArgument that names the property.
    """
    for name, value in given.items():
        if name in _COUNTS:
            _check_count(name, value, n)
        elif name in _Policy._fields or name in _FLAGS:
            _check_flag(name, value)
        elif name == _N_VAL:
            _check_n_val(value, n)
        elif name == _TTL:
            _check_ttl(value)
        else:
            # A name from outside: shown in part, and as ASCII.
            shown = name[:_NAME_SHOWN_MAX].encode("ascii", "backslashreplace").decode("ascii")
            raise InvalidArgument(
                f"{shown} is not a property that is honoured here",
                field=shown,
                allowed=", ".join(PROPERTY_NAMES),
            )
    own = Own(**cast(dict[str, Any], {name: given[name] for name in given if name != _N_VAL}))
    _check_policy(own)
    return own


def _check_count(name: str, value: object, n: int) -> None:
    least = _COUNTS[name]
    if type(value) is int and least <= value <= n:
        return
    if type(value) is str and value in _WORDS:
        return
    allowed = f"{least} to {n}, or {', '.join(_WORDS)}"
    raise InvalidArgument(f"{name} must be {allowed}", field=name, allowed=allowed)


def _check_flag(name: str, value: object) -> None:
    if type(value) is not bool:
        raise InvalidArgument(f"{name} is not a boolean", field=name, allowed="true, false")


def _check_n_val(value: object, n: int) -> None:
    if type(value) is not int or value != n:
        raise InvalidArgument(
            f"n_val is that of the bucket type, which is {n}, and cannot be changed",
            field=_N_VAL,
            allowed=str(n),
        )


def _check_ttl(value: object) -> None:
    if (type(value) is int and 0 <= value <= TTL_S_MAX) or value == "default":
        return
    allowed = f"0 (never) to {TTL_S_MAX} seconds, or default"
    raise InvalidArgument(f"{_TTL} must be {allowed}", field=_TTL, allowed=allowed)


def _check_policy(own: Own) -> None:
    """Raises InvalidArgument if what is given of the policy fits none."""
    given = {name: getattr(own, name) for name in _Policy._fields}
    if _fitting(own):
        return
    if given["last_write_wins"]:
        other = "allow_mult" if given["allow_mult"] else "dvv_enabled"
        raise InvalidArgument(
            f"last_write_wins and {other} contradict each other: at most one of them can be true",
            field="last_write_wins",
            allowed=f"false, or true with {other} false",
        )
    raise _without_vectors()


def _without_vectors() -> InvalidArgument:
    return InvalidArgument(
        "dvv_enabled cannot be false where siblings are shown: they rest on version vectors",
        field="dvv_enabled",
        allowed="true, or false with allow_mult false",
    )


# What is kept -----------------------------------------------------------------------------------


def change(own: Own, of_type: Own, given: Own) -> Own:
    """What a bucket has of its own once it was given this. `of_type`: what its type has; NOTHING for
    a type itself. Raises InvalidArgument where the change cannot be honoured."""
    if given.dvv_enabled is False and given.allow_mult is None:
        rest = change(own, of_type, msgspec.structs.replace(given, dvv_enabled=None))
        if policy(rest, of_type).allow_mult:
            raise _without_vectors()
        # Pinned: should the type change, siblings must not come back without vectors.
        given = msgspec.structs.replace(given, allow_mult=False)
    kept = _fields(own)
    new = _fields(given)
    # The newest goes first: of the policy, only what fits it stays.
    policies = _fitting(given)
    for name in _Policy._fields:
        if name in kept and name not in new:
            left = [one for one in policies if getattr(one, name) == kept[name]]
            if left:
                policies = left
            else:
                del kept[name]
    merged = {**kept, **new}
    return Own(**{name: value for name, value in merged.items() if value != "default"})


def encode_own(own: Own) -> bytes:
    """The same bytes for the same properties; b"" for none."""
    return b"" if own == NOTHING else msgspec.msgpack.encode(own)


def decode_own(data: bytes, n: int) -> Own:
    """What was encoded. `n` as in `read_properties`. Properties that this version does not know are
    passed over. Raises Malformed for what cannot have been set."""
    if not data:
        return NOTHING
    try:
        own = _decode(data)
        return read_properties(_fields(own), n)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"these are no properties: {error}") from None
    except InvalidArgument as error:
        raise Malformed(f"these properties cannot be: {error.message}") from None


_decode: Final = msgspec.msgpack.Decoder(Own).decode


def _fields(own: Own) -> dict[str, Any]:
    """What is given, by name."""
    return {k: v for k, v in msgspec.structs.asdict(own).items() if v is not None}


# What it comes to -------------------------------------------------------------------------------


def policy(own: Own, of_type: Own) -> _Policy:
    """How conflicts are shown: what the bucket says, then its type, then the defaults, each as far
    as it fits what was said before."""
    policies = list(_POLICIES)
    for layer in (own, of_type, _DEFAULT_POLICY):
        for name in _Policy._fields:
            value = getattr(layer, name)
            left = [one for one in policies if getattr(one, name) == value]
            policies = left or policies
    return policies[0]


def effective(own: Own, of_type: Own) -> BucketProperties:
    """What applies to requests; the shared DEFAULT_PROPERTIES where that is all."""
    counts = {name: _nearest(own, of_type, name, "default") for name in _COUNTS}
    props = BucketProperties(
        conflict="siblings" if policy(own, of_type).allow_mult else "lww",
        notfound_ok=_nearest(own, of_type, "notfound_ok", DEFAULT_PROPERTIES.notfound_ok),
        basic_quorum=_nearest(own, of_type, "basic_quorum", DEFAULT_PROPERTIES.basic_quorum),
        ttl=_nearest(own, of_type, _TTL, DEFAULT_PROPERTIES.ttl),
        **counts,
    )
    return DEFAULT_PROPERTIES if props == DEFAULT_PROPERTIES else props


def show(own: Own, of_type: Own, n: int) -> dict[str, object]:
    """Every property that is honoured, as JSON shows it. `n`: the replicas of the type."""
    props = effective(own, of_type)
    shown: dict[str, object] = {_N_VAL: n, **policy(own, of_type)._asdict()}
    for name, default in _SHOWN.items():
        value = getattr(props, name)
        shown[name] = default if value == "default" else value
    for name in (*_FLAGS, _TTL):
        shown[name] = getattr(props, name)
    return shown


def _nearest(own: Own, of_type: Own, name: str, default: Any) -> Any:
    for layer in (own, of_type):
        value = getattr(layer, name)
        if value is not None:
            return value
    return default


def _fitting(own: Own) -> list[_Policy]:
    """The policies that what is given allows."""
    return [
        one
        for one in _POLICIES
        if all(getattr(own, name) in (None, getattr(one, name)) for name in _Policy._fields)
    ]
