"""`dynamo get|put|delete`: one object, over HTTP, for people and for scripts.

A value goes to standard output as it is; all that is said about it goes to standard error. Exit
codes: 0 done, 1 not found, 3 the store refused or could not be reached, 4 several values.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
from typing import Any

from dynamo.cli.client import EXPIRES, Answer, ObjectClient, as_json, siblings_of
from dynamo.cli.parser import Commands
from dynamo.errors import ConfigError

NODE_DEFAULT = "http://127.0.0.1:8098"
OK = 0
NOT_FOUND = 1
FAILED = 3
SEVERAL = 4
PREVIEW_CHARACTERS = 60
VALUE_BYTES_READ_MAX = 64 << 20

#: Flags that become query parameters of the same name (with _ for -).
_COUNTS = {
    "r": "replicas that must answer a read",
    "pr": "of them, primaries",
    "w": "replicas that must have a write on disk",
    "pw": "of them, primaries",
    "dw": "raises w",
    "node_confirms": "distinct nodes",
}
_READ = ("r", "pr", "node_confirms")
_WRITE = ("w", "pw", "dw", "node_confirms")


def add_commands(commands: Commands) -> None:
    """Add `get`, `put` and `delete` to the parser."""
    get = _add(commands, "get", "print the value of a key", counts=_READ)
    get.add_argument("--vtag", help="of several values, the one of this name")
    get.add_argument(
        "--read-repair",
        choices=("async", "blocking"),
        help="blocking: answer once enough replicas hold what is shown",
    )
    get.set_defaults(run=run_get)

    put = _add(commands, "put", "write the value of a key", counts=(*_READ[:2], *_WRITE))
    put.description = (
        "Write the value of a key. Without --context or --blind it reads the key first and replaces "
        "what that shows."
    )
    put.add_argument("value", metavar="VALUE", help="the value, or - for standard input")
    put.add_argument(
        "--content-type",
        help="(default: text/plain; charset=utf-8; from standard input application/octet-stream)",
    )
    put.add_argument("--context", help="replace exactly what the read that gave it showed")
    expiry = put.add_mutually_exclusive_group()
    expiry.add_argument(
        "--ttl", metavar="SECONDS", help="until the value expires; 0: never (default: the bucket's)"
    )
    expiry.add_argument(
        "--expires", metavar="DATE", help='when it does instead: "Sun, 06 Nov 2033 08:49:37 GMT"'
    )
    put.add_argument(
        "--blind",
        action="store_true",
        help="read nothing first; values that are there stay, as siblings",
    )
    put.set_defaults(run=run_put)

    delete = _add(commands, "delete", "delete a key", counts=(*_READ[:2], *_WRITE))
    delete.add_argument("--context", help="delete exactly what the read that gave it showed")
    delete.set_defaults(run=run_delete)


def run_get(arguments: argparse.Namespace) -> int:
    """Print the value, or list the siblings."""
    query = _query(arguments, (*_READ, "vtag", "read_repair"))
    answer = _client(arguments).request("GET", query=query, headers=_ACCEPT)
    if arguments.json:
        return _print_json(arguments, answer)
    if answer.status == http.client.OK:
        sys.stdout.buffer.write(answer.body)
        if sys.stdout.isatty() and not answer.body.endswith(b"\n"):
            _tell("")
        expires = answer.headers.get(EXPIRES)
        if expires is not None:
            sys.stdout.flush()
            _tell(f"expires {expires}")
        return OK
    if answer.status == http.client.MULTIPLE_CHOICES:
        _list_siblings(arguments, answer)
        return SEVERAL
    return _explain(arguments, answer)


def run_put(arguments: argparse.Namespace) -> int:
    """Write the value. Without --context or --blind it replaces whatever a read shows first."""
    if arguments.blind and arguments.context is not None:
        raise ConfigError("--blind and --context exclude each other")
    context, replaced = _header("--context", arguments.context), 0
    content_type = _header("--content-type", arguments.content_type)
    expires = _expires(arguments)
    body = _value(arguments.value)
    client = _client(arguments)
    if context is None and not arguments.blind:
        seen = client.request("GET", query=_query(arguments, _READ[:2]), headers=_ACCEPT)
        if not _was_read(seen):
            code = _explain(arguments, seen)
            if seen.status == http.client.SERVICE_UNAVAILABLE and not arguments.json:
                _tell("  the key is read first, and nothing was written; --blind does not read it")
            return code
        context = seen.context
        replaced = len(siblings_of(seen)) if seen.status != http.client.NOT_FOUND else 0
    headers = {"Content-Type": content_type or _content_type(arguments.value)}
    if context is not None:
        headers["X-Riak-Vclock"] = context
    if expires is not None:
        headers[EXPIRES] = expires
    query = _query(arguments, _WRITE)
    answer = client.request("PUT", query=query, headers=headers, body=body)
    if not http.client.OK <= answer.status < http.client.MULTIPLE_CHOICES:
        return _explain(arguments, answer)
    acks = answer.headers.get("X-Dynamo-Acks", "")
    if arguments.json:
        _print({"stored": True, "replaced": replaced, "acks": acks})
    else:
        note = f", replacing {replaced} siblings" if replaced > 1 else ""
        _tell(f"stored{note} ({acks})" if acks else f"stored{note}")
    return OK


def run_delete(arguments: argparse.Namespace) -> int:
    """Delete what --context covers, or else what a read shows."""
    context = _header("--context", arguments.context)
    headers = {} if context is None else {"X-Riak-Vclock": context}
    query = _query(arguments, (*_READ[:2], *_WRITE))
    answer = _client(arguments).request("DELETE", query=query, headers=headers)
    if answer.status >= http.client.MULTIPLE_CHOICES:
        return _explain(arguments, answer)
    if arguments.json:
        _print({"deleted": True, "acks": answer.headers.get("X-Dynamo-Acks", "")})
    else:
        _tell("deleted")
    return OK


_ACCEPT = {"Accept": "application/json, */*;q=0.5"}


def _add(
    commands: Commands, name: str, purpose: str, *, counts: tuple[str, ...]
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=purpose,
        description=f"{purpose[0].upper()}{purpose[1:]}.",
        epilog="Exit codes: 0 done, 1 not found, 2 wrong usage, 3 the store refused or could not "
        "be reached, 4 the key has several values (get).",
        allow_abbrev=False,
    )
    parser.set_defaults(failure=FAILED)
    parser.add_argument("bucket", metavar="BUCKET")
    parser.add_argument("key", metavar="KEY")
    parser.add_argument("--type", default="default", help="bucket type (default: %(default)s)")
    parser.add_argument("--node", default=NODE_DEFAULT, help="any node (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--timeout", metavar="MS", help="milliseconds for the store to answer")
    for count in counts:
        flag = "--" + count.replace("_", "-")
        parser.add_argument(
            flag, metavar="N", help=_COUNTS[count] + " (a number, quorum, all, one)"
        )
    return parser


def _client(arguments: argparse.Namespace) -> ObjectClient:
    bucket_type, bucket, key = (
        os.fsencode(text) for text in (arguments.type, arguments.bucket, arguments.key)
    )
    for name, part in (("--type", bucket_type), ("BUCKET", bucket), ("KEY", key)):
        if not part:
            raise ConfigError(f"{name} is empty")
    return ObjectClient(arguments.node, bucket_type=bucket_type, bucket=bucket, key=key)


def _query(arguments: argparse.Namespace, names: tuple[str, ...]) -> dict[str, str]:
    return {
        name: value
        for name in (*names, "timeout")
        if (value := getattr(arguments, name)) is not None
    }


def _header(flag: str, value: str | None) -> str | None:
    if value is not None and not (value.isascii() and value.isprintable()):
        raise ConfigError(f"{flag}: {value!a} is not the value of a header: printable ASCII")
    return value


def _expires(arguments: argparse.Namespace) -> str | None:
    """The header's value, if either flag is given."""
    ttl: str | None = arguments.ttl
    if ttl is None:
        return _header("--expires", arguments.expires)
    if not (ttl.isascii() and ttl.isdigit()):
        raise ConfigError(f"--ttl: {ttl!a} is not a whole number of seconds")
    return ttl


