"""What the harness writes it finds again, and nothing else for its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.targets.protocol import FOREIGN
from bench.targets.value import Value, decode_value, encode_value

_VERSIONS = st.integers(1, 2**63 - 1)


@given(_VERSIONS, st.lists(_VERSIONS, max_size=20).map(tuple), st.integers(0, 500))
def test_a_value_comes_back_whole(version: int, elements: tuple[int, ...], size: int) -> None:
    data = encode_value("run-1", version, elements, size)
    assert len(data) >= size
    assert decode_value("run-1", data) == Value(version, elements)


def test_a_value_has_the_size_asked_for_and_can_be_read() -> None:
    data = encode_value("run", 7, (1, 2), 100)
    assert len(data) == 100
    assert data.startswith(b'{"run":"run","version":7,"elements":[1,2]}\n...')


@given(st.binary(max_size=200))
def test_any_bytes_are_foreign(data: bytes) -> None:
    assert decode_value("run", data) == Value(FOREIGN)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        encode_value("other", 7, (), 100),
        encode_value("run", 7, (), 100)[:30],
        encode_value("run", 7, (), 100) + b"x",
        encode_value("run", 7, (), 100).replace(b"7", b"-7"),
        b'{"run":"run","version":"7"}\n',
        b'{"run":"run"}\n...',
        b'["run",7]\n',
        b'{"run":"\xff","version":7}\n',
    ],
)
def test_what_is_cut_or_anothers_is_foreign(data: bytes) -> None:
    assert decode_value("run", data) == Value(FOREIGN)
