"""Isotonic regression by pool-adjacent-violators: the best rise through noisy shares.

Pure arithmetic (Ayer et al., Ann. Math. Stat. 26, 1955); O(n).
"""

from __future__ import annotations

from collections.abc import Sequence


def pool(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The non-decreasing sequence nearest to `values` by weighted squares. Weights are above zero,
    or zero: such a value takes what is fitted before it (after it, if it comes first)."""
    sums: list[float] = []
    masses: list[float] = []
    lengths: list[int] = []
    for value, weight in zip(values, weights, strict=True):
        total, mass, length = value * weight, weight, 1
        # Compared without a division, so that equal shares pool, and nothing divides by zero.
        while sums and (mass == 0 or masses[-1] == 0 or sums[-1] * mass >= total * masses[-1]):
            total += sums.pop()
            mass += masses.pop()
            length += lengths.pop()
        sums.append(total)
        masses.append(mass)
        lengths.append(length)
    fitted: list[float] = []
    for total, mass, length in zip(sums, masses, lengths, strict=True):
        fitted += [total / mass if mass else 0.0] * length
    return fitted
