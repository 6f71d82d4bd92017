"""Real functions on integers: exponential, logarithm, root, power and the normal distribution.

A number `x` is held as the integer nearest to `x * 2^64` ("Q64"). Inside, functions carry 16 more
bits ("wide", Q80), so that what they return is off by little more than the last rounding; whoever
goes on computing takes the wide form and rounds once, at the end.

Every table follows from integer series when this module is imported: nothing is typed in, no float
is involved, and each node has the same bits. Tests pin the digest of the tables and compare the
functions with arbitrary-precision ones.

| function | error |
|---|---|
| `compute_ln` | 0.51 units of 2^-64 |
| `compute_exp` | 0.51 units of 2^-64, and 2^-75 of the result |
| `compute_sqrt` | rounded down, less than 1 unit |
| `compute_power` | 0.51 units of 2^-64, and (1 + exponent) 2^-75 of the result |
| `compute_normal_cdf`, `compute_normal_density` | 0.51 units of 2^-64 |
"""

from typing import Final

FRACTION_BITS: Final = 64
"""A Q64 number is an integer times 2^-64."""

ONE: Final = 1 << FRACTION_BITS

GUARD_BITS: Final = 16
"""What a wide number has more."""

WIDE_BITS: Final = FRACTION_BITS + GUARD_BITS
WIDE_ONE: Final = 1 << WIDE_BITS

_SERIES_BITS: Final = 160
"""Of the series behind the tables: what they lose stays far below the last bit of a table."""

EXP_ARGUMENT_MAX: Final = 1_000 << FRACTION_BITS
"""Largest argument of an exponential: its integer has about 1,500 bits."""

_EXP_STEPS: Final = 256
"""Table entries to a unit of the argument of an exponential."""

_LN_STEPS: Final = 256
"""Table entries to a factor of two of the argument of a logarithm."""

_CDF_STEP_BITS: Final = 6
"""The normal distribution is expanded around multiples of 2^-6."""

CDF_ARGUMENT_MAX: Final = (21 << WIDE_BITS) >> 1
"""Beyond 10.5 the tail of the normal distribution is less than 2^-83: nothing."""


def from_ratio(numerator: int, denominator: int) -> int:
    """The Q64 number nearest to a ratio; halves are rounded up."""
    assert denominator > 0
    return (2 * (numerator << FRACTION_BITS) + denominator) // (2 * denominator)


def multiply_fixed(left: int, right: int) -> int:
    """The product of two Q64 numbers, rounded down."""
    return left * right >> FRACTION_BITS


def round_shift(value: int, bits: int) -> int:
    """`value / 2^bits`, to the nearest integer; halves are rounded up."""
    return (value + (1 << (bits - 1))) >> bits


