"""Call auctions on the whole engine: what joins, what trades, who pays what, and what is left."""

from itertools import permutations

import pytest

from crypto.codec import encode
from engine.apply import apply_block
from engine.block import BlockInput
from engine.genesis import Matching
from engine.instructions import (
    Amend,
    Cancel,
    CancelAll,
    ConditionalOrder,
    MarketOrder,
    OneCancelsOther,
    OracleReport,
    PlaceOrder,
    SelfTradeMode,
    Side,
    TimeInForce,
    TriggerKind,
    TriggerSource,
    TwapOrder,
)
from engine.limits import BALANCE_ABS_MAX_MICROQUOTE
from engine.receipts import OrderEvent, WakeEvent
from engine.snapshots.whole import restore, snapshot

BUY, SELL = Side.BUY, Side.SELL
GTC, IOC, FOK, POST_ONLY = TimeInForce


@pytest.fixture
def world(make_world):
    return make_world(matching=Matching.AUCTION)


def limit(side, price, lots, tif=GTC, **more):
    return PlaceOrder(1, side, price, lots, tif, **more)


def hold(world, owner, lots, counterpart):
    """Give somebody a position, long or short."""
    side = BUY if lots > 0 else SELL
    world.block(
        [
            world.envelope(owner, limit(side, 1_000, abs(lots), IOC)),
            world.envelope(counterpart, limit(Side(-side), 1_000, abs(lots), IOC)),
        ]
    )
    assert world.position(owner) == lots


def outcome(receipt):
    return receipt.status.name, receipt.code.value, receipt.filled_lots, receipt.resting_lots


def codes(output):
    return [each.code.value for each in output.events if isinstance(each, OrderEvent)]


# ---- the price ---------------------------------------------------------------------------------


def test_all_takers_of_a_block_trade_at_one_price(world):
    world.one(world.ALICE, limit(SELL, 1_000, 10, POST_ONLY))
    world.one(world.ALICE, limit(SELL, 1_004, 10, POST_ONLY))
    output = world.block(
        [
            world.envelope(world.BOB, MarketOrder(1, BUY, 1_100, 8)),
            world.envelope(world.CAROL, limit(BUY, 1_010, 8, IOC)),
        ]
    )
    assert {fill.price_ticks for fill in output.fills} == {1_004}
    assert sorted(receipt.filled_lots for receipt in output.receipts) == [8, 8]
    assert world.position(world.ALICE) == -16
    assert [order.lots for order in world.state.orders.values()] == [4]


def test_takers_that_agree_meet_each_other_and_nothing_else(world):
    world.one(world.ALICE, limit(SELL, 1_010, 10, POST_ONLY))
    world.one(world.ALICE, limit(BUY, 990, 20, POST_ONLY))
    output = world.block(
        [
            world.envelope(world.BOB, MarketOrder(1, BUY, 1_100, 5)),
            world.envelope(world.CAROL, MarketOrder(1, SELL, 900, 5)),
        ]
    )
    (fill,) = output.fills
    assert (fill.price_ticks, fill.size_lots) == (1_000, 5), "the index, inside the spread"
    assert {fill.maker, fill.taker} == {world.BOB, world.CAROL}
    assert world.position(world.ALICE) == 0


def test_the_margin_is_shared_in_proportion_whatever_the_rank(world):
    world.one(world.ALICE, limit(SELL, 1_000, 9, POST_ONLY))
    output = world.block(
        [
            world.envelope(world.BOB, limit(BUY, 1_000, 20, IOC)),
            world.envelope(world.CAROL, limit(BUY, 1_000, 10, IOC)),
        ]
    )
    filled = {fill.taker: fill.size_lots for fill in output.fills}
    assert filled == {world.BOB: 6, world.CAROL: 3}


