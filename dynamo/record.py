"""What a replica stores for a key: a version vector and its siblings.

Merge is plain dotted-version-vector merge: commutative, associative, idempotent, the same for every
bucket, and it calls nobody's code. Per dot a record is in one of three states, unseen < present
(a set of values, normally one) < removed (covered, absent), and merge takes the higher. So a
sibling stays if the other record holds its dot or does not cover it. A value is known by what the
digest covers, its content hash and expiry: whether its body is still there makes no second value.

Encoding is canonical (sorted, shortest forms, versioned), so equal records are equal bytes. A
sibling's content is opaque here; `Content` is what the edge puts in it. Knows nothing of nodes,
time or storage.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct as Layout
from typing import Annotated, Final

import msgspec

from dynamo.errors import Malformed
from dynamo.version import EMPTY_VECTOR, Birth, Counter, Dot, Vector, check_birth

FORMAT: Final = 1
HASH_BYTES: Final = 16
INT64_MAX: Final = (1 << 63) - 1

VALUE: Final = 0
TOMBSTONE: Final = 1

SIBLINGS_MAX: Final = 100
SIBLINGS_WARN: Final = 25
RECORD_BYTES_MAX: Final = 12 << 20
RECORD_BYTES_WARN: Final = 1 << 20
#: How long the body of an expired sibling stays, in milliseconds: more than clocks differ.
EXPIRED_BODY_KEPT_MS: Final = 3_600_000

_Kind = Annotated[int, msgspec.Meta(ge=VALUE, le=TOMBSTONE)]
_Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=INT64_MAX)]
_Hash = Annotated[bytes, msgspec.Meta(min_length=HASH_BYTES, max_length=HASH_BYTES)]


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
    people and for what tells a wrong clock. `stamp`: of the hybrid clock, where the last write wins,
    else 0; it is above the stamps of all that the write covers. `expires_ms`: absolute, 0 for never.
    `content`: encoded Content, or None once the body of an expired value is gone.
    """

    birth: Birth
    counter: Counter
    kind: _Kind
    written_ms: _Milliseconds
    stamp: Annotated[int, msgspec.Meta(ge=0, le=INT64_MAX)]
    expires_ms: _Milliseconds
    content_hash: _Hash
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
        named = b"%b%d.%d.%b" % (self.birth, self.counter, self.expires_ms, self.content_hash)
        return blake2b(named, digest_size=11).hexdigest()


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """A vector and its siblings, sorted by (birth, counter, content hash, expiry)."""

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
# Below this, one call on a copy is cheaper than two calls.
_COPIED_BYTES_MAX = 4096


def encode_record(record: Record) -> bytes:
    """Canonical bytes of a record (msgpack): format, vector, siblings."""
    return _encoder.encode(record)


def decode_record(data: bytes) -> Record:
    """The record of `encode_record`. Raises Malformed for anything it would not have written."""
    record = read_record(data)
    _check(record)
    if _encoder.encode(record) != data:
        raise Malformed("a record is not in its canonical form")
    return record


