"""Where a run was made and with what: machine, versions, commit, time. For its manifest.

Asks the system; knows nothing of runs.
"""

from __future__ import annotations

import os
import platform
import secrets
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final

from bench.history import Machine

#: Packages that a figure may depend on.
PACKAGES: Final = ("dynamo-kv", "aiohttp", "msgspec", "numpy", "rocksdict", "uvloop")
_GIT_SECONDS: Final = 10.0


def machine() -> Machine:
    """This one, and how busy it is now."""
    return Machine(
        system=platform.platform(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1,
        python=platform.python_version(),
        load_before=round(os.getloadavg()[0], 2),
    )


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Of the tree that this file is in, "+" added if it was changed since; "" outside of any."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return ""
    head = _git(root, "rev-parse", "HEAD")
    return head and head + ("+" if _git(root, "status", "--porcelain", "-uno") else "")


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            ("git", "-C", str(root), *arguments),  # noqa: S607 - wherever it is installed
            capture_output=True,
            text=True,
            check=False,
            timeout=_GIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def wall_time() -> str:
    """Now, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def run_name(scenario: str) -> str:
    """No other run's: scenario, time and a few random digits; ASCII, fit for the name of a bucket."""
    word = "".join(c if c.isascii() and c.isalnum() else "-" for c in scenario)[:40]
    return f"{word}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
