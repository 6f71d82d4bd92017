"""Reduce-only orders never open or increase a position."""

import pytest

from engine.instructions import Cancel, MarketOrder, PlaceOrder, Side, TimeInForce

BUY, SELL = Side.BUY, Side.SELL


@pytest.fixture
def long_world(world):
    """Alice is long ten lots against Bob."""
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 10))
    world.one(world.ALICE, PlaceOrder(1, BUY, 1_000, 10))
    return world


def _reduce(price, lots, side=SELL, tif=TimeInForce.GTC):
    return PlaceOrder(1, side, price, lots, tif, True)


def test_refused_without_a_position_or_on_the_opening_side(long_world):
    world = long_world
    code = "order.reduce_only_would_increase"
    assert world.one(world.CAROL, _reduce(1_000, 1)).code == code
    assert world.one(world.ALICE, _reduce(1_000, 1, BUY)).code == code


def test_larger_than_the_position_is_cut_to_it(long_world):
    world = long_world
    receipt = world.one(world.ALICE, _reduce(1_100, 15))
    assert (receipt.code, receipt.resting_lots) == ("order.reduce_only_shrunk", 10)
    world.one(world.CAROL, PlaceOrder(1, BUY, 999, 50))
    receipt = world.one(world.ALICE, MarketOrder(1, SELL, 900, 99, True))
    assert (receipt.status.name, receipt.filled_lots) == ("FILLED", 10)
    assert world.position(world.ALICE) == 0
    assert world.open_lots() == {4: 40}


def test_resting_orders_shrink_with_the_position_farthest_first(long_world):
    world = long_world
    world.run(world.ALICE, _reduce(1_100, 6), _reduce(1_200, 4))
    world.one(world.CAROL, PlaceOrder(1, BUY, 1_000, 5))
    world.one(world.ALICE, MarketOrder(1, SELL, 1_000, 5))
    assert [(event.order_id, event.resting_lots) for event in world.output.events] == [
        (4, 0),
        (3, 5),
    ]
    assert world.open_lots() == {3: 5}


def test_together_they_never_exceed_the_position(long_world):
    world = long_world
    world.one(world.ALICE, _reduce(1_100, 10))
    receipt = world.one(world.ALICE, _reduce(1_050, 4))
    assert receipt.resting_lots == 4
    assert world.open_lots() == {3: 6, 4: 4}
    receipt = world.one(world.ALICE, _reduce(1_200, 4))
    assert (receipt.status.name, receipt.code) == ("CANCELLED", "order.reduce_only_shrunk")
    assert world.open_lots() == {3: 6, 4: 4}


def test_a_flip_cancels_all_of_them(long_world):
    world = long_world
    world.one(world.ALICE, _reduce(1_100, 10))
    world.one(world.CAROL, PlaceOrder(1, BUY, 1_000, 20))
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_000, 15))
    assert world.position(world.ALICE) == -5
    assert world.open_lots() == {4: 5}


def test_a_maker_fill_shrinks_them_too(long_world):
    world = long_world
    world.run(world.ALICE, PlaceOrder(1, SELL, 1_000, 10), _reduce(1_001, 10))
    world.one(world.CAROL, PlaceOrder(1, BUY, 1_001, 20))
    assert world.position(world.ALICE) == 0
    assert sum(fill.size_lots for fill in world.output.fills) == 10


def test_fok_does_not_count_lots_that_its_own_fills_would_shrink_away(long_world):
    world = long_world
    world.run(world.ALICE, PlaceOrder(1, SELL, 1_000, 10), _reduce(1_001, 10))
    order = PlaceOrder(1, BUY, 1_001, 11, TimeInForce.FOK)
    assert world.one(world.CAROL, order).code == "order.fok_unfillable"
    order = PlaceOrder(1, BUY, 1_001, 10, TimeInForce.FOK)
    assert world.one(world.CAROL, order).status.name == "FILLED"


def test_they_cost_no_margin_beyond_the_position(make_world):
    world = make_world(balance=1_000_000)
    world.deposit(world.BOB, 10**9)
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 900))
    world.one(world.ALICE, PlaceOrder(1, BUY, 1_000, 900))
    world.one(world.ALICE, _reduce(1_100, 900))
    receipt = world.one(world.ALICE, _reduce(1_050, 900))
    assert receipt.code == "ok"
    assert world.open_lots() == {4: 900}
    assert world.one(world.ALICE, Cancel(order_id=4)).code == "ok"