def test_what_crosses_nothing_rests_and_the_book_is_not_crossed(world):
    output = world.block(
        [
            world.envelope(world.BOB, limit(BUY, 1_005, 10)),
            world.envelope(world.CAROL, limit(SELL, 1_001, 4), limit(SELL, 1_007, 4)),
        ]
    )
    (fill,) = output.fills
    assert (fill.price_ticks, fill.size_lots) == (1_005, 4)
    assert sorted(map(outcome, output.receipts)) == [
        ("FILLED", "ok", 4, 0),
        ("PARTIALLY_FILLED", "ok", 4, 6),
        ("RESTING", "ok", 0, 4),
    ]
    assert not world.state.markets[1].book.is_crossed()


# ---- fees --------------------------------------------------------------------------------------


def test_who_rested_before_pays_as_maker_and_who_joined_as_taker(make_world):
    world = make_world(matching=Matching.AUCTION, maker_fee_ppm=-100, taker_fee_ppm=400)
    world.one(world.ALICE, limit(SELL, 1_000, 3, POST_ONLY))
    output = world.block(
        [
            world.envelope(world.BOB, limit(BUY, 1_000, 7, IOC)),
            world.envelope(world.CAROL, limit(SELL, 1_000, 4, IOC)),
        ]
    )
    fees = {}
    for fill in output.fills:
        fees[fill.maker] = fees.get(fill.maker, 0) + fill.maker_fee_microquote
        fees[fill.taker] = fees.get(fill.taker, 0) + fill.taker_fee_microquote
    assert fees == {world.ALICE: -3, world.BOB: 28, world.CAROL: 16}
    assert world.state.fees == 41
    by_lots = {each.filled_lots: each.fee_microquote for each in output.receipts}
    assert by_lots == {7: 28, 4: 16}


def test_a_taker_s_fee_is_rounded_once_for_all_its_trades(make_world):
    world = make_world(matching=Matching.AUCTION, taker_fee_ppm=1)
    for owner in (world.ALICE, world.CAROL, world.DAVE):
        world.one(owner, limit(SELL, 1_000, 1, POST_ONLY))
    receipt = world.one(world.BOB, MarketOrder(1, BUY, 1_000, 3))
    assert (receipt.filled_notional_microquote, receipt.fee_microquote) == (30_000, 1)
    assert sum(fill.taker_fee_microquote for fill in world.output.fills) == 1


# ---- fill-or-kill ------------------------------------------------------------------------------


def test_fill_or_kill_fills_at_the_clearing_price_or_is_killed(world):
    world.one(world.ALICE, limit(SELL, 1_000, 10, POST_ONLY))
    receipt = world.one(world.BOB, limit(BUY, 1_000, 11, FOK))
    assert outcome(receipt) == ("CANCELLED", "order.fok_unfillable", 0, 0)
    assert outcome(world.one(world.BOB, limit(BUY, 1_000, 10, FOK))) == ("FILLED", "ok", 10, 0)


def test_of_two_fill_or_kill_orders_for_one_lot_too_many_the_later_is_killed(world):
    world.one(world.ALICE, limit(SELL, 1_000, 10, POST_ONLY))
    output = world.block(
        [
            world.envelope(world.BOB, limit(BUY, 1_000, 10, FOK)),
            world.envelope(world.CAROL, limit(BUY, 1_000, 10, FOK)),
        ]
    )
    first, second = sorted(output.receipts, key=lambda receipt: receipt.order_id)
    assert outcome(first) == ("FILLED", "ok", 10, 0)
    assert outcome(second) == ("CANCELLED", "order.fok_unfillable", 0, 0)


def test_a_killed_order_has_no_part_in_the_price(world):
    world.one(world.ALICE, limit(SELL, 1_000, 10, POST_ONLY))
    output = world.block(
        [
            world.envelope(world.BOB, limit(BUY, 1_050, 500, FOK)),
            world.envelope(world.CAROL, limit(BUY, 1_020, 4, IOC)),
        ]
    )
    (fill,) = output.fills
    assert (fill.taker, fill.price_ticks, fill.size_lots) == (world.CAROL, 1_000, 4)


def test_the_one_that_misses_most_is_killed_first(world):
    world.one(world.ALICE, limit(SELL, 1_000, 10, POST_ONLY))
    output = world.block(
        [
            world.envelope(world.BOB, limit(BUY, 1_050, 100, FOK)),
            world.envelope(world.CAROL, limit(BUY, 1_010, 10, FOK)),
        ]
    )
    assert [fill.taker for fill in output.fills] == [world.CAROL]