def _value(text: str) -> bytes:
    if text != "-":
        return os.fsencode(text)
    if sys.stdin is None:
        raise ConfigError("standard input is closed")
    body = sys.stdin.buffer.read(VALUE_BYTES_READ_MAX + 1)
    if len(body) > VALUE_BYTES_READ_MAX:
        raise ConfigError(f"standard input holds over {VALUE_BYTES_READ_MAX >> 20} MiB")
    return body


def _content_type(text: str) -> str:
    return "application/octet-stream" if text == "-" else "text/plain; charset=utf-8"


def _was_read(answer: Answer) -> bool:
    return answer.status in (http.client.OK, http.client.MULTIPLE_CHOICES) or _is_absent(answer)


def _is_absent(answer: Answer) -> bool:
    # An unknown bucket type is a 404 too, and is an error, not an absent key.
    return (
        answer.status == http.client.NOT_FOUND
        and answer.error().get("code") != "unknown_bucket_type"
    )


def _list_siblings(arguments: argparse.Namespace, answer: Answer) -> None:
    siblings = siblings_of(answer)
    _tell(f"{len(siblings)} values (siblings); pick one with --vtag, or put one with --context:")
    for sibling in siblings:
        value: bytes = sibling["value"]
        preview = value[: 4 * PREVIEW_CHARACTERS].decode(errors="replace")[:PREVIEW_CHARACTERS]
        _tell(
            f"  {sibling['vtag']}  {len(value)} bytes  {sibling.get('content_type', '')}  "
            f"{preview!a}" + (f"  expires {sibling['expires']}" if "expires" in sibling else "")
        )
    _tell(f"context: {answer.context}")


def _print_json(arguments: argparse.Namespace, answer: Answer) -> int:
    shown = answer.status in (http.client.OK, http.client.MULTIPLE_CHOICES)
    if not shown and not _is_absent(answer):
        return _explain(arguments, answer)
    _print(
        {
            "found": shown,
            "deleted": answer.headers.get("X-Riak-Deleted") == "true",
            "siblings": [as_json(sibling) for sibling in siblings_of(answer)] if shown else [],
            "context": answer.context,
        }
    )
    return OK if shown else NOT_FOUND


def _explain(arguments: argparse.Namespace, answer: Answer) -> int:
    """Say why not, and return the exit code for it."""
    absent = _is_absent(answer)
    error = answer.error()
    if arguments.json:
        _print({"found": False} if absent else {"error": error})
        return NOT_FOUND if absent else FAILED
    if absent:
        _tell("not found")
        return NOT_FOUND
    outcome = ""
    if error.get("outcome") == "unknown":
        outcome = " (outcome unknown: it may have taken effect)"
    _tell(f"dynamo: {error['message']}{outcome}")
    reasons = error.get("reasons")
    if isinstance(reasons, dict):
        for node, reason in reasons.items():
            _tell(f"  {node}: {reason}")
    after = error.get("retry_after_ms")
    if isinstance(after, int):
        _tell(f"  try again in {after} ms, or ask another node with --node")
    return FAILED


def _print(document: dict[str, Any]) -> None:
    print(json.dumps(document))


def _tell(line: str) -> None:
    print(line, file=sys.stderr)
