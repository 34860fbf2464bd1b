"""The hash trees of a node, kept among its facts from a clean close to the next start.

They are believed only if they were written as the very last thing: if the database opens clean and
goes on from the write number of their header. Any write after them, any loss before them and any other
secret makes them worth nothing, and a start forgets them before it writes anything else. So a crash
at any point finds none, or such as are true: what survives it is a prefix of the writes.

    trees/secret    32 bytes by which the cluster's secret is known again: that of what stands beside
                    the records. Written before the first record, or once all have been gone over.
    trees/header    see `_Header`, encoded by msgpack
    trees/00000000  and on: pieces of what follows, for each tree: name (6 bytes), leaves (8 bytes each,
                    in the byte order of this machine)

Knows nothing of how trees are built or compared.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import blake2b
from typing import Final

import msgspec

from antientropy.merkle import HASH_BYTES
from dynamo.errors import StorageRefusesWrites
from dynamo.keys import PREFIX_BYTES
from dynamo.ports import Write
from dynamo.world import NodeStorage

log = logging.getLogger(__name__)

FORMAT: Final = 1
SECRET_FACT: Final = b"trees/secret"
HEADER_FACT: Final = b"trees/header"
PIECE_BYTES: Final = 1 << 20

#: Another machine may have another one.
_BYTE_ORDER: Final = array("Q", (1,)).tobytes()

Leaves = Mapping[bytes, "array[int]"]


class _Header(msgspec.Struct, frozen=True, array_like=True):
    """`leaves`: of each tree. `number`: the write number of the header itself. `pieces`: how many there
    are. `check`: keyed with the cluster's secret, over all of it."""

    format: int
    leaves: int
    number: int
    pieces: int
    check: bytes


_encode: Final = msgspec.msgpack.Encoder().encode
_decoder: Final = msgspec.msgpack.Decoder(_Header)


class KeptTrees:
    """Of one start of a node, over its storage. `mark`: by which the cluster's secret is known again,
    32 bytes that nobody else can know."""

    def __init__(self, *, storage: NodeStorage, mark: bytes) -> None:
        self._storage = storage
        self._mark = mark

    # The secret ---------------------------------------------------------------------------------

    def knows_secret(self) -> bool:
        """True if what stands beside the records is keyed with this cluster's secret. Raises
        StorageError."""
        return self._storage.get("facts", SECRET_FACT) == self._mark

    def note_secret(self) -> None:
        """All that stands beside records is keyed with it. Raises StorageError."""
        self._storage.put("facts", SECRET_FACT, self._mark)

    def forget_secret(self) -> None:
        """Some of it may be keyed with another. Raises StorageError."""
        if self._storage.get("facts", SECRET_FACT) is not None:
            self._storage.write((Write("facts", SECRET_FACT, None),))

    # From a close to a start --------------------------------------------------------------------

    def take(self) -> dict[bytes, array[int]]:
        """The leaves of the trees that were kept, by name, if they say what is stored now; they will
        never be believed again. Before anything else is written. Raises StorageError."""
        storage = self._storage
        data = storage.get("facts", HEADER_FACT)
        if data is None:
            return {}
        opening = storage.opening
        is_last = opening.state == "clean" and storage.write_number == opening.recovered
        found = self._read(data, opening.recovered) if is_last else {}
        # The next write takes a number above theirs; this is it, whatever comes of the start.
        with suppress(StorageRefusesWrites):  # a full disk, where nothing else is written either
            storage.write((Write("facts", HEADER_FACT, None),))
        return found

    def keep(self, trees: Leaves, leaves: int) -> None:
        """Write the leaves of these trees down, unsynced. Nothing may be written after them. Raises
        StorageError."""
        storage = self._storage
        before = sum(1 for _ in self._pieces())
        whole = b"".join(name + trees[name].tobytes() for name in sorted(trees))
        count = 0
        for start in range(0, len(whole), PIECE_BYTES):
            piece = Write("facts", _piece_key(count), whole[start : start + PIECE_BYTES])
            storage.write((piece,))
            count += 1
        gone = tuple(Write("facts", _piece_key(at), None) for at in range(count, before))
        if gone:
            storage.write(gone)
        number = storage.write_number + 1
        header = _Header(FORMAT, leaves, number, count, self._check(leaves, number, whole))
        if storage.put("facts", HEADER_FACT, _encode(header)) != number:
            log.warning("the hash trees are not kept: the storage counts writes by more than one")

    def _read(self, data: bytes, recovered: int) -> dict[bytes, array[int]]:
        try:
            header = _decoder.decode(data)
        except msgspec.DecodeError:
            return {}
        if header.format != FORMAT or header.number != recovered or header.leaves < 1:
            return {}
        pieces = [piece for _, piece in zip(range(header.pieces), self._pieces(), strict=False)]
        whole = b"".join(pieces)
        each = PREFIX_BYTES + header.leaves * HASH_BYTES
        if header.check != self._check(header.leaves, header.number, whole) or len(whole) % each:
            return {}
        found = {}
        for at in range(0, len(whole), each):
            leaves_at = at + PREFIX_BYTES
            found[whole[at:leaves_at]] = array("Q", whole[leaves_at : at + each])
        return found

    def _pieces(self) -> Iterator[bytes]:
        """Those there are, in order, without a gap."""
        at = 0
        while (piece := self._storage.get("facts", _piece_key(at))) is not None:
            yield piece
            at += 1

    def _check(self, leaves: int, number: int, whole: bytes) -> bytes:
        said = b"%d %d %d " % (FORMAT, leaves, number) + _BYTE_ORDER
        return blake2b(said + whole, key=self._mark, digest_size=32).digest()


def _piece_key(number: int) -> bytes:
    return b"trees/%08d" % number
