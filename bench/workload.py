"""What is asked of a cluster: which keys, how often which method, as bytes of HTTP and as a wrk script.

Keys are named by number. GETs read keys that were loaded before, any of them alike often. A PUT that
has seen nothing would make a sibling of a key's value, so PUTs go to keys that nobody has written
("new"), or to a bucket in which the last write wins ("lww"). Pure: chance is an argument; knows
nothing of sockets or of time.
"""

from __future__ import annotations

import random as chance
from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple

KEYS: Final = 10_000
VALUE_BYTES: Final = 100
#: Fresh keys are spread over as many places of the key space.
SPREAD: Final = 10**12

Puts = Literal["new", "lww"]


class Exchange(NamedTuple):
    """A request as it is sent, and the reply that is due; `body`: None if any will do."""

    request: bytes
    status: int
    body: bytes | None = None


class Workload(NamedTuple):
    """`gets`: share of GETs, 0.0 to 1.0. `run`: makes the fresh keys of one run no other's."""

    name: str
    gets: float
    puts: Puts = "new"
    keys: int = KEYS
    value: bytes = b""
    bucket: str = "bench"
    run: str = ""


WORKLOADS: Final = (Workload("GET", 1.0), Workload("PUT", 0.0), Workload("50/50", 0.5))


def value_of(random: chance.Random, size: int = VALUE_BYTES) -> bytes:
    """Printable bytes: they pass through every client and script unchanged."""
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    return bytes(random.choices(letters, k=size))


def last_write_wins(workload: Workload) -> Exchange:
    """Makes it so in the bucket of the workload."""
    body = b'{"props":{"last_write_wins":true}}'
    head = (
        f"PUT /buckets/{workload.bucket}/props HTTP/1.1\r\nHost: bench\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return Exchange(head.encode() + body, 204)


def loading(workload: Workload) -> Iterator[Exchange]:
    """Every key once."""
    for number in range(workload.keys):
        yield _put(workload, f"key-{number}")


def sample(workload: Workload, random: chance.Random, count: int) -> Iterator[Exchange]:
    """`count` reads of loaded keys, with the bytes that must come."""
    for _ in range(count):
        yield _get(workload, random)._replace(body=workload.value)


def stream(workload: Workload, random: chance.Random) -> Iterator[Exchange]:
    """Requests without end."""
    made = 0
    while True:
        if random.random() < workload.gets:
            yield _get(workload, random)
        elif workload.puts == "lww":
            yield _put(workload, f"key-{random.randrange(workload.keys)}")
        else:
            made += 1
            yield _put(workload, f"{random.randrange(SPREAD):012}-{workload.run}-{made}")


def _path(workload: Workload, key: str) -> str:
    return f"/buckets/{workload.bucket}/keys/{key}"


def _get(workload: Workload, random: chance.Random) -> Exchange:
    path = _path(workload, f"key-{random.randrange(workload.keys)}")
    return Exchange(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode(), 200)


def _put(workload: Workload, key: str) -> Exchange:
    head = f"PUT {_path(workload, key)} HTTP/1.1\r\n{_put_fields(workload)}"
    return Exchange(head.encode() + workload.value, 204)


def _put_fields(workload: Workload) -> str:
    size = len(workload.value)
    return f"Host: bench\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\n\r\n"


def wrk_script(workload: Workload, addresses: Sequence[str], *, seed: int) -> str:
    """The same for wrk, whose threads are spread over the nodes, each for one; the last line that it
    prints is JSON, for `bench.driver`."""
    nodes = ", ".join(
        f'{{"{host}", "{port}"}}' for host, _, port in (a.rpartition(":") for a in addresses)
    )
    if workload.puts == "lww":
        key = f'"key-" .. math.random(0, {workload.keys - 1})'
    else:
        key = (
            f'string.format("%012.0f-{workload.run}-%d-%d", '
            f"math.random(0, {SPREAD - 1}), number, made)"
        )
    put_tail = (_put_fields(workload) + workload.value.decode("ascii")).replace("\r\n", "\\r\\n")
    return _SCRIPT.format(
        nodes=nodes,
        seed=seed,
        gets=workload.gets,
        path=_path(workload, ""),
        last_key=workload.keys - 1,
        new_key=key,
        put_tail=put_tail,
    )


_SCRIPT: Final = r"""
local nodes = {{ {nodes} }}
local threads = 0

function setup(thread)
  local node = nodes[threads % #nodes + 1]
  thread.addr = wrk.lookup(node[1], node[2])[1]
  thread:set("number", threads)
  threads = threads + 1
end

function init(arguments)
  math.randomseed({seed} + number)
  made = 0
end

function request()
  if math.random() < {gets} then
    return "GET {path}key-" .. math.random(0, {last_key}) .. " HTTP/1.1\r\nHost: bench\r\n\r\n"
  end
  made = made + 1
  return "PUT {path}" .. {new_key} .. " HTTP/1.1\r\n{put_tail}"
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{{"requests":%d,"micros":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d,'
    .. '"p50":%.0f,"p99":%.0f}}\n',
    summary.requests, summary.duration, errors.connect, errors.read, errors.write, errors.status,
    errors.timeout, latency:percentile(50), latency:percentile(99)))
end
"""
