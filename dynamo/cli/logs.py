"""Log lines of one node, one line each: `time=... level=... msg="..." key=value`, or a JSON object.

A traceback is one quoted field, so that what collects logs by line keeps it whole. Lines are ASCII
without control characters, whatever was logged. Knows nothing of what is logged.
"""

from __future__ import annotations

import json
import logging
import re
import time
from typing import Any, Final, TextIO

from dynamo.config import ACCESS_LOGGER, LogFormat

_PLAIN = re.compile(r"[A-Za-z0-9_.:/@+,-]+", re.ASCII)
#: What every LogRecord has; whatever else it carries came from `extra=`.
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LineFormatter(logging.Formatter):
    """Formats a record as one line of `key=value` fields, in UTC; `extra` comes last, sorted."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without a newline."""
        fields = [
            ("time", _time(record)),
            ("level", record.levelname.lower()),
            ("logger", record.name),
            ("msg", record.getMessage()),
        ]
        fields += sorted((name, str(value)) for name, value in _extra(record).items())
        if record.exc_info:
            fields.append(("traceback", self.formatException(record.exc_info)))
        return " ".join(f"{name}={_quote(value)}" for name, value in fields)


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object: time (UTC), level, logger, message, node, then what
    `extra` has, such as request_id, and `exception` with the traceback where there is one."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        """The object, without a newline."""
        fields: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "node": self._node,
        }
        for name, value in sorted(_extra(record).items()):
            fields.setdefault(name, value)
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return _dump(fields)


def start_logging(
    stream: TextIO,
    level: str,
    *,
    log_format: LogFormat = "text",
    node: str = "",
    access_log: bool = False,
) -> None:
    """Everything logged in this process at `level` (debug, info, ...) or above goes to `stream`, and
    with `access_log` the requests too. `node`: its id, which JSON lines name."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(node) if log_format == "json" else LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger(ACCESS_LOGGER).setLevel(logging.INFO if access_log else logging.NOTSET)
    # It would add a line a request at debug and one a poll; requests are counted, not logged.
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _time(record: logging.LogRecord) -> str:
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{at}.{int(record.msecs):03d}Z"


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _OWN}


def _quote(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else _dump(value)


def _dump(value: object) -> str:
    # DEL is the one control character that JSON leaves as it is.
    return json.dumps(value, default=str).replace("\x7f", "\\u007f")
