"""Options from their listing to their settlement, against calculations of their own."""

from fractions import Fraction

import mpmath
import pytest
from msgspec.structs import replace

from engine.apply import apply_block
from engine.block import Reporter, SessionGrant, SessionScope
from engine.genesis import (
    EngineGenesis,
    FundingParams,
    GenesisDeposit,
    GenesisError,
    MarketParams,
    validate_genesis,
)
from engine.instructions import (
    Amend,
    CancelAll,
    ConditionalOrder,
    OracleReport,
    PlaceOrder,
    Side,
    TriggerKind,
    TriggerSource,
    VolatilityReport,
)
from engine.limits import SERIES_ID_FIRST, SERIES_MAX
from engine.options.listing import compute_date, compute_next_expiry
from engine.options.params import OptionParams
from engine.portfolio.rules import PortfolioRules
from engine.receipts import ExpiryEvent, OrderEvent, SeriesListedEvent, SettlementEvent
from engine.snapshots.whole import restore, snapshot
from engine.views import view_account

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
START_MS = 5 * HOUR_MS + 1_000
VOL = 800_000
VOLS = (900_000, 800_000, 850_000, 700_000, 650_000, 750_000)
OPTIONS = OptionParams(
    tick_size_microquote=1_000,
    strike_step_ticks=50,
    strikes_each_side=2,
    strikes_max=8,
    expiries=2,
    expiry_interval_ms=HOUR_MS,
    expiry_offset_ms=0,
    window_ms=10 * MINUTE_MS,
    sample_interval_ms=MINUTE_MS,
    price_band_ppm=200_000,
    vol_tenors_s=(1_800, 7_200),
    vol_moneyness_ppm=(900_000, 1_000_000, 1_100_000),
)


def make_market(options=OPTIONS, **changes):
    values = {
        "tick_size_microquote": 10_000,
        "lots_per_base": 1_000,
        "initial_margin_ppm": 100_000,
        "maintenance_margin_ppm": 50_000,
        "maker_fee_ppm": 0,
        "taker_fee_ppm": 0,
        "price_band_ppm": 500_000,
        "oracle_max_age_ms": 60_000,
    }
    return MarketParams(market=1, symbol="X-PERP", options=options, **(values | changes))


@pytest.fixture
def make_exchange(world):
    """An exchange with options: five rich accounts, an index of 1,000 ticks, a surface."""

    def make(index=1_000, vols=VOLS, balance=10**12, markets=None):
        names = (world.ALICE, world.BOB, world.CAROL, world.DAVE, world.ERIN)
        genesis = EngineGenesis(
            markets or (make_market(),), tuple(GenesisDeposit(name, balance) for name in names)
        )
        exchange = type(world)(genesis)
        exchange.time_ms = START_MS
        if index:
            report(exchange, index, vols)
        return exchange

    return make


def report(exchange, index=None, vols=None, market=1):
    """One block with the reporter's index and surface."""
    now, sequence = exchange.time_ms, exchange.state.height + 1
    found = []
    if index:
        found.append(OracleReport(market, index, sequence, now))
    if vols:
        found.append(VolatilityReport(market, vols, sequence, now))
    receipts = exchange.run(exchange.REPORTER, *found)
    assert {receipt.code for receipt in receipts} == {"ok"}
    return exchange.output


def find(exchange, strike, *, is_call=True, place=0):
    """A series' market by strike in ticks; `place` counts expiries."""
    chain = exchange.state.chains[1]
    expiry = list(chain.expiries.values())[place]
    return expiry.strikes[strike][0 if is_call else 1]


def trade(exchange, buyer, seller, market, price, lots):
    exchange.one(seller, PlaceOrder(market, Side.SELL, price, lots))
    receipt = exchange.one(buyer, PlaceOrder(market, Side.BUY, price, lots))
    assert receipt.filled_lots == lots, receipt


# ---- listing -----------------------------------------------------------------------------------


