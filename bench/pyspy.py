"""Where a node's time goes: py-spy beside it for a while, as a flame graph.

Knows nothing of what the node does meanwhile.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

RATE: Final = 400  # samples a second
#: For what it does after its last sample.
PATIENCE_SECONDS: Final = 60.0


def find_pyspy() -> str | None:
    """Where py-spy is installed, beside this Python or elsewhere, or None."""
    return shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")


@contextmanager
def recorded(pyspy: str, pid: int, seconds: float, file: Path) -> Iterator[None]:
    """The process is sampled, without being stopped, for so many seconds; the graph is in `file`
    (SVG) afterwards. Raises OSError where that was not possible."""
    command = [pyspy, "record", "--nonblocking", "--rate", str(RATE), "--pid", str(pid)]
    command += ["--duration", str(max(1, round(seconds))), "--output", str(file)]
    with subprocess.Popen(  # noqa: S603 - py-spy, as it was found
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield
            _, said = process.communicate(timeout=PATIENCE_SECONDS)
        finally:
            process.kill()
    if process.returncode or not file.exists():
        raise OSError(f"py-spy made no profile: {said.strip()}")
