"""What a replica stores for a key: a version vector and its siblings.

Merge is plain dotted-version-vector merge: commutative, associative, idempotent, the same for every
bucket, and it calls nobody's code. Per dot a record is in one of three states, unseen < present
(a set of values, normally one) < removed (covered, absent), and merge takes the higher. So a
sibling stays if the other record holds its dot or does not cover it.

Encoding is canonical (sorted, shortest forms, versioned), so equal records are equal bytes. A
sibling's content is opaque here; `Content` is what the edge puts in it. Knows nothing of nodes,
time or storage.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct as Layout

import msgspec

from dynamo.errors import Malformed
from dynamo.version import COUNTER_MAX, EMPTY_VECTOR, Birth, Dot, Vector, check_birth, join

FORMAT = 1
HASH_BYTES = 16
INT64_MAX = (1 << 63) - 1

VALUE = 0
TOMBSTONE = 1

SIBLINGS_MAX = 100
SIBLINGS_WARN = 25
RECORD_BYTES_MAX = 12 << 20
RECORD_BYTES_WARN = 1 << 20


class Content(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """What a client stored: the value and what travels with it.

    `metadata`: pairs of lower-case name and value, as raw bytes, in the order they were given.
    `dependencies`: room for causal dependencies (opaque tokens, at most 8, 512 bytes together).
    """

    value: bytes = b""
    content_type: bytes = b""
    content_encoding: bytes = b""
    metadata: tuple[tuple[bytes, bytes], ...] = ()
    dependencies: tuple[bytes, ...] = ()


class Sibling(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """One write that nothing in the record has replaced.

    `kind`: VALUE or TOMBSTONE. `written_ms`: wall clock of the mint, milliseconds since 1970, for
    people only. `stamp`: hybrid-clock stamp for `lww` buckets, else 0. `expires_ms`: absolute, 0 for
    never. `content`: encoded Content, or None once the body of an expired sibling is gone.
    """

    birth: Birth
    counter: int
    kind: int
    written_ms: int
    stamp: int
    expires_ms: int
    content_hash: bytes
    content: bytes | None

    @property
    def dot(self) -> Dot:
        return (self.birth, self.counter)

    def is_live(self, now_ms: int) -> bool:
        """True for a value that has neither been deleted nor expired nor lost its body."""
        return self.kind == VALUE and self.content is not None and not 0 < self.expires_ms <= now_ms

    def read(self) -> Content:
        """The decoded content (empty for a tombstone). Raises Malformed."""
        return decode_content(self.content) if self.content else Content()

    def vtag(self) -> str:
        """A short name for this very write, for ETag and `vtag`: 22 hex digits."""
        digest = blake2b(self.birth, digest_size=11)
        digest.update(b"%d." % self.counter)
        digest.update(self.content_hash)
        return digest.hexdigest()


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """A vector and its siblings, sorted by (birth, counter, content hash)."""

    format: int
    vector: Vector
    siblings: tuple[Sibling, ...]

    def __bool__(self) -> bool:
        """False for a record that has seen nothing: the key is absent."""
        return bool(self.vector)

    def __repr__(self) -> str:
        vector = " ".join(f"{birth.hex()}:{counter}" for birth, counter in self.vector)
        siblings = " ".join(
            ("-" if s.kind == TOMBSTONE else "+") + f"{s.birth.hex()}:{s.counter}"
            for s in self.siblings
        )
        return f"Record([{vector}] {siblings or 'empty'})"


EMPTY = Record(FORMAT, EMPTY_VECTOR, ())

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)
_content_decoder = msgspec.msgpack.Decoder(Content)
_STAMPS = Layout(">BQQ")


def encode_record(record: Record) -> bytes:
    """Canonical bytes of a record."""
    return _encoder.encode(record)


def decode_record(data: bytes) -> Record:
    """The record of `encode_record`. Raises Malformed for anything it would not have written."""
    try:
        record = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"not a record: {error}") from None
    _check(record)
    if _encoder.encode(record) != data:
        raise Malformed("a record is not in its canonical form")
    return record


def _check(record: Record) -> None:
    if record.format != FORMAT:
        raise Malformed(f"record format {record.format}, this node reads {FORMAT}")
    last = b""
    for birth, counter in record.vector:
        if birth <= last:
            raise Malformed("a record's vector is not sorted")
        check_birth(birth)
        if not 1 <= counter <= COUNTER_MAX:
            raise Malformed("a counter is out of range")
        last = birth
    vector = dict(record.vector)
    before: tuple[bytes, int, bytes] | None = None
    for sibling in record.siblings:
        if not 1 <= sibling.counter <= vector.get(sibling.birth, 0):
            raise Malformed("a sibling's dot is not in its record's vector")
        if sibling.kind not in (VALUE, TOMBSTONE) or len(sibling.content_hash) != HASH_BYTES:
            raise Malformed("a sibling's kind or content hash is wrong")
        if not (
            0 <= sibling.written_ms <= INT64_MAX
            and 0 <= sibling.stamp <= INT64_MAX
            and 0 <= sibling.expires_ms <= INT64_MAX
        ):
            raise Malformed("a sibling's time is out of range")
        order = (sibling.birth, sibling.counter, sibling.content_hash)
        if before is not None and order <= before:
            raise Malformed("a record's siblings are not sorted")
        before = order


def encode_content(content: Content) -> bytes:
    """The bytes that a sibling carries."""
    return _encoder.encode(content)


def decode_content(data: bytes) -> Content:
    """The content of `encode_content`. Raises Malformed."""
    try:
        return _content_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"not a content: {error}") from None


def content_hash(kind: int, written_ms: int, stamp: int, content: bytes) -> bytes:
    """16 bytes that name a sibling's content apart from its dot and expiry."""
    digest = blake2b(_STAMPS.pack(kind, written_ms, stamp), digest_size=HASH_BYTES)
    digest.update(content)
    return digest.digest()


