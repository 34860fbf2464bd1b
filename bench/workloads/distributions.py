"""How YCSB draws the key of a request: uniform, zipfian (scrambled), latest.

After J. Gray et al., "Quickly generating billion-record synthetic databases" (SIGMOD 1994), as YCSB 0.17
does it (`ZipfianGenerator`, `ScrambledZipfianGenerator`, `SkewedLatestGenerator`,
`AcknowledgedCounterGenerator`), so that runs compare. Pure; chance is handed in.
"""

from __future__ import annotations

import math
import random
from typing import Final

#: YCSB's constant: how skewed. 0 would be uniform.
THETA: Final = 0.99
#: The scrambled one draws from so many ranks, whatever the number of keys, and folds them by a hash.
SCRAMBLED_ITEMS: Final = 10_000_000_000
#: zeta(SCRAMBLED_ITEMS, THETA), which YCSB has as a constant too: it takes minutes to add up.
SCRAMBLED_ZETA: Final = 26.46902820178302
#: So often a key is drawn that is not there yet; YCSB draws for ever.
REDRAWN_MAX: Final = 1_000

_FNV_OFFSET: Final = 0xCBF29CE484222325
_FNV_PRIME: Final = 1_099_511_628_211
_MASK: Final = (1 << 64) - 1


def fnv_hash(value: int) -> int:
    """FNV-1a of the eight bytes of `value`, least first, as YCSB has it: the absolute value of a signed
    64-bit number."""
    hashed = _FNV_OFFSET
    for _ in range(8):
        hashed = ((hashed ^ (value & 0xFF)) * _FNV_PRIME) & _MASK
        value >>= 8
    return hashed if hashed < 1 << 63 else (1 << 64) - hashed


def zeta(count: int, theta: float = THETA, *, known: int = 0, of_known: float = 0.0) -> float:
    """The sum of 1 / i^theta for i = 1 to `count`. `of_known`: that of the first `known`."""
    return of_known + sum(math.pow(rank, -theta) for rank in range(known + 1, count + 1))


class Zipfian:
    """Ranks 0, 1, ..., of which rank i is drawn with a probability of 1 / ((i + 1)^theta zeta): exactly
    for the first two, closely for the others (Gray et al., figure 2)."""

    def __init__(self, count: int, *, theta: float = THETA, of_count: float | None = None) -> None:
        """`of_count`: zeta(count, theta), if it is known. Raises ValueError below one rank."""
        if count < 1:
            raise ValueError(f"a distribution over {count} items")
        self._theta = theta
        self._count = count
        self._zeta = zeta(count, theta) if of_count is None else of_count
        self._first_two = 1.0 + math.pow(0.5, theta)
        self._alpha = 1.0 / (1.0 - theta)
        self._eta = self._make_eta()

    def _make_eta(self) -> float:
        if self._count <= 2:
            return 0.0  # the first two ranks have all of it
        spread = 1.0 - math.pow(2.0 / self._count, 1.0 - self._theta)
        return spread / (1.0 - self._first_two / self._zeta)

    def grow(self, count: int) -> None:
        """Draw from so many ranks from now on, if that is more."""
        if count > self._count:
            self._zeta = zeta(count, self._theta, known=self._count, of_known=self._zeta)
            self._count = count
            self._eta = self._make_eta()

    def next(self, chance: random.Random) -> int:
        """A rank, 0 to count - 1."""
        drawn = chance.random()
        scaled = drawn * self._zeta
        if scaled < 1.0 or self._count == 1:
            return 0
        if scaled < self._first_two or self._count == 2:
            return 1
        rank = int(self._count * (self._eta * drawn - self._eta + 1.0) ** self._alpha)
        return min(rank, self._count - 1)


class Uniform:
    """Key numbers alike often."""

    def next(self, known: int, chance: random.Random) -> int:
        """One of 0 to known - 1."""
        return chance.randrange(known)


class ScrambledZipfian:
    """A few keys are much more popular than others, and lie anywhere. `room`: numbers that it can draw:
    the keys that are there, and twice those that are expected to come (as YCSB does, so that popular
    keys stay so)."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._ranks = Zipfian(SCRAMBLED_ITEMS, of_count=SCRAMBLED_ZETA)

    def next(self, known: int, chance: random.Random) -> int:
        """One of 0 to known - 1: what is not there yet is drawn again."""
        for _ in range(REDRAWN_MAX):
            number = fnv_hash(self._ranks.next(chance)) % self._room
            if number < known:
                return number
        return number % known


class Latest:
    """The newer a key, the more popular: zipfian from the last one back."""

    def __init__(self, known: int) -> None:
        self._ranks = Zipfian(known)

    def next(self, known: int, chance: random.Random) -> int:
        """One of 0 to known - 1."""
        self._ranks.grow(known)
        return known - 1 - min(self._ranks.next(chance), known - 1)


class Acknowledged:
    """Numbers of inserts: `known` grows only over those that are settled without a gap, so nobody reads
    a key whose insert is still under way."""

    def __init__(self, known: int) -> None:
        #: Keys 0 to known - 1 are there, or are known not to be.
        self.known = known
        self._next = known
        self._settled: set[int] = set()

    def take(self) -> int:
        """The number of the next key to insert."""
        self._next += 1
        return self._next - 1

    def settle(self, number: int) -> None:
        """Its insert has ended, one way or the other."""
        self._settled.add(number)
        while self.known in self._settled:
            self._settled.remove(self.known)
            self.known += 1
