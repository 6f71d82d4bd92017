"""The ration of forged envelopes, on a clock that the test moves."""

from node.addresses import group_address
from node.forgeries import (
    ADDRESSES_MAX,
    FORGERIES_PER_ADDRESS_MAX,
    FORGERY_WINDOW_S,
    AddressForgeries,
    ForgeryCount,
)


def test_a_count_is_forgotten_when_its_window_is_over():
    count = ForgeryCount()
    count.add(100.0, 3)
    count.add(100.0 + FORGERY_WINDOW_S - 1, 2)
    assert count.within(100.0 + FORGERY_WINDOW_S - 1) == 5
    assert count.within(100.0 + FORGERY_WINDOW_S) == 0
    count.add(100.0 + FORGERY_WINDOW_S, 1)
    assert count.within(100.0 + FORGERY_WINDOW_S) == 1


def test_an_address_has_spent_its_ration_until_the_window_is_over():
    forgeries = AddressForgeries()
    forgeries.add("192.0.2.1", 5.0, FORGERIES_PER_ADDRESS_MAX - 1)
    assert not forgeries.is_spent("192.0.2.1", 6.0)
    forgeries.add("192.0.2.1", 6.0, 1)
    assert forgeries.is_spent("192.0.2.1", 6.0)
    assert not forgeries.is_spent("192.0.2.2", 6.0)
    assert not forgeries.is_spent("192.0.2.1", 5.0 + FORGERY_WINDOW_S)


def test_the_table_of_addresses_is_bounded_and_forgets_who_stopped_first():
    forgeries = AddressForgeries()
    for number in range(ADDRESSES_MAX):
        forgeries.add(str(number), float(number), FORGERIES_PER_ADDRESS_MAX)
    forgeries.add("0", float(ADDRESSES_MAX), 1)
    now_s = 1.0 + FORGERY_WINDOW_S / 2
    forgeries.add("another", now_s, 1)
    assert len(forgeries) == ADDRESSES_MAX
    assert not forgeries.is_spent("1", now_s)
    assert forgeries.is_spent("2", now_s)


def test_one_customers_addresses_count_as_one():
    assert group_address("192.0.2.7") == "192.0.2.7"
    assert group_address("::ffff:192.0.2.7") == "192.0.2.7"
    assert group_address("2001:db8:1:2::7") == group_address("2001:db8:1:2:ffff::1%eth0")
    assert group_address("2001:db8:1:2::7") != group_address("2001:db8:1:3::7")
