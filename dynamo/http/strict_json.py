"""JSON from outside, read strictly: one value, or an error that names the field.

Refused is what readers disagree about: duplicate keys, NaN, numbers that do not fit, lone surrogates,
a byte order mark, any encoding but UTF-8, nesting without end. Knows nothing of what the values mean.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final, NamedTuple

from dynamo.errors import InvalidArgument

JSON_BYTES_MAX: Final = 64 << 10
DEPTH_MAX: Final = 16
#: Digits of an integer, its sign included: all that fit 64 bits.
DIGITS_MAX: Final = 20
BODY_FIELD: Final = "body"
_NAME_SHOWN_MAX: Final = 64


class _Refused(NamedTuple):
    """Stands in the tree where the value is one that is refused, until its place is known."""

    why: str


def read_object(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`: str, int, float, bool, None, lists and dicts of them.

    Raises InvalidArgument whose `field` is the innermost key of what is wrong, or "body".
    """
    if len(data) > JSON_BYTES_MAX:
        raise _wrong(f"is over {JSON_BYTES_MAX} bytes")
    if data.startswith(b"\xef\xbb\xbf"):
        raise _wrong("starts with a byte order mark")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise _wrong("is not UTF-8") from None
    if text.count("[") + text.count("{") > DEPTH_MAX and _depth(text) > DEPTH_MAX:
        raise _wrong(f"is nested more than {DEPTH_MAX} deep")
    try:
        value = _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise _wrong(f"is not JSON: {error.msg}, at character {error.pos}") from None
    _check(value)
    if not isinstance(value, dict):
        raise _wrong("is not a JSON object")
    return value


def _wrong(why: str, field: str = BODY_FIELD) -> InvalidArgument:
    what = "the body" if field == BODY_FIELD else field
    return InvalidArgument(f"{what} {why}", field=field, allowed="strict JSON in UTF-8")


def _depth(text: str) -> int:
    """How deep brackets are nested, those inside strings aside."""
    depth = deepest = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _check(root: object) -> None:
    """Raises InvalidArgument for the first value, in order, that is refused."""
    todo: list[tuple[str, object]] = [(BODY_FIELD, root)]
    while todo:
        field, value = todo.pop()
        if isinstance(value, _Refused):
            raise _wrong(value.why, field)
        if isinstance(value, str):
            _check_text(value, field)
        elif isinstance(value, list):
            todo.extend((field, item) for item in reversed(value))
        elif isinstance(value, dict):
            for key in value:
                _check_text(key, field)
            todo.extend((_shown(key), item) for key, item in reversed(value.items()))


def _check_text(text: str, field: str) -> None:
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise _wrong("has a lone surrogate", field)


def _shown(key: str) -> str:
    """A key as an error names it: not all of a long one, and nothing that is not plain."""
    return key[:_NAME_SHOWN_MAX].encode("ascii", "backslashreplace").decode("ascii")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built: dict[str, Any] = {}
    for key, value in pairs:
        built[key] = _Refused("is given twice") if key in built else value
    return built


def _integer(text: str) -> int | _Refused:
    if len(text) > DIGITS_MAX:
        return _Refused(f"is a number of more than {DIGITS_MAX} digits")
    return int(text)


def _fraction(text: str) -> float | _Refused:
    value = float(text)
    return value if math.isfinite(value) else _Refused("is a number that is too large")


def _constant(text: str) -> _Refused:
    return _Refused(f"is {text}, which is not JSON")


_decoder: Final = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_fraction,
    parse_constant=_constant,
)
