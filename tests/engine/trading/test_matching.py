"""What a single order does to the book."""

import pytest

from engine.instructions import (
    Amend,
    Cancel,
    CancelAll,
    MarketOrder,
    PlaceOrder,
    SelfTradeMode,
    Side,
    TimeInForce,
)

BUY, SELL = Side.BUY, Side.SELL
GTC, IOC, FOK, POST_ONLY = TimeInForce


def test_better_price_trades_first_then_older_order(world):
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_002, 5))
    world.one(world.BOB, PlaceOrder(1, SELL, 1_001, 5))
    world.one(world.CAROL, PlaceOrder(1, SELL, 1_001, 5))
    receipt = world.one(world.DAVE, PlaceOrder(1, BUY, 1_002, 12))
    assert [
        (fill.maker_order_id, fill.price_ticks, fill.size_lots) for fill in world.output.fills
    ] == [
        (2, 1_001, 5),
        (3, 1_001, 5),
        (1, 1_002, 2),
    ]
    assert (receipt.status.name, receipt.filled_lots, receipt.resting_lots) == ("FILLED", 12, 0)
    assert receipt.filled_notional_microquote == (10 * 1_001 + 2 * 1_002) * 10
    assert world.open_lots() == {1: 3}


def test_gtc_remainder_rests_and_ioc_remainder_is_cancelled(world):
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_000, 5))
    receipt = world.one(world.BOB, PlaceOrder(1, BUY, 1_000, 8))
    assert (receipt.status.name, receipt.filled_lots, receipt.resting_lots) == (
        "PARTIALLY_FILLED",
        5,
        3,
    )
    receipt = world.one(world.CAROL, PlaceOrder(1, SELL, 1_000, 8, IOC))
    assert (receipt.status.name, receipt.code, receipt.filled_lots) == (
        "PARTIALLY_FILLED",
        "order.ioc_remainder",
        3,
    )
    assert world.open_lots() == {}
    receipt = world.one(world.CAROL, MarketOrder(1, SELL, 900, 1))
    assert (receipt.status.name, receipt.code) == ("CANCELLED", "order.ioc_remainder")


def test_market_order_stops_at_its_protective_price(world):
    world.run(world.ALICE, PlaceOrder(1, SELL, 1_001, 5), PlaceOrder(1, SELL, 1_003, 5))
    receipt = world.one(world.BOB, MarketOrder(1, BUY, 1_002, 10))
    assert receipt.filled_lots == 5
    assert world.open_lots() == {2: 5}


def test_fok_trades_all_or_nothing(world):
    world.run(world.ALICE, PlaceOrder(1, SELL, 1_001, 5), PlaceOrder(1, SELL, 1_002, 5))
    receipt = world.one(world.BOB, PlaceOrder(1, BUY, 1_002, 11, FOK))
    assert (receipt.status.name, receipt.code) == ("REFUSED", "order.fok_unfillable")
    assert world.open_lots() == {1: 5, 2: 5}
    receipt = world.one(world.BOB, PlaceOrder(1, BUY, 1_002, 10, FOK))
    assert (receipt.status.name, receipt.filled_lots) == ("FILLED", 10)


def test_fok_does_not_count_own_orders(world):
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_001, 5))
    world.one(world.BOB, PlaceOrder(1, SELL, 1_001, 5))
    assert world.one(world.BOB, PlaceOrder(1, BUY, 1_001, 6, FOK)).code == "order.fok_unfillable"
    assert world.open_lots() == {1: 5, 2: 5}
    assert world.one(world.BOB, PlaceOrder(1, BUY, 1_001, 5, FOK)).status.name == "FILLED"
    assert world.open_lots() == {2: 5}


@pytest.mark.parametrize("mode", [m for m in SelfTradeMode if m is not SelfTradeMode.CANCEL_MAKER])
def test_fok_is_unfillable_when_own_order_would_end_it(world, mode):
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 1))
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_001, 5))
    order = PlaceOrder(1, BUY, 1_001, 5, FOK, self_trade=mode)
    assert world.one(world.BOB, order).code == "order.fok_unfillable"
    assert world.open_lots() == {1: 1, 2: 5}


def test_fok_whose_maker_lacks_margin_is_refused_untouched(make_world):
    world = make_world(balance=100_000_000)
    # Alice's whole balance backs 10,000 lots at 10%; at a higher index her ask has no margin.
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_000, 90_000))
    world.set_index(1_400)
    assert world.one(world.BOB, PlaceOrder(1, BUY, 1_000, 100, FOK)).code == "order.fok_unfillable"
    assert world.open_lots() == {1: 90_000}


