"""One cancels the other: two orders that live and end together."""

from itertools import permutations

import pytest

from crypto.codec import encode
from engine.apply import apply_block
from engine.block import BlockInput
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
    TrailingStop,
    TriggerKind,
    TriggerSource,
)
from engine.limits import WAITING_PER_ACCOUNT_MAX
from engine.receipts import OrderEvent, WakeEvent
from engine.snapshots.whole import restore, snapshot
from engine.views import view_account

BUY, SELL = Side.BUY, Side.SELL
STOP, TAKE_PROFIT = TriggerKind
INDEX, LAST, _ = TriggerSource
POST_ONLY = TimeInForce.POST_ONLY


def stop(side, trigger, price, lots=1, source=INDEX, **more):
    return ConditionalOrder(1, side, STOP, source, trigger, price, lots, **more)


def limit(side, price, lots=1, **more):
    return PlaceOrder(1, side, price, lots, POST_ONLY, **more)


def ends(world):
    return [(event.order_id, event.code.value) for event in world.events(OrderEvent)]


def wakes(world):
    return [event.order_id for event in world.events(WakeEvent)]


@pytest.fixture
def exit_pair(world):
    """A take-profit that rests at 1,050 (order 1), a stop at 950 (order 2), of five lots each."""
    pair = OneCancelsOther(stop(SELL, 950, 900, 5), limit(SELL, 1_050, 5))
    receipt = world.one(world.ALICE, pair)
    assert (receipt.status.name, receipt.order_id, receipt.resting_lots) == ("RESTING", 1, 5)
    assert world.open_lots() == {1: 5}
    assert list(world.state.waiting) == [2]
    return world


def is_over(world):
    return not world.state.waiting and not world.state.pairs


def test_a_fired_leg_cancels_the_resting_one_before_it_trades(exit_pair):
    world = exit_pair
    world.one(world.BOB, PlaceOrder(1, BUY, 900, 5))
    world.set_index(950)
    assert wakes(world) == [2]
    assert ends(world) == [(1, "order.partner_ended")]
    assert world.position(world.ALICE) == -5
    assert world.open_lots() == {}
    assert is_over(world)


@pytest.mark.parametrize("lots", [1, 5])
def test_any_trade_of_the_resting_leg_cancels_the_waiting_one(exit_pair, lots):
    world = exit_pair
    world.one(world.BOB, MarketOrder(1, BUY, 1_050, lots))
    assert ends(world) == [(2, "order.partner_ended")]
    assert world.open_lots() == ({1: 4} if lots == 1 else {})
    assert is_over(world)
    world.set_index(950)
    assert wakes(world) == []


def test_a_leg_that_fired_in_the_block_in_which_the_other_traded_is_gone(exit_pair):
    """The trade of the taker before its turn ends it; the other way round, the taker gets nothing.

    Whichever comes first by the seed, the pair trades once.
    """
    world = exit_pair
    base = snapshot(world.state)
    outcomes = set()
    for value in range(16):
        world.state = restore(base)
        bid = world.envelope(world.CAROL, PlaceOrder(1, BUY, 900, 9, POST_ONLY))
        taker = world.envelope(world.BOB, MarketOrder(1, BUY, 1_050, 5))
        # The trigger is reached by the report in the same block.
        report = world.envelope(world.REPORTER, make_report(world, 950))
        block = BlockInput(
            world.state.height + 1,
            world.time_ms,
            bytes([value]) * 32,
            (bid, taker, report),
            (),
            world.reporters,
        )
        world.output = apply_block(world.state, block)
        assert world.position(world.ALICE) == -5
        assert is_over(world)
        outcomes.add(len(wakes(world)))
    assert outcomes == {0, 1}


def make_report(world, price):
    return OracleReport(1, price, world.state.height + 1, world.time_ms)


