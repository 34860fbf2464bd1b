"""Command lines of what measures staleness: wrong usage, and what fails, is one line of who says it.

Knows nothing of what commands do.
"""

from __future__ import annotations

import argparse
import sys
from typing import Final, NoReturn

FAILED: Final = 1
USAGE: Final = 2


class Parser(argparse.ArgumentParser):
    """Wrong usage is one line."""

    def error(self, message: str) -> NoReturn:
        """Says it and exits with USAGE."""
        self.exit(USAGE, f"{self.prog}: {message}\n")

    def failed(self, message: object) -> int:
        """Says what went wrong beyond usage; the exit code for it."""
        print(f"{self.prog}: {message}", file=sys.stderr)
        return FAILED
