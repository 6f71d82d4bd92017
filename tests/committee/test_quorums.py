"""Quorum and honest power under any distribution of power."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from committee.committee import COMMITTEE_SIZE_MAX, POWER_MAX, Committee, Member
from crypto.codec import DecodeError, decode, encode


def make_member(number: int, power: int, **changes) -> Member:
    name = number.to_bytes(2, "big")
    fields = {
        "name": f"member-{number}",
        "power": power,
        "consensus_key": name * 24,
        "consensus_key_proof": bytes(96),
        "identity_key": name * 16,
        "oracle_key": name * 16,
    }
    return Member(**(fields | changes))


def make_committee(powers: list[int]) -> Committee:
    return Committee(0, tuple(make_member(n, power) for n, power in enumerate(powers)))


powers_lists = st.lists(
    st.one_of(st.integers(1, 10), st.integers(1, POWER_MAX)), min_size=1, max_size=12
)


@st.composite
def committees_and_two_sets(draw):
    powers = draw(powers_lists)
    indices = st.sets(st.integers(0, len(powers) - 1))
    return make_committee(powers), draw(indices), draw(indices)


@given(committees_and_two_sets())
def test_two_quorums_always_share_honest_power(case):
    committee, first, second = case
    quorum, honest = committee.quorum_power, committee.honest_power
    if committee.power_of(first) >= quorum and committee.power_of(second) >= quorum:
        # Whatever is faulty holds less than a third, so more than that is in both.
        assert committee.power_of(first & second) >= honest


@given(committees_and_two_sets())
def test_a_quorum_and_honest_power_always_share_a_member(case):
    committee, first, second = case
    quorum, honest = committee.quorum_power, committee.honest_power
    if committee.power_of(first) >= quorum and committee.power_of(second) >= honest:
        assert first & second


@given(committees_and_two_sets())
def test_without_a_third_of_the_power_the_rest_is_a_quorum(case):
    committee, faulty, _ = case
    everybody = set(range(len(committee)))
    if 3 * committee.power_of(faulty) < committee.total_power:
        assert committee.power_of(everybody - faulty) >= committee.quorum_power
        assert committee.power_of(faulty) < committee.honest_power


@given(powers_lists)
def test_quorum_and_honest_power_are_the_least_that_will_do(powers):
    committee = make_committee(powers)
    total, quorum, honest = committee.total_power, committee.quorum_power, committee.honest_power
    assert 3 * quorum > 2 * total >= 3 * (quorum - 1)
    assert 3 * honest > total >= 3 * (honest - 1)
    assert honest <= quorum <= total


@pytest.mark.parametrize(
    ("powers", "quorum", "honest"),
    [([1] * 4, 3, 2), ([1] * 7, 5, 3), ([10, 10, 10, 10], 27, 14), ([5, 3, 2, 1], 8, 4)],
)
def test_known_committees(powers, quorum, honest):
    committee = make_committee(powers)
    assert (committee.quorum_power, committee.honest_power) == (quorum, honest)


@pytest.mark.parametrize("attribute", ["name", "consensus_key", "identity_key", "oracle_key"])
def test_no_two_members_share_a_name_or_key(attribute):
    first = make_member(1, 1)
    second = make_member(2, 1, **{attribute: getattr(first, attribute)})
    with pytest.raises(ValueError, match=attribute):
        Committee(0, (first, second))


def test_a_committee_larger_than_its_bound_is_refused():
    largest = make_committee([1] * COMMITTEE_SIZE_MAX)
    assert decode(Committee, encode(largest)) == largest
    with pytest.raises(DecodeError):
        decode(Committee, encode(make_committee([1] * (COMMITTEE_SIZE_MAX + 1))))