def test_series_are_listed_around_the_index_by_rule(make_exchange):
    exchange = make_exchange()
    listed = [event for event in exchange.output.events if isinstance(event, SeriesListedEvent)]
    assert [event.market for event in listed] == list(range(SERIES_ID_FIRST, SERIES_ID_FIRST + 20))
    assert [(e.strike_ticks, e.is_call) for e in listed[:4]] == [
        (1_000, True),
        (1_000, False),
        (950, True),
        (950, False),
    ]
    assert {event.expiry_ms for event in listed} == {6 * HOUR_MS, 7 * HOUR_MS}
    assert listed[0].symbol == "X-700101-0600-10-C"
    assert listed[3].symbol == "X-700101-0600-9.5-P"
    assert list(exchange.state.markets) == [1, *range(SERIES_ID_FIRST, SERIES_ID_FIRST + 20)]


def test_an_index_that_moves_lists_further_strikes_up_to_the_bound(make_exchange):
    exchange = make_exchange()
    report(exchange, 1_049)
    expiry = exchange.state.chains[1].expiries[6 * HOUR_MS]
    assert sorted(expiry.strikes) == [900, 950, 1_000, 1_050, 1_100, 1_150]
    report(exchange, 1_300)
    assert len(expiry.strikes) == OPTIONS.strikes_max
    assert {1_300, 1_250} < set(expiry.strikes)
    report(exchange, 2_000)
    assert len(expiry.strikes) == OPTIONS.strikes_max
    assert exchange.state.next_series_id == SERIES_ID_FIRST + 2 * 2 * OPTIONS.strikes_max


def test_the_roll_lists_the_next_expiry_when_a_settlement_window_begins(make_exchange):
    exchange = make_exchange()
    exchange.time_ms = 6 * HOUR_MS - 10 * MINUTE_MS - 1
    report(exchange, 1_000)
    assert list(exchange.state.chains[1].expiries) == [6 * HOUR_MS, 7 * HOUR_MS]
    exchange.time_ms += 1
    report(exchange, 1_000)
    assert list(exchange.state.chains[1].expiries) == [6 * HOUR_MS, 7 * HOUR_MS, 8 * HOUR_MS]


def test_nothing_is_listed_without_an_index_or_by_a_stale_one(make_exchange):
    exchange = make_exchange(index=None)
    exchange.block()
    assert exchange.state.chains[1].expiries == {}
    exchange = make_exchange()
    exchange.time_ms += 55 * MINUTE_MS
    exchange.block()
    assert exchange.state.perpetuals[1].stale
    assert list(exchange.state.chains[1].expiries) == [6 * HOUR_MS, 7 * HOUR_MS]


def test_standing_still_over_expiries_never_piles_them_up(make_exchange):
    exchange = make_exchange()
    for _ in range(30):
        exchange.time_ms += 5 * HOUR_MS
        report(exchange, 1_000)
        expiries = list(exchange.state.chains[1].expiries)
        assert len(expiries) <= OPTIONS.expiries + 1
        assert expiries == sorted(expiries)
        assert len(exchange.state.markets) <= 1 + OPTIONS.series_max


@pytest.mark.parametrize(
    ("days", "date"),
    [(0, (1970, 1, 1)), (59, (1970, 3, 1)), (11_016, (2000, 2, 29)), (20_779, (2026, 11, 22))],
)
def test_dates_are_those_of_the_calendar(days, date):
    assert compute_date(days) == date


def test_the_next_expiry_is_the_first_whose_window_is_ahead():
    params = OptionParams(1_000, 50)
    day = 86_400_000
    assert compute_next_expiry(params, 0) == 8 * HOUR_MS
    assert compute_next_expiry(params, 8 * HOUR_MS - 30 * MINUTE_MS - 1) == 8 * HOUR_MS
    assert compute_next_expiry(params, 8 * HOUR_MS - 30 * MINUTE_MS) == day + 8 * HOUR_MS


