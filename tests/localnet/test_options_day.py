"""A day of options: the genesis that it needs, what is quoted, taken and spread, and what members
report."""

import pytest
from msgspec.structs import replace

from engine.genesis import validate_genesis
from engine.instructions import Side, TimeInForce
from engine.limits import INSTRUCTIONS_PER_BUNDLE_MAX
from localnet.market_maker import pack_requotes
from localnet.markets import MARKETS
from localnet.network import create_network
from localnet.options_day import (
    CROSS_SPREADER,
    EDGE_MICROQUOTE,
    PORTFOLIO_SPREADER,
    OptionsDay,
    choose_spread,
    compute_option_quotes,
    compute_random_take,
    compute_take,
    find_open_series,
)
from localnet.reporters import SURFACE_VOL_PPM, VolWalk, make_surfaces
from localnet.splitmix import SplitMix
from node.cli.views import GreeksInfo, MarketInfo, OptionInfo

USD = 1_000_000
DAY = OptionsDay("BTC-PERP", 60.0, 21.0, 3.0, 50, 2, 3_000, (5_000_000,), (250_000, 100_000))
EXPIRY_MS = 1_700_000_040_000


def make_series(market=9, strike=60_000, *, is_call=True, delta=500_000):
    """A series with a mark of 25 USD, and ten ticks on each side of it quoted."""
    option = OptionInfo(
        underlying=1,
        is_call=is_call,
        expiry_ms=EXPIRY_MS,
        strike_ticks=10 * strike,
        forward_microquote=60_000 * USD,
        vol_ppm=550_000,
        is_closed=False,
        greeks=GreeksInfo(delta, 0, 0, 0),
        short_initial_ppm=150_000,
        short_initial_min_ppm=130_000,
        short_maintenance_ppm=75_000,
    )
    return MarketInfo(
        market=market,
        symbol=f"BTC-{strike}-C",
        tick_size_microquote=10_000,
        lots_per_base=10_000,
        unit_microquote=1,
        index_price_ticks=2_500,
        is_stale=False,
        band_low_ticks=1,
        band_high_ticks=300_000,
        best_bid_ticks=2_490,
        best_ask_ticks=2_510,
        open_orders=2,
        option=option,
    )


def quote(series, strike=60_000, left_ms=100_000):
    return compute_option_quotes(series, strike * USD, EXPIRY_MS - left_ms)


