"""Stop, take-profit and trailing orders: what reaches them, when they act, and what they become."""

from itertools import permutations

import pytest

from crypto.codec import encode
from engine.apply import apply_block
from engine.block import BlockInput
from engine.genesis import MarkParams
from engine.instructions import (
    Amend,
    Cancel,
    CancelAll,
    ConditionalOrder,
    MarketOrder,
    OnBehalf,
    OneCancelsOther,
    PlaceOrder,
    Side,
    TimeInForce,
    TrailingStop,
    Transfer,
    TriggerKind,
    TriggerSource,
    TwapOrder,
)
from engine.limits import (
    TRAILING_PER_MARKET_MAX,
    TRAILING_PER_OWNER_MAX,
    TRIGGER_ROUNDS_MAX,
    WAITING_PER_ACCOUNT_MAX,
    WAITING_PER_MARKET_MAX,
    WAKES_PER_MARKET_MAX,
)
from engine.receipts import OrderEvent, WakeEvent
from engine.snapshots.whole import restore, snapshot
from engine.views import view_account, view_waiting
from engine.waiting import triggers

BUY, SELL = Side.BUY, Side.SELL
STOP, TAKE_PROFIT = TriggerKind
INDEX, LAST, MARK = TriggerSource


def stop(side, trigger, price, lots=1, source=INDEX, **more):
    return ConditionalOrder(1, side, STOP, source, trigger, price, lots, **more)


def take_profit(side, trigger, price, lots=1, source=INDEX, **more):
    return ConditionalOrder(1, side, TAKE_PROFIT, source, trigger, price, lots, **more)


def wakes(world):
    return world.events(WakeEvent)


def ends(world):
    """(id, code, lots) of what ended without acting."""
    return [
        (event.order_id, event.code.value, event.removed_lots) for event in world.events(OrderEvent)
    ]


def quote_both_sides(world):
    world.run(world.BOB, PlaceOrder(1, BUY, 900, 50), PlaceOrder(1, SELL, 1_100, 50))


@pytest.mark.parametrize(
    ("order", "short_of", "at"),
    [
        (stop(SELL, 950, 900), 951, 950),
        (stop(BUY, 1_050, 1_100), 1_049, 1_050),
        (take_profit(SELL, 1_050, 900), 1_049, 1_050),
        (take_profit(BUY, 950, 1_100), 951, 950),
    ],
)
def test_each_kind_fires_at_its_trigger_and_not_one_tick_before(world, order, short_of, at):
    quote_both_sides(world)
    receipt = world.one(world.ALICE, order)
    assert (receipt.status.name, receipt.code) == ("WAITING", "ok")
    world.set_index(short_of)
    assert wakes(world) == []
    world.set_index(at)
    (event,) = wakes(world)
    assert (event.order_id, event.owner, event.code) == (receipt.order_id, world.ALICE, "ok")
    assert (event.status.name, event.filled_lots, event.resting_lots) == ("FILLED", 1, 0)
    assert [fill.taker_order_id for fill in world.output.fills] == [event.placed_order_id]
    assert world.position(world.ALICE) == order.side
    assert world.state.waiting == {}
    assert world.state.accounts[world.ALICE].waiting == {}


def test_a_stop_limit_rests_what_it_cannot_trade_under_the_same_client_id(world):
    order = stop(BUY, 1_050, 1_040, 5, tif=TimeInForce.GTC, client_id=7, good_til_ms=9_000)
    world.one(world.ALICE, order)
    world.set_index(1_050)
    (event,) = wakes(world)
    assert (event.status.name, event.resting_lots) == ("RESTING", 5)
    resting = world.state.orders[event.placed_order_id]
    assert (resting.client_id, resting.good_til_ms, resting.price) == (7, 9_000, 1_040)
    assert world.one(world.ALICE, Cancel(client_id=7)).order_id == event.placed_order_id


