"""What the operating system says of this process: memory, processor time, open files, its start.

Where there is no /proc only what getrusage knows is told. Knows nothing of the node.
"""

from __future__ import annotations

import os
import resource
from typing import NamedTuple


class ProcessFacts(NamedTuple):
    """`cpu_s`: user and system. `resident_bytes`, `open_files`: None if the system does not say."""

    cpu_s: float
    resident_bytes: int | None
    open_files: int | None
    open_files_max: int


def read_process() -> ProcessFacts:
    """Facts of now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    files_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return ProcessFacts(used.ru_utime + used.ru_stime, _resident(), _open_files(), files_max)


def _resident() -> int | None:
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _open_files() -> int | None:
    try:
        # Less the one that the listing itself has open.
        return len(os.listdir("/proc/self/fd")) - 1
    except OSError:
        return None
