"""A full book: whose orders rest in it, and who gives a place to whom."""

import pytest

from engine.genesis import Matching
from engine.instructions import (
    ConditionalOrder,
    OneCancelsOther,
    PlaceOrder,
    Side,
    TimeInForce,
    TriggerKind,
    TriggerSource,
)
from engine.receipts import OrderEvent

BUY, SELL = Side.BUY, Side.SELL
POST_ONLY = TimeInForce.POST_ONLY


@pytest.fixture
def full(make_world):
    """A book of six places that Alice has filled with bids."""
    world = make_world(open_orders_max=6)
    bids = [PlaceOrder(1, BUY, price, 5) for price in (900, 901, 901, 902, 902, 903)]
    assert {receipt.code for receipt in world.run(world.ALICE, *bids)} == {"ok"}
    return world


def told(world):
    """What events say of orders: owner, id, code, lots that are gone and that are left."""
    return [
        (event.owner, event.order_id, str(event.code), event.removed_lots, event.resting_lots)
        for event in world.events(OrderEvent)
    ]


def prices(world, side):
    book = world.state.markets[1].book
    return [order.price for order in book.opposite(-side).crossed_orders(-(10**6))]


def test_a_better_order_displaces_the_last_of_its_side_and_the_owner_is_told(full):
    world = full
    before = world.state.accounts[world.ALICE].im
    receipt = world.one(world.BOB, PlaceOrder(1, BUY, 902, 1))
    assert (receipt.code, receipt.resting_lots) == ("ok", 1)
    assert told(world) == [(world.ALICE, 1, "order.displaced", 5, 0)]
    assert world.state.accounts[world.ALICE].im < before
    # Of the two at the next price the younger one goes, and places at a price are kept.
    world.one(world.BOB, PlaceOrder(1, BUY, 910, 1))
    assert told(world) == [(world.ALICE, 3, "order.displaced", 5, 0)]
    assert prices(world, BUY) == [910, 903, 902, 902, 902, 901]
    assert [*world.open_lots()] == [2, 4, 5, 6, 7, 8]


def test_an_order_that_is_no_better_is_refused(full):
    for price in (900, 899):
        order = PlaceOrder(1, BUY, price, 1, POST_ONLY)
        assert full.one(full.BOB, order).code == "order.market_full"
    assert told(full) == []


def test_a_side_with_more_than_half_of_the_places_gives_them_back_at_any_price(full):
    world = full
    receipts = world.run(world.BOB, *[PlaceOrder(1, SELL, 1_500, 1)] * 4)
    assert [receipt.code for receipt in receipts] == ["ok", "ok", "ok", "order.market_full"]
    assert [each[1] for each in told(world)] == [1, 3, 2]
    assert prices(world, BUY) == [903, 902, 902]
    # Both have their half: from here on only a better price counts.
    assert world.one(world.CAROL, PlaceOrder(1, SELL, 1_499, 1)).code == "ok"
    assert told(world) == [(world.BOB, 9, "order.displaced", 1, 0)]
    assert world.one(world.CAROL, PlaceOrder(1, BUY, 902, 1)).code == "order.market_full"
    assert world.one(world.CAROL, PlaceOrder(1, BUY, 903, 1)).code == "ok"


def test_who_is_refused_or_takes_only_displaces_nobody(full):
    world = full
    world.deposit(b"n" * 32, 5)
    refused = world.one(b"n" * 32, PlaceOrder(1, BUY, 950, 1))
    assert refused.code == "margin.insufficient"
    taker = PlaceOrder(1, BUY, 950, 1, TimeInForce.IOC)
    assert world.one(world.BOB, taker).code == "order.ioc_remainder"
    assert len(world.open_lots()) == 6
    # What has traded has made the place itself.
    receipt = world.one(world.BOB, PlaceOrder(1, SELL, 903, 8))
    assert (receipt.filled_lots, receipt.resting_lots, told(world)) == (5, 3, [])
    assert len(world.open_lots()) == 6


def test_a_displaced_order_ends_its_pair(full):
    world = full
    stop = ConditionalOrder(1, BUY, TriggerKind.STOP, TriggerSource.INDEX, 1_100, 1_200, 5)
    pair = OneCancelsOther(PlaceOrder(1, BUY, 901, 5, POST_ONLY), stop)
    resting_id = world.one(world.BOB, pair).order_id
    assert world.state.accounts[world.BOB].waiting
    world.run(world.CAROL, *[PlaceOrder(1, BUY, 950, 1)])
    assert told(world) == [
        (world.BOB, resting_id, "order.displaced", 5, 0),
        (world.BOB, resting_id + 1, "order.partner_ended", 5, 0),
    ]
    assert not world.state.accounts[world.BOB].waiting


def test_what_joins_a_call_auction_displaces_nobody(make_world):
    world = make_world(open_orders_max=2, matching=Matching.AUCTION)
    world.run(world.ALICE, *[PlaceOrder(1, BUY, 900, 1, POST_ONLY)] * 2)
    assert world.one(world.BOB, PlaceOrder(1, BUY, 950, 1)).code == "order.market_full"
    assert world.one(world.BOB, PlaceOrder(1, BUY, 950, 1, POST_ONLY)).code == "ok"
    assert told(world) == [(world.ALICE, 2, "order.displaced", 1, 0)]
    world.check_replay(1)
