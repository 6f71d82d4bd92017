"""Values of polynomials: of one that is known, and of one known by commitments alone."""

from collections.abc import Sequence

from crypto.group import ORDER, G2Point, H, multiply_g2


def evaluate(coefficients: Sequence[int], at: int) -> int:
    """Return the polynomial's value modulo r; its constant coefficient comes first."""
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * at + coefficient) % ORDER
    return value


def evaluate_commitments(commitments: Sequence[G2Point], at: int) -> G2Point:
    """Return f(at) H from the a_k H, by Horner's rule: for the number of a ticket some 10 us a
    coefficient, where powers of it would be scalars of full size."""
    value = commitments[-1]
    for commitment in reversed(commitments[:-1]):
        value = multiply_g2(value, at) + commitment
    return value


def is_value_right(commitments: Sequence[G2Point], at: int, value: int) -> bool:
    """Is `value` the committed polynomial's at this ticket? 0.6 ms and 10 us a coefficient."""
    return multiply_g2(H, value) == evaluate_commitments(commitments, at)
