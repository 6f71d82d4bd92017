"""Options in their last minutes: sampling, settlement to the micro-quote, and the state over it."""

from fractions import Fraction

from msgspec.structs import replace

from engine.apply import apply_block
from engine.genesis import (
    FundingParams,
)
from engine.instructions import (
    CancelAll,
    ConditionalOrder,
    PlaceOrder,
    Side,
    TriggerKind,
    TriggerSource,
)
from engine.limits import SERIES_ID_FIRST
from engine.receipts import ExpiryEvent, OrderEvent, SettlementEvent
from engine.snapshots.whole import restore, snapshot

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


def test_settlement_is_the_mean_of_the_samples_to_the_micro_quote(make_exchange, run_to_expiry):
    exchange = make_exchange()
    names = (exchange.ALICE, exchange.BOB, exchange.CAROL)
    positions = {}
    for strike, is_call, buyer, seller, lots in (
        (950, True, 0, 1, 777),
        (1_000, True, 1, 2, 333),
        (1_050, False, 2, 0, 1_001),
        (900, False, 0, 1, 55),
        (1_000, False, 2, 0, 7),
    ):
        market = exchange.find_series(strike, is_call=is_call)
        exchange.trade(names[buyer], names[seller], market.mark_price, lots, market.market_id)
        positions[buyer, strike, is_call] = lots
        positions[seller, strike, is_call] = -lots
    prices = [1_003, 997, 1_011, 1_020, 1_013, 991, 1_007, 1_008, 1_002, 1_001]
    run_to_expiry(exchange, prices)
    before = [exchange.quote(name) for name in names]
    fees = exchange.state.fees
    later = exchange.find_series(1_000, place=1).market_id
    exchange.time_ms = 6 * HOUR_MS
    exchange.report(1_500)

    price = Fraction(sum(prices), len(prices))
    due = [0, 0, 0]
    for (who, strike, is_call), lots in positions.items():
        value = max(price - strike if is_call else strike - price, 0)
        # 10 micro-quote for a lot and a tick; down, whoever it is.
        due[who] += lots * value * 10 // 1
    assert [exchange.quote(name) - was for name, was in zip(names, before, strict=True)] == due
    assert exchange.state.settlement_pool == -sum(due)
    assert 0 <= exchange.state.settlement_pool < len(positions)
    assert exchange.state.fees == fees
    (expired,) = exchange.events(ExpiryEvent)
    assert (expired.price_sum_ticks, expired.price_samples) == (sum(prices), 10)
    paid = exchange.events(SettlementEvent)
    assert sum(event.amount_microquote for event in paid) == sum(due)
    assert len(paid) == len(positions)
    assert SERIES_ID_FIRST not in exchange.state.markets
    assert later in exchange.state.markets
    account = exchange.state.accounts[exchange.ALICE]
    assert all(market in exchange.state.markets for market in account.exposures)


def test_an_expiry_cancels_all_orders_with_an_event_and_takes_no_more(
    make_exchange, vols_ppm, options, run_to_expiry
):
    exchange = make_exchange()
    market = exchange.find_series(1_000)
    later = exchange.find_series(1_000, place=1)
    exchange.run(
        exchange.ALICE,
        PlaceOrder(market.market_id, Side.BUY, 5, 3, client_id=7),
        PlaceOrder(later.market_id, Side.BUY, 5, 3),
        ConditionalOrder(
            market.market_id, Side.BUY, TriggerKind.STOP, TriggerSource.LAST, 2_000, 2_000, 1
        ),
    )
    run_to_expiry(exchange, [1_000] * 3)
    # Three samples of ten do not settle.
    exchange.time_ms = 6 * HOUR_MS
    exchange.report(1_000, vols_ppm)
    ended = exchange.events(OrderEvent)
    assert [(event.code, event.removed_lots, event.resting_lots) for event in ended] == [
        ("option.expired", 1, 0),
        ("option.expired", 3, 0),
    ]
    assert exchange.state.accounts[exchange.ALICE].clients == {}
    refused = exchange.one(exchange.ALICE, PlaceOrder(market.market_id, Side.BUY, 5, 3))
    assert refused.code == "option.not_trading"
    assert len(exchange.state.orders) == 1
    assert exchange.one(exchange.ALICE, CancelAll(market.market_id)).cancelled_count == 0
    for _ in range(2):
        exchange.time_ms += MINUTE_MS
        exchange.report(1_000)
    (expired,) = exchange.events(ExpiryEvent)
    assert expired.price_samples == options.window_ms // MINUTE_MS // 2 + 1
    refused = exchange.one(exchange.ALICE, PlaceOrder(market.market_id, Side.BUY, 5, 3))
    assert refused.code == "order.unknown_market"


