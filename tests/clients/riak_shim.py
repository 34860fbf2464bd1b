"""What Python took away since 2016, given back, so that the unmodified `riak` 2.7.0 imports.

Imported before it, and by nothing else. `distutils` comes back with setuptools, which is pinned in
riak.txt. Knows nothing of the client itself.
"""

from __future__ import annotations

import base64
import collections
import collections.abc
import email.message
import sys
import types
from collections.abc import Callable
from typing import Any


def restore() -> None:
    """The names that left `collections` (3.10), `base64` (3.9) and the library (`cgi`, 3.13)."""
    for name in collections.abc.__all__:
        if not hasattr(collections, name):
            setattr(collections, name, getattr(collections.abc, name))
    base64.encodestring = base64.encodebytes  # type: ignore[attr-defined]
    base64.decodestring = base64.decodebytes  # type: ignore[attr-defined]
    collections.namedtuple = _without_verbose(collections.namedtuple)
    if sys.version_info >= (3, 13):
        cgi = types.ModuleType("cgi")
        cgi.parse_header = _parse_header  # type: ignore[attr-defined]
        sys.modules["cgi"] = cgi


def _without_verbose(namedtuple: Callable[..., Any]) -> Callable[..., Any]:
    def without_verbose(*args: Any, verbose: bool = False, **kwargs: Any) -> Any:
        assert not verbose
        # The module of the caller, which the original looks for two frames up.
        kwargs.setdefault("module", sys._getframe(1).f_globals.get("__name__", "__main__"))
        return namedtuple(*args, **kwargs)

    return without_verbose


def _parse_header(line: str) -> tuple[str, dict[str, str]]:
    message = email.message.Message()
    message["Content-Type"] = line
    first, *rest = message.get_params([])
    return first[0], dict(rest)


restore()
