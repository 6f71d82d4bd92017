"""Phases, turns, and that no proposer can choose an order."""

from itertools import permutations
from typing import get_args

import pytest

from crypto.codec import encode
from engine.apply import PHASES, apply_block
from engine.block import BlockInput
from engine.instructions import (
    Amend,
    Bundle,
    Cancel,
    CancelAll,
    Instruction,
    MarketOrder,
    OnBehalf,
    PlaceOrder,
    SelfTradeMode,
    Side,
    TimeInForce,
)
from engine.limits import INSTRUCTIONS_PER_BUNDLE_MAX
from engine.snapshots.whole import restore, snapshot

BUY, SELL = Side.BUY, Side.SELL
POST_ONLY = TimeInForce.POST_ONLY


def test_cancels_run_before_takers_and_post_only_orders_before_takers(world):
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_000, 5))
    taker = world.envelope(world.BOB, MarketOrder(1, BUY, 1_000, 5))
    cancel = world.envelope(world.ALICE, Cancel(order_id=1))
    maker = world.envelope(world.CAROL, PlaceOrder(1, SELL, 1_000, 5, POST_ONLY))
    output = world.block([taker, cancel, maker])
    assert [(fill.maker, fill.size_lots) for fill in output.fills] == [(world.CAROL, 5)]


def test_size_downs_run_with_the_cancels(world):
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_000, 5))
    taker = world.envelope(world.BOB, MarketOrder(1, BUY, 1_000, 5))
    amend = world.envelope(world.ALICE, Amend(1, 0, 1_000, 2))
    assert world.block([taker, amend]).fills[0].size_lots == 2


def test_a_bundle_is_not_atomic_and_its_cancel_runs_before_its_order(world):
    receipts = world.run(
        world.ALICE,
        PlaceOrder(1, BUY, 990, 1, client_id=1),
        PlaceOrder(9, BUY, 990, 1),
        Cancel(client_id=1),
        PlaceOrder(1, BUY, 991, 1, client_id=2),
    )
    assert [receipt.code for receipt in receipts] == [
        "ok",
        "order.unknown_market",
        "order.unknown",
        "ok",
    ]
    assert [receipt.index for receipt in receipts] == [0, 1, 2, 3]
    assert len(world.open_lots()) == 2


def test_takers_take_turns_one_instruction_each(world):
    world.one(world.CAROL, PlaceOrder(1, SELL, 1_000, 4))
    one = world.envelope(world.ALICE, *[MarketOrder(1, BUY, 1_000, 1) for _ in range(4)])
    two = world.envelope(world.BOB, *[MarketOrder(1, BUY, 1_000, 1) for _ in range(4)])
    world.block([one, two])
    assert world.position(world.ALICE) == world.position(world.BOB) == 2


def test_nonces_order_a_sender_whatever_the_position(world):
    first = world.envelope(world.ALICE, PlaceOrder(1, SELL, 1_000, 1))
    second = world.envelope(world.ALICE, PlaceOrder(1, SELL, 1_000, 2))
    world.block([second, first])
    assert world.open_lots() == {1: 1, 2: 2}


def test_the_seed_decides_which_sender_comes_first(world):
    base = snapshot(world.state)
    envelopes = tuple(
        world.envelope(name, PlaceOrder(1, SELL, 1_000, 1))
        for name in (world.ALICE, world.BOB, world.CAROL)
    )
    first = []
    for value in range(32):
        state = restore(base)
        block = BlockInput(
            state.height + 1, 2_000, bytes([value]) * 32, envelopes, (), world.reporters
        )
        apply_block(state, block)
        first.append(state.orders[1].exposure.account.account_id)
    assert {first.count(name) > 4 for name in (world.ALICE, world.BOB, world.CAROL)} == {True}