def test_a_client_id_is_one_name_space_with_open_orders(world):
    world.one(world.ALICE, stop(SELL, 950, 900, client_id=3))
    again = (PlaceOrder(1, BUY, 990, 1, client_id=3), stop(SELL, 950, 900, client_id=3))
    for order in again:
        assert world.one(world.ALICE, order).code == "order.duplicate_client_id"
    assert world.one(world.ALICE, Cancel(client_id=3)).order_id == 1
    assert world.one(world.ALICE, again[0]).code == "ok"
    assert world.one(world.ALICE, again[1]).code == "order.duplicate_client_id"


def test_a_trigger_that_is_reached_already_fires_in_the_next_block(world):
    quote_both_sides(world)
    world.one(world.ALICE, stop(SELL, 1_000, 900))
    assert wakes(world) == []
    world.block()
    assert [event.filled_lots for event in wakes(world)] == [1]


def test_nothing_fires_by_a_stale_index(world):
    quote_both_sides(world)
    world.one(world.ALICE, stop(SELL, 1_000, 900))
    world.time_ms += 60_001
    world.block()
    assert wakes(world) == []
    assert world.state.markets[1].stale
    world.set_index(1_001)
    assert wakes(world) == []
    world.set_index(1_000)
    assert len(wakes(world)) == 1


def test_a_reduce_only_stop_only_closes(world):
    quote_both_sides(world)
    world.one(world.ALICE, PlaceOrder(1, BUY, 1_100, 3))
    world.run(
        world.ALICE,
        stop(SELL, 950, 900, 10, reduce_only=True),
        stop(SELL, 950, 900, 10, reduce_only=True),
    )
    world.set_index(950)
    assert [(event.filled_lots, event.code) for event in wakes(world)] == [
        (3, "order.reduce_only_shrunk"),
        (0, "order.reduce_only_would_increase"),
    ]
    assert world.position(world.ALICE) == 0


def test_margin_is_asked_for_when_it_fires_and_not_before(make_world):
    world = make_world(balance=10_000)
    poor = stop(SELL, 950, 900, 50)
    world.run(world.ALICE, poor, poor, poor)
    account = view_account(world.state, world.ALICE)
    assert account.initial_margin_microquote == 0
    world.one(world.ALICE, Cancel(2))
    world.set_index(950)
    assert [(event.status.name, event.code, event.placed_order_id) for event in wakes(world)] == [
        ("REFUSED", "margin.insufficient", 0)
    ] * 2
    assert world.state.waiting == {}


def test_the_band_is_that_of_the_block_in_which_it_fires(world):
    world.one(world.ALICE, stop(SELL, 300, 200))
    assert world.state.markets[1].band_low == 500
    world.set_index(300)
    assert [event.code for event in wakes(world)] == ["order.ioc_remainder"]


def test_expiry_cancel_and_cancel_all_reach_what_waits(world):
    world.run(
        world.ALICE,
        stop(SELL, 950, 900, good_til_ms=2_000),
        stop(SELL, 950, 900),
        stop(SELL, 950, 900),
        PlaceOrder(1, BUY, 990, 4),
    )
    world.time_ms = 2_000
    world.block()
    assert ends(world) == [(1, "order.expired", 1)]
    receipt = world.one(world.ALICE, Cancel(2))
    assert (receipt.status.name, receipt.order_id, receipt.cancelled_count) == ("CANCELLED", 2, 1)
    assert world.one(world.BOB, Cancel(3)).code == "order.unknown"
    assert world.one(world.ALICE, CancelAll(1)).cancelled_count == 2
    assert ends(world) == [
        (4, "order.cancelled_by_owner", 4),
        (3, "order.cancelled_by_owner", 1),
    ]
    world.set_index(900)
    assert wakes(world) == []


def test_a_waiting_order_cannot_be_amended(world):
    world.one(world.ALICE, stop(SELL, 950, 900, client_id=4))
    assert world.one(world.ALICE, Amend(1, 0, 900, 1)).code == "order.not_amendable"
    assert world.one(world.ALICE, Amend(0, 4, 910, 2)).code == "order.not_amendable"
    assert list(world.state.waiting) == [1]