def test_so_many_fill_or_kill_orders_that_rounds_run_out_are_all_killed(world, monkeypatch):
    monkeypatch.setattr("engine.trading.call_auction.CALL_AUCTION_ROUNDS_MAX", 2)
    world.one(world.ALICE, limit(SELL, 1_000, 10, POST_ONLY))
    orders = [limit(BUY, 1_000, 9, FOK) for _ in range(8)]
    receipts = world.block([world.envelope(world.BOB, *orders)]).receipts
    assert {outcome(each) for each in receipts} == {("CANCELLED", "order.fok_unfillable", 0, 0)}
    assert not world.output.fills
    assert world.open_lots() == {1: 10}


# ---- self-trade prevention ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "came_to", "own_left", "events"),
    [
        (SelfTradeMode.CANCEL_MAKER, ("RESTING", "ok", 0, 8), 0, ["order.self_trade"]),
        (SelfTradeMode.CANCEL_TAKER, ("CANCELLED", "order.self_trade", 0, 0), 5, []),
        (
            SelfTradeMode.CANCEL_BOTH,
            ("CANCELLED", "order.self_trade", 0, 0),
            0,
            ["order.self_trade"],
        ),
        (
            SelfTradeMode.DECREMENT,
            ("RESTING", "order.self_trade", 0, 3),
            0,
            ["order.self_trade"],
        ),
    ],
)
def test_crossing_one_s_own_resting_order_acts_by_the_mode_of_who_joins(
    world, mode, came_to, own_left, events
):
    own = world.one(world.BOB, limit(SELL, 1_000, 5, POST_ONLY))
    receipt = world.one(world.BOB, limit(BUY, 1_002, 8, self_trade=mode))
    assert outcome(receipt) == came_to
    assert world.open_lots().get(own.order_id, 0) == own_left
    assert codes(world.output) == events
    assert not world.output.fills


def test_an_order_that_joined_gives_way_to_a_later_one_of_its_owner(world):
    buy, sell = world.run(world.BOB, limit(BUY, 1_002, 8), limit(SELL, 1_000, 3))
    assert outcome(buy) == ("CANCELLED", "order.self_trade", 0, 0)
    assert outcome(sell) == ("RESTING", "ok", 0, 3)


def test_own_orders_that_do_not_cross_each_other_both_take_part(world):
    world.one(world.BOB, limit(SELL, 1_010, 5, POST_ONLY))
    output = world.block(
        [
            world.envelope(world.BOB, limit(BUY, 1_005, 5)),
            world.envelope(world.CAROL, limit(SELL, 1_000, 5, IOC)),
        ]
    )
    assert [fill.size_lots for fill in output.fills] == [5]
    assert len(world.open_lots()) == 1


def test_fill_or_kill_that_would_not_clear_its_own_way_is_refused(world):
    world.one(world.BOB, limit(SELL, 1_000, 5, POST_ONLY))
    world.one(world.ALICE, limit(SELL, 1_001, 5, POST_ONLY))
    for mode in (SelfTradeMode.CANCEL_TAKER, SelfTradeMode.CANCEL_BOTH, SelfTradeMode.DECREMENT):
        receipt = world.one(world.BOB, limit(BUY, 1_001, 5, FOK, self_trade=mode))
        assert outcome(receipt) == ("REFUSED", "order.fok_unfillable", 0, 0)
    assert world.open_lots() == {1: 5, 2: 5}
    assert world.one(world.BOB, limit(BUY, 1_001, 5, FOK)).filled_lots == 5


# ---- post-only, reduce-only --------------------------------------------------------------------


def test_post_only_orders_are_placed_before_the_auction_and_join_as_makers(world):
    world.one(world.ALICE, limit(SELL, 1_000, 1, POST_ONLY))
    crossing = world.one(world.BOB, limit(BUY, 1_000, 1, POST_ONLY))
    assert crossing.code == "order.post_only_would_cross"
    output = world.block(
        [
            world.envelope(world.BOB, limit(BUY, 999, 5, POST_ONLY)),
            world.envelope(world.CAROL, limit(SELL, 990, 5, IOC)),
        ]
    )
    (fill,) = output.fills
    assert (fill.maker, fill.taker, fill.price_ticks) == (world.BOB, world.CAROL, 999)


