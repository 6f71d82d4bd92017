"""European options on a forward (Black 1976), in integers.

    d1 = ln(F / K) / s + s / 2,   d2 = d1 - s,   s = vol sqrt(T)
    call = F N(d1) - K N(d2),     put = K N(-d2) - F N(-d1)

Nothing is discounted: who wants a present value multiplies by a factor of its own. Numbers are Q64
(`engine.portfolio.fixed_point`): prices in quote for a unit of the base asset, a volatility of 1 is
100 % a year, and a year has 365 days.

Only the option that is out of the money is computed by the formula; the other one follows from it:
put-call parity `call - put = F - K` holds exactly, `max(0, F - K) <= call <= F` and
`max(0, K - F) <= put <= K` hold exactly. A price is off by at most 2^-64 and 2^-76 of the smaller
of forward and strike. So it never falls (as forward or volatility rise, or the strike falls for a
call) by more than twice that, and is convex in the strike to four times that.

An option that has expired, or has no volatility, is worth what it would pay at the forward.
"""

from typing import Final, NamedTuple

from engine.portfolio.fixed_point import (
    FRACTION_BITS,
    GUARD_BITS,
    ONE,
    WIDE_BITS,
    compute_isqrt,
    compute_ln_wide,
    compute_normal_cdf_wide,
    compute_normal_density_wide,
    round_shift,
)

YEAR_S: Final = 365 * 86_400
"""Seconds to a year."""

_VARIANCE_UNIT: Final = YEAR_S << (3 * FRACTION_BITS - 2 * WIDE_BITS)


class Prices(NamedTuple):
    """A call and a put of one strike and expiry."""

    call: int
    put: int


class Greeks(NamedTuple):
    """How the price of an option changes."""

    delta: int
    """With the forward."""
    gamma: int
    """The delta with the forward."""
    vega: int
    """With the volatility, for a change by 1."""
    theta: int
    """With a year that passes: never positive."""


def compute_total_vol(vol: int, time_s: int) -> int:
    """`vol * sqrt(time)`, wide and rounded down; `time_s` is a Q64 number of seconds."""
    return compute_isqrt(vol * vol * time_s // _VARIANCE_UNIT)


def compute_call(
    forward: int, strike: int, log_forward: int, log_strike: int, total_vol: int
) -> int:
    """The price of a call; the wide logarithms of forward and strike come from whoever has them.

    They are not read where an option has no time value: without volatility, forward or strike.
    """
    if total_vol <= 0 or forward <= 0 or strike <= 0:
        return forward - strike if forward > strike else 0
    d1 = ((log_forward - log_strike) << WIDE_BITS) // total_vol + (total_vol >> 1)
    if forward <= strike:
        value = forward * compute_normal_cdf_wide(d1)
        value -= strike * compute_normal_cdf_wide(d1 - total_vol)
        value = (value + _WIDE_HALF) >> WIDE_BITS
        return value if value > 0 else 0
    value = strike * compute_normal_cdf_wide(total_vol - d1)
    value -= forward * compute_normal_cdf_wide(-d1)
    value = (value + _WIDE_HALF) >> WIDE_BITS
    return forward - strike + (value if value > 0 else 0)


_WIDE_HALF: Final = 1 << (WIDE_BITS - 1)


def compute_prices(forward: int, strike: int, vol: int, time_s: int) -> Prices:
    """Call and put. No number may be negative, except that a time below zero has passed."""
    assert forward >= 0
    assert strike >= 0
    assert vol >= 0
    total_vol = compute_total_vol(vol, time_s) if time_s > 0 else 0
    call = compute_call(forward, strike, compute_log(forward), compute_log(strike), total_vol)
    return Prices(call, call + strike - forward)


def compute_log(price: int) -> int:
    """The wide logarithm of a price; nothing where there is none."""
    return compute_ln_wide(price) if price > 0 else 0


def compute_delta(
    forward: int,
    strike: int,
    log_forward: int,
    log_strike: int,
    total_vol: int,
    *,
    is_call: bool,
) -> int:
    """`N(d1)` for a call and `N(d1) - 1` for a put, to the nearest.

    Without time value it is that of the forward or nothing, and half of it at the strike.
    """
    if total_vol <= 0 or forward <= 0 or strike <= 0:
        call = ONE if forward > strike else ONE >> 1 if forward == strike else 0
    else:
        d1 = ((log_forward - log_strike) << WIDE_BITS) // total_vol + (total_vol >> 1)
        call = round_shift(compute_normal_cdf_wide(d1), GUARD_BITS)
    return call if is_call else call - ONE


def compute_greeks(forward: int, strike: int, vol: int, time_s: int, *, is_call: bool) -> Greeks:
    """The sensitivities; gamma, vega and theta are zero without time value.

        delta = N(d1), less 1 for a put        gamma = n(d1) / (F s)
        vega = F sqrt(T) n(d1)                 theta = -F vol / (2 sqrt(T)) n(d1)

    Each is off by at most 1 unit of 2^-64, and `2^-76 (1 + 1 / s + |d1|)` times what stands beside
    `n(d1)`: as if the distribution or its density were off by that.
    """
    assert forward >= 0
    assert strike >= 0
    assert vol >= 0
    total_vol = compute_total_vol(vol, time_s) if time_s > 0 else 0
    log_forward, log_strike = compute_log(forward), compute_log(strike)
    delta = compute_delta(forward, strike, log_forward, log_strike, total_vol, is_call=is_call)
    if total_vol <= 0 or forward <= 0 or strike <= 0:
        return Greeks(delta, 0, 0, 0)
    d1 = ((log_forward - log_strike) << WIDE_BITS) // total_vol + (total_vol >> 1)
    density = compute_normal_density_wide(d1)
    gamma = (density << 2 * FRACTION_BITS) // (forward * total_vol)
    # As `sqrt(T) = s / vol` and `vol / sqrt(T) = s / T`.
    exposure = forward * density * total_vol
    vega = exposure // (vol << (2 * WIDE_BITS - FRACTION_BITS))
    theta = -(exposure * YEAR_S // (time_s << (2 * WIDE_BITS + 1 - FRACTION_BITS)))
    return Greeks(delta, gamma, vega, theta)