def test_post_only_rests_or_is_refused(world):
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_000, 5))
    receipt = world.one(world.BOB, PlaceOrder(1, BUY, 1_000, 5, POST_ONLY))
    assert (receipt.status.name, receipt.code) == ("REFUSED", "order.post_only_would_cross")
    assert world.one(world.BOB, PlaceOrder(1, BUY, 999, 5, POST_ONLY)).status.name == "RESTING"


def test_post_only_is_checked_against_the_book_after_self_trade_prevention(world):
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 5))
    receipt = world.one(world.BOB, PlaceOrder(1, BUY, 1_000, 5, POST_ONLY))
    assert receipt.status.name == "RESTING"
    assert world.open_lots() == {2: 5}
    assert [event.code for event in world.output.events] == ["order.self_trade"]


def test_refused_post_only_cancels_no_own_order(world):
    world.one(world.BOB, PlaceOrder(1, SELL, 999, 5))
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_000, 5))
    receipt = world.one(world.BOB, PlaceOrder(1, BUY, 1_000, 5, POST_ONLY))
    assert receipt.code == "order.post_only_would_cross"
    assert world.open_lots() == {1: 5, 2: 5}


@pytest.mark.parametrize(
    ("mode", "status", "code", "left"),
    [
        (SelfTradeMode.CANCEL_MAKER, "RESTING", "ok", {2: 6}),
        (SelfTradeMode.CANCEL_TAKER, "CANCELLED", "order.self_trade", {1: 4}),
        (SelfTradeMode.CANCEL_BOTH, "CANCELLED", "order.self_trade", {}),
        (SelfTradeMode.DECREMENT, "RESTING", "order.self_trade", {2: 2}),
    ],
)
@pytest.mark.parametrize("tif", [GTC, POST_ONLY])
def test_every_self_trade_mode(world, mode, status, code, left, tif):
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_000, 4))
    receipt = world.one(world.ALICE, PlaceOrder(1, BUY, 1_000, 6, tif, self_trade=mode))
    assert (receipt.status.name, receipt.code) == (status, code)
    assert world.open_lots() == left
    assert world.output.fills == ()
    assert world.position(world.ALICE) == 0


def test_decrement_shrinks_the_larger_resting_order_in_place(world):
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_000, 9))
    order = PlaceOrder(1, BUY, 1_000, 4, self_trade=SelfTradeMode.DECREMENT)
    assert world.one(world.ALICE, order).code == "order.self_trade"
    (event,) = world.output.events
    assert (event.order_id, event.removed_lots, event.resting_lots) == (1, 4, 5)


def test_taker_trades_with_others_before_and_after_its_own_order(world):
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 1))
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_001, 1))
    world.one(world.CAROL, PlaceOrder(1, SELL, 1_002, 1))
    receipt = world.one(world.ALICE, PlaceOrder(1, BUY, 1_002, 2))
    assert (receipt.status.name, receipt.filled_lots) == ("FILLED", 2)
    assert world.open_lots() == {}


def test_cancel_by_either_id_and_only_by_the_owner(world):
    world.run(world.ALICE, PlaceOrder(1, BUY, 900, 1), PlaceOrder(1, BUY, 900, 1, client_id=7))
    assert world.one(world.BOB, Cancel(order_id=1)).code == "order.unknown"
    assert world.one(world.ALICE, Cancel(order_id=1)).status.name == "CANCELLED"
    assert world.one(world.ALICE, Cancel(client_id=7)).order_id == 2
    assert world.one(world.ALICE, Cancel(client_id=7)).code == "order.unknown"
    assert world.one(world.ALICE, Cancel()).code == "order.reference_invalid"
    assert world.one(world.ALICE, Cancel(1, 7)).code == "order.reference_invalid"


def test_cancel_all_in_one_market_or_everywhere(make_world):
    world = make_world(markets=2)
    world.run(world.ALICE, *[PlaceOrder(market, BUY, 900, 1) for market in (1, 2, 2)])
    world.one(world.BOB, PlaceOrder(2, BUY, 900, 1))
    assert world.one(world.ALICE, CancelAll(3)).code == "order.unknown_market"
    assert world.one(world.ALICE, CancelAll(2)).cancelled_count == 2
    assert world.one(world.ALICE, CancelAll()).cancelled_count == 1
    assert world.open_lots() == {4: 1}


def test_amend_to_a_smaller_size_keeps_id_and_priority(world):
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_000, 5, client_id=3))
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 5))
    receipt = world.one(world.ALICE, Amend(0, 3, 1_000, 2))
    assert (receipt.status.name, receipt.order_id, receipt.resting_lots) == ("ACCEPTED", 1, 2)
    world.one(world.CAROL, PlaceOrder(1, BUY, 1_000, 3))
    assert [fill.maker_order_id for fill in world.output.fills] == [1, 2]


