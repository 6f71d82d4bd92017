"""The index price, its coverage, and what a stale index stops."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.block import Reporter
from engine.instructions import Cancel, MarketOrder, OracleReport, PlaceOrder, Side
from engine.limits import PRICE_MAX_TICKS, SOURCE_TIME_AHEAD_MAX_MS
from engine.prices.oracle import compute_weighted_median

BUY, SELL = Side.BUY, Side.SELL
KEYS = [bytes([200 + index]) * 32 for index in range(4)]


def _committee(world, *powers):
    world.reporters = tuple(Reporter(key, power) for key, power in zip(KEYS, powers, strict=False))


def _report(world, member, price, sequence=None, source_time_ms=None):
    sequence = world.state.height + 1 if sequence is None else sequence
    time_ms = world.time_ms if source_time_ms is None else source_time_ms
    return world.one(KEYS[member], OracleReport(1, price, sequence, time_ms)).code


def _index(world):
    market = world.state.markets[1]
    return market.index_price, market.stale


def test_before_the_first_index_nothing_can_be_placed(make_world):
    world = make_world(index=None)
    assert world.one(world.ALICE, PlaceOrder(1, BUY, 1_000, 1)).code == "oracle.no_index"
    assert world.one(world.ALICE, MarketOrder(1, BUY, 1_000, 1)).code == "oracle.no_index"
    assert world.one(world.ALICE, Cancel(order_id=1)).code == "order.unknown"


def test_the_index_moves_only_with_quorum_coverage(make_world):
    world = make_world(index=None)
    _committee(world, 1, 1, 1, 1)
    assert _report(world, 0, 1_000) == "ok"
    assert _report(world, 1, 1_010) == "ok"
    assert _index(world) == (0, True)
    assert _report(world, 2, 1_020) == "ok"
    assert _index(world) == (1_010, False)
    assert _report(world, 3, 5_000) == "ok"
    assert _index(world) == (1_010, False)


def test_power_weighs_the_median(make_world):
    world = make_world(index=None)
    _committee(world, 5, 1, 1, 1)
    for member, price in enumerate((1_300, 1_000, 1_100, 1_200)):
        _report(world, member, price)
    assert _index(world) == (1_300, False)


def test_two_thirds_exactly_is_not_enough(make_world):
    world = make_world(index=None)
    _committee(world, 4, 1, 1)
    _report(world, 0, 1_000)
    assert _index(world) == (0, True)
    _report(world, 1, 1_000)
    assert _index(world) == (1_000, False)


def test_an_old_index_is_stale_keeps_its_value_and_recovers(world):
    world.time_ms += 60_000
    world.block()
    assert _index(world) == (1_000, False)
    world.time_ms += 1
    world.block()
    assert _index(world) == (1_000, True)
    world.set_index(1_100)
    assert _index(world) == (1_100, False)


def test_stale_refuses_what_could_increase_a_position(world):
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 10))
    world.one(world.ALICE, PlaceOrder(1, BUY, 1_000, 8))
    world.time_ms += 60_001
    world.block()
    assert world.one(world.CAROL, PlaceOrder(1, BUY, 900, 1)).code == "oracle.stale"
    assert world.one(world.ALICE, PlaceOrder(1, SELL, 1_000, 9)).code == "oracle.stale"
    assert world.one(world.ALICE, PlaceOrder(1, SELL, 1_010, 5)).code == "ok"
    assert world.one(world.ALICE, PlaceOrder(1, SELL, 1_010, 4)).code == "oracle.stale"
    assert world.one(world.BOB, Cancel(order_id=1)).status.name == "CANCELLED"


def test_an_omitted_report_leaves_the_previous_one_in_force(make_world):
    world = make_world(index=None)
    _committee(world, 1, 1, 1)
    for member in range(3):
        _report(world, member, 1_000)
    world.time_ms += 30_000
    _report(world, 0, 2_000)
    assert _index(world) == (1_000, False)
    _report(world, 1, 2_000)
    assert _index(world) == (2_000, False)


def test_reports_of_members_who_left_are_forgotten(make_world):
    world = make_world(index=None)
    _committee(world, 1, 1, 1)
    for member in range(3):
        _report(world, member, 1_000)
    _committee(world, 1, 1)
    world.block()
    assert sorted(world.state.markets[1].reports) == sorted(KEYS[:2])
    world.reporters = (Reporter(b"z" * 32, 1),)
    world.block()
    assert _index(world) == (1_000, True)
    assert world.state.markets[1].reports == {}


def test_only_reporters_may_report(world):
    report = OracleReport(1, 999, 10**6, world.time_ms)
    assert world.one(world.ALICE, report).code == "oracle.not_a_reporter"
    assert _index(world) == (1_000, False)


def test_a_report_needs_market_price_fresh_sequence_and_plausible_time(make_world):
    world = make_world(index=None)
    _committee(world, 1)
    world.time_ms = 100_000
    assert _report(world, 0, 0) == "oracle.price_invalid"
    assert _report(world, 0, PRICE_MAX_TICKS + 1) == "oracle.price_invalid"
    assert world.one(KEYS[0], OracleReport(9, 1, 1, 100_000)).code == "oracle.unknown_market"
    assert _report(world, 0, 1, 0) == "oracle.sequence"
    ahead = 100_000 + SOURCE_TIME_AHEAD_MAX_MS
    assert _report(world, 0, 1, 1, ahead + 1) == "oracle.source_time"
    assert _report(world, 0, 1, 1, 100_000 - 60_001) == "oracle.source_time"
    assert _report(world, 0, 7, 1, ahead) == "ok"
    assert _report(world, 0, 8, 1) == "oracle.sequence"
    assert _report(world, 0, 8, 2, ahead - 1) == "oracle.source_time"
    assert _report(world, 0, 8, 2, ahead) == "ok"
    assert _index(world) == (8, False)


def test_negative_source_times_are_refused(make_world):
    world = make_world(index=None)
    _committee(world, 1)
    world.time_ms = 5
    assert _report(world, 0, 7, 1, -1) == "oracle.source_time"


def test_a_block_without_committee_leaves_every_market_stale(world):
    world.reporters = ()
    world.block()
    assert _index(world) == (1_000, True)


@pytest.mark.parametrize(
    ("reports", "median"),
    [([(5, 1)], 5), ([(5, 1), (6, 1)], 5), ([(5, 1), (6, 2)], 6), ([(1, 3), (9, 3), (5, 1)], 5)],
)
def test_weighted_median_examples(reports, median):
    assert compute_weighted_median(reports) == median


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), min_size=1, max_size=8))
def test_weighted_median_is_the_lower_median_of_the_repeated_prices(reports):
    repeated = sorted(price for price, power in reports for _ in range(power))
    assert compute_weighted_median(reports) == repeated[(len(repeated) - 1) // 2]