def test_a_trailing_stop_follows_the_index_and_never_back(world):
    quote_both_sides(world)
    world.one(world.ALICE, TrailingStop(1, SELL, INDEX, 30, 100, 2))
    triggers_seen = []
    for index in (990, 1_010, 1_000, 1_050, 1_030):
        world.set_index(index)
        assert wakes(world) == []
        triggers_seen.append(view_waiting(world.state, 3).trigger_ticks)
    assert triggers_seen == [970, 980, 980, 1_020, 1_020]
    world.set_index(1_020)
    (event,) = wakes(world)
    # Its limit is 1,020 - 100, above the best bid of 900.
    assert (event.code, event.filled_lots) == ("order.ioc_remainder", 0)


def test_a_trailing_buy_trades_up_to_its_slack(world):
    quote_both_sides(world)
    world.one(world.ALICE, TrailingStop(1, BUY, INDEX, 30, 120, 2))
    world.set_index(960)
    assert view_waiting(world.state, 3).trigger_ticks == 990
    world.set_index(990)
    assert [(event.filled_lots, event.code.value) for event in wakes(world)] == [(2, "ok")]


def test_a_trailing_stop_beyond_all_prices_waits(world):
    quote_both_sides(world)
    world.one(world.ALICE, TrailingStop(1, SELL, INDEX, 2**32 - 1, 0, 1))
    world.set_index(1)
    assert wakes(world) == []
    world.state = restore(snapshot(world.state))
    assert view_waiting(world.state, 3).trigger_ticks == 1_000 - (2**32 - 1)


def test_last_is_the_trades_since_the_order_was_placed(world):
    world.run(world.BOB, PlaceOrder(1, BUY, 940, 1), PlaceOrder(1, BUY, 930, 50))
    world.one(world.CAROL, MarketOrder(1, SELL, 940, 1))
    world.one(world.ALICE, stop(SELL, 940, 900, source=LAST))
    world.block()
    world.set_index(900)
    assert wakes(world) == []
    # The trade at 930 of the takers reaches it in the very block.
    world.one(world.CAROL, MarketOrder(1, SELL, 930, 1))
    assert [event.filled_lots for event in wakes(world)] == [1]
    assert [fill.taker for fill in world.output.fills] == [world.CAROL, world.ALICE]


def test_a_trailing_stop_on_trades_moves_with_the_last_one(world):
    world.run(world.BOB, *[PlaceOrder(1, SELL, price, 1) for price in (1_040, 1_060, 1_080)])
    world.one(world.BOB, PlaceOrder(1, BUY, 900, 50))
    world.one(world.ALICE, TrailingStop(1, SELL, LAST, 50, 200, 1))
    order_id = max(world.state.waiting)
    world.one(world.CAROL, MarketOrder(1, BUY, 1_060, 2))
    assert view_waiting(world.state, order_id).trigger_ticks == 1_010
    world.one(world.CAROL, MarketOrder(1, SELL, 900, 1))
    (event,) = wakes(world)
    assert (event.filled_lots, event.code) == (1, "ok")


@pytest.mark.parametrize(
    "order", [stop(SELL, 940, 900, source=LAST), TrailingStop(1, SELL, LAST, 60, 100, 1)]
)
def test_every_trade_of_a_block_counts_and_not_its_last_alone(world, order):
    world.run(
        world.BOB,
        PlaceOrder(1, BUY, 940, 1),
        PlaceOrder(1, BUY, 900, 50),
        PlaceOrder(1, SELL, 1_000, 1),
    )
    world.one(world.ALICE, order)
    world.run(world.CAROL, MarketOrder(1, SELL, 940, 1), MarketOrder(1, BUY, 1_000, 1))
    assert [fill.price_ticks for fill in world.output.fills] == [940, 1_000, 900]
    assert [event.filled_lots for event in wakes(world)] == [1]


