"""The independent calculation of settlements, on its own and against days of the engine."""

from fractions import Fraction

import pytest

from localnet.faults.settlement_audit import (
    IndexPoint,
    Listing,
    Terms,
    Trade,
    compute_balance,
    compute_payout,
    compute_positions,
    compute_settlement,
    find_difference,
)

TERMS = Terms(
    window_ms=7_000, sample_interval_ms=1_000, unit_microquote=10, premium_unit_microquote=1
)
EXPIRY_MS = 107_000
CALL, PUT = Listing(EXPIRY_MS, 1_000, True), Listing(EXPIRY_MS, 1_010, False)
LISTINGS = {1: CALL, 2: PUT, 3: Listing(EXPIRY_MS + 60_000, 1_000, True)}
ANN, BEN = b"a" * 32, b"b" * 32


def settle(*points, trades=()):
    """Points are time and price, and False for an index that is stale."""
    made = [IndexPoint(time_ms, price, not rest) for time_ms, price, *rest in points]
    return compute_settlement(TERMS, EXPIRY_MS, made, LISTINGS, trades)


def test_each_interval_counts_with_its_first_block_that_has_a_fresh_index():
    found = settle(
        (99_999, 1),
        (100_000, 1_000),
        (100_500, 2),
        (101_100, 3, "stale"),
        (101_900, 1_010),
        (104_000, 1_020),
        (104_999, 4),
        (105_000, 1_030),
        (107_000, 5),
    )
    assert found is not None
    assert found.samples == (1_000, 1_010, 1_020, 1_030)
    assert found.price_ticks == 1_015
    assert found.time_ms == 107_000


def test_with_half_of_the_window_or_less_intervals_after_the_expiry_count_too():
    points = [(100_000 + 1_000 * each, 1_000) for each in range(3)]
    assert settle(*points) is None
    assert settle(*points, (106_999, 1_200)) is None
    late = settle(*points, (107_100, 1_200), (107_200, 9))
    assert late is not None
    assert (late.time_ms, late.samples) == (107_100, (1_000, 1_000, 1_000, 1_200))
    assert settle(*points, (107_100, 1_200, "stale")) is None
    # One sample of an interval that the pause has left, one of the next.
    later = settle(*points[:2], (150_000, 1_200), (150_999, 8), (151_000, 1_300))
    assert later is not None
    assert later.samples == (1_000, 1_000, 1_200, 1_300)


def test_an_expiry_waits_for_a_fresh_index_even_with_all_its_samples():
    points = [(100_000 + 1_000 * each, 1_000) for each in range(7)]
    assert settle(*points, (107_000, 1_200, "stale")) is None
    found = settle(*points, (107_000, 1_200, "stale"), (109_000, 1_300))
    assert found is not None
    assert (found.time_ms, found.samples) == (109_000, (1_000,) * 7)


@pytest.mark.parametrize(
    ("listing", "lots", "due"),
    [
        (CALL, 3, 128),
        (CALL, -3, -129),
        (PUT, 7, 400),
        (PUT, -7, -400),
        (Listing(EXPIRY_MS, 1_005, True), 9, 0),
        (Listing(EXPIRY_MS, 1_004, False), -9, 0),
    ],
)
def test_a_payout_is_rounded_down_whoever_it_is(listing, lots, due):
    assert compute_payout(TERMS, listing, Fraction(1_000 * 7 + 30, 7), lots) == due


def test_positions_and_balances_follow_from_trades():
    trades = [
        Trade(1, 50, 4, ANN, BEN, 3, -1),
        Trade(1, 60, 1, BEN, ANN, 2, 0),
        Trade(2, 5, 2, BEN, ANN, 0, 0),
        Trade(2, 5, 2, ANN, BEN, 0, 0),
    ]
    assert compute_positions(trades) == {(ANN, 1): 3, (BEN, 1): -3, (ANN, 2): 0, (BEN, 2): 0}
    points = [(100_000 + 1_000 * each, 1_004) for each in range(7)]
    settlement = settle(*points, (107_000, 1), trades=trades)
    assert settlement is not None
    assert settlement.payouts == {(ANN, 1): 120, (BEN, 1): -120}
    # 200 and a fee of 3 for four, 60 for one of them; the other series comes to nothing.
    assert compute_balance(TERMS, ANN, 1_000, trades, [settlement]) == 1_000 - 203 + 60 + 120
    assert compute_balance(TERMS, BEN, 1_000, trades, [settlement]) == 1_000 + 201 - 62 - 120


def test_one_micro_quote_is_a_difference_and_so_is_a_payment_too_many_or_too_few():
    due = {(ANN, 1): 120, (BEN, 1): -120}
    assert find_difference(due, dict(due)) == []
    (said,) = find_difference(due, {**due, (ANN, 1): 121})
    assert "121 micro-quote booked, 120 due" in said
    assert len(find_difference(due, {(ANN, 1): 120})) == 1
    assert len(find_difference(due, {**due, (BEN, 2): 0})) == 1
