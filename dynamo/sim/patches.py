"""Puts other things in the place of the product's for a while.

For bugs that are planted; knows nothing of what they are.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack


class Patches:
    """Puts other things in the place of the product's, until `undo`."""

    def __init__(self) -> None:
        self._undo = ExitStack()

    def set(self, owner: object, name: str, value: object) -> None:
        """Put `value` in the place of that attribute."""
        before = vars(owner)[name]
        setattr(owner, name, value)
        self._undo.callback(setattr, owner, name, before)

    def undo(self) -> None:
        """Put back what was there, the last first."""
        self._undo.close()


Plant = Callable[[Patches], None]
