"""The cluster file on disk: read whole, written once, readable to its owner only.

Knows nothing of what it says.
"""

from __future__ import annotations

import os
from pathlib import Path

from dynamo.cluster_file import ClusterFile, parse_cluster, render_cluster
from dynamo.errors import ConfigError


def read_cluster_file(path: Path) -> ClusterFile:
    """The cluster of that file. Raises ConfigError that names the file and the field."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the cluster file {path}: {_reason(error)}") from None
    try:
        return parse_cluster(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}") from None


def write_cluster_file(path: Path, cluster: ClusterFile) -> None:
    """The file is there, whole, on disk and readable to its owner only.

    Raises ConfigError; never touches a file that is there already.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(
            f"{path} is there already, and a cluster's identity must not change; "
            "remove it yourself if no node has ever used it"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot write the cluster file {path}: {_reason(error)}") from None
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(render_cluster(cluster))
            file.flush()
            os.fsync(file.fileno())
        _sync_directory(path.parent)
    except OSError as error:
        # Half an identity must not be mistaken for one on the next run.
        path.unlink(missing_ok=True)
        raise ConfigError(f"cannot write the cluster file {path}: {_reason(error)}") from None


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "it is not UTF-8"
