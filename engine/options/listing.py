"""Which options are listed: a rule of the clock and the index, so that nobody decides it.

    expiries   the next `expiries` multiples of the interval whose settlement window has not begun
    strikes    of each of them, the multiple of the step that is nearest to the index, and
               `strikes_each_side` above and below it; the nearest first, up to `strikes_max`

What is listed stays until it expires. As the index moves, strikes join; as time passes, expiries
do. While the index is stale nothing is listed. A chain never has more expiries than it should list
and one more, so that a chain of blocks that stood still while expiries went by cannot pile them up.

*Listing by an instruction* (rejected): somebody would have to be allowed to, and the first who is
decides what there is. *Every strike that somebody wants* (rejected): each costs every node a price
whenever the index moves.
"""

from engine.accounts.fees import install_fee_tiers
from engine.genesis import MarketParams
from engine.limits import PPM, PRICE_MAX_TICKS, QUOTE_MICROQUOTE, SERIES_ID_MAX
from engine.options.chains import Expiry, OptionChain, Series
from engine.options.params import OptionParams
from engine.receipts import SeriesListedEvent
from engine.run import BlockRun
from engine.state import EngineState
from engine.trading.market import Market

_DAY_MS = 86_400_000


def list_series(run: BlockRun, chain: OptionChain) -> None:
    """List what should be listed and is not yet. The index is fresh."""
    params = chain.params
    first_ms = compute_next_expiry(params, run.time_ms)
    step = params.strike_step_ticks
    nearest = max((2 * chain.underlying.index_price + step) // (2 * step), 1)
    if chain.listed_key == (first_ms, nearest, len(chain.expiries)):
        return
    strikes = _choose_strikes(params, nearest)
    for number in range(params.expiries):
        expiry_ms = first_ms + number * params.expiry_interval_ms
        expiry = chain.expiries.get(expiry_ms)
        if expiry is None:
            if len(chain.expiries) > params.expiries:
                break
            expiry = chain.expiries[expiry_ms] = Expiry(expiry_ms, expiry_ms - params.window_ms)
            chain.dirty = True
        for strike in strikes:
            if strike not in expiry.strikes and len(expiry.strikes) < params.strikes_max:
                _list_strike(run, chain, expiry, strike)
    chain.listed_key = (first_ms, nearest, len(chain.expiries))


def compute_next_expiry(params: OptionParams, time_ms: int) -> int:
    """The first expiry whose settlement window begins after this time."""
    interval_ms = params.expiry_interval_ms
    passed = (time_ms + params.window_ms - params.expiry_offset_ms) // interval_ms
    return (passed + 1) * interval_ms + params.expiry_offset_ms


def _choose_strikes(params: OptionParams, nearest: int) -> list[int]:
    """In ticks, by distance, the lower of two first."""
    numbers = [nearest]
    for distance in range(1, params.strikes_each_side + 1):
        numbers += [nearest - distance, nearest + distance]
    step = params.strike_step_ticks
    return [number * step for number in numbers if 0 < number * step <= PRICE_MAX_TICKS]


def _list_strike(run: BlockRun, chain: OptionChain, expiry: Expiry, strike_ticks: int) -> None:
    state = run.state
    if state.next_series_id + 1 > SERIES_ID_MAX:
        return
    add_series(state, chain, expiry, strike_ticks, state.next_series_id)
    for market in expiry.strikes[strike_ticks]:
        assert market.series is not None, "it was made as one"
        run.events.append(
            SeriesListedEvent(
                market.market_id,
                chain.underlying.market_id,
                expiry.expiry_ms,
                strike_ticks,
                market.series.is_call,
                market.params.symbol,
            )
        )
    state.next_series_id += 2


def add_series(
    state: EngineState, chain: OptionChain, expiry: Expiry, strike_ticks: int, call_id: int
) -> None:
    """Make the call and the put of one strike: the put has the id after the call's."""
    call, put = (
        _make_market(chain, expiry, strike_ticks, call_id + offset, is_call=offset == 0)
        for offset in (0, 1)
    )
    expiry.strikes[strike_ticks] = (call, put)
    for market in (call, put):
        install_fee_tiers(state, market)
    state.markets[call.market_id] = call
    state.markets[put.market_id] = put


def _make_market(
    chain: OptionChain, expiry: Expiry, strike_ticks: int, market_id: int, *, is_call: bool
) -> Market:
    """A long option is paid in full: its initial and maintenance margin are all of its mark."""
    params = chain.params
    base = chain.underlying.params
    market = Market(
        MarketParams(
            market_id,
            make_symbol(base, expiry.expiry_ms, strike_ticks, is_call=is_call),
            params.tick_size_microquote,
            base.lots_per_base,
            PPM,
            PPM,
            params.maker_fee_ppm,
            params.taker_fee_ppm,
            params.price_band_ppm,
            params.vol_max_age_ms,
            params.open_orders_max,
            base.order_size_max_lots,
        )
    )
    market.chain = chain
    market.series = Series(chain.underlying, expiry, strike_ticks, is_call=is_call)
    market.is_cost_kept = chain.underlying.is_cost_kept
    return market


def make_symbol(
    underlying: MarketParams, expiry_ms: int, strike_ticks: int, *, is_call: bool
) -> str:
    """For example `BTC-261127-0800-60000-C`: what, when (UTC), strike in quote, call or put."""
    base = underlying.symbol.split("-")[0]
    year, month, day = compute_date(expiry_ms // _DAY_MS)
    minutes = expiry_ms % _DAY_MS // 60_000
    whole, part = divmod(strike_ticks * underlying.tick_size_microquote, QUOTE_MICROQUOTE)
    strike = f"{whole}.{part:06}".rstrip("0").rstrip(".")
    date = f"{year % 100:02}{month:02}{day:02}-{minutes // 60:02}{minutes % 60:02}"
    return f"{base}-{date}-{strike}-{'C' if is_call else 'P'}"


def compute_date(days: int) -> tuple[int, int, int]:
    """Year, month and day of a day since 1970-01-01, in the Gregorian calendar.

    Counted in years that begin in March, so that a leap day is the last of its year.
    """
    era, day_of_era = divmod(days + 719_468, 146_097)
    year = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year + year // 4 - year // 100)
    month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month + 2) // 5 + 1
    return year + 400 * era + (month >= 10), month + 3 if month < 10 else month - 9, day
