"""`/metrics`: what Prometheus' own parsers make of it."""

from __future__ import annotations

import pytest
from memory_backend import MemoryBackend
from prometheus_client import openmetrics, parser
from prometheus_client.metrics_core import Metric as Parsed
from prometheus_client.openmetrics import parser as openmetrics_parser
from raw_http import RawHttp

from dynamo.counters import COUNTERS
from dynamo.http.exposition import Metric, Sample, render, wants_openmetrics
from dynamo.http.metrics_page import OTHERS, page
from dynamo.http.process import ProcessFacts
from dynamo.http.request import Load
from dynamo.latency import RequestTimes
from dynamo.metrics import Metrics

assert openmetrics  # the package, whose parser is used
TEXT = {"Content-Type": "text/plain"}
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


def parsed(text: bytes, *, is_openmetrics: bool = False) -> dict[str, Parsed]:
    parse = openmetrics_parser if is_openmetrics else parser
    found = list(parse.text_string_to_metric_families(text.decode()))
    assert len({metric.name for metric in found}) == len(found)
    return {metric.name: metric for metric in found}


def values(found: dict[str, Parsed], family: str, **labels: str) -> dict[str, float]:
    return {
        sample.name: sample.value
        for sample in found[family].samples
        if labels.items() <= sample.labels.items() and "le" not in sample.labels
    }


async def test_requests_are_counted_by_operation_and_status(http: RawHttp) -> None:
    for key in ("a", "b"):
        assert (await http.request("PUT", f"/buckets/b/keys/{key}", TEXT, b"v")).status == 204
    assert (await http.request("GET", "/buckets/b/keys/a")).status == 200
    assert (await http.request("HEAD", "/buckets/b/keys/none")).status == 404
    assert (await http.request("DELETE", "/buckets/b/keys/b")).status == 204
    assert (await http.request("GET", "/nothing")).status == 404
    assert (await http.request("GET", "/buckets/b/keys/a?r=x")).status == 400
    got = await http.request("GET", "/metrics")
    assert got.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = parsed(got.body)
    name = "dynamo_request_duration_seconds"
    for operation, status, count in (
        *(("put", "2xx", 2), ("get", "2xx", 1), ("get", "4xx", 1), ("delete", "2xx", 1)),
        *(("other", "4xx", 2), ("get", "5xx", 0)),
    ):
        counted = values(found, name, operation=operation, status=status)
        assert counted[f"{name}_count"] == count
        assert (counted[f"{name}_sum"] > 0) == (count > 0)
    refused = values(found, "dynamo_http_refused", code="no_such_resource")
    assert refused == {"dynamo_http_refused_total": 1}
    errors = values(found, "dynamo_http_errors", code="invalid_argument")
    assert errors == {"dynamo_http_errors_total": 1}
    assert values(found, "dynamo_http_connections_open") == {"dynamo_http_connections_open": 1}
    assert values(found, "dynamo_http_requests_in_flight") == {"dynamo_http_requests_in_flight": 1}
    assert found["process_resident_memory_bytes"].samples[0].value > 1 << 20


async def test_what_prometheus_asks_for_is_openmetrics(http: RawHttp) -> None:
    got = await http.request("GET", "/metrics", {"Accept": PROMETHEUS_3})
    expected = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert got.headers["content-type"] == expected
    found = parsed(got.body, is_openmetrics=True)
    assert found["dynamo_alarms"].type == "counter"
    assert got.body.endswith(b"# EOF\n")


@pytest.mark.parametrize("is_openmetrics", [False, True])
def test_every_counter_is_there_before_it_counts_and_has_a_help(is_openmetrics: bool) -> None:
    metrics = Metrics()
    metrics.count["refused_disk_full"] += 3
    metrics.count["undescribed"] += 1
    metrics.count["gets"] = 1 << 60
    families = page(
        MemoryBackend().status(),
        hints=MemoryBackend().hints(),
        tombstones=MemoryBackend().tombstones(),
        antientropy=MemoryBackend().antientropy(None, 1),
        wars=MemoryBackend().wars(),
        ages=MemoryBackend().repair_ages(),
        counters=metrics.snapshot(),
        times=RequestTimes(lambda: 0.0),
        load=Load(),
        process=ProcessFacts(1.5, None, None, 1024),
    )
    found = parsed(render(families, openmetrics=is_openmetrics), is_openmetrics=is_openmetrics)
    for name in COUNTERS:
        assert found[f"dynamo_{name}"].type == "counter"
        assert len(found[f"dynamo_{name}"].samples) == 1
    assert all(metric.documentation for metric in found.values())
    assert found["dynamo_gets"].samples[0].value == 1 << 60
    assert found["dynamo_refused"].samples[0].labels == {"code": "disk_full"}
    assert found["dynamo_undescribed"].samples[0].value == 1
    # What the system does not tell is left out; nothing else is.
    names = {name for name, _, _ in OTHERS}
    assert names - set(found) == {
        *("process_resident_memory_bytes", "process_open_fds"),
        *("dynamo_peer_up", "dynamo_peer_stalled_seconds"),  # there is no peer
        *("dynamo_peer_doubted", "dynamo_peer_phi", "dynamo_peer_latency_seconds"),
        *(f"dynamo_hints_{name}" for name in ("held", "held_bytes", "oldest_seconds")),  # no hint
        *(f"dynamo_antientropy_{name}" for name in ("pairs", "pairs_never_clean")),  # of a peer
        "dynamo_antientropy_oldest_clean_seconds",
    }


@pytest.mark.parametrize("is_openmetrics", [False, True])
def test_labels_and_helps_come_back_as_they_were(is_openmetrics: bool) -> None:
    odd = 'a"b\\c\nd{}, =é'
    text = render(
        [Metric("x", "gauge", odd, [Sample(1.5, {"l": odd})])], openmetrics=is_openmetrics
    )
    found = parsed(text, is_openmetrics=is_openmetrics)["x"]
    assert (found.documentation, found.samples[0].labels) == (odd, {"l": odd})


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ((), False),
        (("*/*",), False),
        (("text/plain",), False),
        (("application/openmetrics-text",), True),
        (("application/openmetrics-text; version=1.0.0",), True),
        (("application/openmetrics-text; version=9.0",), False),
        (("application/openmetrics-text;q=0",), False),
        (("application/openmetrics-text;q=0.2, text/plain;q=0.3",), False),
        (("application/openmetrics-text;q=0.3", "text/plain;q=0.2"), True),
        (("application/openmetrics-text;q=x",), False),
        ((PROMETHEUS_3,), True),
        ((",;=;,\xff",), False),
    ],
)
def test_openmetrics_is_for_who_prefers_it(accept: tuple[str, ...], expected: bool) -> None:
    assert wants_openmetrics(accept) is expected
