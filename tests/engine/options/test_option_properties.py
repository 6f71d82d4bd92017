"""Streams of options, portfolio margin and expiries: what holds after every block."""

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.apply import apply_block
from engine.commitment.solvency import compute_solvency
from engine.genesis import EngineGenesis, GenesisDeposit, MarketParams
from engine.instructions import (
    Amend,
    Cancel,
    CancelAll,
    ConditionalOrder,
    MarginMode,
    OracleReport,
    PlaceOrder,
    SetMarginMode,
    Side,
    TimeInForce,
    TriggerKind,
    TriggerSource,
    VolatilityReport,
)
from engine.limits import SERIES_ID_FIRST
from engine.options.params import OptionParams
from engine.portfolio.margin import compute_requirements
from engine.portfolio.rules import PortfolioRules
from engine.state import create_state
from engine.views import view_account, view_markets
from localnet.splitmix import SplitMix

NAMES = [bytes([value]) * 32 for value in range(1, 6)]
SEEDS = st.integers(0, 2**32)
MINUTE_MS = 60_000
OPTIONS = OptionParams(
    tick_size_microquote=1_000,
    strike_step_ticks=50,
    strikes_each_side=1,
    strikes_max=5,
    expiries=2,
    expiry_interval_ms=10 * MINUTE_MS,
    expiry_offset_ms=0,
    window_ms=4 * MINUTE_MS,
    maker_fee_ppm=-100,
    taker_fee_ppm=300,
    price_band_ppm=300_000,
    vol_tenors_s=(600,),
    vol_moneyness_ppm=(900_000, 1_100_000),
    portfolio=PortfolioRules(),
)
GENESIS = EngineGenesis(
    tuple(
        MarketParams(
            market,
            f"M{market}-PERP",
            10_000,
            1_000,
            100_000,
            50_000,
            0,
            400,
            500_000,
            3 * MINUTE_MS,
            options=options,
        )
        for market, options in ((1, OPTIONS), (2, None))
    ),
    tuple(GenesisDeposit(name, 300_000) for name in NAMES),
    60 * MINUTE_MS,
    8,
)
HOSTILE = (0, -1, 1, 2**31 - 1, 2**63 - 1, -(2**63), SERIES_ID_FIRST, SERIES_ID_FIRST - 1)


def _instruction(draw, state):
    """Mostly plausible orders in what is listed now, and now and then anything at all."""
    markets = list(state.markets.values())
    # Few series, so that orders meet.
    market = markets[draw(6 if draw(4) else len(markets)) % len(markets)]
    side = Side.BUY if draw(2) else Side.SELL
    price = max(market.mark_price + (draw(11) - 5) * (10 if market.series else 1), 1)
    lots = 1 + draw(60)
    choice = draw(100)
    if choice < 70:
        tif = list(TimeInForce)[draw(4)]
        return PlaceOrder(market.market_id, side, price, lots, tif, draw(6) == 0)
    if choice < 76:
        return SetMarginMode(MarginMode(draw(2)))
    if choice < 82:
        return Cancel(1 + draw(100))
    if choice < 84:
        return CancelAll((None, market.market_id)[draw(2)])
    if choice < 88:
        return Amend(1 + draw(100), 0, price, lots)
    if choice < 92:
        kind, source = TriggerKind(draw(2)), TriggerSource(draw(2))
        return ConditionalOrder(market.market_id, side, kind, source, price, price, lots)
    odd = HOSTILE[draw(len(HOSTILE))]
    if choice < 96:
        return PlaceOrder(odd, side, price, lots)
    if choice < 98:
        return PlaceOrder(market.market_id, side, odd, HOSTILE[draw(len(HOSTILE))])
    return VolatilityReport(odd, (odd,) * draw(4), odd, odd)


