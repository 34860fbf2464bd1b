"""The cluster file on disk: private, written once, and named in every complaint."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from dynamo.cluster_disk import read_cluster_file, write_cluster_file
from dynamo.cluster_file import DEVELOPMENT, new_cluster, render_cluster
from dynamo.errors import ConfigError

CLUSTER = new_cluster(members=(), classes=(), partitions=256, entropy=os.urandom)


def test_what_is_written_is_read_back_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    write_cluster_file(path, CLUSTER)
    assert read_cluster_file(path) == CLUSTER
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_is_there_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    write_cluster_file(path, CLUSTER)
    with pytest.raises(ConfigError, match="is there already"):
        write_cluster_file(path, DEVELOPMENT)
    assert read_cluster_file(path) == CLUSTER


def test_a_complaint_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    for content in (b"\xff\xfe", b"format = 1", render_cluster(CLUSTER).encode()[:-40]):
        path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            read_cluster_file(path)
        assert str(path) in caught.value.message
        assert "\n" not in caught.value.message
    for missing in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError, match="cannot read the cluster file"):
            read_cluster_file(missing)
    with pytest.raises(ConfigError, match="cannot write the cluster file"):
        write_cluster_file(tmp_path / "no" / "cluster.toml", CLUSTER)
