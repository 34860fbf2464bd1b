"""The bytes of a ring: one msgpack array, the same for equal rings.

Knows types and format only; whether the parts fit together is judged by `ring.ring`.
"""

from __future__ import annotations

from typing import Final

import msgspec

FORMAT: Final = 1


class RingParts(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a ring is made of.

    `members`: (id, address, datacenter, rack, host, weight), by id. `classes`: (name, id, replicas,
    by_datacenter), by id. `owners`: by class, then datacenter (sorted), then partition: indexes
    into `members`, preferred first. `changed`: by class, then partition: an epoch.
    """

    format: int
    epoch: int
    partitions: int
    seed: int
    members: tuple[tuple[str, str, str, str, str, int], ...]
    classes: tuple[tuple[str, int, int, tuple[tuple[str, int], ...]], ...]
    owners: tuple[tuple[tuple[tuple[int, ...], ...], ...], ...]
    changed: tuple[tuple[int, ...], ...]


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(RingParts)


def encode_parts(parts: RingParts) -> bytes:
    """The bytes of these parts."""
    return _encoder.encode(parts)


def decode_parts(data: bytes) -> RingParts:
    """The parts that `encode_parts` made these very bytes of. Raises ValueError."""
    # A newer format may have other fields, so its number is looked at before the rest.
    if len(data) > 1 and 0x90 <= data[0] <= 0x9F and data[1] < 0x80 and data[1] != FORMAT:
        raise ValueError(f"a ring in format {data[1]}, and only {FORMAT} is known here")
    try:
        parts = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a ring: {error}") from None
    if parts.format != FORMAT or encode_parts(parts) != data:
        raise ValueError("not a ring: its bytes are not in canonical form")
    return parts
