"""A small file system of its own, which can really be full.

A tmpfs in a mount namespace that a helper process holds: as root, or in a user namespace. It is reached
through /proc and is gone with the helper, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

#: Says that it is mounted, and ends with who started it.
_HOLD = "mount -t tmpfs -o size={size} tmpfs {path} && echo mounted && exec cat"


class SmallDisk:
    """`path`: its root, for any process of this user. Room is taken with ballast, and given back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    @property
    def free_bytes(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def leave(self, free_bytes: int) -> None:
        """Take room until only so much is free."""
        with self._ballast.open("ab", buffering=0) as ballast, contextlib.suppress(OSError):
            while self.free_bytes > free_bytes:
                ballast.write(bytes(min(1 << 20, self.free_bytes - free_bytes)))

    def make_room(self) -> None:
        """Give back all that was taken."""
        self._ballast.unlink()


@contextmanager
def small_disk(mount_point: Path, size: int) -> Iterator[SmallDisk]:
    """A disk of so many bytes. Skips the test where this machine lets nobody make one."""
    mount_point.mkdir()
    flags = "-m" if os.geteuid() == 0 else "-Urm"
    hold = _HOLD.format(size=size, path=shlex.quote(str(mount_point)))
    if sys.platform != "linux" or shutil.which("unshare") is None:
        pytest.skip("a small file system takes Linux and its unshare")
    helper = subprocess.Popen(
        ["unshare", flags, "sh", "-c", hold],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with helper:
        try:
            assert helper.stdout is not None
            if helper.stdout.readline() != b"mounted\n":
                pytest.skip("a small file system takes root, or user namespaces")
            yield SmallDisk(Path(f"/proc/{helper.pid}/root") / mount_point.relative_to("/"))
        finally:
            helper.kill()