@pytest.mark.parametrize(
    "changes",
    [
        {"tick_size_microquote": 1_500},
        {"strikes_each_side": 4},
        {"strikes_max": 64, "expiries": 12},
        {"sample_interval_ms": 7 * MINUTE_MS},
        {"sample_interval_ms": 100},
        {"window_ms": HOUR_MS},
        {"expiry_offset_ms": HOUR_MS},
        {"maker_fee_ppm": -1},
        {"short_initial_min_ppm": 160_000},
        {"short_maintenance_ppm": 140_000},
        {"portfolio": PortfolioRules(net_delta_ppm=4_999)},
        {"portfolio": PortfolioRules(hedged_delta_ppm=40_001)},
        {"vol_min_ppm": 6_000_000},
        {"vol_tenors_s": tuple(range(1, 12))},
        {"vol_tenors_s": (7_200, 1_800)},
        {"vol_moneyness_ppm": (900_000, 900_000)},
    ],
)
def test_options_that_make_no_sense_are_refused_in_the_genesis(changes):
    fields = {name: getattr(OPTIONS, name) for name in OPTIONS.__struct_fields__}
    with pytest.raises(GenesisError):
        validate_genesis(EngineGenesis((make_market(OptionParams(**(fields | changes))),)))


def test_the_series_of_all_markets_are_bounded_and_have_ids_of_their_own():
    many = OptionParams(1_000, 50, strikes_max=64, expiries=7)
    assert many.series_max == SERIES_MAX
    validate_genesis(EngineGenesis((make_market(many),)))
    other = MarketParams(2, "Y-PERP", 10_000, 1_000, 100_000, 50_000, 0, 0, 500_000, 60_000)
    with pytest.raises(GenesisError, match="option series"):
        validate_genesis(EngineGenesis((make_market(many), _with(other, options=OPTIONS))))
    with pytest.raises(GenesisError, match="market id"):
        validate_genesis(EngineGenesis((make_market(), _with(other, market=SERIES_ID_FIRST))))


def _with(struct, **changes):
    fields = {name: getattr(struct, name) for name in struct.__struct_fields__}
    return type(struct)(**(fields | changes))


# ---- marks -------------------------------------------------------------------------------------


def compute_black(forward, strike, vol, years, *, is_call):
    """Black-76 by mpmath."""
    with mpmath.workdps(40):
        spread = vol * mpmath.sqrt(years)
        d1 = mpmath.log(forward / strike) / spread + spread / 2
        call = forward * mpmath.ncdf(d1) - strike * mpmath.ncdf(d1 - spread)
        return call if is_call else call - forward + strike


def test_marks_are_black_76_at_the_surfaces_volatility(make_exchange):
    exchange = make_exchange()
    year_ms = 365 * 86_400_000
    for strike in (900, 950, 1_000, 1_050, 1_100):
        moneyness = Fraction(strike, 1_000)
        left, right = (0, 1) if moneyness < 1 else (1, 2)
        weight = (moneyness - Fraction(9 + left, 10)) * 10
        rows = [
            VOLS[3 * row + left] * (1 - weight) + VOLS[3 * row + right] * weight for row in (0, 1)
        ]
        left_ms = 6 * HOUR_MS - START_MS
        early, late = 1_800_000, 7_200_000
        variance = Fraction(rows[0]) ** 2 * early
        variance += (Fraction(rows[1]) ** 2 * late - variance) * Fraction(
            left_ms - early, late - early
        )
        vol = mpmath.sqrt(mpmath.mpf(variance.numerator) / variance.denominator / left_ms) / 10**6
        for is_call in (True, False):
            market = find(exchange, strike, is_call=is_call)
            assert abs(market.series.vol_ppm - vol * 10**6) < 2
            due = compute_black(
                mpmath.mpf(10),
                mpmath.mpf(strike) / 100,
                vol,
                mpmath.mpf(left_ms) / year_ms,
                is_call=is_call,
            )
            # A tick is 0.001: half of one for rounding, and what 10^-6 of volatility can do.
            assert abs(market.mark_price - max(due * 1_000, 1)) < 0.51


