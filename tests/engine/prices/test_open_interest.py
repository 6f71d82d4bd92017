"""Open interest, and the initial margin that grows with it."""

from fractions import Fraction
from math import ceil

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.codec import decode, encode
from engine.apply import apply_block
from engine.commitment.root import encode_market
from engine.errors import InvariantViolation, SnapshotError
from engine.genesis import (
    EngineGenesis,
    GenesisError,
    MarketParams,
    OpenInterestParams,
    validate_genesis,
)
from engine.instructions import CancelAll, MarketOrder, PlaceOrder, Side
from engine.invariants import validate_all
from engine.limits import PPM
from engine.margin import compute_maintenance_margin
from engine.prices.open_interest import STEP_PPM, compute_scaled_margin
from engine.snapshots.whole import EngineSnapshot, restore, snapshot
from engine.views import view_account, view_markets

BUY, SELL = Side.BUY, Side.SELL
UNIT = 10
"""Micro-quote per lot and tick in the worlds of these tests."""

LOT = 1_000 * UNIT
"""What a lot is worth at the index of these worlds."""

PARAMS = OpenInterestParams(100 * LOT, 200 * LOT)


@pytest.fixture
def crowded(make_world):
    """Initial margin of 10 % up to 100 lots, which grows by 0.9 % with each lot up to 200."""
    return make_world(open_interest=PARAMS)


def trade(world, buyer, seller, lots):
    world.one(seller, PlaceOrder(1, SELL, 1_000, lots))
    assert world.one(buyer, MarketOrder(1, BUY, 1_000, lots)).filled_lots == lots


def margin_ppm(world):
    (view,) = view_markets(world.state)
    assert world.state.markets[1].im_rate == view.mark_price_ticks * UNIT * view.scaled_margin_ppm
    return view.scaled_margin_ppm


def open_interest(world):
    return view_markets(world.state)[0].open_interest_lots


# ---- the formula ---------------------------------------------------------------------------------

VALUES = st.integers(0, 2**62)


@settings(max_examples=200, deadline=None)
@given(st.integers(1_000, PPM), VALUES, VALUES, st.integers(0, 2**80))
def test_the_rate_is_that_of_an_independent_calculation(base, lower, upper, value):
    lower, upper = min(lower, upper), max(lower, upper) + 1
    found = compute_scaled_margin(base, OpenInterestParams(lower, upper), value)
    grown = max(Fraction(0), Fraction(value - lower, upper - lower)) * (PPM - base)
    assert found == min(PPM, base + ceil(grown / STEP_PPM) * STEP_PPM)
    assert base <= found <= PPM
    assert found >= min(PPM, base + grown)


@settings(max_examples=100, deadline=None)
@given(st.integers(1_000, PPM), VALUES, VALUES)
def test_the_rate_never_falls_as_open_interest_grows(base, one, other):
    params = OpenInterestParams(2**60, 2**61)
    low, high = sorted((one, other))
    low_ppm, high_ppm = (compute_scaled_margin(base, params, value) for value in (low, high))
    assert low_ppm <= high_ppm


@pytest.mark.parametrize(
    ("lots", "expected"),
    [(99, 100_000), (100, 100_000), (101, 109_000), (150, 550_000), (200, PPM), (500, PPM)],
)
def test_the_bounds_and_the_middle(lots, expected):
    assert compute_scaled_margin(100_000, PARAMS, lots * LOT) == expected


def test_the_least_excess_costs_a_step(crowded):
    assert compute_scaled_margin(100_000, PARAMS, 100 * LOT + 1) == 100_000 + STEP_PPM


# ---- open interest -------------------------------------------------------------------------------


def test_open_interest_is_the_sum_of_long_positions_through_flips_and_closes(crowded):
    alice, bob, carol = crowded.ALICE, crowded.BOB, crowded.CAROL
    trade(crowded, alice, bob, 40)
    assert open_interest(crowded) == 40
    trade(crowded, carol, alice, 10)
    assert open_interest(crowded) == 40
    trade(crowded, carol, alice, 50)
    assert (open_interest(crowded), crowded.position(alice)) == (60, -20)
    trade(crowded, bob, carol, 60)
    assert (open_interest(crowded), crowded.position(carol)) == (20, 0)
    trade(crowded, alice, bob, 20)
    assert open_interest(crowded) == 0


def test_an_open_interest_that_is_wrong_is_found(crowded):
    trade(crowded, crowded.ALICE, crowded.BOB, 4)
    crowded.state.markets[1].open_interest = 5
    with pytest.raises(InvariantViolation, match="open interest of 4, noted is 5"):
        validate_all(crowded.state)


def test_the_leaf_of_a_market_ends_with_open_interest_and_margin(crowded):
    trade(crowded, crowded.ALICE, crowded.BOB, 150)
    crowded.block()
    leaf = encode_market(crowded.state.markets[1])
    assert leaf[-20:] == (150).to_bytes(16, "big") + (550_000).to_bytes(4, "big")


