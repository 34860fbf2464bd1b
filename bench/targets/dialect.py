"""Reads and writes as Riak's HTTP API spells them, and what the answers mean to a history.

An answer says what became of a write by its status, and where that is an error by `outcome` in its
JSON body. In doubt a write is unknown; a read that has no answer failed. Pure.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

import msgspec

from bench.history import Outcome
from bench.targets.client import Answer
from bench.targets.protocol import FOREIGN, Reply
from bench.targets.value import Value, decode_value

STAMPS_HEADER: Final = "X-Dynamo-Stamps"
LOCAL_HEADER: Final = "X-Dynamo-Local"
_BEGAN: Final = b"x-dynamo-began"
_COMMITTED: Final = b"x-dynamo-committed"
_ACKS: Final = b"x-dynamo-acks"
_CONTEXT: Final = b"x-riak-vclock"
_TYPE: Final = b"content-type"

_OK: Final = frozenset((200, 201, 204, 300))
#: Of a URL path, what needs no quoting.
_PLAIN: Final = re.compile(r"[A-Za-z0-9._~-]*", re.ASCII)
_BOUNDARY: Final = re.compile(rb'boundary="?([^";]+)"?')
_FALLBACKS: Final = re.compile(rb"fallback=(\d+)")
WHY_CHARACTERS_MAX: Final = 200


class Dialect:
    """Of one run in one bucket. `stamps`: ask for the coordinator's."""

    def __init__(self, *, run: str, bucket: str, stamps: bool) -> None:
        self.run = run
        self._path = f"/buckets/{quote(bucket, safe='')}/keys/"
        self._fields = "Host: bench\r\nAccept: multipart/mixed\r\n"
        if stamps:
            self._fields += f"{STAMPS_HEADER}: 1\r\n"
        self._local_fields = f"{self._fields}{LOCAL_HEADER}: 1\r\n"

    # Requests -----------------------------------------------------------------------------------

    def read(self, key: str, *, r: int | None, timeout: float, local: bool) -> bytes:
        """A GET; `local`: of what the node asked has itself."""
        fields = self._local_fields if local else self._fields
        query = f"{_limit(timeout)}{_quorum('r', r)}"
        return f"GET {self._target(key)}?{query} HTTP/1.1\r\n{fields}\r\n".encode("ascii")

    def write(
        self, key: str, value: bytes, *, context: bytes, w: int | None, timeout: float
    ) -> bytes:
        """A PUT that asks for what the key holds then, since only that comes with a context."""
        query = f"{_limit(timeout)}{_quorum('w', w)}&returnbody=true"
        head = (
            f"PUT {self._target(key)}?{query} HTTP/1.1\r\n{self._fields}"
            f"Content-Type: text/plain\r\nContent-Length: {len(value)}\r\n"
        ).encode("ascii")
        if context:
            head += b"X-Riak-Vclock: %b\r\n" % context
        return b"%b\r\n%b" % (head, value)

    def _target(self, key: str) -> str:
        return self._path + (key if _PLAIN.fullmatch(key) else quote(key, safe=""))

    # Answers ------------------------------------------------------------------------------------

    def read_answer(self, answer: Answer, coordinator: str) -> Reply:
        """What a read saw; 404 is an answer, of nothing."""
        status = answer.status
        if status not in _OK and not _is_absent(answer):
            return Reply("fail", coordinator, why=why(answer))
        return self._reply(answer, coordinator)

    def write_answer(self, answer: Answer, coordinator: str) -> Reply:
        """What became of a write; `seen`: what its context covers, itself among it."""
        if answer.status not in _OK:
            return Reply(outcome_of(answer), coordinator, why=why(answer))
        return self._reply(answer, coordinator)

    def _reply(self, answer: Answer, coordinator: str) -> Reply:
        fields = answer.fields
        values = [decode_value(self.run, body) for body in _bodies(answer)]
        acks = fields.get(_ACKS)
        found = _FALLBACKS.search(acks) if acks is not None else None
        return Reply(
            "ok",
            coordinator,
            seen=tuple(value.version for value in values if value.version != FOREIGN),
            context=fields.get(_CONTEXT, b""),
            elements=_elements(values),
            began=_number(fields.get(_BEGAN)),
            committed=_number(fields.get(_COMMITTED)),
            fallbacks=int(found[1]) if found else 0,
            foreign=sum(value.version == FOREIGN for value in values),
        )


def _limit(timeout: float) -> str:
    return f"timeout={max(1, round(timeout * 1000))}"


def _quorum(name: str, count: int | None) -> str:
    return "" if count is None else f"&{name}={count}"


def _number(value: bytes | None) -> int:
    return int(value) if value is not None and value.isdigit() else 0


def _elements(values: list[Value]) -> tuple[int, ...]:
    """Of a set whose siblings are merged: all that is in any."""
    if not any(value.elements for value in values):
        return ()
    return tuple(sorted({element for value in values for element in value.elements}))


def _bodies(answer: Answer) -> list[bytes]:
    if answer.status == 300:
        return parts_of(answer)
    return [answer.body] if answer.status in (200, 201) and answer.body else []


def parts_of(answer: Answer) -> list[bytes]:
    """The bodies of a multipart/mixed answer, b"" for a part that is none."""
    boundary = _BOUNDARY.search(answer.fields.get(_TYPE, b""))
    if boundary is None:
        return [b""]
    pieces = answer.body.split(b"\r\n--" + boundary[1])
    return [piece.partition(b"\r\n\r\n")[2] for piece in pieces[1:-1]]


class Error(msgspec.Struct, frozen=True):
    """What all errors of the store say; "" where one does not."""

    code: str = ""
    message: str = ""
    outcome: str = ""


_ERROR: Final = msgspec.json.Decoder(Error)
_NO_ERROR: Final = Error()


def told(answer: Answer) -> Error:
    """The body of an error."""
    try:
        return _ERROR.decode(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _NO_ERROR


def outcome_of(answer: Answer) -> Outcome:
    """Of a write that was answered by an error."""
    outcome = told(answer).outcome
    if outcome == "none":
        return "fail"
    # What sits between may have passed it on, or not; a refusal of the request itself is one.
    return "fail" if not outcome and 400 <= answer.status < 500 else "unknown"


def why(answer: Answer) -> str:
    """Status, code and message of an error, in one line."""
    error = told(answer)
    line = f"{answer.status} {error.code} {error.message}"
    return " ".join(line.split())[:WHY_CHARACTERS_MAX]


def _is_absent(answer: Answer) -> bool:
    return answer.status == 404 and told(answer).code == "not_found"
