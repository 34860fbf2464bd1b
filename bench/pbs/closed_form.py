"""What needs no sampling: k-staleness, and exponential delays with R = W = 1. Pure.

P. Bailis et al., "Probabilistically Bounded Staleness for Practical Partial Quorums", VLDB 2012, 3.1;
the second is derived here.
"""

from __future__ import annotations

import math
from typing import Final

#: Versions that a prediction speaks of.
KS: Final = (1, 2, 3, 5, 10)
#: With more replicas the exponential closed form loses digits.
EXACT_N_MAX: Final = 5


def fresh_within(k: int, *, n: int, r: int, w: int) -> float:
    """Probability that a read returns one of the k newest versions, where a write stays at the w
    replicas that it went to, and each write and read goes to replicas of its own drawing."""
    return 1.0 - (math.comb(n - w, r) / math.comb(n, r)) ** k


def exponential_fresh(t: float, *, n: int, w_rate: float, other_rate: float) -> float:
    """Probability that a read at t (ms) after commit is fresh, for R = W = 1, W ~ Exp(w_rate) and
    A, R, S ~ Exp(other_rate); all n are asked, as in the paper.

    The replica that answers first is stale if its W is longer than M + t + R, where M is the first
    acknowledgement of another replica (its own would be later than its W). W has no memory, so this
    has the probability E[exp(-rate (M + t + R))], and M and R are independent. To four digits for
    n up to 5.
    """
    return 1.0 - math.exp(-w_rate * t) * _first_ack(n, w_rate, other_rate) * _first_way(
        n, w_rate, other_rate
    )


def exponential_t(share: float, *, n: int, w_rate: float, other_rate: float) -> float:
    """The least t (ms) with `exponential_fresh` at or above `share`, below 1."""
    stale = 1.0 - exponential_fresh(0.0, n=n, w_rate=w_rate, other_rate=other_rate)
    return max(0.0, math.log(stale / (1.0 - share)) / w_rate)


def _first_ack(n: int, w_rate: float, a_rate: float) -> float:
    """E[exp(-w_rate M)], M the least W + A of n - 1 replicas: 1 - w_rate x the integral of
    exp(-w_rate x) P(M > x)."""
    others = n - 1
    if math.isclose(w_rate, a_rate, rel_tol=1e-3):
        # W + A is Erlang's: P(W + A > x) = (1 + rate x) exp(-rate x).
        integral = _power_integral(others, w_rate, w_rate * (others + 1))
        return 1.0 - w_rate * integral
    # P(W + A > x) = (a_rate exp(-w_rate x) - w_rate exp(-a_rate x)) / (a_rate - w_rate), to the power.
    terms = [
        math.comb(others, j)
        * a_rate ** (others - j)
        * (-w_rate) ** j
        / (w_rate + w_rate * (others - j) + a_rate * j)
        for j in range(others + 1)
    ]
    return 1.0 - w_rate * math.fsum(terms) / (a_rate - w_rate) ** others


def _first_way(n: int, w_rate: float, rate: float) -> float:
    """E[exp(-w_rate R)], R the way to the replica whose R + S is the least of n. Of a sum x, R is any
    part with the same probability: E[exp(-w_rate R) | x] = (1 - exp(-w_rate x)) / (w_rate x)."""
    # The least sum has the density n x rate^2 exp(-n rate x) (1 + rate x)^(n - 1).
    return (
        n
        * rate**2
        / w_rate
        * (_power_integral(n - 1, rate, n * rate) - _power_integral(n - 1, rate, n * rate + w_rate))
    )


def _power_integral(power: int, rate: float, decay: float) -> float:
    """Integral of (1 + rate x)^power exp(-decay x) over x from 0 on."""
    return math.fsum(
        math.comb(power, j) * rate**j * math.factorial(j) / decay ** (j + 1)
        for j in range(power + 1)
    )
