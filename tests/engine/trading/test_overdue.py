"""More orders than one block takes out have expired: they wait for the next, and trade no more."""

import pytest

from engine.genesis import Matching
from engine.instructions import (
    ConditionalOrder,
    OneCancelsOther,
    OracleReport,
    PlaceOrder,
    SelfTradeMode,
    Side,
    TimeInForce,
    TriggerKind,
    TriggerSource,
)
from engine.limits import EXPIRIES_PER_BLOCK_MAX
from engine.receipts import OrderEvent

BUY, SELL = Side.BUY, Side.SELL
POST_ONLY, FOK = TimeInForce.POST_ONLY, TimeInForce.FOK
END_MS = 2_000


@pytest.fixture
def make_overdue(make_world, monkeypatch):
    """Five asks of two lots that have expired, of which a block takes two; one more has not."""
    monkeypatch.setattr("engine.trading.cancellation.EXPIRIES_PER_BLOCK_MAX", 2)

    def make(**params):
        world = make_world(**params)
        world.run(
            world.ALICE,
            *[PlaceOrder(1, SELL, 1_000, 2, POST_ONLY, good_til_ms=END_MS)] * 5,
            PlaceOrder(1, SELL, 1_001, 2, POST_ONLY),
        )
        world.time_ms = END_MS
        return world

    return make


def told(world):
    return [
        (event.order_id, str(event.code))
        for event in world.output.events
        if isinstance(event, OrderEvent)
    ]


def expired(*order_ids):
    return [(order_id, "order.expired") for order_id in order_ids]


def test_so_many_expire_in_a_block_and_the_others_in_the_next_ones(make_overdue):
    world = make_overdue()
    seen = []
    for _ in range(4):
        world.block()
        seen.append(told(world))
    assert seen == [expired(1, 2), expired(3, 4), expired(5), []]
    assert [*world.open_lots()] == [6]
    world.check_replay(2)
    assert EXPIRIES_PER_BLOCK_MAX == 10_000


def test_a_taker_passes_over_what_has_expired(make_overdue):
    world = make_overdue()
    receipt = world.one(world.BOB, PlaceOrder(1, BUY, 1_001, 3))
    assert [(fill.maker_order_id, fill.size_lots) for fill in world.output.fills] == [(6, 2)]
    assert (receipt.filled_lots, receipt.resting_lots) == (2, 1)
    assert told(world) == expired(1, 2, 3, 4, 5)
    world.check_replay(1)


def test_a_fill_or_kill_order_does_not_count_what_has_expired(make_overdue):
    world = make_overdue()
    receipts = world.run(
        world.BOB, PlaceOrder(1, BUY, 1_001, 3, FOK), PlaceOrder(1, BUY, 1_001, 2, FOK)
    )
    assert [str(receipt.code) for receipt in receipts] == ["order.fok_unfillable", "ok"]
    assert receipts[1].filled_lots == 2


def test_a_post_only_order_rests_where_only_expired_ones_stood(make_overdue):
    world = make_overdue()
    receipts = world.run(
        world.BOB, PlaceOrder(1, BUY, 1_001, 1, POST_ONLY), PlaceOrder(1, BUY, 1_000, 1, POST_ONLY)
    )
    codes = [str(receipt.code) for receipt in receipts]
    assert codes == ["order.post_only_would_cross", "ok"]
    assert told(world) == expired(1, 2, 3, 4, 5)
    assert [*world.open_lots()] == [6, 7]


def test_ones_own_expired_orders_are_no_self_trade(make_overdue):
    world = make_overdue()
    order = PlaceOrder(1, BUY, 1_000, 1, self_trade=SelfTradeMode.CANCEL_TAKER)
    receipt = world.one(world.ALICE, order)
    assert (receipt.code, receipt.resting_lots) == ("ok", 1)
    assert told(world) == expired(1, 2, 3, 4, 5)


@pytest.mark.parametrize("has_live_ask", [True, False])
def test_no_expired_order_takes_part_in_a_call_auction(make_overdue, has_live_ask):
    world = make_overdue(matching=Matching.AUCTION)
    price = 1_001 if has_live_ask else 1_000
    receipt = world.one(world.BOB, PlaceOrder(1, BUY, price, 3))
    filled = 2 if has_live_ask else 0
    assert (receipt.filled_lots, receipt.resting_lots) == (filled, 3 - filled)
    assert [fill.maker_order_id for fill in world.output.fills] == [6] * has_live_ask
    assert told(world) == expired(1, 2, 3, 4, 5)
    world.check_replay(1)


def test_the_partner_of_an_expired_order_does_not_fire(make_overdue):
    world = make_overdue()
    leg = PlaceOrder(1, SELL, 1_100, 1, POST_ONLY, good_til_ms=END_MS)
    stop = ConditionalOrder(1, SELL, TriggerKind.STOP, TriggerSource.INDEX, 950, 900, 1)
    world.time_ms = 1_000
    leg_id = world.one(world.BOB, OneCancelsOther(leg, stop)).order_id
    world.time_ms = END_MS
    index = OracleReport(1, 940, world.state.height + 1, END_MS)
    assert world.one(world.REPORTER, index).code == "ok"
    assert told(world) == [
        *expired(1, 2, leg_id),
        (leg_id + 1, "order.partner_ended"),
    ]
    assert world.output.fills == ()
    assert not world.state.accounts[world.BOB].waiting
