"""How shares combine: Lagrange coefficients at zero, by small integers.

For a set S of tickets, lambda_s = product of i / (i - s) over the other i in S. Shares come divided
by (W-1)!, and (W-1)! lambda_s is an integer for every S: the product of the |i - s| over different
i in 1..W divides (s-1)! (W-s)!, which divides (W-1)!. A combination by integers of a few bits is
several times cheaper than one by residues of 255 bits.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import factorial, gcd, lcm
from typing import Final

from crypto.group import ORDER

TICKETS_MAX: Final = 1024
"""Tickets of one committee: more than power can come to (`committee.tickets`)."""


@lru_cache(maxsize=TICKETS_MAX)
def compute_share_scale(tickets: int) -> int:
    """Return (W-1)! modulo r: what a share of one of W tickets is divided by."""
    assert 1 <= tickets <= TICKETS_MAX
    return factorial(tickets - 1) % ORDER


@lru_cache(maxsize=1024)
def compute_coefficients(chosen: tuple[int, ...], tickets: int) -> tuple[tuple[int, ...], int]:
    """Return small integers k_s and a multiplier m: x = m * sum of k_s (x_s / (W-1)!).

    `chosen` are different tickets among 1..`tickets`; the k_s come in their order and may be
    negative. m * k_s = (W-1)! lambda_s, where m holds all that the k_s have in common.
    """
    assert chosen == tuple(sorted(set(chosen)))
    assert 1 <= chosen[0] <= chosen[-1] <= tickets <= TICKETS_MAX
    fractions = [_compute_fraction(ticket, chosen) for ticket in chosen]
    denominator = lcm(*(each[1] for each in fractions))
    numerators = [numerator * (denominator // each) for numerator, each in fractions]
    common = gcd(*numerators)
    multiplier, remainder = divmod(factorial(tickets - 1) * common, denominator)
    assert remainder == 0
    return tuple(numerator // common for numerator in numerators), multiplier


def _compute_fraction(ticket: int, chosen: Sequence[int]) -> tuple[int, int]:
    """Return lambda_s as numerator and positive denominator in lowest terms."""
    numerator, denominator = 1, 1
    for other in chosen:
        if other != ticket:
            numerator *= other
            denominator *= other - ticket
    divisor = gcd(numerator, denominator)
    sign = -1 if denominator < 0 else 1
    return sign * numerator // divisor, abs(denominator) // divisor


def compute_weights_at_zero(chosen: Sequence[int]) -> list[int]:
    """Return the lambda_s modulo r of different numbers s, in their order."""
    assert len(set(chosen)) == len(chosen)
    fractions = [_compute_fraction(each, chosen) for each in chosen]
    return [numerator * pow(denominator, -1, ORDER) % ORDER for numerator, denominator in fractions]
