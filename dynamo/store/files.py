"""Small files that are replaced whole: checksummed, written atomically, synced.

A reader finds the old content or the new, never a mix, also after a power loss. Knows nothing of
what is in them.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path
from typing import Final

from dynamo.errors import Malformed

_MAGIC: Final = b"dynamo1\n"
_DIGEST_BYTES: Final = 16
#: Ends the name under which a file is written before it takes the place of the old one.
NEW_SUFFIX: Final = ".new"


def write_sealed(path: Path, content: bytes) -> None:
    """Replace the file at `path`, durably. Raises OSError; then it has the old content or the new."""
    temporary = path.with_name(path.name + NEW_SUFFIX)
    data = _MAGIC + blake2b(content, digest_size=_DIGEST_BYTES).digest() + content
    with open(temporary, "wb", opener=_private) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def read_sealed(path: Path) -> bytes | None:
    """The content last written; None if there is no such file. Raises Malformed where it is not
    what was written, and OSError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    head = len(_MAGIC) + _DIGEST_BYTES
    content = data[head:]
    digest = blake2b(content, digest_size=_DIGEST_BYTES).digest()
    if data[:head] != _MAGIC + digest:
        raise Malformed(f"{path.name} is damaged: its checksum does not match")
    return content


def sync_directory(path: Path) -> None:
    """Put the names in a directory on disk. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