def test_amend_of_price_or_to_a_larger_size_gives_a_new_order_at_the_back(world):
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_000, 5, POST_ONLY, client_id=3))
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 5))
    receipt = world.one(world.ALICE, Amend(1, 0, 1_000, 6))
    assert (receipt.status.name, receipt.order_id) == ("RESTING", 3)
    order = world.state.accounts[world.ALICE].clients[3]
    assert (order.order_id, order.lots, order.tif) == (3, 6, POST_ONLY)
    world.one(world.CAROL, PlaceOrder(1, BUY, 1_000, 6))
    assert [fill.maker_order_id for fill in world.output.fills] == [2, 3]
    assert world.one(world.ALICE, Amend(0, 9, 1_000, 6)).code == "order.unknown"
    assert world.one(world.ALICE, Amend(3, 0, 1_000, 0)).code == "order.size_not_positive"


def test_refused_amend_leaves_the_old_order_cancelled(world):
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_000, 5))
    assert world.one(world.ALICE, Amend(1, 0, 5_000, 5)).code == "order.price_band"
    assert world.open_lots() == {}
    assert [event.code for event in world.output.events] == ["order.cancelled_by_owner"]


def test_orders_expire_at_the_first_block_that_reaches_their_time(world):
    world.run(
        world.ALICE,
        PlaceOrder(1, BUY, 900, 1, good_til_ms=1_500),
        PlaceOrder(1, BUY, 901, 1, POST_ONLY, good_til_ms=1_501),
    )
    world.time_ms = 1_499
    world.block()
    assert len(world.open_lots()) == 2
    world.time_ms = 1_500
    assert [event.code for event in world.block().events] == ["order.expired"]
    assert world.one(world.ALICE, PlaceOrder(1, BUY, 900, 1, good_til_ms=1_500)).code == (
        "order.expired"
    )
    assert world.one(world.ALICE, PlaceOrder(1, BUY, 900, 1, good_til_ms=-1)).code == (
        "order.good_til_invalid"
    )
    assert world.one(world.ALICE, PlaceOrder(1, BUY, 900, 1, IOC, good_til_ms=9_999)).code == (
        "order.good_til_invalid"
    )


def test_expiry_heap_stays_in_proportion_to_open_orders(world):
    for _ in range(30):
        world.run(
            world.ALICE,
            *[PlaceOrder(1, BUY, 900, 1, good_til_ms=10**9) for _ in range(64)],
        )
        world.one(world.ALICE, CancelAll())
    assert len(world.state.expiries) <= 1_024 + 2 * 64


def test_client_ids_are_unique_among_open_orders(world):
    world.one(world.ALICE, PlaceOrder(1, BUY, 900, 1, client_id=5))
    assert world.one(world.ALICE, PlaceOrder(1, BUY, 900, 1, client_id=5)).code == (
        "order.duplicate_client_id"
    )
    assert world.one(world.ALICE, PlaceOrder(1, BUY, 900, 1, client_id=-1)).code == (
        "order.client_id_invalid"
    )
    assert world.one(world.BOB, PlaceOrder(1, BUY, 900, 1, client_id=5)).status.name == "RESTING"
    world.one(world.ALICE, Cancel(client_id=5))
    assert world.one(world.ALICE, PlaceOrder(1, BUY, 900, 1, client_id=5)).code == "ok"


def test_fees_round_up_in_sign_and_one_order_is_rounded_once(make_world):
    world = make_world(maker_fee_ppm=-7, taker_fee_ppm=333)
    start = world.quote(world.ALICE)
    for _ in range(3):
        world.one(world.ALICE, PlaceOrder(1, SELL, 1_001, 1))
    receipt = world.one(world.BOB, PlaceOrder(1, BUY, 1_001, 3))
    notional = 1_001 * 10
    # 3 x 3.33333 rounds up to 10 once; each rebate of 0.07007 rounds towards the house, to 0.
    assert receipt.fee_microquote == 10
    assert [fill.taker_fee_microquote for fill in world.output.fills] == [4, 3, 3]
    assert [fill.maker_fee_microquote for fill in world.output.fills] == [0, 0, 0]
    assert world.quote(world.ALICE) == start + 3 * notional
    assert world.quote(world.BOB) == start - 3 * notional - 10
    assert world.state.fees == 10


def test_rebate_is_paid_from_the_fee_bucket(make_world):
    world = make_world(maker_fee_ppm=-100, taker_fee_ppm=300)
    start = world.quote(world.ALICE)
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_000, 100))
    world.one(world.BOB, PlaceOrder(1, BUY, 1_000, 100))
    assert world.quote(world.ALICE) == start + 1_000_000 + 100
    assert world.state.fees == 300 - 100
