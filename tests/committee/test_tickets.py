"""Tickets keep what they promise for every set of members, checked by counting all of them."""

from itertools import combinations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from committee.committee import COMMITTEE_SIZE_MAX, POWER_MAX
from committee.tickets import (
    TICKETS_MAX,
    TICKETS_MAX_PER_MEMBER,
    compute_most_tickets,
    compute_tickets,
)
from crypto.threshold import lagrange

POWERS = st.one_of(
    st.lists(st.integers(1, 12), min_size=1, max_size=9),
    st.lists(st.integers(1, POWER_MAX), min_size=1, max_size=8),
    st.lists(st.sampled_from([1, 2, 1000, 1001, POWER_MAX]), min_size=1, max_size=9),
)


def count_sets(powers, counts):
    """Power and tickets of every set of members."""
    members = range(len(powers))
    for size in range(len(powers) + 1):
        for chosen in combinations(members, size):
            yield sum(powers[each] for each in chosen), sum(counts[each] for each in chosen)


def zipf(size):
    return [10**6 // (rank + 1) for rank in range(size)]


@settings(max_examples=150, deadline=None)
@given(POWERS)
@example([1, 1, 1, 1])
@example([1])
@example([1, POWER_MAX])
@example([3, 3, 3, 1, 1, 1])
def test_no_set_below_half_reaches_the_threshold_and_every_set_of_two_thirds_does(powers):
    tickets = compute_tickets(powers)
    total_power = sum(powers)
    sets = list(count_sets(powers, tickets.counts))
    for power, held in sets:
        if 2 * power < total_power:
            assert held < tickets.threshold
        if 3 * power >= 2 * total_power:
            assert held >= tickets.threshold
    honest_power = total_power // 3 + 1
    assert tickets.spare == max(held for power, held in sets if power < honest_power)
    assert min(tickets.counts) >= 1
    assert tickets.total <= TICKETS_MAX_PER_MEMBER * len(powers)
    assert tickets.tickets_to_switch == tickets.total, "the threshold is the highest there is"


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=16, max_size=64))
def test_no_set_of_many_members_breaks_either_promise(powers):
    """By another count than the scan's own: the most and the fewest tickets for each power."""
    tickets = compute_tickets(powers)
    total_power = sum(powers)
    most, fewest = [0] + [-1] * total_power, [0] + [tickets.total + 1] * total_power
    for power, count in zip(powers, tickets.counts, strict=True):
        for held in range(total_power, power - 1, -1):
            if most[held - power] >= 0:
                most[held] = max(most[held], most[held - power] + count)
                fewest[held] = min(fewest[held], fewest[held - power] + count)
    minority = (total_power - 1) // 2
    assert max(most[: minority + 1]) < tickets.threshold
    assert min(fewest[-(-2 * total_power // 3) :]) >= tickets.threshold
    assert max(most[: total_power // 3 + 1]) == tickets.spare


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 9)), min_size=1, max_size=9), st.data()
)
def test_the_knapsack_finds_what_counting_all_sets_finds(members, data):
    powers, counts = [each[0] for each in members], [each[1] for each in members]
    power_max = data.draw(st.integers(0, sum(powers)))
    best = max(held for power, held in count_sets(powers, counts) if power <= power_max)
    assert compute_most_tickets(powers, counts, power_max) == best


def brute_force_scan(powers):
    """The first scale that keeps both promises, by exact fractions and all sets."""
    steps = sorted(
        {(step, power) for power in powers for step in range(3, 40 * len(powers), 2)},
        key=lambda each: each[0] * 10**9 // each[1],
    )
    for step, of_power in [(0, 1), *steps]:
        # Rounded to the nearest, halves up, at scale step / (2 * of_power).
        counts = [max(1, (power * step + of_power) // (2 * of_power)) for power in powers]
        sets = list(count_sets(powers, counts))
        minority = max(held for power, held in sets if 2 * power < sum(powers))
        least = min(held for power, held in sets if 3 * power >= 2 * sum(powers))
        if minority < least:
            return counts
    raise AssertionError


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_no_assignment_of_the_scan_is_passed_over(powers):
    assert list(compute_tickets(powers).counts) == brute_force_scan(powers)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_tickets_follow_power_and_not_the_order_of_members(powers, random):
    counts = compute_tickets(powers).counts
    members = list(zip(powers, counts, strict=True))
    random.shuffle(members)
    assert list(compute_tickets([each[0] for each in members]).counts) == [
        each[1] for each in members
    ]
    for power, count in members:
        assert all(count <= other for stronger, other in members if power <= stronger)


def test_only_ratios_of_power_count():
    powers = [7, 5, 5, 3, 2, 1]
    assert compute_tickets(powers) == compute_tickets([power * 10**9 for power in powers])


@pytest.mark.parametrize(
    ("powers", "total", "threshold"),
    [
        ([1], 1, 1),
        ([1] * 4, 4, 3),
        ([1] * 7, 7, 5),
        ([1] * 16, 16, 11),
        ([1] * 64, 64, 43),
        (zipf(4), 5, 3),
        (zipf(7), 11, 7),
        (zipf(16), 29, 17),
        (zipf(32), 63, 37),
        (zipf(64), 136, 79),
    ],
)
def test_the_numbers_of_the_documentation(powers, total, threshold):
    tickets = compute_tickets(powers)
    assert (tickets.total, tickets.threshold) == (total, threshold)


def test_the_largest_committee_of_mostly_dust_stays_in_bounds():
    few = COMMITTEE_SIZE_MAX // 3
    powers = [POWER_MAX] * few + [1] * (COMMITTEE_SIZE_MAX - few)
    tickets = compute_tickets(powers)
    assert 256 < tickets.total <= TICKETS_MAX


def test_tickets_are_numbered_from_one_without_gaps():
    tickets = compute_tickets([5, 1, 3, 4])
    numbers = [number for each in tickets.ranges() for number in each]
    assert numbers == list(range(1, tickets.total + 1))
    assert [len(each) for each in tickets.ranges()] == list(tickets.counts)


def test_whatever_tickets_come_out_their_shares_can_be_combined():
    assert TICKETS_MAX <= lagrange.TICKETS_MAX
