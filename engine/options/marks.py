"""What options are marked at, in which band they trade, and what a lot of one needs of margin.

    forward    what the settlement price is expected to be: the index, and within the settlement
               window the mean of the samples so far and the index for all that are to come
    mark       Black-76 at the forward, the surface's volatility and the time that is left, in
               ticks, to the nearest (halves up), and at least one tick
    band       the mark, and a part of the index on both sides, rounded inwards
    long       initial and maintenance margin are the mark: it is paid in full and lends nothing
    short      initial      max(short_initial x index - out of the money, short_initial_min x index)
               maintenance  short_maintenance x index
               both on top of the mark, which equity has lost already; a put's at most its strike

Nothing is discounted and the forward carries no interest: an option settles against the index,
whose carry is what funding pays. *A forward for each expiry, reported* (rejected for now): there is
no dated future here that could be traded against one that is wrong.

Marks are computed anew when the index, the perpetual's mark or the surface moves, a sample is
taken, a strike is listed, and in steps of `mark_interval_ms`: always from what is committed and the
block's time, so they are no state of their own.
"""

from engine.limits import PPM, PRICE_MAX_TICKS, QUOTE_MICROQUOTE
from engine.options.chains import Expiry, OptionChain, Series, compute_price
from engine.options.surface import compute_moneyness_ppm, compute_vol_ppm
from engine.portfolio.black76 import compute_call, compute_log, compute_total_vol
from engine.portfolio.fixed_point import FRACTION_BITS, from_ratio
from engine.trading.market import Market


def update_option_marks(chain: OptionChain, time_ms: int) -> bool:
    """Bring the marks of all series to this block time; return whether any can have moved.

    Before the first surface there are none, but portfolio margin of the perpetual moves as well.
    """
    underlying = chain.underlying
    if underlying.index_price == 0:
        return False
    interval_ms = chain.params.mark_interval_ms
    key = (
        time_ms // interval_ms,
        underlying.index_price,
        underlying.mark_price,
        underlying.scaled_margin_ppm,
        underlying.stale or chain.stale,
        chain.vols_ppm,
        [
            (expiry.expiry_ms, expiry.is_closed, expiry.sample_count, len(expiry.strikes))
            for expiry in chain.expiries.values()
        ],
    )
    if key == chain.mark_key:
        return False
    chain.mark_key = key
    chain.mark_time_ms = time_ms // interval_ms * interval_ms
    # Portfolios have prices of the perpetual in them, too: before there is a surface, as after.
    chain.arrays = None
    if chain.vols_ppm:
        for expiry in chain.expiries.values():
            _mark_expiry(chain, expiry)
    return True


def _mark_expiry(chain: OptionChain, expiry: Expiry) -> None:
    total, parts = chain.compute_forward(expiry)
    forward = compute_price(chain.underlying, total, parts)
    log_forward = compute_log(forward)
    left_ms = chain.compute_time_left_ms(expiry)
    time_s = from_ratio(left_ms, 1_000)
    stale = chain.underlying.stale or chain.stale
    for strike_ticks, (call, put) in expiry.strikes.items():
        assert call.series is not None, "a strike has two series"
        assert put.series is not None, "a strike has two series"
        strike, log_strike = call.series.strike, call.series.log_strike
        total_vol = 0
        if left_ms:
            moneyness_ppm = compute_moneyness_ppm(strike_ticks, total, parts)
            vol_ppm = compute_vol_ppm(chain.params, chain.vols_ppm, moneyness_ppm, left_ms)
            call.series.vol_ppm = put.series.vol_ppm = vol_ppm
            total_vol = compute_total_vol(from_ratio(vol_ppm, PPM), time_s)
        price = compute_call(forward, strike, log_forward, log_strike, total_vol)
        for market, value in ((call, price), (put, price + strike - forward)):
            ticks = compute_mark_ticks(value, chain.params.tick_size_microquote)
            _set_mark(chain, market, ticks, is_open=not expiry.is_closed)
            market.stale = stale


def compute_mark_ticks(price: int, tick_size_microquote: int) -> int:
    """A Q64 price in quote as ticks: to the nearest, halves up, from 1 to the largest price."""
    tick = tick_size_microquote << FRACTION_BITS
    ticks = (2 * price * QUOTE_MICROQUOTE + tick) // (2 * tick)
    return max(1, min(ticks, PRICE_MAX_TICKS))


def _set_mark(chain: OptionChain, market: Market, ticks: int, *, is_open: bool) -> None:
    """Value a series, and what follows from it. Without an index price it takes no orders."""
    assert market.series is not None, "only series are marked here"
    width = chain.underlying.index_value * market.params.price_band_ppm // (PPM * market.unit)
    market.index_price = ticks if is_open else 0
    market.index_value = market.mark_value = ticks * market.unit
    market.mark_price = ticks
    market.band_low = max(1, ticks - width)
    market.band_high = min(PRICE_MAX_TICKS, ticks + width)
    market.im_rate = market.mm_rate = market.mark_value * PPM
    market.im_rate_short, market.mm_rate_short = compute_short_rates(chain, market.series)


def compute_short_rates(chain: OptionChain, series: Series) -> tuple[int, int]:
    """Initial and maintenance margin of one short lot, in millionths of a micro-quote."""
    params = chain.params
    spot = chain.underlying.index_value
    strike = series.strike_ticks * chain.underlying.unit
    out_of_the_money = max(strike - spot if series.is_call else spot - strike, 0)
    initial = max(
        spot * params.short_initial_ppm - out_of_the_money * PPM,
        spot * params.short_initial_min_ppm,
    )
    maintenance = spot * params.short_maintenance_ppm
    if series.is_call:
        return initial, maintenance
    return min(initial, strike * PPM), min(maintenance, strike * PPM)
