"""Option prices in integers: exact relations, bounds, and the error against arbitrary precision."""

import random

import mpmath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.portfolio.black76 import YEAR_S, compute_greeks, compute_prices, compute_total_vol
from engine.portfolio.fixed_point import ONE, WIDE_ONE, from_ratio

FORWARD_MAX = 10**6 * ONE
SAMPLES = 1_000

prices = st.integers(min_value=ONE // 1_000, max_value=FORWARD_MAX)
vols = st.integers(min_value=0, max_value=5 * ONE)
times = st.integers(min_value=-ONE, max_value=3 * YEAR_S * ONE)
steps = st.integers(min_value=1, max_value=1_000 * ONE)


@pytest.fixture(autouse=True)
def precise():
    with mpmath.workdps(50):
        yield


def exact(value: int) -> mpmath.mpf:
    return mpmath.mpf(value) / ONE


def error_bound(forward: int, strike: int) -> int:
    """What the module's docstring says a price is off by, rounded up."""
    return 1 + (min(forward, strike) >> 76) + 1


def draw(rng: random.Random) -> tuple[int, int, int, int]:
    """Forward, strike, volatility and time over the range that the error is promised for."""
    forward = int(10 ** rng.uniform(-1, 6) * 2**40) << 24
    strike = int(mpmath.mpf(forward) * mpmath.exp(rng.uniform(-1.5, 1.5)))
    vol = from_ratio(rng.randint(100_000, 3_000_000), 1_000_000)
    time_s = from_ratio(rng.randint(3_154, 2 * YEAR_S), 1)
    if rng.random() < 0.3:
        time_s = from_ratio(rng.randint(3_153_600, 86_400_000), 1_000)
    return forward, strike, vol, time_s


class Reference:
    """The formulas as they stand in a book."""

    def __init__(self, forward: int, strike: int, vol: int, time_s: int) -> None:
        self.forward, self.strike, self.vol = exact(forward), exact(strike), exact(vol)
        self.years = exact(time_s) / YEAR_S
        self.spread = self.vol * mpmath.sqrt(self.years)
        self.d1 = mpmath.ln(self.forward / self.strike) / self.spread + self.spread / 2
        self.d2 = self.d1 - self.spread

    def call(self) -> mpmath.mpf:
        return self.forward * mpmath.ncdf(self.d1) - self.strike * mpmath.ncdf(self.d2)

    def put(self) -> mpmath.mpf:
        return self.strike * mpmath.ncdf(-self.d2) - self.forward * mpmath.ncdf(-self.d1)

    def greeks(self) -> tuple[mpmath.mpf, ...]:
        density = mpmath.npdf(self.d1)
        return (
            mpmath.ncdf(self.d1),
            density / (self.forward * self.spread),
            self.forward * density * mpmath.sqrt(self.years),
            -self.forward * density * self.vol / (2 * mpmath.sqrt(self.years)),
        )


def test_a_price_is_off_by_little_more_than_its_rounding() -> None:
    rng = random.Random(76)
    for _ in range(SAMPLES):
        forward, strike, vol, time_s = draw(rng)
        prices = compute_prices(forward, strike, vol, time_s)
        reference = Reference(forward, strike, vol, time_s)
        for value, expected in ((prices.call, reference.call()), (prices.put, reference.put())):
            off = abs(value - expected * ONE)
            assert off <= exact(forward) * mpmath.mpf("1e-12") * ONE
            assert off <= 1 + mpmath.mpf(min(forward, strike)) / 2**76


def test_greeks_are_those_of_the_formulas() -> None:
    rng = random.Random(77)
    for _ in range(SAMPLES // 4):
        forward, strike, vol, time_s = draw(rng)
        reference = Reference(forward, strike, vol, time_s)
        delta, gamma, vega, theta = reference.greeks()
        call = compute_greeks(forward, strike, vol, time_s, is_call=True)
        put = compute_greeks(forward, strike, vol, time_s, is_call=False)
        assert (call.gamma, call.vega, call.theta) == (put.gamma, put.vega, put.theta)
        assert call.delta - put.delta == ONE
        share = (1 + 1 / reference.spread + abs(reference.d1)) / 2**76
        assert abs(call.delta - delta * ONE) <= 1 + share * ONE
        for found, expected in zip(call[1:], (gamma, vega, theta), strict=True):
            beside = abs(expected) / mpmath.npdf(reference.d1)
            assert abs(found - expected * ONE) <= 1 + share * beside * ONE


@given(forward=prices, strike=prices, vol=vols, time_s=times)
def test_parity_and_the_bounds_of_no_arbitrage_hold_exactly(
    forward: int, strike: int, vol: int, time_s: int
) -> None:
    call, put = compute_prices(forward, strike, vol, time_s)
    assert call - put == forward - strike
    assert max(0, forward - strike) <= call <= forward
    assert max(0, strike - forward) <= put <= strike


@given(forward=prices, strike=prices, vol=vols, time_s=times, step=steps)
def test_prices_are_monotone_but_for_their_last_bits(
    forward: int, strike: int, vol: int, time_s: int, step: int
) -> None:
    call, put = compute_prices(forward, strike, vol, time_s)
    slack = 2 * error_bound(forward + step, strike + step)
    higher_strike = compute_prices(forward, strike + step, vol, time_s)
    assert higher_strike.call <= call + slack
    assert higher_strike.put >= put - slack
    higher_forward = compute_prices(forward + step, strike, vol, time_s)
    assert higher_forward.call >= call - slack
    assert higher_forward.put <= put + slack
    for more in (
        compute_prices(forward, strike, vol + step // 1_000, time_s),
        compute_prices(forward, strike, vol, time_s + step),
    ):
        assert more.call >= call - slack
        assert more.put >= put - slack


@given(forward=prices, strike=prices, vol=vols, time_s=times, step=steps)
def test_prices_are_convex_in_the_strike_but_for_their_last_bits(
    forward: int, strike: int, vol: int, time_s: int, step: int
) -> None:
    low, middle, high = (
        compute_prices(forward, strike + each * step, vol, time_s) for each in range(3)
    )
    slack = 4 * error_bound(forward, strike + 2 * step)
    assert low.call - 2 * middle.call + high.call >= -slack
    assert low.put - 2 * middle.put + high.put >= -slack
    # A spread never costs more than it can pay.
    assert low.call - middle.call <= step + slack
    assert middle.put - low.put <= step + slack


@given(forward=prices, strike=prices, vol=vols, factor=st.integers(1, 1_000))
def test_prices_scale_with_forward_and_strike_but_for_their_last_bits(
    forward: int, strike: int, vol: int, factor: int
) -> None:
    time_s = 30 * 86_400 * ONE
    one = compute_prices(forward, strike, vol, time_s)
    many = compute_prices(forward * factor, strike * factor, vol, time_s)
    slack = factor * error_bound(forward, strike) + error_bound(forward * factor, strike * factor)
    assert abs(one.call * factor - many.call) <= slack


@pytest.mark.parametrize(
    ("vol", "time_s"), [(0, 86_400 * ONE), (ONE, 0), (ONE, -5 * ONE), (0, 0), (1, 1)]
)
def test_without_time_or_volatility_an_option_is_worth_what_it_pays(vol: int, time_s: int) -> None:
    for forward, strike, call in ((120, 100, 20), (100, 100, 0), (80, 100, 0)):
        found = compute_prices(forward * ONE, strike * ONE, vol, time_s)
        assert found == (call * ONE, (call + strike - forward) * ONE)
    deltas = [
        compute_greeks(forward * ONE, 100 * ONE, vol, time_s, is_call=True)
        for forward in (120, 100, 80)
    ]
    assert [each.delta for each in deltas] == [ONE, ONE >> 1, 0]
    assert all(each[1:] == (0, 0, 0) for each in deltas)
    put = compute_greeks(80 * ONE, 100 * ONE, vol, time_s, is_call=False)
    assert put == (-ONE, 0, 0, 0)


def test_options_on_nothing_and_options_that_cost_nothing_to_exercise() -> None:
    year = YEAR_S * ONE
    assert compute_prices(0, 100 * ONE, ONE, year) == (0, 100 * ONE)
    assert compute_prices(100 * ONE, 0, ONE, year) == (100 * ONE, 0)
    assert compute_prices(0, 0, ONE, year) == (0, 0)
    assert compute_greeks(0, 100 * ONE, ONE, year, is_call=True) == (0, 0, 0, 0)
    assert compute_greeks(100 * ONE, 0, ONE, year, is_call=True) == (ONE, 0, 0, 0)


def test_prices_reach_their_caps_and_never_go_beyond() -> None:
    year = YEAR_S * ONE
    for vol in (20, 30, 100, 10_000):
        call, put = compute_prices(100 * ONE, 300 * ONE, vol * ONE, year)
        assert (100 - 1) * ONE < call <= 100 * ONE
        assert (300 - 1) * ONE < put <= 300 * ONE
    assert compute_prices(1, FORWARD_MAX, ONE, year) == (0, FORWARD_MAX - 1)
    assert compute_prices(FORWARD_MAX, 1, ONE, year) == (FORWARD_MAX - 1, 0)
    call, put = compute_prices(ONE, 2 * ONE, 1 << 20, ONE)
    assert (call, put) == (0, ONE)


def test_the_total_volatility_is_rounded_down_once() -> None:
    assert compute_total_vol(ONE, YEAR_S * ONE) == WIDE_ONE
    assert compute_total_vol(2 * ONE, YEAR_S * ONE >> 2) == WIDE_ONE
    half = compute_total_vol(ONE, YEAR_S * ONE >> 1)
    assert half * half <= WIDE_ONE * WIDE_ONE >> 1 < (half + 1) * (half + 1)


def test_negative_numbers_are_nobodys_prices() -> None:
    for arguments in ((-1, ONE, ONE, ONE), (ONE, -1, ONE, ONE), (ONE, ONE, -1, ONE)):
        with pytest.raises(AssertionError):
            compute_prices(*arguments)
        with pytest.raises(AssertionError):
            compute_greeks(*arguments, is_call=True)
