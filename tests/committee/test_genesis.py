"""Which member lists may start a chain."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from committee.committee import CommitteeError, Member
from committee.genesis import form_genesis_committee
from crypto.bls import BLS
from crypto.mock import MockScheme

SCHEME = MockScheme()


def make_member(number: int, power: int = 1, scheme=SCHEME) -> Member:
    secret = bytes(31) + bytes([number + 1])
    key = bytes([number + 1]) * 32
    return Member(
        f"member-{number}",
        power,
        scheme.public_key(secret),
        scheme.prove_possession(secret),
        key,
        key[::-1],
    )


def members(*powers: int, scheme=SCHEME) -> tuple[Member, ...]:
    return tuple(make_member(number, power, scheme) for number, power in enumerate(powers))


@pytest.mark.parametrize("scheme", [SCHEME, BLS], ids=["mock", "bls"])
def test_four_equal_members_may_start_a_chain(scheme):
    committee = form_genesis_committee(members(1, 1, 1, 1, scheme=scheme), scheme)
    assert (committee.epoch, len(committee), committee.quorum_power) == (0, 4, 3)


@pytest.mark.parametrize("scheme", [SCHEME, BLS], ids=["mock", "bls"])
def test_a_key_without_proof_of_possession_is_refused(scheme):
    good = members(1, 1, 1, 1, scheme=scheme)
    bad = replace(good[2], consensus_key_proof=good[1].consensus_key_proof)
    with pytest.raises(CommitteeError, match="possession of member-2"):
        form_genesis_committee((*good[:2], bad, good[3]), scheme)


@pytest.mark.parametrize("powers", [(1,), (1, 1, 1), (2, 1, 1, 1), (2, 1, 1, 1, 1), (9,) * 3])
def test_a_chain_does_not_start_if_one_failure_could_stop_it(powers):
    with pytest.raises(CommitteeError, match="no quorum"):
        form_genesis_committee(members(*powers), SCHEME)


def test_repeated_members_are_refused():
    first = make_member(0)
    with pytest.raises(CommitteeError, match="share one name"):
        form_genesis_committee((first,) * 4, SCHEME)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=9))
def test_an_accepted_committee_survives_any_one_member(powers):
    try:
        committee = form_genesis_committee(members(*powers), SCHEME)
    except CommitteeError:
        assert any(sum(powers) - power < 2 * sum(powers) // 3 + 1 for power in powers)
        return
    assert len(committee) >= 4
    for power in committee.powers:
        assert committee.total_power - power >= committee.quorum_power