def _mixed_block(world):
    world.run(
        world.ALICE,
        PlaceOrder(1, SELL, 1_001, 5, client_id=1),
        PlaceOrder(1, BUY, 999, 5, client_id=2),
    )
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 3, client_id=1))
    return [
        world.envelope(world.ALICE, Cancel(client_id=2), PlaceOrder(1, BUY, 1_000, 2, POST_ONLY)),
        world.envelope(world.ALICE, Amend(0, 1, 1_000, 9), MarketOrder(1, SELL, 990, 4)),
        world.envelope(
            world.BOB,
            PlaceOrder(1, BUY, 1_001, 7, self_trade=SelfTradeMode.DECREMENT),
            Amend(0, 1, 1_000, 1),
        ),
        world.envelope(world.CAROL, MarketOrder(1, BUY, 1_005, 6), PlaceOrder(1, SELL, 1_000, 3)),
        world.envelope(world.DAVE, PlaceOrder(1, BUY, 1_001, 2, TimeInForce.FOK), CancelAll()),
        world.raw(world.ERIN, b"\xc1"),
    ]


def test_every_permutation_of_a_block_gives_the_same_output(world):
    envelopes = _mixed_block(world)
    base = snapshot(world.state)
    outputs = set()
    for order in permutations(envelopes):
        state = restore(base)
        block = BlockInput(state.height + 1, 2_000, b"s" * 32, order, (), world.reporters)
        outputs.add(encode(apply_block(state, block)))
    assert len(outputs) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x91\x90\x00",
        b"\x91\x91\x91\x63",
        encode(Bundle((Cancel(1),)))[:-1],
        encode(Bundle((Cancel(1),))) + b"\x00",
        b"\x91\x91\x93\x03\xcc\x01\x00",
        b"\x91" * 60_000,
        encode([[[1, 1, 0, 5, 5, 0, False, 0, 0, 0]]]),
        encode([[[1, 2**64 - 1, 1, 5, 5, 7, False, 0, 0, 0]]]),
    ],
    ids=[
        "empty",
        "reserved byte",
        "trailing byte",
        "unknown tag",
        "cut",
        "extended",
        "padded integer",
        "deeply nested",
        "no such side",
        "no such time in force",
    ],
)
def test_bytes_that_are_no_bundle_give_one_refused_receipt(world, body):
    good = world.envelope(world.BOB, PlaceOrder(1, BUY, 1_000, 1))
    output = world.block([world.raw(world.ALICE, body), good])
    codes = sorted(receipt.code.value for receipt in output.receipts)
    assert codes == ["bundle.malformed", "ok"]


def test_empty_and_oversized_bundles_are_refused_whole(world):
    assert world.run(world.ALICE)[0].code == "bundle.empty"
    order = PlaceOrder(1, BUY, 1_000, 1)
    receipts = world.run(world.ALICE, *[order] * (INSTRUCTIONS_PER_BUNDLE_MAX + 1))
    assert [receipt.code for receipt in receipts] == ["bundle.too_many_instructions"]
    assert len(world.run(world.ALICE, *[order] * INSTRUCTIONS_PER_BUNDLE_MAX)) == 64


@pytest.mark.parametrize("number", [0, -1, 2**63, 2**64 - 1, -(2**63)])
def test_any_64_bit_number_in_any_field_earns_a_receipt(world, number):
    world.one(world.ALICE, PlaceOrder(1, BUY, 900, 5))
    receipts = world.run(
        world.ALICE,
        PlaceOrder(number, BUY, 1_000, 1),
        PlaceOrder(1, BUY, number, 1),
        PlaceOrder(1, BUY, 1_000, number),
        PlaceOrder(1, BUY, 1_000, 1, client_id=number or -5),
        PlaceOrder(1, BUY, 1_000, 1, good_til_ms=number or -5),
        MarketOrder(1, BUY, number, 1),
        MarketOrder(1, BUY, 1_000, number),
        Cancel(number, 0),
        Cancel(0, number),
        CancelAll(number),
        Amend(number, 0, 1_000, 1),
        Amend(1, 0, 900, number if number < 0 else 0),
        PlaceOrder(1, BUY, number, number),
    )
    assert {receipt.status.name for receipt in receipts} == {"REFUSED"}
    assert world.open_lots() == {1: 5}


def test_every_kind_of_instruction_has_a_phase():
    assert set(PHASES) == set(get_args(Instruction)) - {OnBehalf}


def test_a_kind_without_a_phase_halts_instead_of_passing_for_another(make_world, monkeypatch):
    world = make_world()
    monkeypatch.delitem(PHASES, CancelAll)
    with pytest.raises(AssertionError, match="every kind of instruction has a phase"):
        world.one(world.ALICE, CancelAll())
