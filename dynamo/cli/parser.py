"""What the subcommands share of argparse: the type of their parsers' parent."""

from __future__ import annotations

import argparse
from typing import TypeAlias

# A string, since the class is generic for the type checker only.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
