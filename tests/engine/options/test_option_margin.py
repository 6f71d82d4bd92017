"""What buyers and sellers of options must have."""

from msgspec.structs import replace

from engine.block import SessionGrant, SessionScope
from engine.instructions import (
    Amend,
    PlaceOrder,
    Side,
)
from engine.views import view_account

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


def test_a_long_option_is_paid_in_full_and_a_short_one_margined_by_formula(make_exchange):
    exchange = make_exchange()
    call, put = exchange.find_series(1_100), exchange.find_series(950, is_call=False)
    for market, lots in ((call, 1_000), (put, 500)):
        exchange.trade(exchange.ALICE, exchange.BOB, market.mark_price, lots, market.market_id)
    long, short = (view_account(exchange.state, name) for name in (exchange.ALICE, exchange.BOB))
    premium = call.mark_price * 1_000 + put.mark_price * 500
    assert long.initial_margin_microquote == long.maintenance_margin_microquote == premium
    assert long.equity_microquote == short.equity_microquote == 10**12
    # A lot of the index is worth 10,000 micro-quote; out of the money by 10 % and by 5 %.
    call_margin = 1_000 * 10_000 * 13 // 100
    put_margin = 500 * 10_000 * 13 // 100
    assert short.initial_margin_microquote == call_margin + put_margin
    assert short.maintenance_margin_microquote == 1_500 * 10_000 * 75 // 1_000
    exchange.report(1_080)
    short = view_account(exchange.state, exchange.BOB)
    assert [p.initial_margin_microquote for p in short.positions] == [
        500 * 10_800 * 13 // 100,
        1_000 * (10_800 * 15 // 100 - 200),
    ]
    at_the_money = exchange.find_series(1_100)
    exchange.report(1_100)
    assert at_the_money.im_rate_short == 11_000 * 150_000


def test_a_short_that_cannot_pay_its_margin_is_refused_and_a_long_that_cannot_pay_its_premium(
    make_exchange,
):
    exchange = make_exchange(balance=15_000)
    market = exchange.find_series(1_000)
    # 15 % of 10,000 for each lot; a premium of the mark for each lot.
    assert (
        exchange.one(
            exchange.ALICE, PlaceOrder(market.market_id, Side.SELL, market.mark_price, 10)
        ).code
        == "ok"
    )
    assert (
        exchange.one(
            exchange.BOB, PlaceOrder(market.market_id, Side.SELL, market.mark_price, 11)
        ).code
        == "margin.insufficient"
    )
    lots = 15_000 // market.mark_price
    assert (
        exchange.one(
            exchange.CAROL, PlaceOrder(market.market_id, Side.BUY, market.mark_price, lots)
        ).code
        == "ok"
    )
    assert (
        exchange.one(
            exchange.DAVE, PlaceOrder(market.market_id, Side.BUY, market.mark_price, lots + 1)
        ).code
        == "margin.insufficient"
    )


def test_a_session_key_that_sells_options_spends_what_they_may_cost(make_exchange):
    exchange = make_exchange()
    call, put = (exchange.find_series(1_000, is_call=is_call) for is_call in (True, False))
    low = exchange.find_series(900, is_call=False)
    key = b"k" * 32
    # Ten lots of the underlying are worth 100,000 at the index, premiums a hundredth of it.
    for market, side, value in (
        (call, Side.SELL, 100_000),
        (put, Side.SELL, 100_000),
        (low, Side.SELL, 90_000),
        (call, Side.BUY, call.mark_price * 10 * call.unit),
    ):
        order = PlaceOrder(market.market_id, side, market.mark_price, 10)
        for cap, code in ((value - 1, "session.spent"), (value, "ok")):
            key = bytes([key[0] + 1]) * 32
            grant = SessionGrant(exchange.ALICE, key, SessionScope.TRADE, 2**40, (), (), cap)
            exchange.block(grants=[grant])
            envelope = replace(exchange.envelope(exchange.ALICE, order), signer=key)
            assert [receipt.code for receipt in exchange.block([envelope]).receipts] == [code]
    (resting,) = (view for view in view_account(exchange.state, exchange.ALICE).orders[:1])
    amend = Amend(resting.order_id, 0, resting.price_ticks, 11)
    exchange.block(
        grants=[SessionGrant(exchange.ALICE, b"z" * 32, SessionScope.TRADE, 2**40, (), (), 109_999)]
    )
    envelope = replace(exchange.envelope(exchange.ALICE, amend), signer=b"z" * 32)
    assert [receipt.code for receipt in exchange.block([envelope]).receipts] == ["session.spent"]