def test_a_clock_that_jumps_over_an_expiry_settles_by_samples_that_follow(make_exchange):
    exchange = make_exchange()
    market = exchange.find_series(1_000)
    exchange.trade(exchange.ALICE, exchange.BOB, market.mark_price, 9, market.market_id)
    before = exchange.quote(exchange.ALICE)
    exchange.time_ms = 9 * HOUR_MS + 123
    exchange.block()
    assert exchange.state.chains[1].expiries[6 * HOUR_MS].sample_count == 0
    assert exchange.position(exchange.ALICE, market.market_id) == 9
    prices = [1_100, 1_110, 1_120, 1_130, 1_140, 1_151]
    for price in prices:
        exchange.report(price)
        exchange.block()
        exchange.time_ms += MINUTE_MS
    assert market.market_id not in exchange.state.markets
    assert exchange.quote(exchange.ALICE) - before == 9 * (sum(prices) - 6_000) * 10 // 6


def test_a_stale_index_keeps_an_expiry_waiting(make_exchange, run_to_expiry):
    exchange = make_exchange()
    market = exchange.find_series(1_000)
    exchange.trade(exchange.ALICE, exchange.BOB, market.mark_price, 9, market.market_id)
    run_to_expiry(exchange, [1_100] * 10)
    exchange.time_ms = 6 * HOUR_MS + 2 * MINUTE_MS
    exchange.block()
    assert exchange.state.perpetuals[1].stale
    assert market.market_id in exchange.state.markets
    assert market.index_price == 0
    before = exchange.quote(exchange.ALICE)
    exchange.report(3_000)
    # What was sampled in time is enough: the price after the pause has no part in it.
    assert exchange.quote(exchange.ALICE) - before == 9 * 100 * 10


def test_live_replay_and_snapshot_with_tail_agree_over_an_expiry(
    make_exchange, vols_ppm, run_to_expiry
):
    exchange = make_exchange()
    market = exchange.find_series(1_000)
    exchange.trade(exchange.ALICE, exchange.BOB, market.mark_price, 9, market.market_id)
    exchange.one(exchange.CAROL, PlaceOrder(market.market_id, Side.BUY, 5, 3))
    run_to_expiry(exchange, [1_000, 1_090, 1_001, 999, 1_100, 1_250])
    exchange.time_ms = 6 * HOUR_MS + 5
    exchange.report(1_234, vols_ppm)
    exchange.time_ms += HOUR_MS
    exchange.block()
    live = snapshot(exchange.state)
    for cut in range(1, len(exchange.inputs), 2):
        replayed = type(exchange)(exchange.genesis).state
        for block in exchange.inputs[:cut]:
            apply_block(replayed, block)
        restored = restore(snapshot(replayed))
        marks = [each.mark_price for each in replayed.markets.values()]
        assert [each.mark_price for each in restored.markets.values()] == marks
        assert list(restored.markets) == list(replayed.markets)
        for block in exchange.inputs[cut:]:
            assert apply_block(replayed, block) == apply_block(restored, block)
        assert snapshot(restored) == snapshot(replayed) == live


def test_funding_and_options_of_several_markets_live_beside_each_other(
    make_exchange, vols_ppm, market_params
):
    funded = replace(market_params, funding=FundingParams(10**6, 10**5))
    other = replace(market_params, market=2, symbol="Y-PERP")
    exchange = make_exchange(markets=(funded, other))
    exchange.report(500, vols_ppm, market=2)
    assert sorted(exchange.state.chains) == [1, 2]
    assert len(exchange.state.markets) == 2 + 2 * 20
    assert snapshot(restore(snapshot(exchange.state))) == snapshot(exchange.state)
