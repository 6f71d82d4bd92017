"""Products that fit a machine word, as almost all of a block's do.

Compiled, a product of two Python integers is one only if both are positive and below 2^30; with a
sign or a rate of margin in it, it goes through objects and costs ten times as much. A product of
machine integers never does, but it wraps around without a word. So the operands are held against
bounds first, and whatever is beyond them is multiplied as before: the result is the same.
"""

from typing import Final

from mypy_extensions import i64

SMALL_BOUND: Final = 1 << 22
"""Lots, signs and rates in ppm below it count as small: 4 million."""

LARGE_BOUND: Final = 1 << 40
"""Money and rates of margin below it: a million in quote. Together, a bit is left for the sign."""


def multiply(small: int, large: int) -> int:
    """`small x large`, fast where both are what they are called."""
    if -SMALL_BOUND < small < SMALL_BOUND and -LARGE_BOUND < large < LARGE_BOUND:
        left: i64 = small
        right: i64 = large
        return left * right
    return small * large
