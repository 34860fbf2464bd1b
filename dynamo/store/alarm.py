"""The file beside a database that says what it has lost.

Written before anything damaged is touched, and found again at every open until the caller has its
own durable note of the loss and calls `settle`. Knows nothing of how a loss is noticed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from dynamo.errors import Malformed
from dynamo.ports import OpeningState
from dynamo.store.files import read_sealed, sync_directory, write_sealed

#: From nothing lost to everything lost.
#: "clean": everything that was synced is there (also a database just created).
#: "lost_tail": the last synced writes are missing.
#: "point_in_time": the log or manifest was damaged; the writes behind the damage are missing.
#: "rebuilt": what a damaged block hid is missing; the rest was copied into a new database.
#: "empty": nothing could be read; the database begins anew.
_STATES: Final[tuple[OpeningState, ...]] = (
    "clean",
    "lost_tail",
    "point_in_time",
    "rebuilt",
    "empty",
)


class Loss(msgspec.Struct, frozen=True):
    """The content of the file. `why`: one line. `noted`: the highest write number known to have been
    synced before."""

    state: OpeningState
    why: str
    noted: int


class Alarm:
    """The alarm of the database at a path; `loss` is the worst that was found, now or before."""

    def __init__(self, database: Path, *, synced_number: int) -> None:
        """Reads the file, if there is one. `synced_number`: what is known to have been synced. Raises
        OSError."""
        self._path = _alarm_path(database)
        self._synced_number = synced_number
        self.loss = Loss("clean", "", synced_number)
        try:
            content = read_sealed(self._path)
            if content is not None:
                self.loss = msgspec.json.decode(content, type=Loss)
        except (Malformed, msgspec.DecodeError):
            self.found("lost_tail", "the note of an earlier loss is damaged")

    def found(self, state: OpeningState, why: str) -> bool:
        """Write down a loss, synced; False if one as bad is written down already. Raises OSError."""
        if _STATES.index(state) <= _STATES.index(self.loss.state):
            return False
        noted = max(self.loss.noted, self._synced_number)
        self.loss = Loss(state, " ".join(why.split()), noted)
        write_sealed(self._path, msgspec.json.encode(self.loss))
        return True


def settle(database: Path) -> None:
    """Forget what was found wrong with the database at a path. Raises OSError."""
    alarm = _alarm_path(database)
    alarm.unlink(missing_ok=True)
    sync_directory(alarm.parent)


def _alarm_path(database: Path) -> Path:
    return database.with_name(database.name + ".alarm")
