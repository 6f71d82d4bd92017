"""What everybody sees of a dealing, what a recipient sees, and who is to blame."""

import pytest
from msgspec.structs import replace

from crypto.dkg.dealing import (
    DealingFault,
    compute_dealing_context,
    compute_pads,
    find_dealing_fault,
)
from crypto.dkg.receiving import Blame, Complaint, judge_complaint
from crypto.group import (
    ORDER,
    G,
    H,
    decode_curve_point,
    encode_g1,
    encode_g2,
    encode_scalar,
    multiply_g2,
)

IDENTITY = b"\xc0" + bytes(47)
IDENTITY_G2 = b"\xc0" + bytes(95)
TORSION = encode_g1(decode_curve_point(b"\x80" + bytes(47)))
OUTSIDE_G2 = b"\x80" + bytes(94) + b"\x02"


def change_commitment(dealing, purpose, power, point):
    commitments = [list(each) for each in dealing.commitments]
    commitments[purpose][power] = point
    first, second = (tuple(each) for each in commitments)
    return first, second


def test_honest_dealings_have_no_fault(fresh, again):
    for members in (fresh, again):
        for dealing in members.dealings:
            assert find_dealing_fault(members.sharing, dealing) is None


def test_parts_that_are_not_as_the_ceremony_asks_are_malformed(fresh):
    dealing = fresh.dealings[0]
    first, second = dealing.commitments
    parts = dealing.encrypted
    for changes in (
        {"commitments": (first[:-1], second)},
        {"commitments": (first, (*second, second[0]))},
        {"old_ticket": 1},
        {"public_points": ()},
        {"public_points": dealing.public_points[:1]},
        {"encrypted": parts[:-1]},
        {"encrypted": (*parts, b"")},
        {"encrypted": (parts[0][:-1], *parts[1:])},
        {"encrypted": (*parts[:2], parts[0], parts[3])},
    ):
        changed = fresh.prove_again(dealing, **changes)
        assert find_dealing_fault(fresh.sharing, changed) is DealingFault.SHAPE


def test_a_resharing_names_an_old_ticket_and_no_new_public_key(fresh, again):
    dealing = again.dealings[0]
    for changes in (
        {"old_ticket": 0},
        {"old_ticket": 6},
        {"public_points": fresh.dealings[0].public_points},
    ):
        changed = replace(dealing, **changes)
        assert find_dealing_fault(again.sharing, changed) is DealingFault.SHAPE


@pytest.mark.parametrize("point", [IDENTITY_G2, OUTSIDE_G2, b"\xff" * 96, bytes(96)])
def test_commitments_that_are_no_points_of_g2_are_refused(fresh, point):
    for purpose, power in ((0, 0), (0, 2), (1, 1)):
        commitments = change_commitment(fresh.dealings[0], purpose, power, point)
        changed = fresh.prove_again(fresh.dealings[0], commitments=commitments)
        assert find_dealing_fault(fresh.sharing, changed) is DealingFault.POINT


@pytest.mark.parametrize("point", [IDENTITY, TORSION, b"\xff" * 48, bytes(48)])
def test_points_that_are_none_of_g1_are_refused(fresh, point):
    """A small-order R would have every recipient multiply it by its secret."""
    dealing = fresh.dealings[0]
    for changes in ({"ephemeral": point}, {"public_points": (dealing.public_points[0], point)}):
        changed = fresh.prove_again(dealing, **changes)
        assert find_dealing_fault(fresh.sharing, changed) is DealingFault.POINT


def test_an_encrypted_share_that_is_not_reduced_is_refused(fresh):
    dealing = fresh.dealings[0]
    parts = (dealing.encrypted[0][:-32] + ORDER.to_bytes(32, "big"), *dealing.encrypted[1:])
    changed = fresh.prove_again(dealing, encrypted=parts)
    assert find_dealing_fault(fresh.sharing, changed) is DealingFault.SCALAR


@pytest.mark.parametrize("purpose", [0, 1])
def test_a_public_point_that_does_not_fit_its_commitment_is_refused(fresh, purpose):
    commitments = change_commitment(fresh.dealings[0], purpose, 0, encode_g2(H))
    changed = fresh.prove_again(fresh.dealings[0], commitments=commitments)
    assert find_dealing_fault(fresh.sharing, changed) is DealingFault.SECRET


@pytest.mark.parametrize("purpose", [0, 1])
def test_another_secret_than_the_old_tickets_is_refused(again, purpose):
    commitments = change_commitment(again.dealings[0], purpose, 0, encode_g2(multiply_g2(H, 3)))
    changed = replace(again.dealings[0], commitments=commitments)
    assert find_dealing_fault(again.sharing, changed) is DealingFault.SECRET


def test_the_dealing_of_another_ticket_is_refused(again):
    changed = replace(again.dealings[0], old_ticket=again.dealings[1].old_ticket)
    assert find_dealing_fault(again.sharing, changed) is DealingFault.SECRET


def test_a_dealing_that_its_sender_does_not_know_is_refused(fresh, again):
    """Copied from another dealer, taken from another sharing, or with a part of another's."""
    dealing, other = fresh.dealings[0], fresh.dealings[1]
    cases = [
        replace(dealing, dealer=1),
        replace(dealing, ephemeral=other.ephemeral),
        replace(dealing, encrypted=other.encrypted),
        replace(dealing, commitments=change_commitment(dealing, 0, 1, other.commitments[0][1])),
        replace(dealing, proof=other.proof),
        replace(dealing, proof=dealing.proof[:-1]),
        replace(dealing, proof=dealing.proof[:-32]),
        replace(dealing, proof=dealing.proof[:80] + ORDER.to_bytes(32, "big")),
        replace(dealing, proof=b""),
    ]
    for changed in cases:
        assert find_dealing_fault(fresh.sharing, changed) is DealingFault.PROOF
    later = replace(fresh.sharing, terms=bytes(32))
    assert find_dealing_fault(later, dealing) is DealingFault.PROOF
    reshared = replace(again.dealings[0], dealer=2)
    assert find_dealing_fault(again.sharing, reshared) is DealingFault.PROOF


