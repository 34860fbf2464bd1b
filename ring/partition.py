"""From a key to its token, and from a token to its partition.

A token is 64 bits of MurmurHash3 under the cluster's seed; the ring is cut into Q equal arcs, so
the top bits of a token number its partition (Dynamo 6.2, strategy 3). Knows nothing of members.
"""

from __future__ import annotations

from typing import Final

from mmh3 import mmh3_x64_128_uintdigest

PARTITIONS_MAX: Final = 1 << 16
SEED_MAX: Final = (1 << 32) - 1
TOKEN_MASK: Final = (1 << 64) - 1


def token(key: bytes, seed: int) -> int:
    """A key's place on the ring, 0 to 2**64 - 1; `seed` is 0 to SEED_MAX.

    The first half of the 128-bit x64 variant. Never changes: data on disk lies by it.
    """
    return mmh3_x64_128_uintdigest(key, seed) & TOKEN_MASK


def partition_of(token: int, partitions: int) -> int:
    """The partition, from 0, whose arc holds the token; `partitions` is Q, a power of two."""
    return token >> token_shift(partitions)


def token_shift(partitions: int) -> int:
    """How far a token is shifted right to leave its partition."""
    return 65 - partitions.bit_length()


def check_partitions(partitions: int) -> None:
    """Raises ValueError unless Q is a power of two from 1 to PARTITIONS_MAX."""
    if not 1 <= partitions <= PARTITIONS_MAX or partitions & (partitions - 1):
        raise ValueError(
            f"partitions is a power of two from 1 to {PARTITIONS_MAX}, not {partitions}"
        )


def check_seed(seed: int) -> None:
    """Raises ValueError unless the hash seed fits 32 bits."""
    if not 0 <= seed <= SEED_MAX:
        raise ValueError(f"the hash seed is from 0 to {SEED_MAX}, not {seed}")
