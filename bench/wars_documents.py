"""What nodes have measured of themselves, fetched from them or read from a run. Knows nothing of what
it is good for.
"""

from __future__ import annotations

import http.client
import math
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.history import BAD_JSON
from dynamo.wars_status import WarsStatus

#: Of one node, and of one file.
BYTES_MAX: Final = 64 << 20
TIMEOUT_S: Final = 10.0
PATH: Final = "/admin/wars"
#: In the directory of a run.
FILE: Final = "wars.json"
NODES_MAX: Final = 1000


class BadDocuments(Exception):
    """They could not be had, or are none; the message says whose and why."""


def get_documents(origin: str) -> list[WarsStatus]:
    """`origin`: http://host:port of nodes, with commas between; or a file; or a directory with
    `wars.json`. Raises BadDocuments."""
    parts = [part.strip() for part in origin.split(",")]
    if not any("://" in part for part in parts):
        return read_documents(Path(origin))
    if len(parts) > NODES_MAX:
        raise BadDocuments(f"{len(parts)} nodes are named, more than {NODES_MAX}")
    return [one for url in dict.fromkeys(parts) for one in decode_documents(_fetch(url), url)]


def read_documents(path: Path) -> list[WarsStatus]:
    """Of a file, or of the run in a directory. Raises BadDocuments."""
    if path.is_dir():
        path /= FILE
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise BadDocuments(f"cannot read {path}: {error.strerror or error}") from None
    if len(data) > BYTES_MAX:
        raise BadDocuments(f"{path}: it has more than {BYTES_MAX} bytes")
    return decode_documents(data, str(path))


def decode_documents(data: bytes, origin: str) -> list[WarsStatus]:
    """One document, or a list of them. Raises BadDocuments."""
    try:
        found = msgspec.json.decode(data, type=WarsStatus | list[WarsStatus])
    except BAD_JSON as error:
        raise BadDocuments(f"{origin}: it is not what {PATH} says: {error}") from None
    documents = found if isinstance(found, list) else [found]
    for one in documents:
        _check(one, origin)
    return documents


def _check(one: WarsStatus, origin: str) -> None:
    delays: list[Sequence[float]] = []
    for legs in one.peers.values():
        delays += [legs.w, legs.a, legs.r, legs.s]
    delays += [pair for write in one.writes for pair in write.legs.values()]
    delays += [pair for read in one.reads for pair in read.legs.values()]
    if not all(0 <= ms < math.inf for some in delays for ms in some):
        raise BadDocuments(f"{origin}: {one.node} has measured a delay below nothing, or none")


def _fetch(url: str) -> bytes:
    base = url.rstrip("/").removesuffix(PATH)
    if not base.startswith(("http://", "https://")):
        raise BadDocuments(f"{url!r} is no http://host:port")
    try:
        # A node is asked itself, whatever proxy there is for other things.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(base + PATH, timeout=TIMEOUT_S) as reply:
            data: bytes = reply.read(BYTES_MAX + 1)
    except urllib.error.HTTPError as error:
        error.close()
        what = "it does not measure itself" if error.code == 404 else error.reason
        raise BadDocuments(f"{base}{PATH}: {error.code}: {what}") from None
    except urllib.error.URLError as error:
        raise BadDocuments(f"{base}{PATH}: {_why(error.reason)}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise BadDocuments(f"{base}{PATH}: {_why(error)}") from None
    if len(data) > BYTES_MAX:
        raise BadDocuments(f"{base}{PATH}: the answer has more than {BYTES_MAX} bytes")
    return data


def _why(reason: object) -> str:
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason) or type(reason).__name__
