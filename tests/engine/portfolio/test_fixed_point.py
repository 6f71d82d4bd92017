"""The integer functions against arbitrary precision, within the errors that they state."""

import hashlib
import random

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.portfolio.fixed_point import (
    CDF_ARGUMENT_MAX,
    CDF_TABLE,
    EXP_ARGUMENT_MAX,
    EXP_TABLE,
    GUARD_BITS,
    LN2,
    LN_TABLE,
    ONE,
    WIDE_BITS,
    WIDE_ONE,
    compute_exp,
    compute_exp_wide,
    compute_isqrt,
    compute_ln,
    compute_ln_wide,
    compute_normal_cdf,
    compute_normal_cdf_wide,
    compute_normal_density,
    compute_power,
    compute_sqrt,
    from_ratio,
    multiply_fixed,
    round_shift,
)

DIGITS = 60
SAMPLES = 400


def exact(value: int, bits: int = 64) -> mpmath.mpf:
    return mpmath.mpf(value) / (1 << bits)


@pytest.fixture(autouse=True)
def precise():
    with mpmath.workdps(DIGITS):
        yield


@pytest.fixture
def rng() -> random.Random:
    return random.Random(20_260_101)


def units_off(value: int, reference: mpmath.mpf, bits: int = 64) -> mpmath.mpf:
    """How many units of the last place a value is off by."""
    return abs(value - reference * (1 << bits))


def test_the_tables_are_the_same_bits_everywhere() -> None:
    text = repr((LN2, LN_TABLE, EXP_TABLE, CDF_TABLE))
    assert (len(LN_TABLE), len(EXP_TABLE), len(CDF_TABLE)) == (256, 178, 673)
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "d6e1bb53ca4addecb03da5ad98de935aad33173e460493586290ffdce4dc7fa5"


def test_every_table_entry_is_the_nearest_integer() -> None:
    assert mpmath.nint(mpmath.ln(2) * 2**96) == LN2
    for i, entry in enumerate(LN_TABLE):
        assert units_off(entry, mpmath.ln(mpmath.mpf(2 * i + 513) / 512), WIDE_BITS) < 0.500001
    for j, entry in enumerate(EXP_TABLE):
        assert units_off(entry, mpmath.exp(mpmath.mpf(j) / 256), WIDE_BITS) < 0.500001
    for i in range(0, len(CDF_TABLE), 7):
        x = mpmath.mpf(i) / 64
        assert units_off(CDF_TABLE[i][0], mpmath.ncdf(x), WIDE_BITS) < 0.500001
        for n in (1, 2, 3, 9):
            derivative = mpmath.npdf(x) * mpmath.hermite(n - 1, x / mpmath.sqrt(2))
            derivative *= (-1) ** (n - 1) / mpmath.sqrt(2) ** (n - 1) / mpmath.factorial(n)
            assert units_off(CDF_TABLE[i][n], derivative, WIDE_BITS) < 0.500001


def test_a_logarithm_is_off_by_little_more_than_its_rounding(rng: random.Random) -> None:
    worst = worst_wide = mpmath.mpf(0)
    for _ in range(SAMPLES):
        x = rng.getrandbits(rng.randint(1, 200)) + 1
        reference = mpmath.ln(exact(x))
        worst = max(worst, units_off(compute_ln(x), reference))
        worst_wide = max(worst_wide, units_off(compute_ln_wide(x), reference, WIDE_BITS))
    assert worst < 0.51
    assert worst_wide < 6


@pytest.mark.parametrize("k", [-64, -1, 0, 1, 64, 200])
def test_logarithms_of_powers_of_two_and_their_neighbours(k: int) -> None:
    x = 1 << (64 + k)
    assert compute_ln(x) == mpmath.nint(k * mpmath.ln(2) * ONE)
    for near in (x - 1, x + 1):
        if near > 0:
            assert units_off(compute_ln(near), mpmath.ln(exact(near))) < 0.51


def test_an_exponential_is_off_by_its_rounding_and_a_part_of_itself(rng: random.Random) -> None:
    for _ in range(SAMPLES):
        x = rng.randint(-50 * ONE, rng.choice((ONE, 50 * ONE, 1_000 * ONE)))
        reference = mpmath.exp(exact(x))
        assert units_off(compute_exp(x), reference) < 0.51 + reference * ONE / 2**75
        wide = compute_exp_wide(x << GUARD_BITS)
        assert units_off(wide, reference, WIDE_BITS) < 1 + reference * WIDE_ONE / 2**75


