"""What demo makers quote and demo takers take, as functions of price and position."""

from hypothesis import given
from hypothesis import strategies as st

from engine.instructions import CancelAll, Side, TimeInForce
from engine.limits import INSTRUCTIONS_PER_BUNDLE_MAX, PRICE_MAX_TICKS
from localnet.market_maker import (
    DEMO_PLAN,
    TAPE_PLAN,
    compute_depth_lots,
    compute_quotes,
    pack_requotes,
)
from localnet.markets import MARKETS
from localnet.splitmix import SplitMix
from localnet.takers import (
    LEAN_LIMIT_MICROQUOTE,
    PROTECTION_PPM,
    SURPLUS_LIMIT_MICROQUOTE,
    TakerBook,
    compute_protective_ticks,
    compute_random_order,
)

BTC = MARKETS[0]
plans = st.sampled_from([DEMO_PLAN, TAPE_PLAN])
markets = st.sampled_from(MARKETS)
positions = st.integers(-(2**40), 2**40)


def sides(orders):
    bids = [order for order in orders if order.side is Side.BUY]
    asks = [order for order in orders if order.side is Side.SELL]
    return bids, asks


@given(plans, markets, st.integers(1, PRICE_MAX_TICKS), positions)
def test_quotes_are_post_only_levels_that_never_cross(plan, params, reference, position):
    bids, asks = sides(compute_quotes(plan, params, reference, position))
    bid_prices = [order.price_ticks for order in bids]
    ask_prices = [order.price_ticks for order in asks]
    assert bid_prices == sorted(set(bid_prices), reverse=True)
    assert ask_prices == sorted(set(ask_prices))
    assert all(1 <= price <= PRICE_MAX_TICKS for price in bid_prices + ask_prices)
    if bids and asks:
        assert bid_prices[0] < ask_prices[0]
    for order in bids + asks:
        assert order.tif is TimeInForce.POST_ONLY
        assert 1 <= order.size_lots <= params.order_size_max_lots
        assert order.market == params.market


@given(plans, st.integers(10_000, 10_000_000), positions, positions)
def test_two_makers_with_any_positions_never_cross_each_other(plan, reference, one, other):
    bids, _ = sides(compute_quotes(plan, BTC, reference, one))
    _, asks = sides(compute_quotes(plan, BTC, reference, other))
    if bids and asks:
        assert bids[0].price_ticks < asks[0].price_ticks


def test_a_flat_maker_quotes_symmetrically_and_larger_further_out():
    bids, asks = sides(compute_quotes(DEMO_PLAN, BTC, 600_000, 0))
    assert len(bids) == len(asks) == DEMO_PLAN.levels
    assert [order.price_ticks for order in bids][:2] == [599_880, 599_760]
    assert [order.price_ticks for order in asks][:2] == [600_120, 600_240]
    lots = [order.size_lots for order in bids]
    assert lots == [order.size_lots for order in asks] == [1_666, 3_333, 5_000, 6_666, 8_333]
    assert sum(lots) == compute_depth_lots(DEMO_PLAN, BTC, 600_000)


def test_a_long_maker_quotes_lower_and_buys_less_until_it_only_sells():
    flat_bids, flat_asks = sides(compute_quotes(DEMO_PLAN, BTC, 600_000, 0))
    limit_lots = DEMO_PLAN.position_limit_microquote // (600_000 * BTC.unit_microquote)
    bids, asks = sides(compute_quotes(DEMO_PLAN, BTC, 600_000, limit_lots // 2))
    assert asks[0].price_ticks < flat_asks[0].price_ticks
    assert bids[0].price_ticks < flat_bids[0].price_ticks
    assert bids[0].size_lots < flat_bids[0].size_lots
    bids, asks = sides(compute_quotes(DEMO_PLAN, BTC, 600_000, limit_lots))
    assert not bids
    assert len(asks) == DEMO_PLAN.levels
    bids, asks = sides(compute_quotes(DEMO_PLAN, BTC, 600_000, -limit_lots))
    assert len(bids) == DEMO_PLAN.levels
    assert not asks


@given(st.lists(st.sampled_from(MARKETS), min_size=1, max_size=30))
def test_requotes_cancel_and_replace_a_market_in_one_bundle(chosen):
    quotes = [(params.market, compute_quotes(DEMO_PLAN, params, 50_000, 0)) for params in chosen]
    bundles = pack_requotes(quotes)
    assert all(1 <= len(bundle) <= INSTRUCTIONS_PER_BUNDLE_MAX for bundle in bundles)
    flat = [instruction for bundle in bundles for instruction in bundle]
    expected = []
    for market, orders in quotes:
        expected += [CancelAll(market), *orders]
    assert flat == expected
    assert all(isinstance(bundle[0], CancelAll) for bundle in bundles)


@given(st.integers(1, PRICE_MAX_TICKS))
def test_protective_prices_lie_beyond_every_quote_and_within_every_band(reference):
    outermost_ppm = max(
        plan.half_spread_ppm + plan.levels * plan.level_spacing_ppm + plan.skew_max_ppm
        for plan in (DEMO_PLAN, TAPE_PLAN)
    )
    assert outermost_ppm < PROTECTION_PPM
    assert all(params.price_band_ppm > PROTECTION_PPM * 2 for params in MARKETS)
    buy = compute_protective_ticks(Side.BUY, reference)
    sell = compute_protective_ticks(Side.SELL, reference)
    assert 1 <= sell <= reference <= buy <= PRICE_MAX_TICKS


@given(st.integers(0, 2**32), markets, positions)
def test_random_orders_are_bounded_and_reduce_a_large_position(seed, params, position):
    reference = 100_000
    order = compute_random_order(SplitMix(seed), params, reference, position)
    assert order.size_lots >= 1
    limit_lots = max(1, LEAN_LIMIT_MICROQUOTE // (reference * params.unit_microquote))
    if position >= limit_lots:
        assert order.side is Side.SELL
    if position <= -limit_lots:
        assert order.side is Side.BUY


@given(st.lists(st.tuples(st.sampled_from(Side), st.integers(1, 1_000)), max_size=200))
def test_assigned_positions_stay_within_one_order_of_each_other(flow):
    book = TakerBook([b"a", b"b", b"c"])
    for side, lots in flow:
        book.assign(side, lots)
    held = book.positions.values()
    assert max(held) - min(held) <= 2_000
    assert sum(held) == sum(side * lots for side, lots in flow)


def test_a_surplus_is_given_back_in_bounded_orders():
    book = TakerBook([b"a", b"b"])
    assert book.rebalance(BTC, 600_000, 1_000) is None
    limit_lots = SURPLUS_LIMIT_MICROQUOTE // (600_000 * BTC.unit_microquote)
    book.set_position(b"a", limit_lots)
    assert book.rebalance(BTC, 600_000, 1_000) is None
    book.set_position(b"b", 5_000)
    given_back = book.rebalance(BTC, 600_000, 1_000)
    assert given_back is not None
    account, order = given_back
    assert (account, order.side, order.size_lots) == (b"a", Side.SELL, 1_000)
    assert book.positions == {b"a": limit_lots - 1_000, b"b": 5_000}
