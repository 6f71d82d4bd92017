"""TWAP orders: the schedule, what is caught up, and how they end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.instructions import Cancel, PlaceOrder, Side, TwapOrder
from engine.limits import (
    TWAP_CATCH_UP_FACTOR,
    TWAP_DURATION_MAX_MS,
    TWAP_INTERVAL_MAX_MS,
    TWAP_INTERVAL_MIN_MS,
)
from engine.receipts import OrderEvent, WakeEvent
from engine.views import view_account, view_waiting
from engine.waiting import triggers
from engine.waiting.slices import compute_slice_lots

BUY, SELL = Side.BUY, Side.SELL


def twap(lots, slices, price=1_000, side=BUY, **more):
    return TwapOrder(1, side, price, lots, slices * 1_000, 1_000, **more)


def advance(world, intervals=1):
    """Let time pass and return what the slices filled."""
    world.time_ms += 1_000 * intervals
    world.block()
    return [event.filled_lots for event in world.events(WakeEvent)]


def end(world):
    return [
        (event.order_id, event.code.value, event.removed_lots) for event in world.events(OrderEvent)
    ]


@given(st.integers(1, 2**32 - 1), st.integers(1, 86_400))
def test_the_shares_of_a_schedule_differ_by_one_lot_and_sum_up_exactly(size, slices):
    slices = min(size, slices)
    step = max(1, slices // 50)
    for number in range(1, slices + 1, step):
        done = size * (number - 1) // slices
        assert compute_slice_lots(size, slices, number, done) in (
            size // slices,
            -(-size // slices),
        )
    assert compute_slice_lots(size, slices, slices, size) == 0
    last = size * (slices - 1) // slices
    assert last + compute_slice_lots(size, slices, slices, last) == size


def test_slices_run_at_their_intervals_and_the_order_ends_with_the_last(world):
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 100))
    receipt = world.one(world.ALICE, twap(11, 4, client_id=5))
    assert (receipt.status.name, receipt.order_id) == ("WAITING", 2)
    world.time_ms += 999
    world.block()
    assert world.output.events == ()
    world.time_ms += 1 - 1_000
    filled = [advance(world)[0] for _ in range(4)]
    assert filled == [2, 3, 3, 3]
    assert end(world) == [(2, "twap.ended", 0)]
    assert world.position(world.ALICE) == 11


def test_what_a_slice_could_not_trade_is_caught_up_in_bounded_parts(world):
    world.one(world.ALICE, twap(100, 10))
    assert [advance(world) for _ in range(6)] == [[0]] * 6
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 100))
    assert TWAP_CATCH_UP_FACTOR == 3
    assert [advance(world)[0] for _ in range(4)] == [30, 30, 30, 10]
    assert end(world) == [(1, "twap.ended", 0)]


def test_slices_that_a_late_block_missed_are_one_with_the_same_bound(world):
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 100))
    world.one(world.ALICE, twap(100, 10))
    assert advance(world, 2) == [20]
    assert advance(world, 5) == [30]
    assert advance(world, 50) == [30]
    assert end(world) == [(2, "twap.ended", 20)]
    assert world.state.waiting == {}


def test_no_slice_trades_beyond_the_limit_price(world):
    world.run(world.BOB, PlaceOrder(1, SELL, 1_000, 2), PlaceOrder(1, SELL, 1_001, 50))
    world.one(world.ALICE, twap(8, 2))
    assert advance(world) == [2]
    assert advance(world) == [0]
    assert end(world) == [(3, "twap.ended", 6)]


def test_the_account_view_shows_how_far_it_is(world):
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 100))
    world.one(world.ALICE, twap(11, 4, client_id=5))
    advance(world)
    (view,) = view_account(world.state, world.ALICE).twaps
    assert (view.size_lots, view.filled_lots, view.slices, view.next_slice) == (11, 2, 4, 2)
    assert (view.next_slice_ms, view.ends_ms) == (3_000, 5_000)
    assert view_waiting(world.state, 2) == view


def test_a_cancelled_twap_slices_no_more(world):
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 100))
    world.one(world.ALICE, twap(10, 5, client_id=8))
    assert advance(world) == [2]
    world.time_ms += 1_000
    assert world.one(world.ALICE, Cancel(client_id=8)).order_id == 2
    assert world.output.fills == ()
    assert advance(world) == []
    assert world.one(world.ALICE, PlaceOrder(1, BUY, 900, 1, client_id=8)).code == "ok"


def test_a_slice_that_is_refused_is_told_and_the_next_one_tries_again(make_world):
    world = make_world(balance=10_000)
    world.one(world.ALICE, twap(8, 4, 1_000, SELL, reduce_only=True))
    world.time_ms += 1_000
    world.block()
    (event,) = world.output.events
    assert (event.status.name, event.code) == ("REFUSED", "order.reduce_only_would_increase")
    assert event.waiting_lots == 8
    world.run(world.BOB, PlaceOrder(1, SELL, 1_000, 3), PlaceOrder(1, BUY, 999, 9))
    world.one(world.ALICE, PlaceOrder(1, BUY, 1_000, 3))
    assert world.position(world.ALICE) == 3
    world.one(world.ALICE, twap(2, 2, 900, SELL, reduce_only=True))
    assert advance(world)[-1] == 1


def test_one_market_runs_only_so_many_slices_in_a_block(world, monkeypatch):
    monkeypatch.setattr(triggers, "WAKES_PER_MARKET_MAX", 2)
    world.run(world.ALICE, *[twap(2, 2) for _ in range(3)])
    assert len(advance(world)) == 2
    world.block()
    assert len(world.events(WakeEvent)) == 1


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (TwapOrder(9, BUY, 1, 1, 1_000, 1_000), "order.unknown_market"),
        (twap(0, 1), "order.size_not_positive"),
        (twap(2**32, 1), "order.size_overflow"),
        (twap(1, 1, 0), "order.price_not_positive"),
        (twap(1, 1, 2**32), "order.price_overflow"),
        (twap(1, 1, client_id=-3), "order.client_id_invalid"),
        (twap(3, 4), "twap.schedule_invalid"),
        (twap(3, 0), "twap.schedule_invalid"),
        (twap(3, -1), "twap.schedule_invalid"),
        (TwapOrder(1, BUY, 1, 9, 2_000, 0), "twap.schedule_invalid"),
        (TwapOrder(1, BUY, 1, 9, 2_000, -1_000), "twap.schedule_invalid"),
        (TwapOrder(1, BUY, 1, 9, 2_500, 1_000), "twap.schedule_invalid"),
        (
            TwapOrder(1, BUY, 1, 9, TWAP_INTERVAL_MIN_MS - 1, TWAP_INTERVAL_MIN_MS - 1),
            "twap.schedule_invalid",
        ),
        (
            TwapOrder(1, BUY, 1, 9, TWAP_INTERVAL_MAX_MS + 1, TWAP_INTERVAL_MAX_MS + 1),
            "twap.schedule_invalid",
        ),
        (
            TwapOrder(1, BUY, 1, 99, TWAP_DURATION_MAX_MS + 3_600_000, 3_600_000),
            "twap.schedule_invalid",
        ),
        (TwapOrder(1, BUY, 1, 99, 2**63, 2**63), "twap.schedule_invalid"),
    ],
)
def test_a_schedule_that_cannot_be_kept_is_refused(world, order, code):
    receipt = world.one(world.ALICE, order)
    assert (receipt.status.name, receipt.code) == ("REFUSED", code)
    assert world.state.waiting == {}


def test_the_longest_schedules_are_accepted(world):
    longest = TwapOrder(1, BUY, 1_000, 86_400, TWAP_DURATION_MAX_MS, TWAP_INTERVAL_MIN_MS)
    slowest = TwapOrder(1, BUY, 1_000, 24, TWAP_DURATION_MAX_MS, TWAP_INTERVAL_MAX_MS)
    for order in (longest, slowest):
        assert world.one(world.ALICE, order).code == "ok"
