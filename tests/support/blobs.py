"""The small files of a node, in memory."""

from __future__ import annotations

from dynamo.errors import StorageError


class Blobs:
    """Small files that a test can look into, or break."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.full = False

    def read_blob(self, name: str) -> bytes | None:
        return self.files.get(name)

    def write_blob(self, name: str, data: bytes) -> None:
        if self.full:
            raise StorageError("no space")
        self.files[name] = data

    async def keep_blob(self, name: str, data: bytes) -> None:
        self.write_blob(name, data)
