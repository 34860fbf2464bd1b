"""`dynamo top`: what it makes of what nodes count."""

from __future__ import annotations

from typing import Any

from dynamo.cli.top_view import Sight, render
from dynamo.counters import describe


def sight(name: str, at: float, **stats: Any) -> Sight:
    times = {
        f"node_{operation}_fsm_time_{which}": value
        for operation in ("get", "put")
        for which, value in (("median", 1500), ("99", 20_300))
    }
    return Sight(f"http://{name}", {"node": name, "start": 1, **times, **stats}, "", at)


def _help_of(counter: str) -> str:
    shown = describe(counter)
    return "" if shown is None else shown.help


def test_rates_and_times_are_a_line_a_node_and_the_busiest_counters_follow() -> None:
    before = [sight("n1", 10.0, gets=100, puts=5), sight("n2", 10.0, gets=0, http_error_x=1)]
    now = [
        sight("n1", 12.0, gets=2100, puts=6, alarms=1),
        sight("n2", 12.0, gets=4, http_error_x=4),
        Sight("http://n3", None, "connection refused", 12.0),
    ]
    assert render(now, before) == [
        "node       gets/s  p50 ms  p99 ms  puts/s  p50 ms  p99 ms  deletes/s  errors/s",
        "n1           1000    1.50   20.30     0.5    1.50   20.30          0         0",
        "n2              2    1.50   20.30       0    1.50   20.30          0       1.5",
        "http://n3       -       -       -       -       -       -          -         -",
        "no answer from http://n3: connection refused",
        "",
        "counter       all, /s",
        "gets             1002  Reads that this node coordinated.",
        "http_error_x      1.5  " + _help_of("http_error_x"),
        "alarms            0.5  Alarms of any kind; the log has a line for each.",
        "puts              0.5  Writes that this node coordinated.",
    ]


def test_a_node_that_began_anew_has_no_rates_yet() -> None:
    now = sight("n1", 12.0, gets=1)
    assert "1.50" in render([now])[1]
    for earlier in (sight("n1", 10.0, gets=9), sight("n1", 10.0, start=0)):
        assert render([now], [earlier])[1].split()[:2] == ["n1", "-"]


def test_what_is_no_number_is_not_shown_as_one() -> None:
    odd = Sight("u", {"node": "\x1b[2J", "node_get_fsm_time_median": "x", "gets": None}, "", 1.0)
    lines = render([odd], [odd])
    assert all(line.isprintable() for line in lines)
