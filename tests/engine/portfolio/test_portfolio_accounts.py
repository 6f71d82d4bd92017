"""Portfolio margin in the state: choosing it, what it accepts, what it holds and what it costs."""

from fractions import Fraction

import pytest
from msgspec.structs import replace

from engine.genesis import (
    EngineGenesis,
    GenesisDeposit,
    Matching,
    OpenInterestParams,
)
from engine.instructions import (
    CancelAll,
    MarginMode,
    PlaceOrder,
    SetMarginMode,
    Side,
    TimeInForce,
)
from engine.limits import PORTFOLIO_MATCH_WEIGHT, PORTFOLIO_POSITIONS_MAX
from engine.margin import compute_maintenance_margin, compute_portfolio_margin, refresh_margin
from engine.portfolio.fixed_point import ONE, from_ratio
from engine.portfolio.margin import (
    compute_requirements,
    compute_requirements_after,
)
from engine.portfolio.rules import PortfolioRules
from engine.portfolio.terms import (
    Instrument,
    InstrumentKind,
    MarketData,
    Portfolio,
    PortfolioParameters,
    make_parameters,
)
from engine.receipts import SettlementEvent
from engine.snapshots.whole import restore, snapshot
from engine.views import view_account
from localnet.splitmix import SplitMix

DAY_MS = 86_400_000
START_MS = 40 * DAY_MS + 9 * 3_600_000
RULES = PortfolioRules()
INDEX = 600_000
VOLS = (600_000,) * 20
PORTFOLIO = SetMarginMode(MarginMode.PORTFOLIO)
CROSS = SetMarginMode(MarginMode.CROSS)


@pytest.fixture
def make_exchange(world, market_params):
    def make(balance=10**12, rich=10**15, **params):
        others = (world.BOB, world.CAROL, world.DAVE, world.ERIN)
        market = replace(market_params, **params)
        plain = replace(market, market=2, symbol="ETH-PERP", options=None)
        deposits = (
            GenesisDeposit(world.ALICE, balance),
            *(GenesisDeposit(n, rich) for n in others),
        )
        exchange = type(world)(EngineGenesis((market, plain), deposits, START_MS))
        exchange.time_ms = START_MS
        report(exchange, INDEX)
        return exchange

    return make


def report(exchange, index):
    exchange.report(index, VOLS, others={2: index})


def find(exchange, strike, **which):
    """A series by its strike in thousands of quote."""
    return exchange.find_series(strike * 10_000, **which)


def trade(exchange, who, market, lots, *, code="ok", other=None):
    """A trade at the mark: `lots` are signed."""
    other = other or exchange.BOB
    side, back = (Side.BUY, Side.SELL) if lots > 0 else (Side.SELL, Side.BUY)
    placed = PlaceOrder(market.market_id, back, market.mark_price, abs(lots))
    assert exchange.one(other, placed).code == "ok"
    order = PlaceOrder(market.market_id, side, market.mark_price, abs(lots))
    receipt = exchange.one(who, order)
    assert receipt.code == code
    assert receipt.filled_lots == (abs(lots) if code == "ok" else 0)
    exchange.one(other, CancelAll())


def margins(exchange, who):
    view = view_account(exchange.state, who)
    return view.initial_margin_microquote, view.maintenance_margin_microquote


# ---- a spread that cross margin refuses --------------------------------------------------------


def test_portfolio_margin_accepts_a_spread_that_cross_margin_refuses(make_exchange):
    # One unit of a call spread 60-61: at most 1,000 is lost; cross margin asks for 15 % of 60,000.
    for is_portfolio in (False, True):
        exchange = make_exchange(balance=3_000 * 10**6)
        if is_portfolio:
            assert exchange.one(exchange.ALICE, PORTFOLIO).code == "ok"
        trade(exchange, exchange.ALICE, find(exchange, 61), 10_000)
        code = "ok" if is_portfolio else "margin.insufficient"
        trade(exchange, exchange.ALICE, find(exchange, 60), -10_000, code=code)
        account = view_account(exchange.state, exchange.ALICE)
        assert account.equity_microquote >= account.initial_margin_microquote
    assert account.margin_mode is MarginMode.PORTFOLIO
    long, short = find(exchange, 61), find(exchange, 60)
    credit = (short.mark_price - long.mark_price) * 10_000
    assert account.quote_microquote == 3_000 * 10**6 + credit


