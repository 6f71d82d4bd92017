"""The dead man's switch: who falls silent loses what is open."""

from itertools import permutations

import pytest

from crypto.codec import encode
from engine.apply import apply_block
from engine.block import BlockInput
from engine.instructions import (
    ArmDeadMan,
    Cancel,
    ConditionalOrder,
    OneCancelsOther,
    PlaceOrder,
    Side,
    TimeInForce,
    TriggerKind,
    TriggerSource,
    TwapOrder,
)
from engine.limits import DEAD_MAN_TIMEOUT_MAX_MS, TIME_MAX_MS
from engine.receipts import DeadManEvent, OrderEvent
from engine.snapshots.whole import restore, snapshot
from engine.views import view_account

BUY, SELL = Side.BUY, Side.SELL
STOP = ConditionalOrder(1, SELL, TriggerKind.STOP, TriggerSource.INDEX, 950, 900, 1)


def deadline(world, name):
    return view_account(world.state, name).dead_man_deadline_ms


def passed(world):
    return [
        (event.account, event.deadline_ms, event.cancelled_count)
        for event in world.events(DeadManEvent)
    ]


def test_everything_open_and_waiting_is_cancelled_at_the_deadline(world):
    pair = OneCancelsOther(STOP, PlaceOrder(1, SELL, 1_050, 2, TimeInForce.POST_ONLY))
    world.run(
        world.ALICE,
        PlaceOrder(1, BUY, 900, 3),
        pair,
        TwapOrder(1, BUY, 1_000, 60, 60_000, 1_000),
        ArmDeadMan(500),
    )
    world.one(world.BOB, PlaceOrder(1, BUY, 900, 3))
    assert deadline(world, world.ALICE) == 1_500
    world.time_ms = 1_499
    world.block()
    assert passed(world) == []
    world.time_ms = 1_500
    world.block()
    assert passed(world) == [(world.ALICE, 1_500, 4)]
    told = world.events(OrderEvent)
    assert {event.code.value for event in told} == {"order.dead_man"}
    assert sorted(event.removed_lots for event in told) == [1, 2, 3, 60]
    assert [order.exposure.account.account_id for order in world.state.orders.values()] == [
        world.BOB
    ]
    assert (world.state.waiting, world.state.pairs) == ({}, {})
    assert deadline(world, world.ALICE) == 0
    world.time_ms = 9_000
    world.block()
    assert passed(world) == []


def test_arming_again_moves_the_deadline_and_zero_takes_it_away(world):
    world.run(world.ALICE, PlaceOrder(1, BUY, 900, 3), ArmDeadMan(500))
    world.time_ms = 1_400
    assert world.one(world.ALICE, ArmDeadMan(500)).status.name == "ACCEPTED"
    world.time_ms = 1_600
    world.block()
    assert passed(world) == []
    world.one(world.ALICE, ArmDeadMan(0))
    assert world.one(world.ALICE, ArmDeadMan(0)).code == "ok"
    world.time_ms = 9_000
    world.block()
    assert passed(world) == []
    assert world.open_lots() == {1: 3}


def test_a_block_that_reaches_the_deadline_is_too_late_to_arm_again(world):
    world.run(world.ALICE, PlaceOrder(1, BUY, 900, 3), ArmDeadMan(500))
    world.time_ms = 1_500
    receipts = world.run(world.ALICE, ArmDeadMan(500), Cancel(1), PlaceOrder(1, BUY, 901, 1))
    assert passed(world) == [(world.ALICE, 1_500, 1)]
    assert [receipt.code.value for receipt in receipts] == ["ok", "order.unknown", "ok"]
    assert deadline(world, world.ALICE) == 2_000
    assert world.open_lots() == {2: 1}


@pytest.mark.parametrize("timeout_ms", [-1, -(2**63), DEAD_MAN_TIMEOUT_MAX_MS + 1, 2**64 - 1])
def test_a_timeout_out_of_range_is_refused_and_leaves_the_deadline(world, timeout_ms):
    world.one(world.ALICE, ArmDeadMan(DEAD_MAN_TIMEOUT_MAX_MS))
    receipt = world.one(world.ALICE, ArmDeadMan(timeout_ms))
    assert (receipt.status.name, receipt.code) == ("REFUSED", "dead_man.timeout_invalid")
    assert deadline(world, world.ALICE) == world.time_ms + DEAD_MAN_TIMEOUT_MAX_MS
    assert world.one(b"n" * 32, ArmDeadMan(1)).code == "account.unknown"


def test_the_last_deadline_is_the_end_of_time(world):
    world.time_ms = TIME_MAX_MS - 5
    world.one(world.ALICE, ArmDeadMan(1_000))
    assert deadline(world, world.ALICE) == TIME_MAX_MS
    world.state = restore(snapshot(world.state))
    world.time_ms = TIME_MAX_MS
    world.block()
    assert passed(world) == [(world.ALICE, TIME_MAX_MS, 0)]


def test_deadlines_are_in_the_root_and_in_snapshots(world):
    plain = world.block().state_root
    world.one(world.ALICE, ArmDeadMan(500))
    armed = snapshot(world.state)
    assert snapshot(restore(armed)) == armed
    assert world.output.state_root != plain
    world.state = restore(armed)
    world.time_ms = 1_500
    world.block()
    assert passed(world) == [(world.ALICE, 1_500, 0)]


def test_every_permutation_of_a_block_with_switches_gives_the_same_output(world):
    for name in (world.ALICE, world.BOB, world.CAROL):
        world.run(name, PlaceOrder(1, BUY, 900, 3), STOP, ArmDeadMan(500))
    envelopes = [
        world.envelope(world.ALICE, ArmDeadMan(700), PlaceOrder(1, BUY, 901, 1)),
        world.envelope(world.ALICE, ArmDeadMan(0)),
        world.envelope(world.BOB, ArmDeadMan(600), STOP),
        world.envelope(world.CAROL, STOP, ArmDeadMan(-1)),
        world.envelope(world.DAVE, PlaceOrder(1, SELL, 900, 5), ArmDeadMan(1)),
    ]
    base = snapshot(world.state)
    outputs = set()
    for order in permutations(envelopes):
        state = restore(base)
        block = BlockInput(state.height + 1, 1_500, b"s" * 32, order, (), world.reporters)
        output = apply_block(state, block)
        outputs.add(encode(output))
        assert sum(isinstance(event, DeadManEvent) for event in output.events) == 3
    assert len(outputs) == 1
