"""Reading a body that has to be JSON: its type, its size, and the one object in it.

Knows nothing of what the object says.
"""

from __future__ import annotations

from typing import Any, Final

from aiohttp import hdrs

from dynamo.errors import InvalidArgument, ValueTooLarge
from dynamo.http.body import read_body
from dynamo.http.errors import Refusal
from dynamo.http.request import Request
from dynamo.http.strict_json import BODY_FIELD, JSON_BYTES_MAX, read_object

_JSON: Final = "application/json"
_FIELD_SHOWN_MAX: Final = 64


async def read_json(request: Request, what: str, *, or_nothing: bool = False) -> dict[str, Any]:
    """The JSON object in the body. `what` is sent, in the plural, for people; `or_nothing`: an empty
    body is an empty object.

    Raises Refusal 415 for another Content-Type, Refusal or InvalidArgument for a body that is too large
    or no strict JSON, and as `read_body`.
    """
    _check_content_type(request, what)
    data = await _read(request)
    return {} if or_nothing and not data else read_object(data)


def refuse_others(body: dict[str, Any], known: tuple[str, ...]) -> None:
    """Raises InvalidArgument for the first field that is not among `known`."""
    for field in body:
        if field not in known:
            shown = field[:_FIELD_SHOWN_MAX].encode("ascii", "backslashreplace").decode("ascii")
            raise InvalidArgument(f"{shown} is unknown", field=shown, allowed=", ".join(known))


def _check_content_type(request: Request, what: str) -> None:
    given = request.headers.getall(hdrs.CONTENT_TYPE, ())
    for value in given:
        if value.partition(";")[0].strip().lower() != _JSON:
            raise Refusal(
                415,
                "unsupported_media_type",
                f"{what} are sent as {_JSON}",
                fields=f"Accept: {_JSON}\r\n".encode("ascii"),
                field=hdrs.CONTENT_TYPE,
                allowed=_JSON,
            )


async def _read(request: Request) -> bytes:
    try:
        return await read_body(request, JSON_BYTES_MAX)
    except ValueTooLarge as error:
        raise Refusal(
            400,
            "invalid_argument",
            f"the body is over {JSON_BYTES_MAX} bytes",
            close=True,
            field=BODY_FIELD,
            allowed=f"at most {JSON_BYTES_MAX} bytes",
        ) from error