def test_reduce_only_orders_never_turn_the_position(world):
    hold(world, world.BOB, 10, world.ALICE)
    output = world.block(
        [
            world.envelope(
                world.BOB,
                limit(SELL, 1_000, 6),
                limit(SELL, 1_000, 99, IOC, reduce_only=True),
                limit(SELL, 999, 3, reduce_only=True),
            ),
            world.envelope(world.CAROL, limit(BUY, 1_000, 50)),
        ]
    )
    assert world.position(world.BOB) == 0
    assert sorted(receipt.filled_lots for receipt in output.receipts) == [1, 3, 6, 10]
    assert not world.state.accounts[world.BOB].orders


def test_a_reduce_only_order_that_trades_nothing_leaves_the_resting_ones_alone(world):
    hold(world, world.BOB, 10, world.ALICE)
    rests = world.one(world.BOB, limit(SELL, 1_100, 10, POST_ONLY, reduce_only=True))
    receipt = world.one(world.BOB, limit(SELL, 1_000, 10, IOC, reduce_only=True))
    assert outcome(receipt) == ("CANCELLED", "order.ioc_remainder", 0, 0)
    assert world.open_lots() == {rests.order_id: 10}


def test_a_resting_reduce_only_order_shrinks_with_the_position_after_the_auction(world):
    hold(world, world.BOB, 10, world.ALICE)
    rests = world.one(world.BOB, limit(SELL, 1_100, 10, POST_ONLY, reduce_only=True))
    world.one(world.ALICE, limit(BUY, 1_000, 4, POST_ONLY))
    world.one(world.BOB, limit(SELL, 1_000, 10, IOC, reduce_only=True))
    assert world.open_lots() == {rests.order_id: 6}
    assert codes(world.output) == ["order.reduce_only_shrunk"]


# ---- margin ------------------------------------------------------------------------------------


def test_all_orders_of_an_account_are_checked_together_at_their_worst_prices(make_world):
    # 1,000 lots at 1,000 ticks are worth 10,000,000 and take 1,000,000 of initial margin.
    world = make_world(matching=Matching.AUCTION, balance=2_000_000)
    order = limit(BUY, 1_050, 1_000, IOC)
    receipts = world.run(world.BOB, order, order)
    assert [receipt.code for receipt in receipts] == ["order.ioc_remainder", "margin.insufficient"]
    world = make_world(matching=Matching.AUCTION, balance=3_000_000)
    receipts = world.run(world.BOB, order, order)
    assert {receipt.code.value for receipt in receipts} == {"order.ioc_remainder"}


def test_a_maker_without_margin_is_cancelled_when_the_price_reaches_it(make_world):
    world = make_world(matching=Matching.AUCTION, balance=1_000_000)
    poor = world.one(world.ALICE, limit(SELL, 1_000, 900, POST_ONLY))
    far = world.one(world.ALICE, limit(SELL, 1_200, 50, POST_ONLY))
    world.one(world.DAVE, limit(SELL, 1_300, 100, POST_ONLY))
    world.set_index(1_200)
    receipt = world.one(world.BOB, limit(BUY, 1_100, 10))
    assert outcome(receipt) == ("RESTING", "ok", 0, 10)
    assert codes(world.output) == ["margin.insufficient"]
    assert poor.order_id not in world.open_lots()
    assert far.order_id in world.open_lots()


def test_no_balance_passes_its_bound_however_many_orders_join(world):
    account = world.state.accounts[world.BOB]
    reserve = BALANCE_ABS_MAX_MICROQUOTE - 25_000_000
    account.equity += reserve - account.quote
    account.quote = reserve
    world.state.mark_dirty(account)
    # Not a state that blocks lead to, so the sums are brought in line by hand.
    world.state.deposits_total += reserve - 1_000_000 * 1_000_000
    account.checked_quote = account.quote
    world.state.checked_owed = world.state.deposits_total
    order = limit(SELL, 1_000, 1_000, IOC)
    receipts = world.run(world.BOB, order, order)
    assert [each.code for each in receipts] == ["order.ioc_remainder", "order.balance_overflow"]