def read_record(data: bytes) -> Record:
    """As `decode_record`, for bytes that are known to come from `encode_record`: those that lay
    under a checksum of this node. Raises Malformed for bytes that are no record at all."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"not a record: {error}") from None


def _check(record: Record) -> None:
    """Raises Malformed for what the types alone do not rule out."""
    if record.format != FORMAT:
        raise Malformed(f"record format {record.format}, this node reads {FORMAT}")
    last = b""
    for birth, _ in record.vector:
        if birth <= last:
            raise Malformed("a record's vector is not sorted")
        check_birth(birth)
        last = birth
    siblings = record.siblings
    seen = dict(record.vector)
    for sibling in siblings:
        if sibling.counter > seen.get(sibling.birth, 0):
            raise Malformed("a sibling's dot is not in its record's vector")
        if sibling.content is None and (sibling.kind != VALUE or not sibling.expires_ms):
            raise Malformed("a sibling that never expires has lost its body")
    if len(siblings) > 1:
        before = _order(siblings[0])
        for sibling in siblings[1:]:
            order = _order(sibling)
            if order <= before:
                raise Malformed("a record's siblings are not sorted")
            before = order


def _order(sibling: Sibling) -> tuple[bytes, int, bytes, int]:
    """What a value is known by, and siblings are sorted by."""
    return (sibling.birth, sibling.counter, sibling.content_hash, sibling.expires_ms)


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
    stamps = _STAMPS.pack(kind, written_ms, stamp)
    if len(content) <= _COPIED_BYTES_MAX:
        return blake2b(stamps + content, digest_size=HASH_BYTES).digest()
    digest = blake2b(stamps, digest_size=HASH_BYTES)
    digest.update(content)
    return digest.digest()


def highest_stamp(record: Record) -> int:
    """The highest stamp in a record; 0 if there is none."""
    highest = 0
    for sibling in record.siblings:
        if sibling.stamp > highest:
            highest = sibling.stamp
    return highest


def record_digest(record: Record) -> bytes:
    """16 bytes, equal for equal records; b"" for an absent one.

    Covers the vector and every sibling's dot, expiry and content hash, not the body, so that it
    does not change when the body of an expired sibling goes.
    """
    if not record.vector:
        return b""
    siblings = record.siblings
    if len(siblings) == 1:
        s = siblings[0]
        named = [(s.birth, s.counter, s.expires_ms, s.content_hash)]
    else:
        named = [(s.birth, s.counter, s.expires_ms, s.content_hash) for s in siblings]
    return blake2b(_encoder.encode((record.vector, named)), digest_size=HASH_BYTES).digest()


def merge(left: Record, right: Record) -> Record:
    """The record that has seen what either has. Commutative, associative, idempotent.

    It is `left` itself, the very object, if `right` adds nothing to it.
    """
    if not right.vector or left == right:
        return left
    if not left.vector:
        return right
    left_seen, right_seen = dict(left.vector), dict(right.vector)
    kept: list[Sibling] = []
    left_known: list[Sibling] = []
    right_known: list[Sibling] = []
    for sibling in left.siblings:
        if right_seen.get(sibling.birth, 0) < sibling.counter:
            kept.append(sibling)
        else:
            left_known.append(sibling)
    for sibling in right.siblings:
        if left_seen.get(sibling.birth, 0) < sibling.counter:
            kept.append(sibling)
        else:
            right_known.append(sibling)
    # What one side covers stays only if that side holds its dot too.
    if left_known and right_known:
        kept += _held_by_both(left_known, right_known)
    if len(kept) > 1:
        kept.sort(key=_order)
    siblings = tuple(kept)
    grown = False
    for birth, counter in right.vector:
        if left_seen.get(birth, 0) < counter:
            left_seen[birth] = counter
            grown = True
    if grown:
        return Record(FORMAT, tuple(sorted(left_seen.items())), siblings)
    return left if siblings == left.siblings else Record(FORMAT, left.vector, siblings)


def _held_by_both(lefts: list[Sibling], rights: list[Sibling]) -> list[Sibling]:
    """The values of the dots that are in both lists, from either list."""
    if lefts == rights:
        return lefts
    dots = {(s.birth, s.counter) for s in lefts} & {(s.birth, s.counter) for s in rights}
    values: dict[tuple[bytes, int, bytes, int], Sibling] = {}
    for sibling in (*lefts, *rights):
        if (sibling.birth, sibling.counter) in dots:
            order = _order(sibling)
            twin = values.get(order)
            if twin is None or (twin != sibling and _rank(sibling) < _rank(twin)):
                values[order] = sibling
    return list(values.values())


def _rank(sibling: Sibling) -> tuple[bool, bytes]:
    """Of two forms of one value the lower stays.

    "Without body" wins, so that a body that was let go does not come back. Among bodies that differ
    under one hash, which only damage can make, any fixed choice keeps merge commutative.
    """
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

    The write replaces exactly the siblings that `context` covers. The context joins the vector:
    what it names is known and replaced, even if this record had not seen it yet.

    `counter` is one more than the last that record and context know of the birth, so that the
    vector stays without gaps: the caller, who owns the birth, has made sure of it.
    """
    vector = dict(record.vector)
    kept: list[Sibling] = []
    if context:
        covered = dict(context)
        for sibling in record.siblings:
            if covered.get(sibling.birth, 0) < sibling.counter:
                kept.append(sibling)
        for seen_birth, seen in context:
            if vector.get(seen_birth, 0) < seen:
                vector[seen_birth] = seen
    else:
        kept += record.siblings
    assert counter == vector.get(birth, 0) + 1
    vector[birth] = counter
    hashed = content_hash(kind, written_ms, stamp, content)
    kept.append(
        Sibling(birth, counter, kind, written_ms, stamp, expires_ms, hashed, content),
    )
    if len(kept) > 1:
        kept.sort(key=_order)
    return Record(FORMAT, tuple(sorted(vector.items())), tuple(kept))


def without_expired_bodies(record: Record, now_ms: int) -> Record:
    """The record without the bodies of values that expired EXPIRED_BODY_KEPT_MS ago or earlier.

    It is `record` itself if there are none. The siblings stay, as what their dots say, and so does
    the digest: letting bodies go makes no replica differ from another.
    """
    before_ms = now_ms - EXPIRED_BODY_KEPT_MS
    if not any(_body_may_go(sibling, before_ms) for sibling in record.siblings):
        return record
    siblings = tuple(
        msgspec.structs.replace(sibling, content=None)
        if _body_may_go(sibling, before_ms)
        else sibling
        for sibling in record.siblings
    )
    return Record(FORMAT, record.vector, siblings)


def without_expired(record: Record, now_ms: int, *, but: Dot) -> Record:
    """The record without values that have expired by then, or lost their bodies, as if the write of
    the dot `but` had replaced them: the vector goes on covering them. It is `record` itself if there
    are none."""
    kept = tuple(s for s in record.siblings if s.dot == but or not _is_past(s, now_ms))
    return record if len(kept) == len(record.siblings) else Record(FORMAT, record.vector, kept)


def _is_past(sibling: Sibling, now_ms: int) -> bool:
    return sibling.kind == VALUE and (sibling.content is None or 0 < sibling.expires_ms <= now_ms)


def _body_may_go(sibling: Sibling, before_ms: int) -> bool:
    return (
        sibling.kind == VALUE
        and sibling.content is not None
        and 0 < sibling.expires_ms <= before_ms
    )