def compute_isqrt(value: int) -> int:
    """The root of an integer, rounded down: Newton's method from above."""
    assert value >= 0
    if value == 0:
        return 0
    root = 1 << ((value.bit_length() + 1) >> 1)
    while True:
        smaller = (root + value // root) >> 1
        if smaller >= root:
            return root
        root = smaller


def compute_sqrt(x: int) -> int:
    """The root of a Q64 number, rounded down."""
    return compute_isqrt(x << FRACTION_BITS)


# ---- tables ------------------------------------------------------------------------------------


def _expand_atanh_inverse(n: int) -> int:
    """`atanh(1/n)` in series bits: the sum of `1 / (k n^k)` over odd `k`."""
    power = (1 << _SERIES_BITS) // n
    total = 0
    k = 1
    while power:
        total += power // k
        power //= n * n
        k += 2
    return total


def _expand_exp_inverse(n: int, sign: int) -> int:
    """`exp(sign / n)` in series bits."""
    term = 1 << _SERIES_BITS
    total = 0
    k = 1
    while term:
        total += term
        # Towards zero, whatever the sign: a floored negative term would never vanish.
        term = term // (n * k) if term > 0 else -(-term // (n * k))
        term *= sign
        k += 1
    return total


def _expand_pi() -> int:
    """Machin's formula: `pi = 16 atan(1/5) - 4 atan(1/239)`, in series bits."""

    def atan_inverse(n: int) -> int:
        power = (1 << _SERIES_BITS) // n
        total = 0
        k = 1
        while power:
            total += power // k if k & 2 == 0 else -(power // k)
            power //= n * n
            k += 2
        return total

    return 16 * atan_inverse(5) - 4 * atan_inverse(239)


def _make_ln_table() -> tuple[int, ...]:
    """`ln c` for the middles `c = (2 i + 513) / 512` of the steps between 1 and 2, wide.

    Neighbours differ by `2 atanh(1 / (2 i + 514))`.
    """
    logarithm = 2 * _expand_atanh_inverse(4 * _LN_STEPS + 1)
    entries = []
    for i in range(_LN_STEPS):
        entries.append(round_shift(logarithm, _SERIES_BITS - WIDE_BITS))
        logarithm += 2 * _expand_atanh_inverse(2 * i + 2 * _LN_STEPS + 2)
    return tuple(entries)


def _make_exp_table() -> tuple[int, ...]:
    """`exp(j / 256)` for all `j / 256` up to `ln 2`, wide."""
    step = _expand_exp_inverse(_EXP_STEPS, 1)
    value = 1 << _SERIES_BITS
    entries = []
    for _ in range((_LN2_SERIES * _EXP_STEPS >> _SERIES_BITS) + 1):
        entries.append(round_shift(value, _SERIES_BITS - WIDE_BITS))
        value = value * step >> _SERIES_BITS
    return tuple(entries)


_CDF_ORDER: Final = 9
"""The last power of an expansion that is kept: half a step to the tenth is below 2^-83."""

_CDF_SERIES_ORDER: Final = 16
"""The last power that goes from one expansion's middle to the next."""

_CdfEntry = tuple[int, int, int, int, int, int, int, int, int, int]


def _make_cdf_table() -> tuple[_CdfEntry, ...]:
    """The Taylor coefficients of the distribution around `i / 64`, wide, for `i` from 0 on.

    With `y = b_0 + b_1 t + ...` the density around `x`, `y' = -(x + t) y` gives
    `(n + 1) b_(n+1) = -(x b_n + b_(n-1))`, and the distribution's coefficients are `b_n / (n + 1)`.
    The density at the next middle follows from `exp(-(x + h)^2 / 2)`, whose ratio to the one
    before is itself in geometric progression.
    """
    bits = _SERIES_BITS
    steps = 1 << _CDF_STEP_BITS
    density = (1 << 2 * bits) // compute_isqrt(2 * _expand_pi() << bits)
    ratio = _expand_exp_inverse(2 * steps * steps, -1)
    ratio_step = ratio * ratio >> bits
    total = 1 << (bits - 1)
    entries: list[_CdfEntry] = []
    for i in range((CDF_ARGUMENT_MAX >> (WIDE_BITS - _CDF_STEP_BITS)) + 1):
        before, b = 0, density
        coefficients = [total]
        for n in range(_CDF_SERIES_ORDER):
            coefficients.append(b // (n + 1))
            before, b = b, -((i * b >> _CDF_STEP_BITS) + before) // (n + 1)
        c = [round_shift(each, bits - WIDE_BITS) for each in coefficients[: _CDF_ORDER + 1]]
        entries.append((c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], c[9]))
        total = sum(each >> n * _CDF_STEP_BITS for n, each in enumerate(coefficients))
        density = density * ratio >> bits
        ratio = ratio * ratio_step >> bits
    return tuple(entries)


_LN2_SERIES: Final = 2 * _expand_atanh_inverse(3)
_LN2_BITS: Final = WIDE_BITS + 16
"""Of the constant that a logarithm takes many times."""
LN2: Final = round_shift(_LN2_SERIES, _SERIES_BITS - _LN2_BITS)
LN_TABLE: Final = _make_ln_table()
EXP_TABLE: Final = _make_exp_table()
CDF_TABLE: Final = _make_cdf_table()
INVERSE_SQRT_2PI: Final = CDF_TABLE[0][1]
"""The density at zero, wide."""

_THIRD: Final = WIDE_ONE // 3
_FIFTH: Final = WIDE_ONE // 5
_SEVENTH: Final = WIDE_ONE // 7
_CDF_STEP_SHIFT: Final = WIDE_BITS - _CDF_STEP_BITS
_CDF_HALF_STEP: Final = 1 << (_CDF_STEP_SHIFT - 1)


# ---- functions ---------------------------------------------------------------------------------


def compute_ln_wide(x: int) -> int:
    """The wide logarithm of a Q64 number above zero; off by at most 6 units of 2^-80.

    `x = 2^k m` with `m` in [1, 2); with `c` the middle of the step that `m` is in,
    `ln m = ln c + 2 atanh((m - c) / (m + c))`, whose argument is below 2^-10.
    """
    assert x > 0
    shift = x.bit_length() - WIDE_BITS - 1
    m = x >> shift if shift > 0 else x << -shift
    index = (m >> (WIDE_BITS - 8)) - _LN_STEPS
    c = (2 * index + 2 * _LN_STEPS + 1) << (WIDE_BITS - 9)
    z = ((m - c) << WIDE_BITS) // (m + c)
    square = z * z >> WIDE_BITS
    series = _FIFTH + (_SEVENTH * square >> WIDE_BITS)
    series = _THIRD + (series * square >> WIDE_BITS)
    series = z + (z * (series * square >> WIDE_BITS) >> WIDE_BITS)
    doublings = (shift + GUARD_BITS) * LN2 >> (_LN2_BITS - WIDE_BITS)
    return doublings + LN_TABLE[index] + 2 * series


def compute_ln(x: int) -> int:
    """The logarithm of a Q64 number above zero."""
    return round_shift(compute_ln_wide(x), GUARD_BITS)


def compute_exp_wide(x: int) -> int:
    """The wide exponential of a wide number; off by at most 1 unit of 2^-80 and 2^-75 of itself.

    `x = k ln 2 + j / 256 + r`: a shift, a table entry and a short series.
    """
    assert x <= EXP_ARGUMENT_MAX << GUARD_BITS
    if x < -EXP_ARGUMENT_MAX << GUARD_BITS:
        return 0
    fine = x << (_LN2_BITS - WIDE_BITS)
    k = fine // LN2
    rest = (fine - k * LN2) >> (_LN2_BITS - WIDE_BITS)
    j = rest >> (WIDE_BITS - 8)
    rest -= j << (WIDE_BITS - 8)
    series = WIDE_ONE
    for n in range(8, 0, -1):
        series = WIDE_ONE + (rest * series >> WIDE_BITS) // n
    product = EXP_TABLE[j] * series
    return product << (k - WIDE_BITS) if k >= WIDE_BITS else product >> (WIDE_BITS - k)


def compute_exp(x: int) -> int:
    """The exponential of a Q64 number up to `EXP_ARGUMENT_MAX`."""
    return round_shift(compute_exp_wide(x << GUARD_BITS), GUARD_BITS)


def compute_power(base: int, exponent: int) -> int:
    """A Q64 number above zero to the power of another."""
    return round_shift(
        compute_exp_wide(compute_ln_wide(base) * exponent >> FRACTION_BITS), GUARD_BITS
    )


def compute_normal_cdf_wide(x: int) -> int:
    """The wide probability that a standard normal is below a wide number, to 2 units of 2^-80.

    Exactly `1 - cdf(-x)`, and never outside 0 to 1.
    """
    distance = -x if x < 0 else x
    if distance >= CDF_ARGUMENT_MAX:
        return 0 if x < 0 else WIDE_ONE
    index = (distance + _CDF_HALF_STEP) >> _CDF_STEP_SHIFT
    t = distance - (index << _CDF_STEP_SHIFT)
    c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 = CDF_TABLE[index]
    value = c8 + (c9 * t >> WIDE_BITS)
    value = c7 + (value * t >> WIDE_BITS)
    value = c6 + (value * t >> WIDE_BITS)
    value = c5 + (value * t >> WIDE_BITS)
    value = c4 + (value * t >> WIDE_BITS)
    value = c3 + (value * t >> WIDE_BITS)
    value = c2 + (value * t >> WIDE_BITS)
    value = c1 + (value * t >> WIDE_BITS)
    value = c0 + (value * t >> WIDE_BITS)
    if value > WIDE_ONE:
        value = WIDE_ONE
    return WIDE_ONE - value if x < 0 else value


def compute_normal_cdf(x: int) -> int:
    """The probability that a standard normal is below a Q64 number."""
    return round_shift(compute_normal_cdf_wide(x << GUARD_BITS), GUARD_BITS)


def compute_normal_density_wide(x: int) -> int:
    """The wide density of the standard normal at a wide number."""
    if not -CDF_ARGUMENT_MAX < x < CDF_ARGUMENT_MAX:
        return 0
    return compute_exp_wide(-(x * x) >> (WIDE_BITS + 1)) * INVERSE_SQRT_2PI >> WIDE_BITS


def compute_normal_density(x: int) -> int:
    """The density of the standard normal at a Q64 number."""
    return round_shift(compute_normal_density_wide(x << GUARD_BITS), GUARD_BITS)
