"""Counting by address, on a clock that the test moves."""

from node.addresses import ADDRESSES_MAX, AddressCounts, WindowCount, group_address


def test_a_count_is_forgotten_when_its_window_is_over():
    count = WindowCount(60.0)
    count.add(100.0, 3)
    count.add(159.0, 2)
    assert count.within(159.0) == 5
    assert count.within(160.0) == 0
    count.add(160.0)
    assert count.within(219.0) == 1


def test_addresses_are_counted_apart():
    counts = AddressCounts(60.0)
    counts.add("192.0.2.1", 5.0, 7)
    counts.add("192.0.2.1", 6.0)
    assert counts.within("192.0.2.1", 6.0) == 8
    assert counts.within("192.0.2.2", 6.0) == 0
    assert counts.within("192.0.2.1", 65.0) == 0


def test_the_table_of_addresses_is_bounded_and_forgets_who_stopped_first():
    counts = AddressCounts(2.0 * ADDRESSES_MAX)
    for number in range(ADDRESSES_MAX):
        counts.add(str(number), float(number))
    now_s = float(ADDRESSES_MAX)
    counts.add("0", now_s)
    counts.add("another", now_s)
    assert len(counts) == ADDRESSES_MAX
    assert [counts.within(each, now_s) for each in ("0", "1", "2")] == [2, 0, 1]


def test_one_customers_addresses_count_as_one():
    assert group_address("192.0.2.7") == "192.0.2.7"
    assert group_address("::ffff:192.0.2.7") == "192.0.2.7"
    assert group_address("2001:db8:1:2::7") == group_address("2001:db8:1:2:ffff::1%eth0")
    assert group_address("2001:db8:1:2::7") != group_address("2001:db8:1:3::7")
