"""What is said to a request that no handler takes. Knows nothing of connections."""

from __future__ import annotations

from collections.abc import Iterable

from dynamo.http.errors import Refusal
from dynamo.http.routes import ROUTER


def no_such_resource(*, close: bool = False) -> Refusal:
    """404: no route has this path."""
    return Refusal(404, "no_such_resource", "there is nothing at this path", close=close)


def not_allowed(methods: Iterable[str], *, close: bool = False) -> Refusal:
    """405: the route has these methods only."""
    allowed = list(methods)
    return Refusal(
        405,
        "method_not_allowed",
        f"this path takes {', '.join(allowed)}",
        fields=b"Allow: %b\r\n" % ", ".join(allowed).encode("ascii"),
        close=close,
        allowed=allowed,
    )


def refuse_method(target: str) -> Refusal:
    """The refusal of a method that the parser does not know; it closes the connection."""
    path, _, _ = target.partition("?")
    route = ROUTER.find(path.split("/"))
    if route is None:
        return no_such_resource(close=True)
    return not_allowed(route.methods, close=True)