def _cascade(world, steps):
    """Sell stops on trades, each of which trades one tick deeper and so reaches the next one."""
    world.run(world.BOB, *[PlaceOrder(1, BUY, 990 - step, 1) for step in range(steps + 1)])
    orders = [stop(SELL, 990 - step, 900, 1, LAST) for step in range(steps)]
    world.run(world.ALICE, *orders)
    world.one(world.CAROL, MarketOrder(1, SELL, 990, 1))


def test_a_cascade_runs_to_its_end_inside_the_block(world):
    _cascade(world, TRIGGER_ROUNDS_MAX)
    assert len(wakes(world)) == TRIGGER_ROUNDS_MAX
    assert world.state.waiting == {}
    assert [fill.price_ticks for fill in world.output.fills] == [990, 989, 988, 987, 986]


def test_what_a_cascade_reaches_beyond_its_rounds_fires_in_the_next_block(world):
    _cascade(world, TRIGGER_ROUNDS_MAX + 2)
    assert len(wakes(world)) == TRIGGER_ROUNDS_MAX
    (marked, waiting) = world.state.waiting.values()
    assert (marked.is_fired, waiting.is_fired) == (True, False)
    assert view_waiting(world.state, marked.order_id).is_fired
    world.state = restore(snapshot(world.state))
    world.block()
    assert [event.order_id for event in wakes(world)] == [marked.order_id, waiting.order_id]


def test_one_market_wakes_only_so_many_in_a_block_the_oldest_first(make_world, monkeypatch):
    monkeypatch.setattr(triggers, "WAKES_PER_MARKET_MAX", 3)
    world = make_world(markets=2)
    world.run(world.ALICE, *[stop(SELL, 1_000, 900) for _ in range(4)])
    world.run(world.ALICE, ConditionalOrder(2, SELL, STOP, INDEX, 1_000, 900, 1))
    woken = wakes(world)
    assert [event.order_id for event in woken] == [1, 2, 3]
    world.block()
    assert sorted(event.order_id for event in wakes(world)) == [4, 5]
    assert WAKES_PER_MARKET_MAX == 250


def test_many_old_orders_of_one_account_do_not_keep_a_younger_one_of_another_waiting(
    world, monkeypatch
):
    monkeypatch.setattr(triggers, "WAKES_PER_MARKET_MAX", 3)
    world.run(world.ALICE, *[stop(SELL, 950, 900) for _ in range(WAITING_PER_ACCOUNT_MAX)])
    world.run(world.BOB, stop(SELL, 950, 900), TwapOrder(1, SELL, 900, 1, 1_000, 1_000))
    world.time_ms += 1_000
    world.set_index(950)
    assert sorted(event.order_id for event in wakes(world)) == [1, 2, 65]
    world.block()
    assert sorted(event.order_id for event in wakes(world)) == [3, 4, 66]


def test_sub_accounts_buy_no_turns_for_what_has_fired(world, monkeypatch):
    monkeypatch.setattr(triggers, "WAKES_PER_MARKET_MAX", 2)
    subs = (1, 2, 3)
    world.run(world.ALICE, *[Transfer(1_000_000, sub=number) for number in subs])
    world.run(world.ALICE, *[OnBehalf(number, stop(SELL, 950, 900)) for number in subs])
    world.one(world.BOB, stop(SELL, 950, 900))
    world.set_index(950)
    assert sorted(event.order_id for event in wakes(world)) == [1, 4]


def test_what_waits_is_bounded_for_an_account(world):
    order = stop(SELL, 950, 900)
    receipts = world.run(world.ALICE, *[order] * WAITING_PER_ACCOUNT_MAX)
    assert {receipt.code for receipt in receipts} == {"ok"}
    assert world.one(world.ALICE, order).code == "waiting.too_many"
    assert world.one(world.BOB, order).code == "ok"


