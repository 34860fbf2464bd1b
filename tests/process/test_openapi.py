"""A program that others wrote reads the OpenAPI document of a real node, and tries all of it.

Schemathesis makes requests from the document, well-formed and not, and holds the replies against it:
no 500, no status, media type, header or body that is not in the document.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_process import ClusterProcess

pytestmark = pytest.mark.long

SUPPORT = Path(__file__).parents[1] / "support"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
    "allow_header_conformance",
)
#: 503 and 507 are told in the document where they may come; anywhere else they fail too.
CONFIG = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "503", "507"]
"""
#: With one key only, so that what is written is also read, resolved and deleted.
ONE_KEY = """
[parameters]
"path.type" = "default"
"path.bucket" = "b"
"path.key" = "k"
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterProcess]:
    with ClusterProcess() as cluster:
        yield cluster


def _try(url: str, directory: Path, config: str, phases: str, examples: int) -> Counter[int]:
    """How many replies of each status a run saw that found nothing wrong."""
    directory.joinpath("schemathesis.toml").write_text(config)
    report = directory / "report.ndjson"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
            *("--checks", ",".join(CHECKS), "--phases", phases),
            *("--max-examples", str(examples), "--seed", "1", "--workers", "1"),
            *("--request-timeout", "20", "--warnings", "off"),
            *("--report", "ndjson", "--report-ndjson-path", str(report)),
        ],
        cwd=directory,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "streamed_json", "PYTHONPATH": str(SUPPORT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2000:]
    return Counter(_statuses(report.read_text()))


def _statuses(report: str) -> Iterator[int]:
    values: list[object] = [json.loads(line) for line in report.splitlines()]
    while values:
        value = values.pop()
        if isinstance(value, list):
            values += value
        elif isinstance(value, dict):
            if "status_code" in value:
                yield value["status_code"]
            values += value.values()


def _check_unharmed(cluster: ClusterProcess) -> None:
    for i in range(len(cluster)):
        assert "http_failures" not in cluster.stats(i)
        assert cluster.http(i, "GET", "/health/ready").status == 200
        assert "Traceback" not in cluster.log(i)


def test_no_request_that_the_document_suggests_meets_what_it_does_not_tell(
    cluster: ClusterProcess, tmp_path: Path
) -> None:
    statuses = _try(cluster.url(0), tmp_path, CONFIG, "coverage,fuzzing", 6)
    assert statuses.keys() >= {200, 201, 204, 400, 404, 405}, statuses
    _check_unharmed(cluster)


def test_one_key_that_is_written_and_read_in_all_ways_stays_what_the_document_tells(
    cluster: ClusterProcess, tmp_path: Path
) -> None:
    statuses = _try(cluster.url(1), tmp_path, CONFIG + ONE_KEY, "fuzzing", 15)
    assert statuses.keys() >= {200, 204, 300, 400, 404, 412}, statuses
    _check_unharmed(cluster)