def test_a_naked_short_needs_more_than_the_account_has_in_either_mode(make_exchange):
    exchange = make_exchange(balance=3_000 * 10**6)
    assert exchange.one(exchange.ALICE, PORTFOLIO).code == "ok"
    trade(exchange, exchange.ALICE, find(exchange, 60), -10_000, code="margin.insufficient")


# ---- what it comes to --------------------------------------------------------------------------


def test_margins_are_those_of_the_pure_function_on_the_same_portfolio(make_exchange):
    exchange = make_exchange(balance=10**15)
    exchange.one(exchange.ALICE, PORTFOLIO)
    held = {}
    for strike, is_call, place, lots in (
        (58, True, 0, 20_000),
        (62, True, 1, -35_000),
        (59, False, 1, 12_345),
        (57, False, 0, -9_999),
    ):
        market = find(exchange, strike, is_call=is_call, place=place)
        held[market.market_id] = (market, lots)
        trade(exchange, exchange.ALICE, market, lots)
    perpetual, plain = exchange.state.markets[1], exchange.state.markets[2]
    trade(exchange, exchange.ALICE, perpetual, 5_000)
    trade(exchange, exchange.ALICE, plain, 7_000)

    spot = 60_000 * ONE
    instruments = [Instrument(InstrumentKind.PERP, spot, spot)]
    positions = [(0, from_ratio(5_000, 10_000))]
    for market, lots in held.values():
        series = market.series
        positions.append((len(instruments), from_ratio(lots, 10_000)))
        instruments.append(
            Instrument(
                InstrumentKind.CALL if series.is_call else InstrumentKind.PUT,
                spot,
                spot,
                time_s=from_ratio(series.expiry.expiry_ms - START_MS, 1_000),
                strike=from_ratio(series.strike_ticks, 10),
                vol=from_ratio(6, 10),
            )
        )
    due = compute_portfolio_margin(
        Portfolio(tuple(positions)),
        MarketData(tuple(instruments)),
        replace(
            PortfolioParameters(), net_delta=from_ratio(2, 100), hedged_delta=from_ratio(1, 100)
        ),
    )
    marked = sum(lots * market.mark_value for market, lots in held.values())
    mark = Fraction(due.mark_to_market, ONE) * 10**6
    plain_initial, plain_maintenance = 7_000 * 60_000 * 5, 7_000 * 60_000 * 3
    for found, excess, other in (
        (margins(exchange, exchange.ALICE)[0], due.initial_margin, plain_initial),
        (margins(exchange, exchange.ALICE)[1], due.maintenance_margin, plain_maintenance),
    ):
        need = mark - Fraction(excess, ONE) * 10**6 + max(marked - mark, 0) + other
        assert abs(found - need) < 2


def test_the_rules_of_a_genesis_are_the_published_numbers_with_a_floor_on_deltas():
    due = PortfolioParameters(net_delta=from_ratio(2, 100), hedged_delta=from_ratio(1, 100))
    assert make_parameters(RULES) == due


@pytest.mark.parametrize("name", PortfolioRules.__struct_fields__)
def test_each_number_of_a_genesis_reaches_the_formula(name):
    value = getattr(RULES, name)
    changed = value[1:] if isinstance(value, tuple) else value + 1
    assert make_parameters(replace(RULES, **{name: changed})) != make_parameters(RULES)


def test_rounding_a_worthless_option_up_to_a_tick_lends_nothing(make_exchange):
    exchange = make_exchange(balance=10**9)
    exchange.one(exchange.ALICE, PORTFOLIO)
    expiry = next(iter(exchange.state.chains[1].expiries.values()))
    exchange.time_ms = expiry.expiry_ms - 40 * 60_000
    report(exchange, INDEX)
    worthless = find(exchange, 65)
    assert worthless.mark_price == 1
    before = exchange.state.accounts[exchange.ALICE].quote
    trade(exchange, exchange.ALICE, worthless, 10**8)
    paid = before - exchange.state.accounts[exchange.ALICE].quote
    assert paid == 10**8
    account = exchange.state.accounts[exchange.ALICE]
    refresh_margin(exchange.state, account)
    assert account.equity == before
    assert 0 <= account.im - paid < 10


