"""What a member may be called, and where it may listen."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ring.member import WEIGHT_MAX, Member, check_member

GOOD = Member("a", "10.0.0.1:7400")


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "a" * 64},
        {"id": "10.0.0.1:7400"},
        {"address": "localhost:1"},
        {"address": "[::1]:65535"},
        {"address": "db-1.example.com:7400"},
        {"address": "db-1.example.com.:7400"},
        {"address": "a" * 63 + ".b:7400"},
        {"host": "machine7"},
        {"weight": 0},
        {"weight": WEIGHT_MAX},
    ],
)
def test_a_member_in_its_limits_is_accepted(fields: dict[str, Any]) -> None:
    check_member(msgspec.structs.replace(GOOD, **fields))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"id": ""}, "id"),
        ({"id": "a" * 65}, "id"),
        ({"id": "a b"}, "id"),
        ({"id": "a\n"}, "id"),
        ({"id": "é"}, "id"),
        ({"address": ""}, "address"),
        ({"address": "localhost"}, "address"),
        ({"address": ":7400"}, "address"),
        ({"address": "::1:7400"}, "address"),
        ({"address": "localhost:"}, "address"),
        ({"address": "localhost:0"}, "address"),
        ({"address": "localhost:07400"}, "address"),
        ({"address": "localhost:65536"}, "address"),
        ({"address": "localhost:7400\n"}, "address"),
        ({"address": "a" * 64 + ":7400"}, "address"),
        ({"address": ".".join(["a" * 63] * 4) + ":7400"}, "address"),
        ({"address": "a..b:7400"}, "address"),
        ({"address": ".a:7400"}, "address"),
        ({"address": "a" * 254 + ":7400"}, "address"),
        ({"datacenter": ""}, "datacenter"),
        ({"rack": "rack 1"}, "rack"),
        ({"host": "a/b"}, "host"),
        ({"weight": -1}, "weight"),
        ({"weight": WEIGHT_MAX + 1}, "weight"),
    ],
)
def test_a_field_out_of_its_limits_is_refused_by_name(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        check_member(msgspec.structs.replace(GOOD, **fields))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "host", "machine"),
    [
        ("10.0.0.1:7400", "", "10.0.0.1"),
        ("[::1]:7400", "", "[::1]"),
        ("10.0.0.1:7400", "blade3", "blade3"),
    ],
)
def test_the_machine_is_the_host_or_else_that_of_the_address(
    address: str, host: str, machine: str
) -> None:
    assert Member("a", address, host=host).machine == machine
