"""`/admin/antientropy`: how far this node agrees with the others, and whether it goes on comparing.

Knows nothing of how replicas are compared.
"""

from __future__ import annotations

from typing import Final

import msgspec

from dynamo.agreement import PAIRS_SHOWN, PAIRS_SHOWN_MAX
from dynamo.errors import InvalidArgument
from dynamo.http.json_body import read_json, refuse_others
from dynamo.http.reply import HttpReply, json_reply
from dynamo.http.request import Request
from dynamo.http.target import decode

REASON_CHARACTERS_MAX: Final = 200
_DIGITS_MAX: Final = 9


async def get_antientropy(request: Request) -> HttpReply:
    """GET, HEAD: 200 with an `AntiEntropyStatus`; also of a node that is not ready."""
    partition, limit, fields = _read_query(request.raw_query)
    status = request.edge.backend.antientropy(partition, limit)
    return json_reply(200, msgspec.to_builtins(status), fields)


async def get_roots(request: Request) -> HttpReply:
    """GET, HEAD: 200 with a `TreeRoots`; also of a node that is not ready."""
    return json_reply(200, msgspec.to_builtins(request.edge.backend.roots()))


async def pause_antientropy(request: Request) -> HttpReply:
    """POST: 200, this node begins no exchange by itself until it is told to, or starts anew."""
    body = await read_json(request, "reasons", or_nothing=True)
    refuse_others(body, ("reason",))
    reason = body.get("reason", "")
    if not isinstance(reason, str) or len(reason) > REASON_CHARACTERS_MAX:
        raise InvalidArgument(
            f"reason is no text of at most {REASON_CHARACTERS_MAX} characters",
            field="reason",
            allowed=f"a string of at most {REASON_CHARACTERS_MAX} characters",
        )
    request.edge.backend.pause_antientropy(reason)
    return json_reply(200, {"paused": True})


async def resume_antientropy(request: Request) -> HttpReply:
    """POST: 200, this node goes on; also if it was not paused."""
    request.edge.backend.resume_antientropy()
    return json_reply(200, {"paused": False})


def _read_query(query: str) -> tuple[int | None, int, bytes]:
    """(partition or None, how many pairs to tell, header line that says the limit in use)."""
    given: dict[str, int] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        field, text = (decode(half).decode("utf-8", "replace") for half in (name, value))
        least = _LEAST.get(field)
        if least is None:
            continue
        if field in given:
            raise InvalidArgument(f"{field} is given twice", field=field, allowed="once")
        is_number = text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX
        if not is_number or int(text) < least:
            allowed = f"a whole number from {least} on"
            raise InvalidArgument(f"{field} is not {allowed}", field=field, allowed=allowed)
        given[field] = int(text)
    if "limit" not in given:
        return given.get("partition"), PAIRS_SHOWN, b""
    limit = min(given["limit"], PAIRS_SHOWN_MAX)
    return given.get("partition"), limit, b"X-Dynamo-Limit: %d\r\n" % limit


_LEAST: Final = {"partition": 0, "limit": 1}
