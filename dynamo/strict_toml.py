"""TOML text into a typed struct, with one clear line for whatever does not fit.

Unknown fields, wrong types, a bool where a number belongs: all are errors. Knows nothing of files
or of what the fields mean.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any, TypeVar

import msgspec

from dynamo.errors import ConfigError

T = TypeVar("T")

_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<key>key in )?\$?(?P<path>.*)`)?$", re.DOTALL)


def decode_toml(text: str, shape: type[T]) -> T:
    """The struct of type `shape` that the text spells. Raises ConfigError that names the field."""
    try:
        return msgspec.convert(_loads(text), shape)
    except msgspec.ValidationError as error:
        raise ConfigError(_readable(str(error))) from None


def _loads(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"it is not TOML: {error}") from None
    except RecursionError:
        raise ConfigError("it nests too deeply") from None
    except ValueError:
        # Python converts no number of more than some thousand digits.
        raise ConfigError("there is a number with too many digits") from None


def _readable(message: str) -> str:
    """ "Expected `int`, got `bool` - at `$.seed`" as "seed: expected int, got bool"."""
    match = _AT.match(message)
    assert match is not None
    what = match["what"].replace("`", "").replace(" | null", "")  # TOML has no null
    what = what.replace("Object contains", "there is an").replace("Object missing", "it misses the")
    what = what[:1].lower() + what[1:]
    path = (match["path"] or "").lstrip(".")
    return f"{path}: {what}" if path else what
