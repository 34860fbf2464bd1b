"""Where members are dialled that are not where the ring says: learnt from them, and kept on disk.

A node that starts anew finds them there, so it needs nobody to tell it. Of each member the address of
its latest start counts. Knows nothing of how addresses are learnt, nor of connections.
"""

from __future__ import annotations

import logging
from typing import Final

import msgspec

from dynamo.cluster.topology import Blobs
from dynamo.errors import StorageCorrupt, StorageError
from dynamo.metrics import Metrics
from ring.member import Member, check_member

log = logging.getLogger(__name__)

BLOB: Final = "addresses"


class Learnt(msgspec.Struct, frozen=True, array_like=True):
    """Where a member was in the start of this number."""

    start: int
    address: str


_decoder: Final = msgspec.msgpack.Decoder(dict[str, Learnt])


def is_address(address: str, member: Member) -> bool:
    """True if a member can be dialled there: host:port, as in a cluster file."""
    try:
        check_member(msgspec.structs.replace(member, address=address))
    except ValueError:
        return False
    return True


class AddressBook:
    """Addresses by member id; none of a member that is where the ring says."""

    def __init__(self, *, blobs: Blobs, metrics: Metrics) -> None:
        """Reads what is on disk; nothing, with an alarm, if that is damaged: it is learnt again."""
        self._blobs = blobs
        self._count = metrics.count
        self._learnt = self._read()
        self._unwritten = False
        #: What is known, by member; always this object.
        self.addresses = {name: learnt.address for name, learnt in self._learnt.items()}

    def __repr__(self) -> str:
        return f"AddressBook({' '.join(f'{k}={v}' for k, v in sorted(self.addresses.items()))})"

    def _read(self) -> dict[str, Learnt]:
        try:
            data = self._blobs.read_blob(BLOB)
            return {} if data is None else _decoder.decode(data)
        except (StorageCorrupt, msgspec.DecodeError) as error:
            self._count["alarms"] += 1
            self._count["addresses_damaged"] += 1
            log.error("ALARM the addresses of members that were learnt are lost: %s", error)
            return {}

    def start_of(self, name: str) -> int:
        """In which start the member was where the book says; 0 if it says nothing."""
        learnt = self._learnt.get(name)
        return learnt.start if learnt is not None else 0

    def note(self, name: str, start: int, address: str) -> bool:
        """A member was at this address ("": where the ring says) in this start. True if it is to be
        dialled elsewhere from now on."""
        learnt = self._learnt.get(name)
        if learnt is not None and (learnt.start > start or learnt == Learnt(start, address)):
            return False
        if not address:
            self._unwritten = self._unwritten or learnt is not None
            self._learnt.pop(name, None)
            return self.addresses.pop(name, None) is not None
        self._learnt[name] = Learnt(start, address)
        self._unwritten = True
        has_moved = self.addresses.get(name) != address
        self.addresses[name] = address
        return has_moved

    def keep_only(self, names: frozenset[str]) -> None:
        """Forget who is no member any more."""
        for name in [name for name in self._learnt if name not in names]:
            del self._learnt[name]
            self.addresses.pop(name)
            self._unwritten = True

    async def keep(self) -> None:
        """On disk, if there is news and the disk takes it; else it is tried again at the next call."""
        if not self._unwritten:
            return
        self._unwritten = False
        try:
            await self._blobs.keep_blob(BLOB, msgspec.msgpack.encode(self._learnt))
        except StorageError as error:
            self._unwritten = True
            self._count["addresses_unwritten"] += 1
            count = self._count["addresses_unwritten"]
            if count & (count - 1) == 0:  # a disk may be full for days
                log.warning(
                    "addresses of members could not be kept (%s so far): %s", count, error.message
                )
