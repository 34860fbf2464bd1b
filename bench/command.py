"""What commands that run scenarios have in common: one line for what went wrong, and its exit code.

Knows nothing of what they do.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

from bench.history import BadHistory
from bench.parser import FAILED, USAGE
from bench.run_directory import BadDirectory
from bench.running import Interrupted
from bench.scenario import BadScenario
from bench.targets.protocol import TargetFailed

#: Of a process that SIGINT ended.
INTERRUPTED: Final = 130


@contextmanager
def told(program: str) -> Iterator[None]:
    """What fails within is one line, and ends the process (SystemExit): 2 for a scenario that cannot be,
    1 for a target, a directory or a disk that does not do, 130 if it was interrupted."""
    try:
        yield
    except BadScenario as error:
        _end(program, str(error), USAGE)
    except (BadDirectory, BadHistory, TargetFailed, OSError) as error:
        _end(program, str(error), FAILED)
    except Interrupted as error:
        _end(program, str(error), INTERRUPTED)


def _end(program: str, message: str, code: int) -> NoReturn:
    print(f"{program}: {message}", file=sys.stderr)
    raise SystemExit(code) from None