def test_the_trailing_stops_of_an_owner_are_bounded_in_each_market(make_world):
    world = make_world(markets=2)
    trailing = TrailingStop(1, SELL, INDEX, 10, 10, 1)
    world.one(world.ALICE, Transfer(10**6, sub=1))
    receipts = world.run(world.ALICE, *[trailing] * 10, *[OnBehalf(1, trailing)] * 7)
    codes = [str(receipt.code) for receipt in receipts]
    assert codes == ["ok"] * TRAILING_PER_OWNER_MAX + ["waiting.too_many"]
    pair = OneCancelsOther(stop(SELL, 950, 900), trailing)
    assert world.one(world.ALICE, pair).code == "waiting.too_many"
    elsewhere = TrailingStop(2, SELL, INDEX, 10, 10, 1)
    assert world.one(world.ALICE, elsewhere).code == "ok"
    assert world.one(world.BOB, trailing).code == "ok"
    world.run(world.ALICE, CancelAll(1))
    assert world.run(world.ALICE, OnBehalf(1, trailing), trailing)[1].code == "ok"


def test_what_waits_is_bounded_for_a_market(make_world, monkeypatch):
    world = make_world(markets=2)
    monkeypatch.setattr(triggers, "WAITING_PER_MARKET_MAX", 3)
    monkeypatch.setattr(triggers, "TRAILING_PER_MARKET_MAX", 1)
    trailing = TrailingStop(1, SELL, INDEX, 10, 10, 1)
    assert [receipt.code for receipt in world.run(world.ALICE, trailing, trailing)] == [
        "ok",
        "waiting.market_full",
    ]
    order = stop(SELL, 950, 900)
    assert [receipt.code for receipt in world.run(world.BOB, order, order, order)] == [
        "ok",
        "ok",
        "waiting.market_full",
    ]
    elsewhere = ConditionalOrder(2, SELL, STOP, INDEX, 950, 900, 1)
    assert world.one(world.BOB, elsewhere).code == "ok"
    assert (WAITING_PER_MARKET_MAX, TRAILING_PER_MARKET_MAX) == (20_000, 500)


REFUSALS = [
    (ConditionalOrder(9, BUY, STOP, INDEX, 1, 1, 1), "order.unknown_market"),
    (stop(BUY, 1, 1, 0), "order.size_not_positive"),
    (stop(BUY, 1, 1, -1), "order.size_not_positive"),
    (stop(BUY, 1, 1, 2**32), "order.size_overflow"),
    (stop(BUY, 1, 1, 2**63), "order.size_overflow"),
    (stop(BUY, 1, 0), "order.price_not_positive"),
    (stop(BUY, 1, 2**32), "order.price_overflow"),
    (stop(BUY, 1, 2**32 - 1, 2**32 - 1), "order.notional_overflow"),
    (stop(BUY, 1, 1, client_id=-1), "order.client_id_invalid"),
    (stop(BUY, 0, 1), "trigger.price_invalid"),
    (stop(BUY, -(2**63), 1), "trigger.price_invalid"),
    (stop(BUY, 2**32, 1), "trigger.price_invalid"),
    (stop(BUY, 1, 1, tif=TimeInForce.POST_ONLY), "trigger.post_only"),
    (stop(BUY, 1, 1, good_til_ms=-1), "order.good_til_invalid"),
    (stop(BUY, 1, 1, good_til_ms=2**63), "order.good_til_invalid"),
    (stop(BUY, 1, 1, good_til_ms=1_000), "order.expired"),
    (TrailingStop(9, BUY, INDEX, 1, 1, 1), "order.unknown_market"),
    (TrailingStop(1, BUY, INDEX, 0, 1, 1), "trigger.offset_invalid"),
    (TrailingStop(1, BUY, INDEX, 2**32, 1, 1), "trigger.offset_invalid"),
    (TrailingStop(1, BUY, INDEX, 1, -1, 1), "trigger.offset_invalid"),
    (TrailingStop(1, BUY, INDEX, 1, 2**32, 1), "trigger.offset_invalid"),
    (TrailingStop(1, BUY, INDEX, 1, 1, 0), "order.size_not_positive"),
    (TrailingStop(1, BUY, INDEX, 1, 1, 1, TimeInForce.POST_ONLY), "trigger.post_only"),
]


