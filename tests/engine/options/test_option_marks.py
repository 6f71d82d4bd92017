"""Marks of options and the surface of volatilities behind them, against Black-76 by mpmath."""

from fractions import Fraction

import mpmath
import pytest

from engine.block import Reporter
from engine.instructions import (
    OracleReport,
    PlaceOrder,
    Side,
    VolatilityReport,
)

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


def compute_black(forward, strike, vol, years, *, is_call):
    """Black-76 by mpmath."""
    with mpmath.workdps(40):
        spread = vol * mpmath.sqrt(years)
        d1 = mpmath.log(forward / strike) / spread + spread / 2
        call = forward * mpmath.ncdf(d1) - strike * mpmath.ncdf(d1 - spread)
        return call if is_call else call - forward + strike


def test_marks_are_black_76_at_the_surfaces_volatility(make_exchange, vols_ppm):
    exchange = make_exchange()
    year_ms = 365 * 86_400_000
    for strike in (900, 950, 1_000, 1_050, 1_100):
        moneyness = Fraction(strike, 1_000)
        left, right = (0, 1) if moneyness < 1 else (1, 2)
        weight = (moneyness - Fraction(9 + left, 10)) * 10
        rows = [
            vols_ppm[3 * row + left] * (1 - weight) + vols_ppm[3 * row + right] * weight
            for row in (0, 1)
        ]
        left_ms = 6 * HOUR_MS - exchange.time_ms
        early, late = 1_800_000, 7_200_000
        variance = Fraction(rows[0]) ** 2 * early
        variance += (Fraction(rows[1]) ** 2 * late - variance) * Fraction(
            left_ms - early, late - early
        )
        vol = mpmath.sqrt(mpmath.mpf(variance.numerator) / variance.denominator / left_ms) / 10**6
        for is_call in (True, False):
            market = exchange.find_series(strike, is_call=is_call)
            assert abs(market.series.vol_ppm - vol * 10**6) < 2
            due = compute_black(
                mpmath.mpf(10),
                mpmath.mpf(strike) / 100,
                vol,
                mpmath.mpf(left_ms) / year_ms,
                is_call=is_call,
            )
            # A tick is 0.001: half of one for rounding, and what 10^-6 of volatility can do.
            assert abs(market.mark_price - max(due * 1_000, 1)) < 0.51


def test_an_option_trades_within_its_band_and_not_before_there_is_a_surface(
    make_exchange, vols_ppm
):
    exchange = make_exchange(vols=None)
    market = exchange.find_series(1_000)
    order = PlaceOrder(market.market_id, Side.BUY, 10, 1)
    assert exchange.one(exchange.ALICE, order).code == "option.not_trading"
    exchange.report(1_000, vols_ppm)
    assert (market.band_low, market.band_high) == (1, market.mark_price + 2_000)
    high = PlaceOrder(market.market_id, Side.BUY, market.band_high + 1, 1)
    assert exchange.one(exchange.ALICE, high).code == "order.price_band"
    assert exchange.one(exchange.ALICE, order).code == "ok"


def test_in_the_window_the_forward_is_settled_bit_by_bit(make_exchange, run_to_expiry):
    exchange = make_exchange()
    market = exchange.find_series(950)
    run_to_expiry(exchange, [1_000] * 5)
    exchange.report(1_200)
    chain, expiry = exchange.state.chains[1], market.series.expiry
    assert chain.compute_forward(expiry) == (5 * 1_000 + 5 * 1_200, 10)
    assert abs(market.mark_price - 1_500) <= 1


def test_what_the_committee_does_not_vouch_for_builds_no_positions(make_exchange):
    exchange = make_exchange()
    market = exchange.find_series(1_000)
    exchange.trade(exchange.ALICE, exchange.BOB, market.mark_price, 5, market.market_id)
    exchange.time_ms += 61_000
    exchange.report(1_000)
    assert not exchange.state.perpetuals[1].stale
    assert market.stale
    buy = PlaceOrder(market.market_id, Side.BUY, market.mark_price, 5)
    assert exchange.one(exchange.CAROL, buy).code == "oracle.stale"
    assert exchange.one(exchange.BOB, buy).code == "ok"


@pytest.mark.parametrize(
    ("bend", "shift", "code"),
    [
        (lambda vols: vols[:5], 0, "option.surface_invalid"),
        (lambda vols: (*vols, 1), 0, "option.surface_invalid"),
        (lambda vols: (), 0, "option.surface_invalid"),
        (lambda vols: (0,) * 6, 0, "option.surface_invalid"),
        (lambda vols: (-(2**63),) * 6, 0, "option.surface_invalid"),
        (lambda vols: (5_000_001,) * 6, 0, "option.surface_invalid"),
        (lambda vols: vols, 1_001, "oracle.source_time"),
        (lambda vols: vols, -60_001, "oracle.source_time"),
    ],
)
def test_hostile_surfaces_are_refused(make_exchange, bend, shift, code, vols_ppm):
    exchange = make_exchange()
    before = exchange.state.chains[1].vols_ppm
    exchange.time_ms += 100_000
    now = exchange.time_ms
    hostile = VolatilityReport(1, bend(vols_ppm), 2**62, now + shift)
    found = exchange.one(exchange.REPORTER, hostile)
    assert found.code == code
    assert exchange.state.chains[1].vols_ppm == before
    assert exchange.one(exchange.ALICE, VolatilityReport(1, vols_ppm, 9, now)).code == (
        "oracle.not_a_reporter"
    )
    assert exchange.one(exchange.REPORTER, VolatilityReport(2, vols_ppm, 9, now)).code == (
        "oracle.unknown_market"
    )
    series = exchange.find_series(1_000).market_id
    assert exchange.one(exchange.REPORTER, OracleReport(series, 9, 9, now)).code == (
        "oracle.unknown_market"
    )
    assert exchange.one(exchange.REPORTER, VolatilityReport(1, vols_ppm, 1, now)).code == (
        "oracle.sequence"
    )


def test_less_than_a_third_of_the_power_cannot_move_a_knot_beyond_honest_reports(
    make_exchange, options
):
    exchange = make_exchange(index=None)
    keys = [bytes([value]) * 32 for value in range(101, 105)]
    exchange.reporters = tuple(Reporter(key, 1) for key in keys)
    now = exchange.time_ms
    honest = [(799_000,) * 6, (800_000,) * 6, (801_000,) * 6]
    for key, vols in zip(keys, [*honest, (options.vol_max_ppm,) * 6], strict=True):
        exchange.run(key, OracleReport(1, 1_000, 1, now), VolatilityReport(1, vols, 1, now))
    assert exchange.state.chains[1].vols_ppm == honest[1]
    exchange.reporters = exchange.reporters[:1]
    exchange.block()
    assert exchange.state.chains[1].vols_ppm == honest[0]
    assert list(exchange.state.chains[1].reports) == keys[:1]