def test_cached_margins_are_those_of_a_computation_from_nothing(make_exchange):
    exchange = make_exchange(balance=5 * 10**11)
    exchange.one(exchange.ALICE, PORTFOLIO)
    draw = SplitMix(5).below
    markets = [
        exchange.state.markets[1],
        exchange.state.markets[2],
        *(find(exchange, strike, is_call=c) for strike in (59, 60, 61) for c in (True, False)),
    ]
    names = (exchange.ALICE, exchange.BOB)
    looks = 0
    for step in range(60):
        if step == 30:
            report(exchange, INDEX + 500)
        market = markets[draw(len(markets))]
        price = max(market.mark_price + draw(21) - 10, 1)
        side = Side.BUY if draw(2) else Side.SELL
        exchange.one(names[draw(2)], PlaceOrder(market.market_id, side, price, 1 + draw(50_000)))
        account = exchange.state.accounts[exchange.ALICE]
        if account.margin_epoch == exchange.state.margin_epoch:
            view = view_account(exchange.state, exchange.ALICE)
            assert account.im == view.initial_margin_microquote
            assert account.equity == view.equity_microquote
            for exposure in account.exposures.values():
                lots = draw(200_001) - 100_000
                found = compute_requirements_after(exposure, lots)
                assert found == compute_requirements(account, exposure.market, lots)
            looks += 1
        held = compute_requirements(account)
        assert view_account(exchange.state, exchange.ALICE).equity_microquote >= held[0]
        assert compute_maintenance_margin(account) == held[1] <= held[0]
    assert len([each for each in account.exposures.values() if each.lots]) > 4
    assert looks > 40