def test_an_option_trades_within_its_band_and_not_before_there_is_a_surface(make_exchange):
    exchange = make_exchange(vols=None)
    market = find(exchange, 1_000)
    order = PlaceOrder(market.market_id, Side.BUY, 10, 1)
    assert exchange.one(exchange.ALICE, order).code == "option.not_trading"
    report(exchange, 1_000, VOLS)
    assert (market.band_low, market.band_high) == (1, market.mark_price + 2_000)
    high = PlaceOrder(market.market_id, Side.BUY, market.band_high + 1, 1)
    assert exchange.one(exchange.ALICE, high).code == "order.price_band"
    assert exchange.one(exchange.ALICE, order).code == "ok"


def test_what_the_committee_does_not_vouch_for_builds_no_positions(make_exchange):
    exchange = make_exchange()
    market = find(exchange, 1_000)
    trade(exchange, exchange.ALICE, exchange.BOB, market.market_id, market.mark_price, 5)
    exchange.time_ms += 61_000
    report(exchange, 1_000)
    assert not exchange.state.perpetuals[1].stale
    assert market.stale
    buy = PlaceOrder(market.market_id, Side.BUY, market.mark_price, 5)
    assert exchange.one(exchange.CAROL, buy).code == "oracle.stale"
    assert exchange.one(exchange.BOB, buy).code == "ok"


@pytest.mark.parametrize(
    ("vols", "shift", "code"),
    [
        (VOLS[:5], 0, "option.surface_invalid"),
        ((*VOLS, 1), 0, "option.surface_invalid"),
        ((), 0, "option.surface_invalid"),
        ((0,) * 6, 0, "option.surface_invalid"),
        ((-(2**63),) * 6, 0, "option.surface_invalid"),
        ((OPTIONS.vol_max_ppm + 1,) * 6, 0, "option.surface_invalid"),
        (VOLS, 1_001, "oracle.source_time"),
        (VOLS, -60_001, "oracle.source_time"),
    ],
)
def test_hostile_surfaces_are_refused(make_exchange, vols, shift, code):
    exchange = make_exchange()
    before = exchange.state.chains[1].vols_ppm
    exchange.time_ms += 100_000
    now = exchange.time_ms
    found = exchange.one(exchange.REPORTER, VolatilityReport(1, vols, 2**62, now + shift))
    assert found.code == code
    assert exchange.state.chains[1].vols_ppm == before
    assert exchange.one(exchange.ALICE, VolatilityReport(1, VOLS, 9, now)).code == (
        "oracle.not_a_reporter"
    )
    assert exchange.one(exchange.REPORTER, VolatilityReport(2, VOLS, 9, now)).code == (
        "oracle.unknown_market"
    )
    series = find(exchange, 1_000).market_id
    assert exchange.one(exchange.REPORTER, OracleReport(series, 9, 9, now)).code == (
        "oracle.unknown_market"
    )
    assert exchange.one(exchange.REPORTER, VolatilityReport(1, VOLS, 1, now)).code == (
        "oracle.sequence"
    )


def test_less_than_a_third_of_the_power_cannot_move_a_knot_beyond_honest_reports(make_exchange):
    exchange = make_exchange(index=None)
    keys = [bytes([value]) * 32 for value in range(101, 105)]
    exchange.reporters = tuple(Reporter(key, 1) for key in keys)
    now = exchange.time_ms
    honest = [(VOL - 1_000,) * 6, (VOL,) * 6, (VOL + 1_000,) * 6]
    for key, vols in zip(keys, [*honest, (OPTIONS.vol_max_ppm,) * 6], strict=True):
        exchange.run(key, OracleReport(1, 1_000, 1, now), VolatilityReport(1, vols, 1, now))
    assert exchange.state.chains[1].vols_ppm == (VOL,) * 6
    exchange.reporters = exchange.reporters[:1]
    exchange.block()
    assert exchange.state.chains[1].vols_ppm == honest[0]
    assert list(exchange.state.chains[1].reports) == keys[:1]


# ---- margin ------------------------------------------------------------------------------------


