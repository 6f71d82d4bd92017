"""Every bound refuses with its own code, and nothing that is kept leaves 64 bits."""

from itertools import permutations

import pytest

from crypto.codec import encode
from engine.apply import apply_block
from engine.block import BlockInput, Deposit, Reporter
from engine.errors import InvariantViolation
from engine.genesis import (
    EngineGenesis,
    GenesisDeposit,
    GenesisError,
    LiquidationParams,
    MarketParams,
)
from engine.instructions import CancelAll, OracleReport, PlaceOrder, Side, TimeInForce
from engine.limits import (
    BALANCE_ABS_MAX_MICROQUOTE,
    DEPOSITS_TOTAL_MAX_MICROQUOTE,
    EVENT_AMOUNT_MAX_MICROQUOTE,
    EXPOSURES_KEPT_MAX,
    FOK_READS_PER_SENDER_MAX,
    FULL_CHECK_INTERVAL_BLOCKS,
    ORDER_NOTIONAL_MAX_MICROQUOTE,
    ORDER_SIZE_MAX_LOTS,
    POSITION_MAX_LOTS,
    PRICE_MAX_TICKS,
)
from engine.receipts import LiquidationStep
from engine.state import create_state
from engine.trading.book import BookSide

BUY, SELL = Side.BUY, Side.SELL
REPORTERS = (Reporter(b"r" * 32, 1),)


@pytest.mark.parametrize(
    ("price", "lots", "code"),
    [
        (1_000, 0, "order.size_not_positive"),
        (1_000, -1, "order.size_not_positive"),
        (1_000, ORDER_SIZE_MAX_LOTS + 1, "order.size_overflow"),
        (0, 1, "order.price_not_positive"),
        (-1, 1, "order.price_not_positive"),
        (PRICE_MAX_TICKS + 1, 1, "order.price_overflow"),
        (PRICE_MAX_TICKS, 1, "order.price_band"),
        (PRICE_MAX_TICKS, ORDER_SIZE_MAX_LOTS, "order.notional_overflow"),
        (499, 1, "order.price_band"),
        (1_501, 1, "order.price_band"),
        (1_500, 1, "ok"),
        (500, 1, "ok"),
    ],
)
def test_size_price_and_band(world, price, lots, code):
    assert world.one(world.ALICE, PlaceOrder(1, BUY, price, lots)).code == code


def test_the_band_rounds_inwards(make_world):
    world = make_world(index=1_001, price_band_ppm=100_000)
    # 900.9 to 1101.1
    for price, code in [(900, "order.price_band"), (901, "ok"), (1_101, "ok")]:
        assert world.one(world.ALICE, PlaceOrder(1, SELL, price, 1)).code == code
    assert world.one(world.ALICE, PlaceOrder(1, SELL, 1_102, 1)).code == "order.price_band"


def test_market_size_bound(make_world):
    world = make_world(order_size_max_lots=10)
    assert world.one(world.ALICE, PlaceOrder(1, BUY, 1_000, 11)).code == "order.size_overflow"
    assert world.one(world.ALICE, PlaceOrder(1, BUY, 1_000, 10)).code == "ok"


def test_open_order_bounds_of_account_and_market(make_world):
    world = make_world(orders_max=2, open_orders_max=3)
    order = PlaceOrder(1, BUY, 900, 1)
    codes = [receipt.code for receipt in world.run(world.ALICE, order, order, order)]
    assert codes == ["ok", "ok", "order.too_many_open"]
    codes = [receipt.code for receipt in world.run(world.BOB, order, order)]
    assert codes == ["ok", "order.market_full"]
    ioc = PlaceOrder(1, SELL, 901, 1, TimeInForce.IOC)
    assert world.one(world.ALICE, ioc).code == "order.ioc_remainder"
    world.one(world.ALICE, CancelAll())
    assert world.one(world.BOB, order).code == "ok"


def _whale(unit: int, amount: int):
    """Two accounts with as much as may be deposited, on a market with large units."""
    params = MarketParams(1, "W", unit, 1, 1_000, 500, 0, 0, 999_999, 10**6)
    names = [b"a" * 32, b"b" * 32]
    genesis = EngineGenesis((params,), tuple(GenesisDeposit(name, amount) for name in names))
    return names, create_state(genesis)


