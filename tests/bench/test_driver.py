"""The load driver: what it drives, what it counts, and what it takes for an error."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import repeat
from threading import Thread, Timer

import pytest

from bench.driver import DriverFailed, drive, find_wrk, parse_wrk, percentile, send
from bench.workload import WORKLOADS, Exchange, value_of

GET = Exchange(b"GET /x HTTP/1.1\r\n\r\n", 200, b"hello")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


@contextmanager
def answering(*parts: bytes) -> Iterator[str]:
    """A server that answers whatever comes with these bytes, one write each; b"" closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(client: socket.socket) -> None:
            with client, suppress(ConnectionError):
                while client.recv(1 << 16):
                    for part in parts:
                        if not part:
                            return
                        client.sendall(part)

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                Thread(target=serve, args=(client,), daemon=True).start()

        thread = Thread(target=accept, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_every_request_is_answered_once_in_pieces_or_whole() -> None:
    for parts in ((OK,), (OK[:20], OK[20:40], OK[40:])):
        with answering(*parts) as address:
            result = send(repeat(GET, 50), [address], connections=4)
        assert (result.requests, result.errors) == (50, {})
        assert 0 < result.p50 <= result.p99


@pytest.mark.parametrize(
    ("reply", "errors"),
    [
        (OK.replace(b"200", b"404"), {"status 404": 6}),
        (OK.replace(b"200", b"300"), {"status 300": 6}),
        (OK.replace(b"hello", b"jello"), {"wrong value": 6}),
        (b"", {"connection lost": 2}),
        (b"nonsense of another protocol\r\n\r\n", {"no HTTP": 2}),
    ],
)
def test_a_reply_that_is_not_the_one_due_is_an_error(reply: bytes, errors: dict[str, int]) -> None:
    with answering(reply) as address:
        assert send(repeat(GET, 6), [address], connections=2).errors == errors


def test_it_ends_when_its_time_is_up() -> None:
    with answering(OK) as address:
        result = send(repeat(GET), [address], connections=2, seconds=0.2)
    assert result.requests > 10
    assert 0.2 <= result.seconds < 2
    assert result.rate == pytest.approx(result.requests / result.seconds)


def test_a_node_that_is_not_there_is_a_failure() -> None:
    with answering(OK) as address:
        pass
    with pytest.raises(DriverFailed, match="refused"):
        send(repeat(GET), [address], connections=2, seconds=0.2)


def test_a_signal_stops_it_and_finds_its_handler_again() -> None:
    handler = signal.getsignal(signal.SIGINT)
    with answering(OK) as address:
        timer = Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            send(repeat(GET), [address], connections=2, seconds=30)
        timer.join()
    assert signal.getsignal(signal.SIGINT) is handler


def test_percentiles_are_by_nearest_rank() -> None:
    ordered = [float(number) for number in range(1, 101)]
    assert [percentile(ordered, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]
    assert percentile([], 0.5) == 0.0


def test_what_wrk_printed_is_understood() -> None:
    said = {"requests": 100, "micros": 2_000_000, "connect": 0, "read": 1, "write": 0}
    said |= {"status": 3, "timeout": 0, "p50": 1500, "p99": 9000}
    result = parse_wrk(f"Running 2s test\n  99% of it\n{json.dumps(said)}\n")
    assert result == (100, 2.0, {"read": 1, "status": 3}, 1.5, 9.0)
    assert result.rate == 50


@pytest.mark.parametrize("output", ["", "unable to connect", '{"requests": 1}', "[]", "{}"])
def test_what_wrk_did_not_print_is_a_failure(output: str) -> None:
    with pytest.raises(DriverFailed, match="printed no result"):
        parse_wrk(output)


@pytest.mark.skipif(find_wrk() is None, reason="wrk is not installed")
def test_wrk_drives_all_nodes_and_counts_errors() -> None:
    puts = WORKLOADS[1]._replace(value=value_of(random.Random(1)))
    good, bad = b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"
    with answering(good) as one, answering(bad) as two:
        result = drive(puts, [one, two], connections=4, seconds=1, seed=1, wrk=find_wrk())
    assert 0 < result.errors.pop("status") < result.requests
    assert result.errors == {}