@pytest.mark.parametrize(("order", "code"), REFUSALS)
def test_what_cannot_wait_is_refused_and_changes_nothing(world, order, code):
    before = world.state.accounts[world.ALICE].quote, world.state.next_order_id
    receipt = world.one(world.ALICE, order)
    assert (receipt.status.name, receipt.code, receipt.order_id) == ("REFUSED", code, 0)
    assert (world.state.accounts[world.ALICE].quote, world.state.next_order_id) == before
    assert world.state.waiting == {}


def test_nothing_waits_before_the_first_index_or_without_an_account(make_world):
    world = make_world(index=None)
    for order in (stop(SELL, 950, 900), TrailingStop(1, SELL, INDEX, 10, 10, 1)):
        assert world.one(world.ALICE, order).code == "oracle.no_index"
        assert world.one(b"n" * 32, order).code == "account.unknown"


def test_what_fired_takes_turns_with_the_takers_and_nobody_jumps_the_queue(world):
    """Two lots for two senders: the one with four stops does not take both."""
    world.one(world.BOB, PlaceOrder(1, BUY, 950, 2))
    world.run(world.ALICE, *[stop(SELL, 1_000, 900) for _ in range(4)])
    world.block([world.envelope(world.CAROL, MarketOrder(1, SELL, 950, 1))])
    assert len(wakes(world)) == 4
    assert sorted(fill.taker for fill in world.output.fills) == [world.ALICE, world.CAROL]


def test_an_owners_older_stop_acts_before_the_younger_and_before_its_takers(world):
    world.one(world.BOB, PlaceOrder(1, BUY, 950, 3))
    world.run(world.ALICE, stop(SELL, 1_000, 900), stop(SELL, 1_000, 900))
    order = MarketOrder(1, SELL, 950, 5)
    (receipt,) = world.run(world.ALICE, order)
    assert [(event.order_id, event.filled_lots) for event in wakes(world)] == [(2, 1), (3, 1)]
    assert receipt.filled_lots == 1


def test_every_permutation_of_a_block_with_triggers_gives_the_same_output(world):
    world.run(
        world.BOB,
        *[PlaceOrder(1, BUY, 1_000 - 5 * step, 2) for step in range(6)],
    )
    alice = (
        stop(SELL, 995, 900, 2, LAST),
        stop(SELL, 1_000, 980, 1, client_id=1),
        stop(SELL, 1_000, 980, 1, client_id=2),
    )
    carol = (
        TrailingStop(1, SELL, LAST, 20, 50, 1),
        stop(SELL, 985, 900, 2, LAST, client_id=1),
        take_profit(SELL, 1_000, 900, 3),
    )
    world.block([world.envelope(world.ALICE, *alice), world.envelope(world.CAROL, *carol)])
    envelopes = [
        world.envelope(world.ALICE, stop(BUY, 900, 1_100), MarketOrder(1, SELL, 990, 1)),
        world.envelope(world.ALICE, Cancel(client_id=1), TrailingStop(1, BUY, LAST, 10, 10, 2)),
        world.envelope(world.BOB, Amend(1, 0, 999, 1), stop(SELL, 985, 900, 2, LAST)),
        world.envelope(world.CAROL, MarketOrder(1, SELL, 985, 3), Cancel(client_id=1)),
        world.envelope(world.DAVE, MarketOrder(1, SELL, 990, 2), stop(SELL, 990, 900, 1, LAST)),
        world.envelope(world.ERIN, PlaceOrder(1, SELL, 1_000, 3), CancelAll()),
    ]
    base = snapshot(world.state)
    outputs = set()
    for order in permutations(envelopes):
        state = restore(base)
        block = BlockInput(state.height + 1, 2_000, b"s" * 32, order, (), world.reporters)
        outputs.add(encode(apply_block(state, block)))
    assert len(outputs) == 1
    output = apply_block(world.state, block)
    assert len([event for event in output.events if isinstance(event, WakeEvent)]) >= 3


