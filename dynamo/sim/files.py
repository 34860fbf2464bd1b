"""The small files on a simulated disk, as a data directory keeps them: sealed, replaced whole.

Knows nothing of what is in them.
"""

from __future__ import annotations

import errno

from dynamo.errors import DataDirectoryError, Malformed
from dynamo.sim.disk import Disk, SmallFile

#: How a data directory sees a database.
DATABASE_NAME = "db"


class SimFiles:
    """`dynamo.datadir.Files` on a `Disk`, locked. Make them with `SimFiles.open`."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.place = f"the disk of {disk.name}"

    @classmethod
    def open(cls, disk: Disk) -> SimFiles:
        """Lock the directory. Raises DataDirectoryError if it is in use."""
        if disk.files is not None:
            raise DataDirectoryError(f"the disk of {disk.name} is in use by another running node")
        disk.files = files = cls(disk)
        return files

    def read(self, name: str) -> bytes | None:
        """What was last written, or None. Raises Malformed if it is damaged, OSError."""
        self._check_open()
        file = self._disk.small_files.get(name)
        if file is not None and file.damaged:
            raise Malformed(f"{name} is damaged: its checksum does not match")
        return None if file is None else file.content

    def write(self, name: str, content: bytes) -> None:
        """Replace a file atomically, synced on return. Raises OSError."""
        self._check_open()
        self._disk.check_room()
        self._disk.small_files[name] = SmallFile(content, damaged=False)

    def unknown(self) -> str | None:
        """The name of something that may not be in a new directory, if there is anything such."""
        names = [DATABASE_NAME] if self._disk.database is not None else []
        return min((*names, *self._disk.small_files), default=None)

    def release(self) -> None:
        """Let others open the directory. May be called twice."""
        if self._disk.files is self:
            self._disk.files = None

    def _check_open(self) -> None:
        if self._disk.files is not self:
            raise OSError(errno.EBADF, "Bad file descriptor")