@pytest.mark.parametrize(
    ("instruction", "ended"),
    [
        (Cancel(1), [(2, "order.partner_ended")]),
        (Cancel(2), [(1, "order.partner_ended")]),
        (Amend(1, 0, 1_051, 5), [(1, "order.cancelled_by_owner"), (2, "order.partner_ended")]),
        (
            CancelAll(),
            [(1, "order.cancelled_by_owner"), (2, "order.cancelled_by_owner")],
        ),
        (
            PlaceOrder(1, BUY, 1_050, 1, self_trade=SelfTradeMode.CANCEL_BOTH),
            [(1, "order.self_trade"), (2, "order.partner_ended")],
        ),
    ],
)
def test_the_end_of_a_leg_by_its_owner_is_the_end_of_both(exit_pair, instruction, ended):
    world = exit_pair
    receipt = world.one(world.ALICE, instruction)
    assert ends(world) == ended
    assert is_over(world)
    if isinstance(instruction, Cancel):
        assert receipt.cancelled_count == 1
    if isinstance(instruction, CancelAll):
        assert receipt.cancelled_count == 2


def test_a_size_down_keeps_the_pair(exit_pair):
    world = exit_pair
    own = PlaceOrder(1, BUY, 1_050, 1, self_trade=SelfTradeMode.DECREMENT)
    world.one(world.ALICE, own)
    assert ends(world) == [(1, "order.self_trade")]
    assert world.open_lots() == {1: 4}
    assert world.one(world.ALICE, Amend(1, 0, 1_050, 3)).code == "ok"
    assert ends(world) == []
    assert world.state.pairs == {1: 2}


@pytest.mark.parametrize("leg", ["first", "second"])
def test_a_leg_that_expires_ends_the_other(world, leg):
    times = {leg: 2_000}
    pair = OneCancelsOther(
        stop(SELL, 950, 900, good_til_ms=times.get("first", 0)),
        limit(SELL, 1_050, good_til_ms=times.get("second", 0)),
    )
    world.one(world.ALICE, pair)
    world.time_ms = 2_000
    world.block()
    expired, other = (2, 1) if leg == "first" else (1, 2)
    assert ends(world) == [(expired, "order.expired"), (other, "order.partner_ended")]
    assert is_over(world)
    assert world.open_lots() == {}


def test_a_leg_whose_partner_has_expired_cannot_be_cancelled_any_more(world):
    pair = OneCancelsOther(stop(SELL, 950, 900), limit(SELL, 1_050, good_til_ms=2_000))
    world.one(world.ALICE, pair)
    world.time_ms = 2_000
    assert world.one(world.ALICE, Cancel(2)).code == "order.unknown"
    assert ends(world) == [(1, "order.expired"), (2, "order.partner_ended")]


def test_two_triggers_of_which_one_fires(world):
    world.run(world.BOB, PlaceOrder(1, BUY, 900, 9), PlaceOrder(1, SELL, 1_100, 9))
    pair = OneCancelsOther(stop(BUY, 1_050, 1_100, 2), TrailingStop(1, SELL, INDEX, 60, 40, 3))
    receipt = world.one(world.ALICE, pair)
    assert (receipt.status.name, receipt.order_id) == ("WAITING", 3)
    views = view_account(world.state, world.ALICE).conditionals
    assert [(view.order_id, view.partner_order_id) for view in views] == [(3, 4), (4, 3)]
    world.state = restore(snapshot(world.state))
    world.set_index(1_050)
    assert wakes(world) == [3]
    assert ends(world) == [(4, "order.partner_ended")]
    assert world.position(world.ALICE) == 2
    assert is_over(world)


def test_two_triggers_reached_at_once_fire_only_the_first(world):
    pair = OneCancelsOther(stop(SELL, 1_000, 900), stop(BUY, 1_000, 1_100))
    world.one(world.ALICE, pair)
    world.block()
    assert wakes(world) == [1]
    assert is_over(world)


def test_a_leg_that_fires_and_is_refused_has_ended_all_the_same(world):
    pair = OneCancelsOther(stop(SELL, 950, 900, reduce_only=True), limit(SELL, 1_050))
    world.one(world.ALICE, pair)
    world.set_index(950)
    (event,) = world.events(WakeEvent)
    assert event.code == "order.reduce_only_would_increase"
    assert is_over(world)
    assert world.open_lots() == {}


def test_legs_that_wait_for_trades_are_cancelled_inside_the_cascade(world):
    world.run(world.BOB, PlaceOrder(1, BUY, 990, 1), PlaceOrder(1, BUY, 980, 9))
    pair = OneCancelsOther(stop(SELL, 990, 900, 1, LAST), limit(SELL, 1_010))
    world.one(world.ALICE, pair)
    world.one(world.CAROL, MarketOrder(1, SELL, 990, 1))
    assert wakes(world) == [4]
    assert world.open_lots() == {2: 8}