# ---- what waits --------------------------------------------------------------------------------


def test_what_has_woken_joins_the_auction_and_tells_what_came_of_it(world):
    stop = ConditionalOrder(1, SELL, TriggerKind.STOP, TriggerSource.INDEX, 990, 900, 5)
    world.one(world.ALICE, stop)
    world.one(world.CAROL, limit(BUY, 980, 9, POST_ONLY))
    report = OracleReport(1, 985, world.state.height + 1, world.time_ms)
    output = world.block(
        [
            world.envelope(world.REPORTER, report),
            world.envelope(world.BOB, MarketOrder(1, SELL, 900, 4)),
        ]
    )
    (event,) = [each for each in output.events if isinstance(each, WakeEvent)]
    assert (event.owner, event.filled_lots, event.status.name) == (world.ALICE, 5, "FILLED")
    assert {fill.price_ticks for fill in output.fills} == {980}


def test_triggers_that_the_clearing_price_reaches_join_the_next_auction(world):
    stop = ConditionalOrder(1, BUY, TriggerKind.STOP, TriggerSource.LAST, 1_005, 1_100, 5)
    world.one(world.ALICE, stop)
    world.one(world.CAROL, limit(SELL, 1_005, 3, POST_ONLY))
    world.one(world.CAROL, limit(SELL, 1_007, 9, POST_ONLY))
    output = world.block([world.envelope(world.BOB, MarketOrder(1, BUY, 1_100, 3))])
    assert {fill.price_ticks for fill in output.fills} == {1_005}, "one price in one block"
    output = world.block()
    assert [(fill.taker, fill.price_ticks) for fill in output.fills] == [(world.ALICE, 1_007)]


def test_slices_of_a_twap_order_join_auctions(world):
    world.one(world.CAROL, limit(SELL, 1_000, 3, POST_ONLY))
    twap = world.one(world.BOB, TwapOrder(1, BUY, 1_000, 10, 2_000, 1_000))
    world.time_ms += 1_000
    world.block()
    (event,) = world.events(WakeEvent)
    assert (event.order_id, event.filled_lots, event.waiting_lots) == (twap.order_id, 3, 7)
    world.time_ms += 1_000
    world.block()
    assert codes(world.output) == ["twap.ended"]
    assert world.position(world.BOB) == 3


def test_a_fired_leg_ends_its_resting_partner_before_the_auction(world):
    hold(world, world.BOB, 5, world.ALICE)
    pair = OneCancelsOther(
        limit(SELL, 1_010, 5, POST_ONLY),
        ConditionalOrder(1, SELL, TriggerKind.STOP, TriggerSource.INDEX, 990, 900, 5),
    )
    world.one(world.BOB, pair)
    report = OracleReport(1, 985, world.state.height + 1, world.time_ms)
    world.block(
        [
            world.envelope(world.REPORTER, report),
            world.envelope(world.CAROL, limit(BUY, 1_020, 20)),
        ]
    )
    assert world.position(world.BOB) == 0
    assert len(world.open_lots()) == 1, "the rest of the bid"


def test_a_resting_leg_that_trades_in_an_auction_ends_its_partner(world):
    hold(world, world.BOB, 5, world.ALICE)
    stop = ConditionalOrder(1, SELL, TriggerKind.STOP, TriggerSource.INDEX, 990, 900, 5)
    world.one(world.BOB, OneCancelsOther(limit(SELL, 1_010, 5, POST_ONLY), stop))
    world.one(world.CAROL, MarketOrder(1, BUY, 1_020, 2))
    assert not world.state.waiting


# ---- other instructions ------------------------------------------------------------------------


def test_amends_that_place_anew_join_the_auction(world):
    order = world.one(world.BOB, limit(BUY, 990, 5))
    world.one(world.ALICE, limit(SELL, 1_000, 9, POST_ONLY))
    receipt = world.one(world.BOB, Amend(order.order_id, 0, 1_001, 7))
    assert outcome(receipt) == ("FILLED", "ok", 7, 0)


