"""A small HTTP client for the command line: one object, one request, one answer.

Plain blocking calls of the standard library. Buckets and keys are bytes. Knows nothing of argparse
or of what is printed.
"""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Mapping
from contextlib import suppress
from email.message import Message
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from dynamo.errors import ConfigError, DynamoError

TIMEOUT_SECONDS = 310.0
#: What a node says of itself comes at once, or it is not well.
FETCH_SECONDS = 2.0
FETCH_BYTES_MAX = 16 << 20
EXPIRES = "X-Dynamo-Expires"


class Unreachable(DynamoError):
    """The node could not be reached, or broke off; then a write may have taken effect."""

    code = "unreachable"


class Answer(NamedTuple):
    """What the node said. `headers` compare without case."""

    status: int
    headers: Message
    body: bytes

    @property
    def context(self) -> str | None:
        """The context to hand back with the next write, or None."""
        return self.headers.get("X-Riak-Vclock")

    def error(self) -> dict[str, Any]:
        """The fields of an error's body; only a `message` if it is not ours."""
        try:
            fields = json.loads(self.body)
        except ValueError:
            fields = None
        if isinstance(fields, dict) and isinstance(fields.get("message"), str):
            return fields
        return {"message": f"HTTP {self.status} {http.client.responses.get(self.status, '')}"}


class ObjectClient:
    """Requests about one key at one node.

    `node`: "http://host:port". Raises ConfigError if it is not.
    """

    def __init__(self, node: str, *, bucket_type: bytes, bucket: bytes, key: bytes) -> None:
        self._address = node_address(node)
        self._path = (
            f"/types/{quote(bucket_type, safe='')}/buckets/{quote(bucket, safe='')}"
            f"/keys/{quote(key, safe='')}"
        )

    def request(
        self,
        method: str,
        *,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes | None = None,
    ) -> Answer:
        """One request, sent once. Raises Unreachable."""
        target = self._path + ("?" + _query(query) if query else "")
        connection = http.client.HTTPConnection(self._address, timeout=TIMEOUT_SECONDS)
        try:
            # A node may answer before it has read all, as with a 413, and close: then that counts.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, target, body=body, headers=dict(headers))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"no answer from http://{self._address}: {reason}") from None
        finally:
            connection.close()


def fetch(node: str, path: str) -> bytes:
    """The body of a GET that the node answers with 200 within a few seconds. Raises Unreachable,
    which says why not, and ConfigError."""
    connection = http.client.HTTPConnection(node_address(node), timeout=FETCH_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read(FETCH_BYTES_MAX + 1)
        if response.status != http.client.OK:
            raise Unreachable(f"HTTP {response.status} {response.reason}")
        if len(body) > FETCH_BYTES_MAX:
            raise Unreachable(f"it answers with over {FETCH_BYTES_MAX >> 20} MiB")
        return body
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(str(error) or type(error).__name__) from None
    finally:
        connection.close()


def send(
    node: str, method: str, path: str, *, seconds: float, given: Mapping[str, Any] | None = None
) -> Answer:
    """What a node answers to a request, whose body is `given` as JSON, if it is given. Raises
    Unreachable, ConfigError."""
    connection = http.client.HTTPConnection(node_address(node), timeout=seconds)
    try:
        if given is None:
            connection.request(method, path)
        else:
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, json.dumps(given).encode("ascii"), headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read(FETCH_BYTES_MAX))
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(str(error) or type(error).__name__) from None
    finally:
        connection.close()


def siblings_of(answer: Answer) -> list[dict[str, Any]]:
    """The values in an answer of 200 or 300, one or more.

    Each is {"vtag", "content_type", "last_modified", "metadata" ([[name, value], ...]), "value"
    (bytes)}, with "content_encoding" if it has one, and "expires" (an HTTP date) if it does.
    """
    if answer.status == http.client.OK:
        return [_only(answer)]
    siblings: list[dict[str, Any]] = json.loads(answer.body)["siblings"]
    return [{"metadata": [], **sibling, "value": _value(sibling)} for sibling in siblings]


def as_json(sibling: Mapping[str, Any]) -> dict[str, Any]:
    """A sibling of `siblings_of` in plain JSON: `value` if it is UTF-8, else `value_base64`."""
    fields = {name: value for name, value in sibling.items() if name not in _VALUES}
    try:
        return {**fields, "value": sibling["value"].decode()}
    except UnicodeDecodeError:
        return {**fields, "value_base64": base64.b64encode(sibling["value"]).decode()}


_VALUES = ("value", "value_base64")
_META = "x-riak-meta-"


def _query(query: Mapping[str, str]) -> str:
    return urlencode(query, errors="surrogateescape")  # the bytes of an argument, whatever they are


def _value(sibling: Mapping[str, Any]) -> bytes:
    if "value_base64" in sibling:
        return base64.b64decode(sibling["value_base64"])
    return str(sibling["value"]).encode()


def _only(answer: Answer) -> dict[str, Any]:
    headers = answer.headers
    out: dict[str, Any] = {
        "vtag": headers.get("ETag", "").strip('"'),
        "content_type": headers.get("Content-Type", ""),
        "last_modified": headers.get("Last-Modified", ""),
        "metadata": [
            [name[len(_META) :], value]
            for name, value in headers.items()
            if name.lower().startswith(_META)
        ],
        "value": answer.body,
    }
    if EXPIRES in headers:
        out["expires"] = headers[EXPIRES]
    if "Content-Encoding" in headers:
        out["content_encoding"] = headers["Content-Encoding"]
    return out


def node_address(node: str) -> str:
    """host:port of "http://host:port". Raises ConfigError if it is no such URL."""
    url = node if "://" in node else f"http://{node}"
    try:
        parts = urlsplit(url)
        port = parts.port or http.client.HTTP_PORT
        (parts.hostname or "").encode("idna")  # as the look-up of the name does
    except ValueError:
        raise ConfigError(f"--node: {node!a} is not http://HOST:PORT") from None
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise ConfigError(f"--node: {node!a} is not http://HOST:PORT")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port}"
