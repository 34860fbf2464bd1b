"""All bucket properties that a node knows: who was given what, when, and what it comes to.

An entry a bucket or bucket type, of which the one with the highest stamp stays, so tables that have
seen the same entries are equal whatever the order. A reset is an entry too: were it forgotten, an
older change could come back from a node that was away. Knows nothing of disks, peers or time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Final

import msgspec

from dynamo.errors import Malformed
from dynamo.properties import DEFAULT_PROPERTIES, BucketProperties
from dynamo.property_schema import NOTHING, Own, decode_own, effective
from dynamo.rpc.messages import PropertyEntry
from ring.replication import REPLICAS_MAX

#: (bucket type, bucket); the bucket is b"" for the type itself.
Name = tuple[bytes, bytes]

#: So many buckets and types can have been given properties, those reset since included.
ENTRIES_MAX: Final = 10_000
#: A page of entries holds no more bytes than this, about.
PAGE_BYTES: Final = 64 << 10
_ENTRY_BYTES: Final = 32
_DIGEST_BYTES: Final = 16


def stamp(entry: PropertyEntry) -> tuple[int, str, bytes]:
    """What decides between two entries of one name; equal only for equal entries."""
    return entry.number, entry.node, entry.values


class _OfType:
    """What a bucket type and its buckets have."""

    __slots__ = ("buckets", "own", "owns", "props")

    def __init__(self) -> None:
        self.own = NOTHING
        self.props = DEFAULT_PROPERTIES
        #: Of each bucket that has any of its own: what was given, and what applies.
        self.owns: dict[bytes, Own] = {}
        self.buckets: dict[bytes, BucketProperties] = {}


class PropertyTable:
    """The entries in force."""

    def __init__(self, entries: Iterable[PropertyEntry] = ()) -> None:
        """Raises Malformed for entries that cannot be."""
        self._entries: dict[Name, PropertyEntry] = {}
        self._types: dict[bytes, _OfType] = {}
        self._digest = 0
        #: The highest number of any change.
        self.latest = 0
        self.apply(entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"PropertyTable(entries={len(self)} digest={self.digest().hex()[:8]})"

    def of(self, bucket_type: bytes, bucket: bytes) -> BucketProperties:
        """What applies to a bucket; the shared DEFAULT_PROPERTIES where nobody asked for more."""
        of_type = self._types.get(bucket_type)
        if of_type is None:
            return DEFAULT_PROPERTIES
        return of_type.buckets.get(bucket, of_type.props)

    def entry(self, name: Name) -> PropertyEntry | None:
        """The entry in force, a reset included."""
        return self._entries.get(name)

    def has(self, entry: PropertyEntry) -> bool:
        """True if the entry, or a newer one of its name, is in force."""
        held = self._entries.get(entry.name)
        return held is not None and stamp(held) >= stamp(entry)

    def apply(self, entries: Iterable[PropertyEntry]) -> None:
        """Put in force those that are newer. Raises Malformed, having done a part; none of what
        `decode_own` has read does that."""
        for entry in entries:
            if self.has(entry):
                continue
            held = self._entries.get(entry.name)
            self._put_in_force(entry.bucket_type, entry.bucket, own_of(entry))
            self._digest ^= _hash(entry) ^ (0 if held is None else _hash(held))
            self._entries[entry.name] = entry
            self.latest = max(self.latest, entry.number)

    def _put_in_force(self, bucket_type: bytes, bucket: bytes, own: Own) -> None:
        of_type = self._types.setdefault(bucket_type, _OfType())
        if bucket:
            if own == NOTHING:
                of_type.owns.pop(bucket, None)
                of_type.buckets.pop(bucket, None)
            else:
                of_type.owns[bucket] = own
                of_type.buckets[bucket] = effective(own, of_type.own)
        else:
            of_type.own = own
            of_type.props = effective(NOTHING, own)
            of_type.buckets = {name: effective(one, own) for name, one in of_type.owns.items()}

    def digest(self) -> bytes:
        """Equal for equal tables, b"" for an empty one; costs the same for any size."""
        return self._digest.to_bytes(_DIGEST_BYTES) if self._entries else b""

    def page(self, after: Name, *, count_max: int) -> tuple[tuple[PropertyEntry, ...], bool]:
        """Entries in order of name from the first above `after`, and whether there are more."""
        names = sorted(name for name in self._entries if name > after)
        found: list[PropertyEntry] = []
        size = 0
        for name in names[:count_max]:
            entry = self._entries[name]
            found.append(entry)
            size += _ENTRY_BYTES + len(name[0]) + len(name[1]) + len(entry.values)
            if size >= PAGE_BYTES:
                break
        return tuple(found), len(found) < len(names)

    def encode(self, more: Mapping[Name, PropertyEntry]) -> bytes:
        """What `decode_table` reads: these entries, and `more` in their place where named so."""
        return _encode(list({**self._entries, **more}.values()))


def decode_table(data: bytes) -> PropertyTable:
    """The table that was encoded. Raises Malformed."""
    try:
        return PropertyTable(_decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"not a table of bucket properties: {error}") from None


def own_of(entry: PropertyEntry | None) -> Own:
    """What an entry says; NOTHING where there is none. Raises Malformed."""
    return NOTHING if entry is None else decode_own(entry.values, REPLICAS_MAX)


def _hash(entry: PropertyEntry) -> int:
    return int.from_bytes(blake2b(_encode(entry), digest_size=_DIGEST_BYTES).digest())


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[PropertyEntry]).decode