def test_orders_are_refused_with_the_codes_of_continuous_markets(world):
    receipts = world.run(
        world.BOB,
        limit(BUY, 1_000, 0),
        limit(BUY, 5_000, 1),
        limit(BUY, 1_000, 1, IOC, good_til_ms=9),
        limit(SELL, 1_000, 1, reduce_only=True),
        limit(BUY, 900, 1, client_id=7),
        limit(BUY, 900, 1, client_id=7),
        PlaceOrder(9, BUY, 900, 1),
    )
    assert [receipt.code.value for receipt in receipts] == [
        "order.size_not_positive",
        "order.price_band",
        "order.good_til_invalid",
        "order.reduce_only_would_increase",
        "ok",
        "order.duplicate_client_id",
        "order.unknown_market",
    ]
    assert world.one(b"?" * 32, limit(BUY, 1_000, 1)).code == "account.unknown"


def test_auctions_come_after_the_continuous_markets(make_world):
    world = make_world(markets=2, auctions=(1,))
    called, continuous = world.run(
        world.BOB, limit(BUY, 900, 1), PlaceOrder(2, BUY, 900, 1), PlaceOrder(2, BUY, 901, 1)
    )[:2]
    assert continuous.order_id < called.order_id


def _mixed_block(world):
    world.one(world.ALICE, limit(SELL, 1_001, 6, client_id=1))
    world.run(world.BOB, limit(BUY, 999, 6, client_id=1), limit(SELL, 1_002, 3))
    stop = ConditionalOrder(1, BUY, TriggerKind.STOP, TriggerSource.INDEX, 1_001, 1_009, 4)
    world.one(world.ERIN, stop)
    return [
        world.envelope(world.ALICE, Cancel(client_id=2), limit(BUY, 1_000, 2, POST_ONLY)),
        world.envelope(world.ALICE, Amend(0, 1, 1_000, 9), MarketOrder(1, SELL, 990, 4)),
        world.envelope(
            world.BOB,
            limit(BUY, 1_001, 7, self_trade=SelfTradeMode.DECREMENT),
            Amend(0, 1, 1_000, 1),
        ),
        world.envelope(world.CAROL, MarketOrder(1, BUY, 1_001, 5), limit(SELL, 1_000, 3)),
        world.envelope(world.DAVE, limit(BUY, 1_001, 2, FOK), CancelAll()),
        world.envelope(
            world.REPORTER, OracleReport(1, 1_002, world.state.height + 1, world.time_ms)
        ),
    ]


@pytest.mark.parametrize("matching", Matching)
def test_every_permutation_of_a_block_gives_the_same_output(make_world, matching):
    world = make_world(matching=matching, maker_fee_ppm=-100, taker_fee_ppm=300)
    envelopes = _mixed_block(world)
    base = snapshot(world.state)
    outputs = set()
    for order in permutations(envelopes):
        state = restore(base)
        block = BlockInput(state.height + 1, 2_000, b"s" * 32, order, (), world.reporters)
        output = apply_block(state, block)
        outputs.add(encode(output))
    assert len(outputs) == 1
    assert output.fills


def test_another_seed_changes_only_who_gets_what_rounding_leaves(make_world):
    world = make_world(matching=Matching.AUCTION)
    world.one(world.ALICE, limit(SELL, 1_000, 10, POST_ONLY))
    takers = (world.BOB, world.CAROL, world.DAVE)
    envelopes = tuple(world.envelope(name, limit(BUY, 1_000, 7, IOC)) for name in takers)
    base = snapshot(world.state)
    shares = set()
    for seed in range(20):
        state = restore(base)
        seeds = bytes([seed]) * 32
        block = BlockInput(state.height + 1, 2_000, seeds, envelopes, (), world.reporters)
        apply_block(state, block)
        lots = [state.accounts[name].exposures[1].lots for name in takers]
        assert sorted(lots) == [3, 3, 4]
        shares.add(tuple(lots))
    assert len(shares) == 3