def _reports(draw, world, price):
    """What the reporter says, if anything."""
    sequence, now = world.state.height + 1, world.time_ms
    found = []
    if draw(8):
        found.append(OracleReport(1, price, sequence, now))
        found.append(OracleReport(2, price, sequence, now))
    if draw(4):
        vols = tuple(300_000 + draw(900_000) for _ in range(2))
        found.append(VolatilityReport(1, vols, sequence, now))
    return found


def _play(world, seed, count):
    """Run blocks; check what must hold after each."""
    draw = SplitMix(seed).below
    price = 1_000
    for _ in range(count):
        world.time_ms += (500, 20_000, 70_000, 11 * MINUTE_MS)[(0, 1, 1, 1, 2, 2, 2, 3)[draw(8)]]
        price = max(price + draw(81) - 40, 300)
        if draw(40) == 0:
            price = (300, 5_000)[draw(2)]
        envelopes = [
            world.envelope(
                NAMES[draw(5)], *[_instruction(draw, world.state) for _ in range(1 + draw(4))]
            )
            for _ in range(draw(6))
        ]
        found = _reports(draw, world, price)
        if found:
            envelopes.append(world.envelope(world.REPORTER, *found))
        world.block(envelopes)
        _check(world.state)
    view_markets(world.state)


def _check(state):
    assert list(state.markets) == sorted(state.markets)
    series = [market for market in state.markets.values() if market.series]
    assert len(series) <= OPTIONS.series_max
    assert len(state.chains[1].expiries) <= OPTIONS.expiries + 1
    for account in state.accounts.values():
        view = view_account(state, account.account_id)
        assert all(market_id in state.markets for market_id in account.exposures)
        if account.margin_epoch == state.margin_epoch:
            assert account.equity == view.equity_microquote
            assert account.im == view.initial_margin_microquote
        if account.portfolio is not None:
            initial, maintenance = compute_requirements(account)
            assert initial >= maintenance
            assert view.maintenance_margin_microquote == maintenance
    compute_solvency(state)


def _make(make_world):
    exchange = type(make_world())(GENESIS)
    exchange.time_ms = GENESIS.time_ms
    return exchange


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 30))
def test_money_series_and_caches_hold_over_expiries(make_world, seed, count):
    _play(_make(make_world), seed, count)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(4, 25), st.integers(0, 25))
def test_live_replay_and_snapshot_with_tail_agree(make_world, seed, count, cut):
    exchange = _make(make_world)
    _play(exchange, seed, count)
    exchange.check_replay(cut)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(4, 20), st.randoms(use_true_random=False))
def test_no_order_of_the_envelopes_changes_anything(make_world, seed, count, random):
    exchange = _make(make_world)
    _play(exchange, seed, count)
    state = create_state(GENESIS)
    for block in exchange.inputs[:-1]:
        apply_block(state, block)
    last = exchange.inputs[-1]
    shuffled = list(last.envelopes)
    random.shuffle(shuffled)
    fields = {name: getattr(last, name) for name in last.__struct_fields__}
    again = type(last)(**(fields | {"envelopes": tuple(shuffled)}))
    assert apply_block(state, again) == exchange.output


def test_the_streams_reach_what_they_are_for(make_world):
    kinds, codes, modes = {}, {}, 0
    for seed in range(12):
        exchange = _make(make_world)
        original = exchange.block

        def block(envelopes, original=original):
            output = original(envelopes)
            for event in output.events:
                kinds[type(event).__name__] = kinds.get(type(event).__name__, 0) + 1
            for receipt in output.receipts:
                codes[receipt.code] = codes.get(receipt.code, 0) + 1
            kinds["Fill"] = kinds.get("Fill", 0) + len(output.fills)
            return output

        exchange.block = block
        _play(exchange, seed, 30)
        modes += sum(1 for each in exchange.state.accounts.values() if each.portfolio is not None)
    assert kinds["SettlementEvent"] > 20
    assert kinds["ExpiryEvent"] > 5
    assert kinds["Fill"] > 60
    assert modes > 10
    assert {"margin.insufficient", "oracle.stale", "order.unknown_market"} <= set(codes)