def test_exponentials_at_the_ends() -> None:
    assert compute_exp(0) == ONE
    assert compute_exp(-45 * ONE) == 1
    assert compute_exp(-46 * ONE) == 0
    assert compute_exp(-(10**9) * ONE) == 0
    assert compute_exp(EXP_ARGUMENT_MAX) > 0
    with pytest.raises(AssertionError):
        compute_exp(EXP_ARGUMENT_MAX + 1)
    with pytest.raises(AssertionError):
        compute_ln(0)


def test_a_power_is_off_by_its_rounding_and_a_part_of_itself(rng: random.Random) -> None:
    for _ in range(SAMPLES):
        base = rng.getrandbits(rng.randint(40, 90)) + 1
        exponent = rng.randint(-2 * ONE, 2 * ONE)
        reference = exact(base) ** exact(exponent)
        share = (1 + abs(exact(exponent))) / 2**75
        assert units_off(compute_power(base, exponent), reference) < 0.51 + reference * ONE * share
    assert compute_power(30 * ONE, 0) == ONE


def test_the_normal_distribution_is_off_by_little_more_than_its_rounding(
    rng: random.Random,
) -> None:
    worst_wide = mpmath.mpf(0)
    for _ in range(SAMPLES):
        x = rng.randint(-11 * ONE, 11 * ONE)
        reference = mpmath.ncdf(exact(x))
        assert units_off(compute_normal_cdf(x), reference) < 0.51
        assert units_off(compute_normal_density(x), mpmath.npdf(exact(x))) < 0.51
        wide = compute_normal_cdf_wide(x << GUARD_BITS)
        worst_wide = max(worst_wide, units_off(wide, reference, WIDE_BITS))
    assert worst_wide < 2


def test_the_normal_distribution_at_the_edges_of_its_expansions() -> None:
    for i in range(-672, 673, 13):
        for near in (-1, 0, 1):
            x = (i << (WIDE_BITS - 6)) + (1 << (WIDE_BITS - 7)) + near
            reference = mpmath.ncdf(exact(x, WIDE_BITS))
            assert units_off(compute_normal_cdf_wide(x), reference, WIDE_BITS) < 2
    assert compute_normal_cdf_wide(CDF_ARGUMENT_MAX) == WIDE_ONE
    assert compute_normal_cdf_wide(-CDF_ARGUMENT_MAX) == 0
    assert compute_normal_cdf(0) == ONE >> 1
    assert compute_normal_density(11 * ONE) == compute_normal_density(-(10**6) * ONE) == 0


@given(x=st.integers(min_value=-12 * WIDE_ONE, max_value=12 * WIDE_ONE))
def test_the_two_tails_of_the_normal_distribution_are_one(x: int) -> None:
    left, right = compute_normal_cdf_wide(x), compute_normal_cdf_wide(-x)
    assert left + right == WIDE_ONE
    assert 0 <= left <= WIDE_ONE


@given(value=st.integers(min_value=0, max_value=2**400))
def test_a_root_is_the_largest_integer_whose_square_fits(value: int) -> None:
    root = compute_isqrt(value)
    assert root * root <= value < (root + 1) * (root + 1)
    assert compute_sqrt(value) == compute_isqrt(value << 64)


@settings(max_examples=60)
@given(
    numerator=st.integers(min_value=-(10**30), max_value=10**30),
    denominator=st.integers(min_value=1, max_value=10**30),
)
def test_a_ratio_is_rounded_to_the_nearest(numerator: int, denominator: int) -> None:
    value = from_ratio(numerator, denominator)
    twice_off = 2 * (value * denominator - (numerator << 64))
    assert -denominator < twice_off <= denominator


def test_products_are_rounded_down_and_shifts_to_the_nearest() -> None:
    assert multiply_fixed(-1, 1) == -1
    assert multiply_fixed(3 * ONE, ONE >> 1) == 3 * ONE >> 1
    assert [round_shift(each, 2) for each in (1, 2, 3, -1, -2, -3)] == [0, 1, 1, 0, 0, -1]
