"""Whole bundles of accounts with portfolio margin, in call auctions and in continuous markets: no
account that trades ends a block below its margin, unless it was, and then no further."""

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.genesis import EngineGenesis, GenesisDeposit, MarketParams, Matching
from engine.instructions import (
    MarginMode,
    MarketOrder,
    OracleReport,
    PlaceOrder,
    SelfTradeMode,
    SetMarginMode,
    Side,
    TimeInForce,
    VolatilityReport,
)
from engine.margin import compute_equity
from engine.options.params import OptionParams
from engine.portfolio.margin import compute_requirements
from engine.portfolio.rules import PortfolioRules
from localnet.splitmix import SplitMix

START_MS = 3_456_000_000
INDEX = 60_000
ROUNDING = 8
"""Micro-quote: IM is rounded up for each portfolio, and so are parts of orders."""
NAMES = [bytes([value]) * 32 for value in range(1, 6)]
OPTIONS = OptionParams(
    tick_size_microquote=1_000,
    strike_step_ticks=1_000,
    strikes_each_side=1,
    strikes_max=3,
    expiries=1,
    expiry_interval_ms=7 * 86_400_000,
    price_band_ppm=400_000,
    portfolio=PortfolioRules(),
)
PERPETUAL = MarketParams(
    market=1,
    symbol="BTC-PERP",
    tick_size_microquote=10_000,
    lots_per_base=100,
    initial_margin_ppm=50_000,
    maintenance_margin_ppm=30_000,
    maker_fee_ppm=-100,
    taker_fee_ppm=300,
    price_band_ppm=100_000,
    oracle_max_age_ms=3_600_000,
    options=OPTIONS,
)


def _make(make_world, first, second):
    markets = (
        replace(PERPETUAL, matching=first),
        replace(PERPETUAL, market=2, symbol="ETH-PERP", options=None, matching=second),
    )
    balances = (20_000_000, 40_000_000, 80_000_000, 160_000_000, 10**12)
    deposits = tuple(map(GenesisDeposit, NAMES, balances))
    exchange = type(make_world())(EngineGenesis(markets, deposits, START_MS))
    exchange.time_ms = START_MS
    _report(exchange, INDEX)
    for name in NAMES[:4]:
        assert exchange.one(name, SetMarginMode(MarginMode.PORTFOLIO)).code == "ok"
    return exchange


def _report(exchange, index):
    sequence, now = exchange.state.height + 1, exchange.time_ms
    receipts = exchange.run(
        exchange.REPORTER,
        OracleReport(1, index, sequence, now),
        OracleReport(2, index, sequence, now),
        VolatilityReport(1, (600_000,) * 20, sequence, now),
    )
    assert {receipt.code for receipt in receipts} == {"ok"}


def _order(draw, market, side):
    spread = 1 + market.mark_price // (200 if market.series is None else 20)
    price = max(market.mark_price + draw(2 * spread) - spread, 1)
    lots = 1 + draw((5, 30, 90)[draw(3)])
    mode = list(SelfTradeMode)[draw(4)]
    if draw(5) == 0:
        return MarketOrder(market.market_id, side, price, lots, self_trade=mode)
    tif = list(TimeInForce)[draw(4)]
    return PlaceOrder(market.market_id, side, price, lots, tif, draw(8) == 0, mode)


def _bundle(draw, state, name):
    """Orders of one side of one market, now and then of another; or one many times over, that
    closes what the account has there."""
    markets = list(state.markets.values())
    market, side = markets[draw(len(markets))], (Side.BUY, Side.SELL)[draw(2)]
    held = [each for each in state.accounts[name].exposures.values() if each.lots]
    if held and draw(2):
        exposure = held[draw(len(held))]
        side = Side.SELL if exposure.lots > 0 else Side.BUY
        order = _order(draw, exposure.market, side)
        lots = 1 + draw(abs(exposure.lots))
        return [replace(order, size_lots=lots)] * (1 + draw(20))
    found = []
    for _ in range(1 + draw(12)):
        if draw(4) == 0:
            market, side = markets[draw(len(markets))], (Side.BUY, Side.SELL)[draw(2)]
        found.append(_order(draw, market, side))
    return found


def _depth(draw, state):
    """What there is to trade with: much of each market, on one side at the mark."""
    return [
        PlaceOrder(
            market.market_id,
            (Side.BUY, Side.SELL)[draw(2)],
            market.mark_price,
            5_000,
            (TimeInForce.IOC, TimeInForce.GTC)[draw(2)],
        )
        for market in state.markets.values()
    ]


def _read(state, name):
    """Excess over IM, equity and MM, out of what the account holds."""
    account = state.accounts[name]
    initial, maintenance = compute_requirements(account)
    equity = compute_equity(state, account)
    return equity - initial, equity, maintenance


def _play(exchange, seed, blocks):
    """Blocks of orders, and the marks moving between them; return who was ever below IM."""
    draw = SplitMix(seed).below
    state = exchange.state
    below = 0
    for _ in range(blocks):
        if draw(3) == 0:
            exchange.time_ms += 1_000
            _report(exchange, INDEX + draw(12_001) - 6_000)
        before = {name: _read(state, name) for name in NAMES[:4]}
        senders = sorted({NAMES[draw(4)] for _ in range(1 + draw(4))})
        envelopes = [exchange.envelope(name, *_bundle(draw, state, name)) for name in senders]
        exchange.block([exchange.envelope(NAMES[4], *_depth(draw, state)), *envelopes])
        for name, (excess, equity, maintenance) in before.items():
            after, equity_after, maintenance_after = _read(state, name)
            assert after >= min(excess, 0) - ROUNDING
            if excess < 0 <= equity and after < 0:
                slack = ROUNDING * (maintenance + equity)
                assert equity_after * maintenance >= equity * maintenance_after - slack
            assert equity_after >= min(equity, 0) - ROUNDING
            below += after < 0
    return below


MATCHING = st.sampled_from(list(Matching))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 12), MATCHING, MATCHING)
def test_no_bundle_takes_an_account_below_its_margin_or_further_below(
    make_world, seed, blocks, first, second
):
    _play(_make(make_world, first, second), seed, blocks)


def test_the_bundles_reach_accounts_below_their_margin(make_world):
    both = (Matching.AUCTION, Matching.CONTINUOUS)
    reached = [_play(_make(make_world, each, each), seed, 12) for each in both for seed in range(4)]
    assert sum(1 for each in reached if each) >= 2
