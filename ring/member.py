"""A member of the cluster: its name, where it listens, and where it stands.

Knows nothing of whether it is up.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

WEIGHT_MAX: Final = 65_535

_NAME: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
# The labels of a name are what the resolver takes: longer ones, or empty ones, are an exception there.
_LABEL: Final = r"[A-Za-z0-9_-]{1,63}"
_HOST: Final = re.compile(rf"\[[0-9A-Fa-f:.]{{2,60}}\]|(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.?")
_MACHINE: Final = re.compile(r"[\[\]A-Za-z0-9._:-]{0,255}")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")


class Member(msgspec.Struct, frozen=True):
    """One node of the ring.

    `address`: host:port of its connections from other nodes. `host`: the machine it runs on, "" for
    the host part of the address. `weight`: its share of the partitions, relative to the others of
    its datacenter; 0 owns nothing and stands in for nobody.
    """

    id: str
    address: str
    datacenter: str = "dc1"
    rack: str = "rack1"
    host: str = ""
    weight: int = 1

    @property
    def machine(self) -> str:
        """The machine it runs on: `host`, or else the host part of the address."""
        return self.host or self.address.rpartition(":")[0]


def check_name(what: str, name: str) -> None:
    """Raises ValueError, which calls it `what`, unless `name` is 1 to 64 of [A-Za-z0-9._:-]."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{what} is 1 to 64 letters, digits, dots, colons, dashes or underscores, not {name!r}"
        )


def check_member(member: Member) -> None:
    """Raises ValueError, in one line that names the field, unless every field is in its range."""
    check_name("a member's id", member.id)
    check_name(f"the datacenter of {member.id}", member.datacenter)
    check_name(f"the rack of {member.id}", member.rack)
    host, _, port = member.address.rpartition(":")
    if not _HOST.fullmatch(host) or not _PORT.fullmatch(port) or int(port) > 65_535:
        raise ValueError(f"the address of {member.id} is host:port, not {member.address!r}")
    if not _MACHINE.fullmatch(member.host):
        raise ValueError(f"the host of {member.id} is a machine's name, not {member.host!r}")
    if not 0 <= member.weight <= WEIGHT_MAX:
        raise ValueError(
            f"the weight of {member.id} is from 0 to {WEIGHT_MAX}, not {member.weight}"
        )
