"""What one sender's orders may meet in one block is bounded; the rest of them is cancelled."""

from itertools import permutations

import pytest

from engine.apply import apply_block
from engine.block import BlockInput
from engine.instructions import (
    ConditionalOrder,
    OnBehalf,
    OracleReport,
    PlaceOrder,
    SelfTradeMode,
    Side,
    TimeInForce,
    Transfer,
    TriggerKind,
    TriggerSource,
)
from engine.limits import MATCHES_PER_SENDER_MAX, PORTFOLIO_MATCH_WEIGHT
from engine.receipts import WakeEvent
from engine.state import create_state

BUY, SELL = Side.BUY, Side.SELL


@pytest.fixture
def bounded(world, monkeypatch):
    """Twelve asks of one lot, of which a sender may meet eight."""
    monkeypatch.setattr("engine.trading.matching.MATCHES_PER_SENDER_MAX", 8)
    world.run(world.ALICE, *[PlaceOrder(1, SELL, 1_000, 1)] * 12)
    return world


def outcome(receipt):
    return receipt.status.name, str(receipt.code), receipt.filled_lots, receipt.resting_lots


@pytest.mark.parametrize("tif", [TimeInForce.GTC, TimeInForce.IOC])
def test_what_is_left_after_so_many_matches_is_cancelled_and_may_go_on_a_block_later(bounded, tif):
    order = PlaceOrder(1, BUY, 1_000, 20, tif)
    receipt = bounded.one(bounded.BOB, order)
    assert outcome(receipt) == ("PARTIALLY_FILLED", "order.too_many_matches", 8, 0)
    assert sum(bounded.open_lots().values()) == 4
    code, resting = ("ok", 16) if tif is TimeInForce.GTC else ("order.ioc_remainder", 0)
    assert outcome(bounded.one(bounded.BOB, order)) == ("PARTIALLY_FILLED", code, 4, resting)


def test_an_order_that_meets_just_so_many_may_rest(bounded):
    bounded.one(bounded.ALICE, PlaceOrder(1, SELL, 1_001, 1))
    bounded.run(bounded.CAROL, PlaceOrder(1, BUY, 1_000, 4, TimeInForce.FOK))
    receipt = bounded.one(bounded.BOB, PlaceOrder(1, BUY, 1_000, 9))
    assert outcome(receipt) == ("PARTIALLY_FILLED", "ok", 8, 1)


def test_all_orders_of_an_owner_share_it_and_other_senders_do_not(bounded):
    world = bounded
    sub = PlaceOrder(1, BUY, 1_000, 4)
    world.one(world.BOB, Transfer(10**7, sub=1))
    bob = world.envelope(world.BOB, PlaceOrder(1, BUY, 1_000, 6), OnBehalf(1, sub), sub)
    carol = world.envelope(world.CAROL, PlaceOrder(1, BUY, 1_000, 2))
    found = {}
    for receipt in world.block([bob, carol]).receipts:
        found.setdefault(receipt.envelope_id, []).append(outcome(receipt))
    assert found[bob.envelope_id] == [
        ("FILLED", "ok", 6, 0),
        ("PARTIALLY_FILLED", "order.too_many_matches", 2, 0),
        ("CANCELLED", "order.too_many_matches", 0, 0),
    ]
    assert found[carol.envelope_id] == [("FILLED", "ok", 2, 0)]


def test_no_order_of_the_envelopes_changes_who_meets_what(bounded):
    world = bounded
    sweeps = [
        world.envelope(world.BOB, PlaceOrder(1, BUY, 1_000, 9), PlaceOrder(1, BUY, 1_000, 1)),
        world.envelope(world.CAROL, PlaceOrder(1, BUY, 1_000, 9)),
        world.envelope(world.BOB, PlaceOrder(1, BUY, 1_000, 2)),
    ]
    outputs = []
    for envelopes in permutations(sweeps):
        state = create_state(world.genesis)
        for block in world.inputs:
            apply_block(state, block)
        block = BlockInput(
            state.height + 1, world.time_ms, bytes(32), envelopes, (), world.reporters
        )
        outputs.append(apply_block(state, block))
    assert all(output == outputs[0] for output in outputs)
    assert len(outputs[0].fills) == 12


def test_a_fill_or_kill_order_is_filled_within_the_matches_or_not_at_all(bounded):
    def fok(lots):
        return PlaceOrder(1, BUY, 1_000, lots, TimeInForce.FOK)

    receipts = bounded.run(bounded.BOB, fok(9), fok(5), fok(4), fok(3), fok(1))
    codes = ["order.fok_unfillable", "ok", "order.fok_unfillable", "ok", "order.fok_unfillable"]
    assert [receipt.code for receipt in receipts] == codes


def test_own_orders_and_those_without_margin_are_met_too(bounded):
    world = bounded
    world.run(world.BOB, *[PlaceOrder(1, SELL, 999, 1, TimeInForce.POST_ONLY)] * 5)
    taker = PlaceOrder(1, BUY, 1_000, 9, self_trade=SelfTradeMode.CANCEL_MAKER)
    receipt = world.one(world.BOB, taker)
    assert outcome(receipt) == ("PARTIALLY_FILLED", "order.too_many_matches", 3, 0)


def test_what_fires_shares_the_matches_of_its_owner(bounded):
    world = bounded
    stop = ConditionalOrder(1, BUY, TriggerKind.STOP, TriggerSource.INDEX, 1_010, 1_100, 9)
    assert world.one(world.BOB, stop).code == "ok"
    index = OracleReport(1, 1_020, world.state.height + 1, world.time_ms)
    taker = PlaceOrder(1, BUY, 1_000, 1)
    output = world.block([world.envelope(world.REPORTER, index), world.envelope(world.BOB, taker)])
    (event,) = [each for each in output.events if isinstance(each, WakeEvent)]
    assert (str(event.code), event.filled_lots) == ("order.too_many_matches", 8)
    assert sorted(str(each.code) for each in output.receipts) == ["ok", "order.too_many_matches"]


def test_an_honest_sweep_of_a_crash_fits():
    assert MATCHES_PER_SENDER_MAX // PORTFOLIO_MATCH_WEIGHT >= 1_000