def test_views_show_what_waits(world):
    world.run(
        world.ALICE,
        take_profit(BUY, 950, 960, 5, LAST, client_id=9, reduce_only=True, good_til_ms=5_000),
        TrailingStop(1, SELL, INDEX, 30, 20, 2),
    )
    fixed, trailing = view_account(world.state, world.ALICE).conditionals
    assert (fixed.kind, fixed.source, fixed.trigger_ticks) == (TAKE_PROFIT, LAST, 950)
    assert (fixed.price_ticks, fixed.size_lots, fixed.client_id) == (960, 5, 9)
    assert (fixed.reduce_only, fixed.good_til_ms, fixed.is_fired) == (True, 5_000, False)
    assert (trailing.kind, trailing.offset_ticks, trailing.slack_ticks) == (STOP, 30, 20)
    assert view_waiting(world.state, 1) == fixed
    assert view_waiting(world.state, 3) is None


@pytest.fixture
def marked(make_world):
    """A mark that follows a book above the index within a second."""
    params = MarkParams(100_000, premium_max_ppm=50_000, average_ms=1_000, interval_ms=1_000)
    world = make_world(mark=params)
    quote_both_sides(world)
    world.run(world.CAROL, PlaceOrder(1, BUY, 1_030, 50), PlaceOrder(1, SELL, 1_032, 50))
    return world


def test_a_stop_by_the_mark_fires_by_the_mark_alone(marked):
    marked.run(
        marked.ALICE,
        stop(BUY, 1_020, 1_100, source=MARK),
        stop(BUY, 1_020, 1_100, source=INDEX),
    )
    assert wakes(marked) == []
    marked.time_ms += 1_000
    marked.block()
    assert marked.state.markets[1].mark_price == 1_030
    (event,) = wakes(marked)
    assert (event.order_id, event.filled_lots) == (5, 1)
    assert view_waiting(marked.state, 6).source == INDEX
    marked.set_index(1_020)
    assert [event.order_id for event in wakes(marked)] == [6]


def test_a_trailing_stop_by_the_mark_starts_at_the_mark_and_follows_it(marked):
    marked.time_ms += 1_000
    marked.block()
    order = TrailingStop(1, SELL, MARK, 40, 200, 1)
    number = marked.one(marked.ALICE, order).order_id
    assert view_waiting(marked.state, number).trigger_ticks == 1_030 - 40
    marked.run(marked.DAVE, PlaceOrder(1, SELL, 1_060, 15), PlaceOrder(1, BUY, 1_031, 15))
    marked.time_ms += 1_000
    marked.block()
    assert view_waiting(marked.state, number).trigger_ticks == 1_031 - 40
    restored = restore(snapshot(marked.state))
    assert view_waiting(restored, number) == view_waiting(marked.state, number)
    # Without quotes the mark is the index, which is reached at once.
    marked.run(marked.CAROL, CancelAll())
    marked.run(marked.DAVE, CancelAll())
    marked.set_index(985)
    (event,) = wakes(marked)
    assert (event.order_id, event.filled_lots) == (number, 1)


def test_a_stale_index_fires_nothing_by_the_mark(marked):
    marked.time_ms += 1_000
    marked.block()
    marked.time_ms += 60_000
    marked.block()
    assert marked.state.markets[1].stale
    marked.one(marked.ALICE, stop(BUY, 1_020, 1_100, source=MARK))
    marked.block()
    assert wakes(marked) == []
    marked.set_index(1_000)
    assert len(wakes(marked)) == 1
