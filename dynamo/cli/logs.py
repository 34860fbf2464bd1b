"""Log lines of one node: `time=... level=... logger=... msg="..." key=value`, one line each.

A traceback is one quoted field, so that what collects logs by line keeps it whole. Knows nothing of
what is logged.
"""

from __future__ import annotations

import json
import logging
import re
import time
from typing import Final, TextIO

_PLAIN = re.compile(r"[A-Za-z0-9_.:/@+,-]+", re.ASCII)
#: What every LogRecord has; whatever else it carries came from `extra=`.
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LineFormatter(logging.Formatter):
    """Formats a record as one line of `key=value` fields, in UTC; `extra` comes last, sorted."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without a newline."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = [
            ("time", f"{at}.{int(record.msecs):03d}Z"),
            ("level", record.levelname.lower()),
            ("logger", record.name),
            ("msg", record.getMessage()),
        ]
        fields += sorted(
            (name, str(value)) for name, value in vars(record).items() if name not in _OWN
        )
        if record.exc_info:
            fields.append(("traceback", self.formatException(record.exc_info)))
        return " ".join(f"{name}={_quote(value)}" for name, value in fields)


def start_logging(stream: TextIO, level: str) -> None:
    """Everything logged in this process at `level` (debug, info, ...) or above goes to `stream`."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # It would add a line a request at debug and one a poll; requests are counted, not logged.
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _quote(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else json.dumps(value)