def _apply(state, deposits=()):
    height = state.height + 1
    return apply_block(state, BlockInput(height, 1_000, bytes(32), (), tuple(deposits), REPORTERS))


def test_position_bound_counts_open_orders_as_filled(make_world):
    world = make_world(balance=2**50, initial_margin_ppm=1_000, maintenance_margin_ppm=500, index=1)
    buy = PlaceOrder(1, BUY, 1, ORDER_SIZE_MAX_LOTS)
    sell = PlaceOrder(1, SELL, 1, ORDER_SIZE_MAX_LOTS)
    count = POSITION_MAX_LOTS // ORDER_SIZE_MAX_LOTS
    for _ in range(count // 64):
        assert {receipt.code for receipt in world.run(world.ALICE, *[buy] * 32)} == {"ok"}
        assert {receipt.code for receipt in world.run(world.BOB, *[sell] * 32)} == {"ok"}
    for _ in range(count // 64):
        assert {receipt.code for receipt in world.run(world.ALICE, *[buy] * 32)} == {"ok"}
    assert world.position(world.ALICE) == count // 2 * ORDER_SIZE_MAX_LOTS
    assert world.one(world.ALICE, buy).code == "order.position_overflow"


def test_no_sequence_of_trades_takes_a_balance_beyond_its_bound(make_world):
    world = make_world(
        balance=2**53,
        initial_margin_ppm=1_000,
        maintenance_margin_ppm=500,
        tick_size_microquote=2**30,
        lots_per_base=1,
    )
    lots = ORDER_NOTIONAL_MAX_MICROQUOTE // (1_000 * 2**30)
    codes = set()
    for _ in range(3):
        maker = world.run(world.ALICE, *[PlaceOrder(1, SELL, 1_000, lots)] * 60)
        taker = world.run(world.BOB, *[PlaceOrder(1, BUY, 1_000, lots)] * 60)
        codes |= {receipt.code for receipt in (*maker, *taker)}
    assert all(abs(a.quote) <= BALANCE_ABS_MAX_MICROQUOTE for a in world.state.accounts.values())
    assert {"ok", "order.balance_overflow"} <= codes
    encode(world.output)


def _fok(lots, price=1_000):
    return PlaceOrder(1, BUY, price, lots, TimeInForce.FOK)


@pytest.fixture
def deep_world(world):
    """More asks of one lot at one price than one sender may read."""
    for name in (world.ALICE, world.BOB, world.CAROL, world.DAVE):
        for _ in range(5):
            world.run(name, *[PlaceOrder(1, SELL, 1_000, 1)] * 51)
    assert len(world.open_lots()) > FOK_READS_PER_SENDER_MAX
    return world


@pytest.fixture
def reads(monkeypatch):
    """Every resting order that is read one by one."""
    seen = []
    read = BookSide.crossed_orders

    def count(side, threshold):
        for order in read(side, threshold):
            seen.append(order.order_id)
            yield order

    monkeypatch.setattr(BookSide, "crossed_orders", count)
    return seen


def test_a_fill_or_kill_order_reads_only_so_many_orders(deep_world):
    order = _fok(FOK_READS_PER_SENDER_MAX + 1)
    assert deep_world.one(deep_world.ERIN, order).code == "order.fok_unfillable"
    order = _fok(FOK_READS_PER_SENDER_MAX)
    assert deep_world.one(deep_world.ERIN, order).status.name == "FILLED"


def test_all_fill_or_kill_orders_of_a_sender_share_the_reads_of_a_block(deep_world, reads):
    world = deep_world
    receipts = world.run(world.ERIN, *[_fok(FOK_READS_PER_SENDER_MAX + 1)] * 63, _fok(1))
    assert {receipt.code for receipt in receipts} == {"order.fok_unfillable"}
    assert len(reads) == FOK_READS_PER_SENDER_MAX
    assert world.one(world.ERIN, _fok(1)).status.name == "FILLED"


def test_fill_or_kill_reads_of_one_sender_take_nothing_from_another_in_any_order(deep_world):
    world = deep_world
    genesis, blocks = world.genesis, list(world.inputs)
    world.deposit(b"n" * 32, 10**9)
    greedy = world.envelope(world.ERIN, *[_fok(FOK_READS_PER_SENDER_MAX + 1)] * 8)
    modest = world.envelope(b"n" * 32, _fok(1), _fok(2))
    more = world.envelope(world.ERIN, _fok(1))
    blocks.append(world.inputs[-1])
    outputs = []
    for envelopes in permutations((greedy, modest, more)):
        state = create_state(genesis)
        for block in blocks:
            apply_block(state, block)
        height = state.height + 1
        block = BlockInput(height, world.time_ms, bytes(32), envelopes, (), world.reporters)
        outputs.append(apply_block(state, block))
    assert all(output == outputs[0] for output in outputs)
    filled = [each.envelope_id for each in outputs[0].receipts if each.filled_lots]
    assert filled == [modest.envelope_id] * 2


def test_a_fill_or_kill_order_larger_than_the_levels_reads_no_single_order(world, reads):
    for price in range(1_000, 1_064):
        world.one(world.ALICE, PlaceOrder(1, SELL, price, 1))
    receipts = world.run(world.ERIN, *[_fok(65, 1_063)] * 15, _fok(64, 1_063))
    # Each refusal has read the totals of 64 levels, which is charged too: 40 are left.
    assert {receipt.code for receipt in receipts} == {"order.fok_unfillable"}
    assert reads == []
    assert world.one(world.ERIN, _fok(64, 1_063)).status.name == "FILLED"


def test_deposits_beyond_their_bound_are_reported_not_credited():
    names, state = _whale(1, DEPOSITS_TOTAL_MAX_MICROQUOTE // 2)
    events = _apply(state, deposits=[Deposit(names[0], 1, bytes(32))]).events
    assert [event.credited for event in events] == [False]
    assert state.accounts[names[0]].quote == DEPOSITS_TOTAL_MAX_MICROQUOTE // 2


def test_a_deposit_opens_an_account(world):
    world.deposit(b"n" * 32, 5)
    assert world.quote(b"n" * 32) == 5
    assert len(world.state.accounts) == 6


def _params(**changes):
    values = {
        "market": 1,
        "symbol": "A",
        "tick_size_microquote": 10,
        "lots_per_base": 10,
        "initial_margin_ppm": 1_000,
        "maintenance_margin_ppm": 500,
        "maker_fee_ppm": 0,
        "taker_fee_ppm": 0,
        "price_band_ppm": 1_000,
        "oracle_max_age_ms": 1,
    }
    return MarketParams(**(values | changes))


@pytest.mark.parametrize(
    "genesis",
    [
        EngineGenesis((_params(), _params(symbol="B"))),
        EngineGenesis((_params(), _params(market=2))),
        EngineGenesis((_params(tick_size_microquote=15),)),
        EngineGenesis((_params(maintenance_margin_ppm=1_001),)),
        EngineGenesis((_params(maker_fee_ppm=-2, taker_fee_ppm=1),)),
        EngineGenesis((_params(),), (GenesisDeposit(bytes(32), 1),) * 2),
        EngineGenesis(
            (_params(),),
            tuple(
                GenesisDeposit(bytes([value]) * 32, DEPOSITS_TOTAL_MAX_MICROQUOTE)
                for value in range(2)
            ),
        ),
    ],
    ids=["id", "symbol", "unit", "maintenance", "rebate", "account", "total"],
)
def test_a_contradictory_genesis_is_refused(genesis):
    with pytest.raises(GenesisError):
        create_state(genesis)


def test_money_from_nowhere_halts_at_once_in_a_changed_account(world):
    world.state.accounts[world.ALICE].quote += 1
    with pytest.raises(InvariantViolation, match="balances changed by 1"):
        world.one(world.ALICE, PlaceOrder(1, BUY, 900, 1))


def test_money_from_nowhere_halts_at_the_full_check_in_any_account(world):
    world.state.accounts[world.ALICE].quote += 1
    while world.state.height < FULL_CHECK_INTERVAL_BLOCKS - 1:
        _apply(world.state)
    with pytest.raises(InvariantViolation, match="balances"):
        _apply(world.state)
    assert world.state.height == FULL_CHECK_INTERVAL_BLOCKS


def test_one_sided_position_halts(world):
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_000, 1))
    account = world.state.accounts[world.BOB]
    account.exposure(world.state.markets[1]).lots += 1
    with pytest.raises(InvariantViolation, match="positions"):
        world.one(world.BOB, PlaceOrder(1, BUY, 1_000, 1))


def test_blocks_must_come_in_order(world):
    block = world.inputs[-1]
    with pytest.raises(AssertionError):
        apply_block(world.state, block)


def test_reports_at_the_price_bound_keep_the_engine_running(make_world):
    world = make_world(index=None)
    report = OracleReport(1, PRICE_MAX_TICKS, 1, world.time_ms)
    assert world.one(world.REPORTER, report).code == "ok"
    order = PlaceOrder(1, BUY, PRICE_MAX_TICKS, 1)
    assert world.one(world.ALICE, order).code == "ok"
    assert world.one(world.BOB, PlaceOrder(1, SELL, PRICE_MAX_TICKS, 1)).status.name == "FILLED"


@pytest.mark.parametrize("is_auction", [False, True])
def test_orders_that_come_to_nothing_leave_no_exposure(make_world, is_auction):
    world = make_world(balance=1, auctions=(1,) if is_auction else ())
    exposures = world.state.accounts[world.ALICE].exposures
    for order in (
        PlaceOrder(1, BUY, 1_000, 1_000),
        PlaceOrder(1, BUY, 1_000, 1, TimeInForce.POST_ONLY, reduce_only=True),
        PlaceOrder(1, BUY, 1_000, 1, TimeInForce.IOC, reduce_only=True),
    ):
        world.one(world.ALICE, order)
        assert not exposures
    if not is_auction:
        rich = make_world()
        rich.one(rich.ALICE, PlaceOrder(1, BUY, 1_000, 1, TimeInForce.IOC))
        assert not rich.state.accounts[rich.ALICE].exposures


def test_an_account_does_not_keep_all_markets_in_which_it_ever_was(make_world):
    world = make_world(markets=EXPOSURES_KEPT_MAX + 2)
    markets = list(world.state.markets)
    world.run(world.BOB, *(PlaceOrder(market, SELL, 1_000, 1) for market in markets[:2]))
    world.run(world.ALICE, *(PlaceOrder(market, BUY, 1_000, 1) for market in markets[:2]))
    world.run(
        world.ALICE,
        PlaceOrder(1, SELL, 1_001, 1),
        *(PlaceOrder(market, BUY, 900, 1) for market in markets[2:EXPOSURES_KEPT_MAX]),
    )
    world.run(world.ALICE, *(PlaceOrder(market, BUY, 900, 1) for market in markets[-2:]))
    exposures = world.state.accounts[world.ALICE].exposures
    assert list(exposures) == markets
    world.one(world.ALICE, CancelAll())
    assert list(exposures) == markets[:2]
    assert [exposure.lots for exposure in exposures.values()] == [1, 1]


def test_no_price_makes_a_liquidation_too_large_to_tell(make_world):
    world = make_world(
        index=1,
        balance=2**53,
        liquidation=LiquidationParams(),
        tick_size_microquote=2**40,
        lots_per_base=1,
    )
    world.one(world.ALICE, PlaceOrder(1, SELL, 1, 2**15))
    world.one(world.BOB, PlaceOrder(1, BUY, 1, 2**15))
    world.set_index(PRICE_MAX_TICKS)
    (begun,) = (
        event for event in world.output.events if getattr(event, "step", 0) is LiquidationStep.BEGUN
    )
    assert begun.account == world.ALICE
    assert begun.equity_microquote == -EVENT_AMOUNT_MAX_MICROQUOTE
    assert begun.maintenance_margin_microquote == EVENT_AMOUNT_MAX_MICROQUOTE