def test_a_pair_survives_a_snapshot(exit_pair):
    world = exit_pair
    world.state = restore(snapshot(world.state))
    assert world.state.pairs == {1: 2}
    world.one(world.BOB, MarketOrder(1, BUY, 1_050, 1))
    assert is_over(world)


GTC = PlaceOrder(1, SELL, 1_050, 1)
ELSEWHERE = ConditionalOrder(2, SELL, STOP, INDEX, 950, 900, 1)


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        (limit(SELL, 1_050), limit(BUY, 950), "oco.legs_invalid"),
        (stop(SELL, 950, 900), GTC, "oco.legs_invalid"),
        (stop(SELL, 950, 900), ELSEWHERE, "oco.markets_differ"),
        (ELSEWHERE, ELSEWHERE, "order.unknown_market"),
        (
            stop(SELL, 950, 900, client_id=1),
            limit(SELL, 1_050, client_id=1),
            "order.duplicate_client_id",
        ),
        (stop(SELL, 950, 900, 0), limit(SELL, 1_050), "order.size_not_positive"),
        (limit(SELL, 1_050), stop(SELL, 0, 900), "trigger.price_invalid"),
        (stop(SELL, 950, 900), limit(SELL, 1_050, 0), "order.size_not_positive"),
        (stop(SELL, 950, 900), limit(SELL, 1_000), "order.post_only_would_cross"),
        (stop(SELL, 950, 900), limit(SELL, 1_050, 2**30), "margin.insufficient"),
    ],
)
def test_a_pair_of_which_one_leg_is_refused_is_refused_whole(world, first, second, code):
    world.one(world.BOB, PlaceOrder(1, BUY, 1_000, 1))
    receipt = world.one(world.ALICE, OneCancelsOther(first, second))
    assert (receipt.status.name, receipt.code) == ("REFUSED", code)
    assert is_over(world)
    assert list(world.open_lots()) == [1]


def test_a_pair_needs_room_for_all_its_legs(world):
    order = stop(SELL, 950, 900)
    world.run(world.ALICE, *[order] * (WAITING_PER_ACCOUNT_MAX - 1))
    pair = OneCancelsOther(order, stop(BUY, 1_050, 1_100))
    assert world.one(world.ALICE, pair).code == "waiting.too_many"
    assert world.one(world.ALICE, OneCancelsOther(order, limit(SELL, 1_050))).code == "ok"


def test_a_resting_leg_that_its_owners_own_orders_stop_leaves_nothing_waiting(world):
    world.one(world.ALICE, PlaceOrder(1, BUY, 1_000, 1))
    own = limit(SELL, 1_000, self_trade=SelfTradeMode.CANCEL_TAKER)
    receipt = world.one(world.ALICE, OneCancelsOther(own, stop(SELL, 950, 900)))
    assert (receipt.status.name, receipt.code) == ("CANCELLED", "order.self_trade")
    assert is_over(world)


def test_every_permutation_of_a_block_with_pairs_gives_the_same_output(exit_pair):
    world = exit_pair
    world.run(world.BOB, *[PlaceOrder(1, BUY, 990 - 5 * step, 2) for step in range(4)])
    pair = OneCancelsOther(stop(SELL, 990, 900, 2, LAST), limit(SELL, 1_020, 2))
    world.one(world.CAROL, pair)
    envelopes = [
        world.envelope(world.BOB, MarketOrder(1, BUY, 1_050, 3)),
        world.envelope(world.DAVE, MarketOrder(1, SELL, 985, 3), pair),
        world.envelope(world.ERIN, pair, MarketOrder(1, SELL, 980, 2)),
        world.envelope(world.ALICE, pair, Amend(1, 0, 1_050, 4)),
        world.envelope(world.REPORTER, make_report(world, 950)),
    ]
    base = snapshot(world.state)
    outputs = set()
    for order in permutations(envelopes):
        state = restore(base)
        block = BlockInput(state.height + 1, world.time_ms, b"s" * 32, order, (), world.reporters)
        outputs.add(encode(apply_block(state, block)))
    assert len(outputs) == 1
