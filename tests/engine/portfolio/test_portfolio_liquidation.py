"""Liquidation of accounts with portfolio margin: hedges are not closed by themselves."""

import pytest
from msgspec.structs import replace

from engine.cross_margin import compute_position_margin
from engine.genesis import EngineGenesis, GenesisDeposit, LiquidationParams
from engine.instructions import (
    CancelAll,
    MarginMode,
    OracleReport,
    PlaceOrder,
    SetMarginMode,
    Side,
    Transfer,
)
from engine.liquidation.assessment import compute_fresh_margin, list_fresh
from engine.margin import compute_maintenance_margin, refresh_margin
from engine.receipts import LiquidationEvent, LiquidationStage, LiquidationStep

DAY_MS = 86_400_000
START_MS = 40 * DAY_MS + 9 * 3_600_000
INDEX = 600_000
LOTS = 10_000
VOLS = (600_000,) * 20


def trade(exchange, side, market, price, lots):
    exchange.one(exchange.BOB, PlaceOrder(market, Side(-side), price, lots))
    assert exchange.one(exchange.ALICE, PlaceOrder(market, side, price, lots)).filled_lots == lots


@pytest.fixture
def hedged(world, market_params):
    """Alice is short perpetuals that her calls cover, long of another market, and at her initial
    margin; then the other market falls. Dave bids for the calls."""
    plain = replace(market_params, market=2, symbol="ETH-PERP", options=None)
    exchange = type(world)(
        EngineGenesis(
            (market_params, plain),
            (
                GenesisDeposit(world.ALICE, 3 * 10**10),
                GenesisDeposit(world.BOB, 10**15),
                GenesisDeposit(world.DAVE, 10**15),
            ),
            START_MS,
            liquidation=LiquidationParams(insurance_microquote=10**12),
        )
    )
    exchange.time_ms = START_MS
    exchange.report(INDEX, VOLS, others={2: INDEX})
    assert exchange.one(exchange.ALICE, SetMarginMode(MarginMode.PORTFOLIO)).code == "ok"
    expiry = list(exchange.state.chains[1].expiries.values())[1]
    call = expiry.strikes[sorted(expiry.strikes)[5]][0]
    trade(exchange, Side.BUY, call.market_id, call.mark_price, LOTS)
    trade(exchange, Side.SELL, 1, INDEX, LOTS)
    trade(exchange, Side.BUY, 2, INDEX, 1_000)
    account = exchange.state.accounts[exchange.ALICE]
    refresh_margin(exchange.state, account)
    moved = exchange.one(exchange.ALICE, Transfer(account.equity - account.im, exchange.BOB))
    assert moved.code == "ok"
    return exchange, account, call


def fall(exchange, account, orders):
    """The other market falls until the account is found."""
    price = INDEX
    told: list[LiquidationEvent] = []
    while not told:
        exchange.one(exchange.DAVE, CancelAll())
        price -= 10_000
        exchange.run(exchange.DAVE, *orders(price))
        exchange.time_ms += 1
        exchange.report(INDEX, VOLS, others={2: price})
        told = exchange.events(LiquidationEvent)
    assert told[0].account == account.account_id
    return told


def test_closing_leaves_a_hedge_alone(hedged):
    exchange, account, call = hedged
    fall(
        exchange,
        account,
        lambda _: [PlaceOrder(call.market_id, Side.BUY, call.mark_price, LOTS)],
    )
    lots = {market: exposure.lots for market, exposure in account.exposures.items()}
    assert lots == {call.market_id: LOTS, 1: -LOTS, 2: 1_000}
    refresh_margin(exchange.state, account)
    assert account.equity > compute_maintenance_margin(account) * 8 // 10


def test_closing_takes_what_the_margin_falls_by_and_keeps_its_ratio(hedged):
    exchange, account, call = hedged
    told = fall(
        exchange,
        account,
        lambda price: [
            PlaceOrder(call.market_id, Side.BUY, call.mark_price, LOTS),
            PlaceOrder(2, Side.BUY, price, LOTS),
        ],
    )
    begun, closed = told[0], next(each for each in told if each.step is LiquidationStep.CLOSED)
    assert (closed.market, call.market_id in account.exposures) == (2, True)
    assert account.exposures[call.market_id].lots == LOTS
    assert (
        closed.equity_microquote * begun.maintenance_margin_microquote
        >= begun.equity_microquote * closed.maintenance_margin_microquote
    )


