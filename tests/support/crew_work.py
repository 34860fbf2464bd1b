"""What worker processes do in tests, and bugs to plant: in a module that they can import.

Knows nothing of the processes.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from unittest import mock

from dynamo.write_tally import WriteTally

Tell = Callable[[object], None]


def count(tell: Tell, numbers: int) -> None:
    """Tell so many numbers."""
    for number in range(numbers):
        tell(number)


def count_and_die(tell: Tell, numbers: int, code: int) -> None:
    """Tell so many numbers, then end the process without a word."""
    count(tell, numbers)
    os._exit(code)


def kill_oneself(tell: Tell) -> None:
    """End as the out-of-memory killer ends a process."""
    os.kill(os.getpid(), signal.SIGKILL)


def raise_something(tell: Tell) -> None:
    """Have a bug."""
    raise LookupError("planted")


def tell_pid_and_wait(tell: Tell) -> None:
    """Tell who it is, then nothing more for long."""
    tell(os.getpid())
    time.sleep(600)


# A catalogue of planted bugs ----------------------------------------------------------------------


class Bug(NamedTuple):
    """As in `dynamo.sim.planted`."""

    name: str
    what: str


PLANTED = {
    "one_ack_too_few": Bug("one_ack_too_few", "writes are acknowledged by one node too few"),
    "none_at_all": Bug("none_at_all", "nothing is wrong"),
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Switch a bug on."""
    if name == "none_at_all":
        yield
        return
    init = WriteTally.__init__

    def fewer(self: WriteTally, nodes: int, *, w: int, pw: int, node_confirms: int) -> None:
        init(self, nodes, w=max(1, w - 1), pw=max(0, pw - 1), node_confirms=node_confirms - 1)

    with mock.patch.object(WriteTally, "__init__", fewer):
        yield
