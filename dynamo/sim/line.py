"""One line of a scenario, taken apart by how its command is written.

Knows nothing of what commands there are, nor of what they do.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple, cast

from dynamo.requests import Count, ReadOptions, WriteOptions

SECONDS_MAX: Final = 1e6
_COUNT_WORDS: Final = ("one", "quorum", "all", "default")
_WRITE_COUNTS: Final = ("w", "pw", "dw", "node_confirms", "r", "pr")
_READ_COUNTS: Final = ("r", "pr", "node_confirms")


class ScriptError(Exception):
    """A scenario that cannot be carried out: the message begins with its file and line."""


class Line(NamedTuple):
    """One command, taken apart."""

    where: str
    verb: str
    words: tuple[str, ...]
    options: dict[str, str]
    flags: frozenset[str]
    #: What its context is to be remembered as, "" if it is not.
    name: str

    def error(self, why: str) -> ScriptError:
        """One that names this line."""
        return ScriptError(f"{self.where}: {self.verb}: {why}")


def take_apart(usage: str, where: str, text: str) -> Line:
    """The line that `text` is, written as `usage` says: `NAME` is a word, `NAME...` any number of them,
    `[option=]` and `[flag]` may be left out, and `[as NAME]` says what to remember the answer as.
    Raises ScriptError."""
    verb, *rest = text.split()
    name = ""
    if "[as NAME]" in usage and len(rest) > 1 and rest[-2] == "as":
        name = rest[-1]
        rest = rest[:-2]
    known = usage.replace("[as NAME]", "").replace("[", "").replace("]", "").split()[1:]
    words: list[str] = []
    options: dict[str, str] = {}
    flags: set[str] = set()
    free = "..." in usage
    places = sum(word.isupper() for word in known)
    for word in rest:
        key, has_value, value = word.partition("=")
        if "COMMAND..." in usage and len(words) >= places - 1:
            words.append(word)  # of another command
        elif has_value and f"{key}=" in known:
            options[key] = value
        elif word in known and not word.isupper():
            flags.add(word)
        elif has_value:
            raise ScriptError(f"{where}: {verb}: unknown argument {word}; {usage}")
        else:
            words.append(word)
    if len(words) < places or (len(words) > places and not free):
        raise ScriptError(f"{where}: {verb}: it is written {usage}")
    return Line(where, verb, tuple(words), options, frozenset(flags), name)


def seconds(line: Line) -> float:
    """The first word, in seconds. Raises ScriptError."""
    try:
        found = float(line.words[0])
    except ValueError:
        raise line.error(f"{line.words[0]} is no number") from None
    if not 0 <= found <= SECONDS_MAX:
        raise line.error(f"{line.words[0]} s: 0 to {SECONDS_MAX:g}")
    return found


def number(line: Line, option: str, default: int) -> int:
    """The whole number that it says, or the default. Raises ScriptError."""
    try:
        return int(line.options.get(option, default))
    except ValueError:
        raise line.error(f"{option}={line.options[option]} is no number") from None


def _counts(line: Line, names: tuple[str, ...]) -> dict[str, Any]:
    given: dict[str, Count] = {}
    for name in names:
        value = line.options.get(name)
        if value in _COUNT_WORDS:
            given[name] = cast("Count", value)
        elif value is not None:
            given[name] = number(line, name, 0)
    return given


def write_options(line: Line) -> WriteOptions:
    """What it asks of a write. Raises ScriptError."""
    return WriteOptions(
        timeout_ms=number(line, "timeout", 0),
        returnbody=bool(line.name),
        **_counts(line, _WRITE_COUNTS),
    )


def read_options(line: Line) -> ReadOptions:
    """What it asks of a read. Raises ScriptError."""
    repair = line.options.get("repair", "async")
    if repair not in ("async", "blocking"):
        raise line.error("repair=async or repair=blocking")
    return ReadOptions(
        timeout_ms=number(line, "timeout", 0),
        read_repair=cast('Literal["async", "blocking"]', repair),
        **_counts(line, _READ_COUNTS),
    )