# ---- when it holds -------------------------------------------------------------------------------


def test_margin_grows_in_the_block_after_and_holds_within_a_block(crowded):
    """Fills of a block neither raise the margin of makers nor that of the next takers."""
    makers = [
        crowded.envelope(crowded.BOB, PlaceOrder(1, SELL, 1_000, 150)),
        crowded.envelope(crowded.DAVE, PlaceOrder(1, SELL, 1_000, 150)),
    ]
    crowded.block(makers)
    before = crowded.state.accounts[crowded.BOB].im
    takers = [
        crowded.envelope(crowded.ALICE, MarketOrder(1, BUY, 1_000, 150)),
        crowded.envelope(crowded.CAROL, MarketOrder(1, BUY, 1_000, 150)),
    ]
    crowded.block(takers)
    assert (open_interest(crowded), margin_ppm(crowded)) == (300, 100_000)
    assert crowded.state.accounts[crowded.BOB].im == before == 150 * LOT // 10
    epoch = crowded.state.margin_epoch
    crowded.block()
    assert (margin_ppm(crowded), crowded.state.margin_epoch) == (PPM, epoch + 1)
    crowded.block()
    assert crowded.state.margin_epoch == epoch + 1
    assert view_account(crowded.state, crowded.BOB).initial_margin_microquote == 150 * LOT


def test_it_grows_with_the_mark_too(crowded):
    trade(crowded, crowded.ALICE, crowded.BOB, 100)
    crowded.block()
    assert margin_ppm(crowded) == 100_000
    crowded.set_index(1_001)
    assert margin_ppm(crowded) == 101_000


def test_whom_the_margin_outgrows_may_only_close_and_keeps_its_maintenance_margin(make_world):
    world = make_world(open_interest=PARAMS, balance=20 * LOT)
    world.deposit(world.DAVE, 1_000 * LOT)
    world.deposit(world.ERIN, 1_000 * LOT)
    trade(world, world.ALICE, world.BOB, 100)
    maintenance = compute_maintenance_margin(world.state.accounts[world.ALICE])
    trade(world, world.DAVE, world.ERIN, 30)
    world.block()
    assert margin_ppm(world) == 370_000
    alice = view_account(world.state, world.ALICE)
    assert alice.initial_margin_microquote == 37 * LOT > alice.equity_microquote
    assert alice.maintenance_margin_microquote == maintenance == 5 * LOT
    refused = world.one(world.ALICE, PlaceOrder(1, BUY, 1_000, 1))
    assert refused.code == "margin.insufficient"
    trade(world, world.DAVE, world.ALICE, 60)
    assert world.position(world.ALICE) == 40
    world.run(world.BOB, PlaceOrder(1, BUY, 1_000, 90))
    world.one(world.DAVE, MarketOrder(1, SELL, 1_000, 90))
    assert open_interest(world) == 40
    world.block()
    assert margin_ppm(world) == 100_000
    assert world.one(world.ALICE, PlaceOrder(1, BUY, 1_000, 1)).code == "ok"


def test_while_the_oracle_is_stale_the_rate_stays(crowded):
    trade(crowded, crowded.ALICE, crowded.BOB, 150)
    crowded.block()
    crowded.time_ms += 60_001
    trade(crowded, crowded.BOB, crowded.ALICE, 1)
    crowded.block()
    assert (crowded.state.markets[1].stale, margin_ppm(crowded)) == (True, 550_000)
    twin = restore(snapshot(crowded.state))
    assert twin.markets[1].im_rate == crowded.state.markets[1].im_rate
    crowded.set_index(1_000)
    assert margin_ppm(crowded) == 541_000
    for block in crowded.inputs[twin.height :]:
        output = apply_block(twin, block)
    assert output == crowded.output


# ---- state ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scales", [True, False])
def test_a_snapshot_with_another_margin_is_refused(make_world, scales):
    world = make_world(open_interest=PARAMS if scales else None)
    trade(world, world.ALICE, world.BOB, 150)
    world.one(world.ALICE, CancelAll())
    packed = decode(EngineSnapshot, snapshot(world.state))
    (market,) = packed.markets
    assert market.scaled_margin_ppm == (550_000 if scales else 100_000)
    market = msgspec.structs.replace(market, scaled_margin_ppm=100_001)
    with pytest.raises(SnapshotError):
        restore(encode(msgspec.structs.replace(packed, markets=(market,))))


@pytest.mark.parametrize("upper", [1, 5])
def test_a_genesis_in_which_margin_grows_at_once_is_refused(upper):
    params = MarketParams(
        1, "M", 1_000, 1, 50_000, 30_000, 0, 0, price_band_ppm=100_000, oracle_max_age_ms=1_000
    )
    validate_genesis(EngineGenesis((params,)))
    wrong = msgspec.structs.replace(params, open_interest=OpenInterestParams(5, upper))
    with pytest.raises(GenesisError, match="none above"):
        validate_genesis(EngineGenesis((wrong,)))