def test_a_makers_portfolio_margin_weighs_more_of_what_a_taker_may_meet(make_exchange, monkeypatch):
    monkeypatch.setattr("engine.trading.matching.MATCHES_PER_SENDER_MAX", 9)
    exchange = make_exchange()
    for mode, met in ((CROSS, 9), (PORTFOLIO, -(-9 // PORTFOLIO_MATCH_WEIGHT))):
        exchange.one(exchange.ALICE, mode)
        exchange.run(exchange.ALICE, *[PlaceOrder(1, Side.BUY, INDEX, 1)] * 12)
        receipt = exchange.one(exchange.BOB, PlaceOrder(1, Side.SELL, INDEX, 12))
        assert (receipt.code, receipt.filled_lots) == ("order.too_many_matches", met)
        exchange.one(exchange.ALICE, CancelAll())


def test_margin_that_grows_with_open_interest_is_asked_of_portfolios_too(make_exchange):
    exchange = make_exchange(open_interest=OpenInterestParams(0, 120_000 * 10**6))
    exchange.one(exchange.ALICE, PORTFOLIO)
    perpetual = exchange.state.markets[1]

    def measure():
        exchange.run(exchange.ERIN)
        initial, maintenance = margins(exchange, exchange.ALICE)
        added = 6_000 * (perpetual.scaled_margin_ppm - perpetual.initial_margin_ppm)
        return initial - added, maintenance

    exchange.run(exchange.ALICE, PlaceOrder(1, Side.SELL, INDEX + 1, 1))
    trade(exchange, exchange.ALICE, perpetual, -1_000)
    exchange.one(exchange.ALICE, CancelAll())
    before = measure()
    trade(exchange, exchange.CAROL, perpetual, 9_000, other=exchange.DAVE)
    assert measure() == before
    # Half of what stands between 5 % and all, with one unit of 60,000 open.
    assert perpetual.scaled_margin_ppm == 525_000
    account = exchange.state.accounts[exchange.ALICE]
    refresh_margin(exchange.state, account)
    positions = account.im
    exchange.one(exchange.ALICE, PlaceOrder(1, Side.SELL, INDEX + 1, 1_000))
    assert account.im == 2 * positions == 2 * (before[0] + 6_000 * 475_000)
    twin = view_account(restore(snapshot(exchange.state)), exchange.ALICE)
    assert twin == view_account(exchange.state, exchange.ALICE)


# ---- orders ------------------------------------------------------------------------------------


def test_a_maker_that_its_hedge_left_is_cancelled_at_its_match(make_exchange):
    exchange = make_exchange(balance=3_000 * 10**6)
    exchange.one(exchange.ALICE, PORTFOLIO)
    long, short = find(exchange, 61), find(exchange, 60)
    trade(exchange, exchange.ALICE, long, 10_000)
    resting = PlaceOrder(short.market_id, Side.SELL, short.mark_price, 10_000)
    assert exchange.one(exchange.ALICE, resting).code == "ok"
    trade(exchange, exchange.ALICE, long, -10_000)
    taker = exchange.one(
        exchange.BOB, PlaceOrder(short.market_id, Side.BUY, short.mark_price, 10_000)
    )
    assert (taker.filled_lots, taker.resting_lots) == (0, 10_000)
    (event,) = exchange.output.events
    assert (event.code, event.owner) == ("margin.insufficient", exchange.ALICE)


def test_a_hedged_maker_trades(make_exchange):
    exchange = make_exchange(balance=3_000 * 10**6)
    exchange.one(exchange.ALICE, PORTFOLIO)
    long, short = find(exchange, 61), find(exchange, 60)
    trade(exchange, exchange.ALICE, long, 10_000)
    exchange.one(exchange.ALICE, PlaceOrder(short.market_id, Side.SELL, short.mark_price, 10_000))
    taker = exchange.one(
        exchange.BOB, PlaceOrder(short.market_id, Side.BUY, short.mark_price, 10_000)
    )
    assert taker.filled_lots == 10_000


def test_below_its_margin_an_account_may_do_what_makes_that_better(make_exchange):
    exchange = make_exchange(balance=20_000 * 10**6)
    exchange.one(exchange.ALICE, PORTFOLIO)
    short, hedge = find(exchange, 60), find(exchange, 61)
    trade(exchange, exchange.ALICE, short, -10_000)
    exchange.time_ms += 1
    report(exchange, INDEX + 40_000)
    view = view_account(exchange.state, exchange.ALICE)
    assert view.equity_microquote < view.initial_margin_microquote
    trade(exchange, exchange.ALICE, short, -100, code="margin.insufficient")
    # It opens a position, and takes more off the margin than off the equity.
    trade(exchange, exchange.ALICE, hedge, 10_000)
    after = view_account(exchange.state, exchange.ALICE)
    assert after.initial_margin_microquote < view.initial_margin_microquote // 2


@pytest.fixture
def insolvent(make_exchange):
    """Alice is long one unit of the perpetual, and has lost more than all that she had."""
    exchange = make_exchange(balance=18_000 * 10**6)
    exchange.one(exchange.ALICE, PORTFOLIO)
    trade(exchange, exchange.ALICE, exchange.state.markets[1], 10_000)
    exchange.time_ms += 1_000
    report(exchange, 418_000)
    assert view_account(exchange.state, exchange.ALICE).equity_microquote < 0
    return exchange


@pytest.mark.parametrize("is_maker", [False, True])
def test_who_is_insolvent_sells_nothing_to_a_friend_below_the_mark(insolvent, is_maker):
    market = insolvent.state.markets[1]
    bid = PlaceOrder(1, Side.BUY, market.band_low, 10_000)
    offer = PlaceOrder(1, Side.SELL, market.band_low, 10_000)
    alice, friend = (insolvent.ALICE, offer), (insolvent.DAVE, bid)
    for who, order in (alice, friend) if is_maker else (friend, alice):
        insolvent.one(who, order)
    assert insolvent.state.accounts[insolvent.ALICE].exposures[1].lots == 10_000


def test_who_is_insolvent_turns_no_position_round(insolvent):
    market = insolvent.state.markets[1]
    trade(insolvent, insolvent.ALICE, market, -20_000, code="margin.insufficient")


def test_below_its_margin_an_account_loses_no_more_than_its_share_in_closing(make_exchange):
    exchange = make_exchange(balance=18_000 * 10**6)
    exchange.one(exchange.ALICE, PORTFOLIO)
    market = exchange.state.markets[1]
    trade(exchange, exchange.ALICE, market, 10_000)
    exchange.time_ms += 1_000
    report(exchange, 421_000)
    # Of 100 that are left, half of the position may cost 50: 1,000 ticks of 0.05.
    view = view_account(exchange.state, exchange.ALICE)
    assert view.equity_microquote == 100 * 10**6 < view.maintenance_margin_microquote
    exchange.one(exchange.BOB, PlaceOrder(1, Side.BUY, 419_900, 10_000))
    half = PlaceOrder(1, Side.SELL, 419_900, 5_000)
    assert exchange.one(exchange.ALICE, half).code == "margin.insufficient"
    exchange.one(exchange.BOB, CancelAll())
    exchange.one(exchange.BOB, PlaceOrder(1, Side.BUY, 420_100, 10_000))
    assert exchange.one(exchange.ALICE, replace(half, price_ticks=420_100)).filled_lots == 5_000


@pytest.mark.parametrize(("market_id", "balance"), [(1, 2_500 * 10**6), (2, 500 * 10**6)])
def test_orders_that_join_an_auction_are_not_each_a_hedge_of_one_position(
    make_exchange, market_id, balance
):
    exchange = make_exchange(balance, matching=Matching.AUCTION)
    exchange.one(exchange.ALICE, PORTFOLIO)
    long = PlaceOrder(market_id, Side.BUY, INDEX, 1_000)
    bid = replace(long, size_lots=6_000)
    part = PlaceOrder(market_id, Side.SELL, INDEX, 400, TimeInForce.IOC)
    exchange.block(
        [
            exchange.envelope(exchange.BOB, replace(long, side=Side.SELL)),
            exchange.envelope(exchange.ALICE, long),
        ]
    )
    output = exchange.block(
        [exchange.envelope(exchange.BOB, bid), exchange.envelope(exchange.ALICE, *[part] * 9)]
    )
    account = exchange.state.accounts[exchange.ALICE]
    assert -1_000 <= account.exposures[market_id].lots < 0
    assert view_account(exchange.state, exchange.ALICE).initial_margin_microquote <= account.equity
    assert sum(1 for each in output.receipts if each.code == "margin.insufficient") >= 4


def test_an_account_is_in_so_many_markets_only(make_exchange):
    exchange = make_exchange(balance=10**15)
    exchange.one(exchange.ALICE, PORTFOLIO)
    series = [market for market in exchange.state.markets.values() if market.series]
    assert len(series) > PORTFOLIO_POSITIONS_MAX
    for market in series[:PORTFOLIO_POSITIONS_MAX]:
        receipt = exchange.one(exchange.ALICE, PlaceOrder(market.market_id, Side.BUY, 1, 1))
        assert receipt.code in ("ok", "order.price_band"), receipt
        if receipt.code != "ok":
            low = PlaceOrder(market.market_id, Side.BUY, market.band_low, 1)
            assert exchange.one(exchange.ALICE, low).code == "ok"
    last = series[PORTFOLIO_POSITIONS_MAX]
    order = PlaceOrder(last.market_id, Side.BUY, last.band_low, 1)
    assert exchange.one(exchange.ALICE, order).code == "portfolio.too_many_markets"
    first = series[0]
    order = PlaceOrder(first.market_id, Side.BUY, first.band_low, 1)
    assert exchange.one(exchange.ALICE, order).code == "ok"


# ---- choosing ----------------------------------------------------------------------------------


def test_who_cannot_afford_the_other_mode_stays(make_exchange):
    exchange = make_exchange(balance=3_000 * 10**6)
    exchange.one(exchange.ALICE, PORTFOLIO)
    trade(exchange, exchange.ALICE, find(exchange, 61), 10_000)
    trade(exchange, exchange.ALICE, find(exchange, 60), -10_000)
    before = snapshot(exchange.state)
    assert exchange.one(exchange.ALICE, CROSS).code == "margin.insufficient"
    assert exchange.one(exchange.ALICE, PORTFOLIO).code == "ok"
    view = view_account(exchange.state, exchange.ALICE)
    assert view.margin_mode is MarginMode.PORTFOLIO
    assert len(snapshot(exchange.state)) == len(before)
    trade(exchange, exchange.ALICE, find(exchange, 60), 10_000)
    assert exchange.one(exchange.ALICE, CROSS).code == "ok"
    assert view_account(exchange.state, exchange.ALICE).margin_mode is MarginMode.CROSS


def test_the_mode_is_part_of_the_root_and_of_snapshots(make_exchange):
    exchange = make_exchange()
    (_, other) = exchange.run(exchange.CAROL, PORTFOLIO, CROSS)
    assert other.code == "ok"
    assert exchange.state.accounts[exchange.CAROL].portfolio is None
    trade(exchange, exchange.ALICE, find(exchange, 60), 100)
    plain = restore(snapshot(exchange.state))
    assert plain.accounts[exchange.ALICE].portfolio is None
    exchange.one(exchange.ALICE, PORTFOLIO)
    chosen = restore(snapshot(exchange.state))
    assert chosen.accounts[exchange.ALICE].portfolio is not None
    assert chosen.tree.root() == exchange.output.state_root != plain.tree.root()
    views = [view_account(state, exchange.ALICE) for state in (chosen, exchange.state)]
    assert views[0] == views[1]


def test_a_settlement_leaves_the_rest_of_a_portfolio_margined(make_exchange):
    exchange = make_exchange()
    exchange.one(exchange.ALICE, PORTFOLIO)
    trade(exchange, exchange.ALICE, find(exchange, 60), 1_000)
    trade(exchange, exchange.ALICE, find(exchange, 60, place=1), -1_000)
    expiry = next(iter(exchange.state.chains[1].expiries.values()))
    for minute in range(-30, 1):
        exchange.time_ms = expiry.expiry_ms + minute * 60_000
        report(exchange, INDEX + 5_000)
    paid = exchange.events(SettlementEvent)
    assert [each.amount_microquote for each in paid if each.account == exchange.ALICE] == [
        1_000 * 5_000 * 10
    ]
    account = exchange.state.accounts[exchange.ALICE]
    refresh_margin(exchange.state, account)
    view = view_account(exchange.state, exchange.ALICE)
    assert account.im == view.initial_margin_microquote > 0
    assert account.equity == view.equity_microquote
    assert len(view.positions) == 1
    greeks = view.positions[0].greeks
    assert -100_000 < greeks.delta_micro < 0
    assert greeks.gamma_micro < 0
    assert greeks.vega_micro < 0 < greeks.theta_micro


def test_an_account_of_twenty_positions_is_margined_as_its_view_says(make_exchange):
    exchange = make_exchange(balance=10**15)
    exchange.one(exchange.ALICE, PORTFOLIO)
    series = [market for market in exchange.state.markets.values() if market.series]
    for number, market in enumerate(series[:40:2]):
        trade(exchange, exchange.ALICE, market, 1_000 if number % 3 else -1_000)
    account = exchange.state.accounts[exchange.ALICE]
    refresh_margin(exchange.state, account)
    assert len(account.exposures) == 20
    view = view_account(exchange.state, exchange.ALICE)
    assert account.im == view.initial_margin_microquote > 0
    assert account.equity == view.equity_microquote


def test_before_the_first_surface_portfolio_margin_follows_the_index_and_survives_a_snapshot(
    make_exchange,
):
    exchange = make_exchange()
    exchange = type(exchange)(exchange.genesis)
    exchange.time_ms = START_MS
    exchange.set_index(INDEX)
    assert exchange.one(exchange.ALICE, PORTFOLIO).code == "ok"
    trade(exchange, exchange.ALICE, exchange.state.markets[1], 10_000)
    before = margins(exchange, exchange.ALICE)
    exchange.time_ms += 1_000
    exchange.set_index(INDEX * 3 // 2)
    after = margins(exchange, exchange.ALICE)
    assert after == tuple(margin * 3 // 2 for margin in before)
    restored = type(exchange)(exchange.genesis, restore(snapshot(exchange.state)))
    assert margins(restored, exchange.ALICE) == after