def record_digest(record: Record) -> bytes:
    """16 bytes, equal for equal records; b"" for an absent one.

    Covers the vector and every sibling's dot, expiry and content hash, not the body, so that it does
    not change when the body of an expired sibling goes.
    """
    if not record.vector:
        return b""
    head = _encoder.encode(
        (
            record.vector,
            [(s.birth, s.counter, s.expires_ms, s.content_hash) for s in record.siblings],
        )
    )
    return blake2b(head, digest_size=HASH_BYTES).digest()


def merge(left: Record, right: Record) -> Record:
    """The record that has seen what either has. Commutative, associative, idempotent."""
    if not right.vector or left == right:
        return left
    if not left.vector:
        return right
    left_vector, right_vector = dict(left.vector), dict(right.vector)
    right_dots = {(s.birth, s.counter) for s in right.siblings}
    left_dots = {(s.birth, s.counter) for s in left.siblings}
    kept: dict[tuple[bytes, int, bytes], Sibling] = {}
    for siblings, other_dots, other_vector in (
        (left.siblings, right_dots, right_vector),
        (right.siblings, left_dots, left_vector),
    ):
        for sibling in siblings:
            dot = (sibling.birth, sibling.counter)
            if dot not in other_dots and other_vector.get(sibling.birth, 0) >= sibling.counter:
                continue
            key = (*dot, sibling.content_hash)
            twin = kept.get(key)
            # "Without body" wins, so that a body that was let go does not come back. Among bodies
            # (or other fields) that differ under one hash any fixed choice keeps merge commutative.
            if twin is None or _rank(sibling) < _rank(twin):
                kept[key] = sibling
    return Record(
        FORMAT,
        join(left.vector, right.vector),
        tuple(kept[key] for key in sorted(kept)),
    )


def _rank(sibling: Sibling) -> tuple[bool, bytes]:
    return (sibling.content is not None, _encoder.encode(sibling))


def mint(
    record: Record,
    context: Vector,
    *,
    birth: Birth,
    counter: int,
    kind: int,
    content: bytes,
    written_ms: int,
    stamp: int = 0,
    expires_ms: int = 0,
) -> Record:
    """The record after one more write, whose dot is (birth, counter).

    `counter` is one more than the birth's last, so that the vector stays without gaps.

    The write replaces exactly the siblings that `context` covers. The context joins the vector: what
    it names is known and replaced, even if this record had not seen it yet.
    """
    covered = dict(context)
    kept = [s for s in record.siblings if covered.get(s.birth, 0) < s.counter]
    vector = dict(join(record.vector, context))
    assert counter == vector.get(birth, 0) + 1
    vector[birth] = counter
    kept.append(
        Sibling(
            birth,
            counter,
            kind,
            written_ms,
            stamp,
            expires_ms,
            content_hash(kind, written_ms, stamp, content),
            content,
        )
    )
    kept.sort(key=lambda s: (s.birth, s.counter, s.content_hash))
    return Record(FORMAT, tuple(sorted(vector.items())), tuple(kept))