def test_the_genesis_of_the_day_is_a_localnets_with_series_of_minutes(tmp_path):
    network = create_network(
        tmp_path / "net", port_first=19_500, accounts=DAY.accounts(), markets=DAY.markets(MARKETS)
    )
    engine = network.genesis().engine
    validate_genesis(engine)
    options = engine.markets[0].options
    assert options.expiry_interval_ms == 60_000
    assert (options.window_ms, options.sample_interval_ms) == (21_000, 3_000)
    assert options.strike_step_ticks == 500
    assert options.portfolio == MARKETS[0].options.portfolio
    assert options.short_initial_ppm == MARKETS[0].options.short_initial_ppm
    assert engine.markets[1:] == MARKETS[1:]
    names = ["quoter0", "taker0", "taker1", PORTFOLIO_SPREADER, CROSS_SPREADER]
    assert [each.name for each in network.accounts] == names
    assert [each.amount_microquote // USD for each in engine.deposits][-2:] == [3_000, 3_000]


def test_only_series_that_take_orders_are_open():
    series = make_series()
    option = series.option
    others = [
        replace(series, option=None),
        replace(series, index_price_ticks=0),
        replace(series, option=replace(option, underlying=2)),
        replace(series, option=replace(option, vol_ppm=0)),
        replace(series, option=replace(option, is_closed=True)),
    ]
    assert find_open_series([*others, series], 1) == [series]


def test_a_quoter_buys_below_the_members_volatility_and_sells_above_it():
    bid, ask = quote(make_series())
    assert (bid.side, ask.side) == (Side.BUY, Side.SELL)
    assert bid.tif is ask.tif is TimeInForce.POST_ONLY
    # At the money an option is worth 0.4 of the standard deviation, here 58.77 USD.
    fair = 0.398942 * 60_000 * 0.55 * (100 / (365 * 86_400)) ** 0.5
    edge = EDGE_MICROQUOTE / USD
    assert bid.price_ticks == pytest.approx(100 * (0.9 * fair - edge), abs=1)
    assert ask.price_ticks == pytest.approx(100 * (1.1 * fair + edge), abs=1)
    wide = quote(make_series(), left_ms=400_000)
    assert wide[0].price_ticks > bid.price_ticks
    assert wide[1].price_ticks > ask.price_ticks


def test_a_worthless_option_is_only_offered_and_nothing_is_quoted_beyond_the_band():
    (offer,) = quote(make_series(strike=70_000), 70_000)
    assert offer.side is Side.SELL
    assert offer.price_ticks == EDGE_MICROQUOTE // 10_000
    assert quote(replace(make_series(), band_low_ticks=4_000, band_high_ticks=5_000)) == []
    (late,) = quote(make_series(), left_ms=-5)
    assert late.price_ticks == EDGE_MICROQUOTE // 10_000


def test_put_and_call_are_quoted_alike_at_the_money():
    call, put = quote(make_series()), quote(make_series(is_call=False))
    assert [each.price_ticks for each in call] == [each.price_ticks for each in put]


def test_quotes_of_all_series_fit_into_bundles():
    quotes = [(number, quote(make_series(number))) for number in range(50)]
    bundles = pack_requotes(quotes)
    assert all(len(each) <= INSTRUCTIONS_PER_BUNDLE_MAX for each in bundles)
    assert sum(len(each) for each in bundles) == 150


def test_a_take_goes_beyond_the_quote_but_not_beyond_the_band():
    series = make_series()
    buy, sell = (compute_take(series, side, 7) for side in (Side.BUY, Side.SELL))
    assert buy.protective_price_ticks > 2_510
    assert sell.protective_price_ticks < 2_490
    tight = replace(series, band_low_ticks=2_400, band_high_ticks=2_600)
    assert compute_take(tight, Side.BUY, 7).protective_price_ticks == 2_600
    assert compute_take(tight, Side.SELL, 7).protective_price_ticks == 2_400
    assert compute_take(replace(series, best_ask_ticks=None), Side.BUY, 7) is None
    assert compute_take(replace(series, best_bid_ticks=None), Side.SELL, 7) is None


def test_a_taker_draws_from_the_seed():
    series = [make_series(number) for number in range(5)]
    draws = [
        [compute_random_take(random, series) for _ in range(20)]
        for random in (SplitMix(1), SplitMix(1))
    ]
    assert draws[0] == draws[1]
    assert {each.side for each in draws[0]} == {Side.BUY, Side.SELL}
    assert all(1 <= each.size_lots <= 4_000 for each in draws[0])
    assert compute_random_take(SplitMix(1), []) is None


def test_a_spread_is_of_the_strikes_next_to_the_index():
    chain = [
        make_series(number, strike, delta=delta)
        for number, (strike, delta) in enumerate(
            ((59_900, 950_000), (59_950, 800_000), (60_000, 510_000), (60_050, 200_000))
        )
    ]
    chosen = choose_spread(reversed(chain), EXPIRY_MS)
    assert chosen == (2, 3)
    assert choose_spread(chain, EXPIRY_MS + 1) is None
    assert choose_spread(chain[2:3], EXPIRY_MS) is None
    unquoted = [*chain[:2], replace(chain[2], best_ask_ticks=None), chain[3]]
    assert choose_spread(unquoted, EXPIRY_MS) == (1, 2)
    assert choose_spread(chain[3:], EXPIRY_MS) is None


def test_members_differ_about_volatility_and_stay_around_the_usual_one():
    walks = [VolWalk(42, member) for member in range(4)]
    levels = [[walk.step() for _ in range(300)] for walk in walks]
    assert len({each[-1] for each in levels}) == 4
    again = VolWalk(42, 0)
    assert levels[0] == [again.step() for _ in range(300)]
    for each in levels:
        assert SURFACE_VOL_PPM // 2 <= min(each) < SURFACE_VOL_PPM < max(each)
        assert max(each) <= 2 * SURFACE_VOL_PPM


def test_a_surface_keeps_within_what_may_be_reported():
    options = MARKETS[0].options
    (surface,) = make_surfaces(MARKETS, options.vol_max_ppm).values()
    assert len(surface) == len(options.vol_tenors_s) * len(options.vol_moneyness_ppm)
    assert set(surface) == {options.vol_max_ppm}
    (usual,) = make_surfaces(MARKETS).values()
    assert min(usual) == SURFACE_VOL_PPM