@pytest.mark.parametrize("known", [0, 1, 2])
def test_each_secret_of_a_fresh_dealing_must_be_known(fresh, known):
    """A public key made from the others', to cancel them, is one whose logarithm nobody knows."""
    dealing = fresh.dealings[0]
    at = 16 + 32 * known
    response = int.from_bytes(dealing.proof[at : at + 32], "big")
    proof = dealing.proof[:at] + encode_scalar(response + 1) + dealing.proof[at + 32 :]
    changed = replace(dealing, proof=proof)
    assert find_dealing_fault(fresh.sharing, changed) is DealingFault.PROOF


@pytest.mark.parametrize("at", [0, 32, 64, 96])
def test_a_bad_share_leads_to_a_complaint_that_convicts_the_dealer(fresh, at):
    spoiled = fresh.spoil(fresh.dealings[1], 3, at)
    assert find_dealing_fault(fresh.sharing, spoiled) is None
    complaint = fresh.open(spoiled, 3)
    assert isinstance(complaint, Complaint)
    assert judge_complaint(fresh.sharing, spoiled, complaint) is Blame.DEALER
    assert not isinstance(fresh.open(spoiled, 0), Complaint)


def test_commitments_to_another_polynomial_convict_the_dealer(fresh):
    other = fresh.dealings[2].commitments[0][1]
    commitments = change_commitment(fresh.dealings[1], 0, 1, other)
    spoiled = fresh.prove_again(fresh.dealings[1], commitments=commitments)
    assert find_dealing_fault(fresh.sharing, spoiled) is None
    complaint = fresh.open(spoiled, 0)
    assert judge_complaint(fresh.sharing, spoiled, complaint) is Blame.DEALER


def test_a_complaint_about_good_shares_convicts_the_complainer(fresh, monkeypatch):
    """With an honest proof: it opens the shares, and they are right."""
    monkeypatch.setattr("crypto.dkg.receiving._find_shares", lambda *_: None)
    complaint = fresh.open(fresh.dealings[1], 3)
    monkeypatch.undo()
    assert judge_complaint(fresh.sharing, fresh.dealings[1], complaint) is Blame.COMPLAINER


def test_a_complaint_that_does_not_open_the_shares_convicts_the_complainer(fresh):
    """Pads that are not the recipient's would make any dealing look bad."""
    dealing = fresh.dealings[1]
    spoiled = fresh.spoil(dealing, 3)
    right = fresh.open(spoiled, 3)
    other = fresh.open(fresh.spoil(fresh.dealings[2], 3), 3)
    for forged in (
        replace(right, shared=encode_g1(G)),
        replace(right, shared=IDENTITY),
        replace(right, shared=TORSION),
        replace(right, shared=b"\xff" * 48),
        replace(right, shared=other.shared),
        replace(right, shared=other.shared, proof=other.proof),
        replace(right, proof=right.proof[:-1] + bytes([right.proof[-1] ^ 1])),
        replace(right, proof=ORDER.to_bytes(48, "big")),
        replace(right, recipient=0),
        replace(right, recipient=4),
    ):
        assert judge_complaint(fresh.sharing, spoiled, forged) is Blame.COMPLAINER


def test_a_complaint_counts_for_the_very_dealing_it_is_about(fresh):
    """A dealer that deals twice, well and badly, cannot have the complainer convicted: a complaint
    names its dealing, and renamed its proof no longer holds."""
    good = fresh.dealings[1]
    complaint = fresh.open(fresh.spoil(good, 3), 3)
    with pytest.raises(AssertionError):
        judge_complaint(fresh.sharing, good, complaint)
    spoiled = fresh.spoil(good, 3, 32)
    renamed = replace(complaint, dealing=spoiled.compute_digest())
    assert spoiled.ephemeral == good.ephemeral
    assert judge_complaint(fresh.sharing, spoiled, renamed) is Blame.COMPLAINER


def test_what_is_dealt_is_bound_to_dealer_and_ticket(fresh):
    contexts = {
        compute_dealing_context(fresh.sharing, dealer, ticket)
        for dealer in (0, 1)
        for ticket in (0, 1)
    }
    assert len(contexts) == 4


def test_a_complaint_about_a_resharing_is_judged_alike(again):
    dealing = again.dealings[0]
    shared = again.open(dealing, 2)
    assert not isinstance(shared, Complaint)


def test_a_complaint_opens_no_other_dealing(fresh):
    """What it reveals is one dealer's shares for one recipient; other pads stay unknown."""
    complaint = fresh.open(fresh.spoil(fresh.dealings[1], 3), 3)
    pads = {
        tuple(compute_pads(context, ephemeral, recipient, complaint.shared, 2))
        for context in (b"\x01" * 32, b"\x02" * 32)
        for ephemeral in (fresh.dealings[1].ephemeral, fresh.dealings[2].ephemeral)
        for recipient in (0, 3)
    }
    assert len(pads) == 8
    assert complaint.shared != fresh.open(fresh.spoil(fresh.dealings[2], 3), 3).shared
