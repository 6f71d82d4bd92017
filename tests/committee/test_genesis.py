"""Which member lists may start a chain."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from nacl.bindings import crypto_core_ed25519_add

from committee.committee import CommitteeError, Member
from committee.genesis import form_genesis_committee
from crypto.bls import BLS
from crypto.ed25519 import ED25519
from crypto.mock import MockIdentity, MockScheme

SCHEME = MockScheme()
IDENTITY = MockIdentity()
ORDER_EIGHT = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")
"""A point of order eight: added to a key it makes one that verifies, yet is no honest key."""


def make_member(number: int, power: int = 1, scheme=SCHEME, identity=IDENTITY) -> Member:
    secret = bytes(31) + bytes([number + 1])
    return Member(
        f"member-{number}",
        power,
        scheme.public_key(secret),
        scheme.prove_possession(secret),
        identity.public_key(secret),
        identity.public_key(secret[::-1]),
    )


def members(*powers: int, scheme=SCHEME, identity=IDENTITY) -> tuple[Member, ...]:
    return tuple(
        make_member(number, power, scheme, identity) for number, power in enumerate(powers)
    )


@pytest.mark.parametrize("scheme", [SCHEME, BLS], ids=["mock", "bls"])
def test_four_equal_members_may_start_a_chain(scheme):
    committee = form_genesis_committee(members(1, 1, 1, 1, scheme=scheme), scheme, IDENTITY)
    assert (committee.epoch, len(committee), committee.quorum_power) == (0, 4, 3)


@pytest.mark.parametrize("scheme", [SCHEME, BLS], ids=["mock", "bls"])
def test_a_key_without_proof_of_possession_is_refused(scheme):
    good = members(1, 1, 1, 1, scheme=scheme)
    bad = replace(good[2], consensus_key_proof=good[1].consensus_key_proof)
    with pytest.raises(CommitteeError, match="possession of member-2"):
        form_genesis_committee((*good[:2], bad, good[3]), scheme, IDENTITY)


@pytest.mark.parametrize("attribute", ["identity_key", "oracle_key"])
def test_a_key_with_a_small_order_component_is_refused(attribute):
    good = members(1, 1, 1, 1, identity=ED25519)
    assert form_genesis_committee(good, SCHEME, ED25519)
    mixed = crypto_core_ed25519_add(getattr(good[2], attribute), ORDER_EIGHT)
    bad = replace(good[2], **{attribute: mixed})
    with pytest.raises(CommitteeError, match=f"{attribute[:-4]} key of member-2"):
        form_genesis_committee((*good[:2], bad, good[3]), SCHEME, ED25519)


@pytest.mark.parametrize("powers", [(1,), (1, 1, 1), (2, 1, 1, 1), (2, 1, 1, 1, 1), (9,) * 3])
def test_a_chain_does_not_start_if_one_failure_could_stop_it(powers):
    with pytest.raises(CommitteeError, match="no quorum"):
        form_genesis_committee(members(*powers), SCHEME, IDENTITY)


def test_repeated_members_are_refused():
    first = make_member(0)
    with pytest.raises(CommitteeError, match="share one name"):
        form_genesis_committee((first,) * 4, SCHEME, IDENTITY)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=9))
def test_an_accepted_committee_survives_any_one_member(powers):
    try:
        committee = form_genesis_committee(members(*powers), SCHEME, IDENTITY)
    except CommitteeError:
        assert any(sum(powers) - power < 2 * sum(powers) // 3 + 1 for power in powers)
        return
    assert len(committee) >= 4
    for power in committee.powers:
        assert committee.total_power - power >= committee.quorum_power