def test_a_long_option_is_paid_in_full_and_a_short_one_margined_by_formula(make_exchange):
    exchange = make_exchange()
    call, put = find(exchange, 1_100), find(exchange, 950, is_call=False)
    for market, lots in ((call, 1_000), (put, 500)):
        trade(exchange, exchange.ALICE, exchange.BOB, market.market_id, market.mark_price, lots)
    long, short = (view_account(exchange.state, name) for name in (exchange.ALICE, exchange.BOB))
    premium = call.mark_price * 1_000 + put.mark_price * 500
    assert long.initial_margin_microquote == long.maintenance_margin_microquote == premium
    assert long.equity_microquote == short.equity_microquote == 10**12
    # A lot of the index is worth 10,000 micro-quote; out of the money by 10 % and by 5 %.
    call_margin = 1_000 * 10_000 * 13 // 100
    put_margin = 500 * 10_000 * 13 // 100
    assert short.initial_margin_microquote == call_margin + put_margin
    assert short.maintenance_margin_microquote == 1_500 * 10_000 * 75 // 1_000
    report(exchange, 1_080)
    short = view_account(exchange.state, exchange.BOB)
    assert [p.initial_margin_microquote for p in short.positions] == [
        500 * 10_800 * 13 // 100,
        1_000 * (10_800 * 15 // 100 - 200),
    ]
    at_the_money = find(exchange, 1_100)
    report(exchange, 1_100)
    assert at_the_money.im_rate_short == 11_000 * 150_000


def test_a_short_that_cannot_pay_its_margin_is_refused_and_a_long_that_cannot_pay_its_premium(
    make_exchange,
):
    exchange = make_exchange(balance=15_000)
    market = find(exchange, 1_000)
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


# ---- expiry ------------------------------------------------------------------------------------


def run_to_expiry(exchange, prices, start=6 * HOUR_MS - 10 * MINUTE_MS):
    """One report a minute from the beginning of the window on; return all outputs."""
    outputs = []
    for number, price in enumerate(prices):
        exchange.time_ms = start + number * MINUTE_MS + 17
        outputs.append(report(exchange, price, VOLS))
    return outputs


def test_settlement_is_the_mean_of_the_samples_to_the_micro_quote(make_exchange):
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
        market = find(exchange, strike, is_call=is_call)
        trade(exchange, names[buyer], names[seller], market.market_id, market.mark_price, lots)
        positions[buyer, strike, is_call] = lots
        positions[seller, strike, is_call] = -lots
    prices = [1_003, 997, 1_011, 1_020, 1_013, 991, 1_007, 1_008, 1_002, 1_001]
    run_to_expiry(exchange, prices)
    before = [exchange.quote(name) for name in names]
    fees = exchange.state.fees
    later = find(exchange, 1_000, place=1).market_id
    exchange.time_ms = 6 * HOUR_MS
    output = report(exchange, 1_500)

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
    (expired,) = [event for event in output.events if isinstance(event, ExpiryEvent)]
    assert (expired.price_sum_ticks, expired.price_samples) == (sum(prices), 10)
    paid = [event for event in output.events if isinstance(event, SettlementEvent)]
    assert sum(event.amount_microquote for event in paid) == sum(due)
    assert len(paid) == len(positions)
    assert SERIES_ID_FIRST not in exchange.state.markets
    assert later in exchange.state.markets
    account = exchange.state.accounts[exchange.ALICE]
    assert all(market in exchange.state.markets for market in account.exposures)


def test_an_expiry_cancels_all_orders_with_an_event_and_takes_no_more(make_exchange):
    exchange = make_exchange()
    market = find(exchange, 1_000)
    later = find(exchange, 1_000, place=1)
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
    output = report(exchange, 1_000, VOLS)
    ended = [event for event in output.events if isinstance(event, OrderEvent)]
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
        output = report(exchange, 1_000)
    (expired,) = [event for event in output.events if isinstance(event, ExpiryEvent)]
    assert expired.price_samples == OPTIONS.window_ms // MINUTE_MS // 2 + 1
    refused = exchange.one(exchange.ALICE, PlaceOrder(market.market_id, Side.BUY, 5, 3))
    assert refused.code == "order.unknown_market"


def test_a_clock_that_jumps_over_an_expiry_settles_by_samples_that_follow(make_exchange):
    exchange = make_exchange()
    market = find(exchange, 1_000)
    trade(exchange, exchange.ALICE, exchange.BOB, market.market_id, market.mark_price, 9)
    before = exchange.quote(exchange.ALICE)
    exchange.time_ms = 9 * HOUR_MS + 123
    exchange.block()
    assert exchange.state.chains[1].expiries[6 * HOUR_MS].sample_count == 0
    assert exchange.position(exchange.ALICE, market.market_id) == 9
    prices = [1_100, 1_110, 1_120, 1_130, 1_140, 1_151]
    for price in prices:
        report(exchange, price)
        exchange.block()
        exchange.time_ms += MINUTE_MS
    assert market.market_id not in exchange.state.markets
    assert exchange.quote(exchange.ALICE) - before == 9 * (sum(prices) - 6_000) * 10 // 6


def test_a_stale_index_keeps_an_expiry_waiting(make_exchange):
    exchange = make_exchange()
    market = find(exchange, 1_000)
    trade(exchange, exchange.ALICE, exchange.BOB, market.market_id, market.mark_price, 9)
    run_to_expiry(exchange, [1_100] * 10)
    exchange.time_ms = 6 * HOUR_MS + 2 * MINUTE_MS
    exchange.block()
    assert exchange.state.perpetuals[1].stale
    assert market.market_id in exchange.state.markets
    assert market.index_price == 0
    before = exchange.quote(exchange.ALICE)
    report(exchange, 3_000)
    # What was sampled in time is enough: the price after the pause has no part in it.
    assert exchange.quote(exchange.ALICE) - before == 9 * 100 * 10


def test_in_the_window_the_forward_is_settled_bit_by_bit(make_exchange):
    exchange = make_exchange()
    market = find(exchange, 950)
    run_to_expiry(exchange, [1_000] * 5)
    report(exchange, 1_200)
    chain, expiry = exchange.state.chains[1], market.series.expiry
    assert chain.compute_forward(expiry) == (5 * 1_000 + 5 * 1_200, 10)
    assert abs(market.mark_price - 1_500) <= 1


# ---- the state ---------------------------------------------------------------------------------


def test_live_replay_and_snapshot_with_tail_agree_over_an_expiry(make_exchange):
    exchange = make_exchange()
    market = find(exchange, 1_000)
    trade(exchange, exchange.ALICE, exchange.BOB, market.market_id, market.mark_price, 9)
    exchange.one(exchange.CAROL, PlaceOrder(market.market_id, Side.BUY, 5, 3))
    run_to_expiry(exchange, [1_000, 1_090, 1_001, 999, 1_100, 1_250])
    exchange.time_ms = 6 * HOUR_MS + 5
    report(exchange, 1_234, VOLS)
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


def test_funding_and_options_of_several_markets_live_beside_each_other(make_exchange):
    funded = make_market(funding=FundingParams(10**6, 10**5))
    other = _with(make_market(), market=2, symbol="Y-PERP")
    exchange = make_exchange(markets=(funded, other))
    report(exchange, 500, VOLS, market=2)
    assert sorted(exchange.state.chains) == [1, 2]
    assert len(exchange.state.markets) == 2 + 2 * 20
    assert snapshot(restore(snapshot(exchange.state))) == snapshot(exchange.state)


def test_a_session_key_that_sells_options_spends_what_they_may_cost(make_exchange):
    exchange = make_exchange()
    call, put = (find(exchange, 1_000, is_call=is_call) for is_call in (True, False))
    low = find(exchange, 900, is_call=False)
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


def test_twice_the_floor_on_the_net_delta_is_allowed_for_the_hedged_one():
    for rules in (
        PortfolioRules(net_delta_ppm=5_000),
        PortfolioRules(net_delta_ppm=0, hedged_delta_ppm=0),
    ):
        options = replace(OPTIONS, portfolio=rules)
        validate_genesis(EngineGenesis((make_market(options),)))