def test_where_everything_hedges_the_auction_begins_at_once(hedged, monkeypatch):
    exchange, account, _ = hedged
    monkeypatch.setattr("engine.liquidation.phase.LIQUIDATION_TRIES_PER_STEP_MAX", 0)
    told = fall(exchange, account, lambda _: [])
    assert [event.step for event in told] == [LiquidationStep.BEGUN, LiquidationStep.AUCTIONED]
    assert account.distress.stage is LiquidationStage.AUCTION


def make_shielded(world, market_params, lots):
    """Alice is long ten thousand perpetuals, and has some lots in another market and some calls;
    the other market's index is stale."""
    plain = replace(
        market_params, market=2, symbol="ETH-PERP", options=None, oracle_max_age_ms=5_000
    )
    deposits = tuple(
        GenesisDeposit(name, amount)
        for name, amount in ((world.ALICE, 18 * 10**9), (world.BOB, 10**15), (world.DAVE, 10**15))
    )
    exchange = type(world)(
        EngineGenesis((market_params, plain), deposits, START_MS, liquidation=LiquidationParams())
    )
    exchange.time_ms = START_MS
    exchange.report(INDEX, VOLS, others={2: 10_000})
    assert exchange.one(exchange.ALICE, SetMarginMode(MarginMode.PORTFOLIO)).code == "ok"
    trade(exchange, Side.BUY, 1, INDEX, LOTS)
    trade(exchange, Side.BUY, 2, 10_000, lots)
    exchange.time_ms += 10_000
    return exchange, exchange.state.accounts[exchange.ALICE]


def move(exchange, price):
    sequence = exchange.state.height + 1
    receipt = exchange.one(exchange.REPORTER, OracleReport(1, price, sequence, exchange.time_ms))
    assert receipt.code == "ok"


def test_a_lot_of_another_underlying_that_is_stale_shields_no_portfolio(world, market_params):
    exchange, account = make_shielded(world, market_params, 1)
    move(exchange, 560_000)
    assert account.distress is None
    # Equity 8,000 and 0.02 of doubt; of the perpetuals the margin is 11,500.
    move(exchange, 500_000)
    assert exchange.state.markets[2].stale
    assert account.distress.stage is LiquidationStage.CLOSING
    exchange.one(exchange.DAVE, PlaceOrder(1, Side.BUY, 500_000, LOTS))
    exchange.time_ms += 1_000
    exchange.block()
    assert [exchange.position(exchange.ALICE, market) for market in (1, 2)] == [0, 1]


def test_what_is_stale_on_an_underlying_leaves_its_hedges_for_last(world, market_params):
    """While the volatilities are stale nobody knows what options hedge: the perpetual under them is
    not closed before the rest is, nor for want of margin."""
    exchange, account = make_shielded(world, market_params, 1_000)
    sequence = exchange.state.height + 1
    for market, price in ((1, INDEX), (2, 10_000)):
        exchange.one(
            exchange.REPORTER, OracleReport(market, price, sequence + market, exchange.time_ms)
        )
    expiry = list(exchange.state.chains[1].expiries.values())[1]
    put = expiry.strikes[sorted(expiry.strikes)[3]][1]
    trade(exchange, Side.BUY, put.market_id, put.mark_price, 1)
    exchange.time_ms += 60_001
    for market, price in ((1, INDEX), (2, 10_000)):
        exchange.one(
            exchange.REPORTER, OracleReport(market, price, sequence + 4 + market, exchange.time_ms)
        )
    assert (put.stale, exchange.state.markets[1].stale) == (True, False)
    assert [each.market.market_id for each in list_fresh(account)] == [2]
    assert compute_fresh_margin(account) == compute_position_margin(
        exchange.state.markets[2], 1_000
    )
    trade(exchange, Side.SELL, 2, 10_000, 1_000)
    assert [each.market.market_id for each in list_fresh(account)] == [1]
    assert compute_fresh_margin(account) == 0
