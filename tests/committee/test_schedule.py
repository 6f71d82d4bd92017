"""Leaders: deterministic, in proportion to power, a function of seed and view alone."""

from collections import Counter

from committee.schedule import LEADER_CACHE_MAX, LeaderSchedule
from localnet.sim.keys import Keys


def test_the_share_of_views_follows_the_share_of_power() -> None:
    committee = Keys((1, 2, 3, 10)).committee
    schedule = LeaderSchedule(committee, b"seed")
    counts = Counter(schedule.leader(view) for view in range(1, 16_001))
    for member, power in enumerate(committee.powers):
        expected = 16_000 * power // committee.total_power
        assert abs(counts[member] - expected) < 300


def test_the_same_seed_gives_the_same_leaders_in_any_order_of_asking() -> None:
    committee = Keys((1, 1, 1, 1)).committee
    first, second = LeaderSchedule(committee, b"seed"), LeaderSchedule(committee, b"seed")
    views = list(range(1, 200))
    assert [first.leader(view) for view in views] == [
        second.leader(view) for view in reversed(views)
    ][::-1]
    other = LeaderSchedule(committee, b"other")
    assert [first.leader(view) for view in views] != [other.leader(view) for view in views]


def test_votes_are_collected_by_this_leader_and_the_next() -> None:
    schedule = LeaderSchedule(Keys((1, 1, 1, 1)).committee, b"")
    for view in range(1, 50):
        expected = {schedule.leader(view), schedule.leader(view + 1)}
        assert set(schedule.collectors(view)) == expected
        assert list(schedule.collectors(view)) == sorted(expected)


def test_so_many_leaders_and_collectors_are_remembered_and_the_rest_computed_again() -> None:
    schedule = LeaderSchedule(Keys((1, 1, 1, 1)).committee, b"")
    first = schedule.collectors(1)
    for view in range(2, LEADER_CACHE_MAX + 3):
        schedule.collectors(view)
    for remembered in (schedule.leader, schedule.collectors):
        assert remembered.cache_info()[2:] == (LEADER_CACHE_MAX, LEADER_CACHE_MAX)
    assert schedule.collectors(1) == first
