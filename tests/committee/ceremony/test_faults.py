"""Evidence of a ceremony convicts by itself, and only whom it should."""

import pytest
from msgspec.structs import replace

from committee.ceremony.attempt import CeremonyRefusal
from committee.ceremony.checks import Verdict
from committee.ceremony.faults import (
    CeremonyFaultError,
    DoubleDealing,
    InvalidDealing,
    Offence,
    OffenceKind,
    ShareDispute,
    compute_fault_id,
    compute_offence,
    find_checks,
    make_double_dealing,
)
from committee.ceremony.plan import Slot
from committee.ceremony.transactions import CeremonyTransaction, Dealing

EQUAL = [1, 1, 1, 1]


@pytest.fixture
def terms(group):
    return group.begin(EQUAL).terms


def convict(group, fault):
    return compute_offence(fault, [group.judge.judge(check) for check in find_checks(fault)])


def test_an_invalid_dealing_convicts_its_dealer_and_a_valid_one_nobody(group, terms):
    wrong = group.deal(terms, Slot(2, 0), is_right=False)
    assert convict(group, InvalidDealing(terms, wrong)) == Offence(
        group.keys[2], OffenceKind.INVALID_DEALING
    )
    assert convict(group, InvalidDealing(terms, group.deal(terms, Slot(2, 0)))) is None


def test_two_dealings_convict_whatever_they_hold_and_in_one_encoding(group, terms):
    one = group.deal(terms, Slot(2, 0))
    other = group.deal(terms, Slot(2, 0), is_right=False)
    fault = make_double_dealing(terms, one, other)
    assert compute_fault_id(fault) == compute_fault_id(make_double_dealing(terms, other, one))
    assert convict(group, fault) == Offence(group.keys[2], OffenceKind.DOUBLE_DEALING)
    with pytest.raises(CeremonyFaultError):
        find_checks(DoubleDealing(terms, fault.second, fault.first))


def test_one_dealing_signed_twice_is_no_offence(group, terms):
    one = group.deal(terms, Slot(2, 0))
    again = CeremonyTransaction(one.message, bytes(64))
    with pytest.raises(CeremonyFaultError):
        find_checks(make_double_dealing(terms, one, again))


def test_a_dispute_convicts_one_of_its_two_authors(group, terms):
    bad = group.deal(terms, Slot(2, 0), cheated=[1])
    good = group.deal(terms, Slot(2, 0))
    about_bad = group.members[1].complain(terms, 1, bad)
    about_good = group.members[1].complain(terms, 1, good)
    assert convict(group, ShareDispute(terms, bad, about_bad)) == Offence(
        group.keys[2], OffenceKind.BAD_SHARE
    )
    assert convict(group, ShareDispute(terms, good, about_good)) == Offence(
        group.keys[1], OffenceKind.FALSE_COMPLAINT
    )


def test_a_complaint_cannot_be_shown_beside_another_dealing_of_the_same_slot(group, terms):
    bad = group.deal(terms, Slot(2, 0), cheated=[1])
    good = group.deal(terms, Slot(2, 0))
    complaint = group.members[1].complain(terms, 1, bad)
    with pytest.raises(CeremonyFaultError):
        find_checks(ShareDispute(terms, good, complaint))


def test_what_is_no_dealing_makes_no_false_complaint(group, terms):
    wrong = group.deal(terms, Slot(2, 0), is_right=False)
    complaint = group.members[1].complain(terms, 1, wrong)
    assert convict(group, ShareDispute(terms, wrong, complaint)) is None


def test_nobody_is_convicted_of_what_it_did_not_sign(group, terms):
    bad = group.deal(terms, Slot(2, 0), cheated=[1])
    complaint = group.members[1].complain(terms, 1, bad)
    forged = group.members[3].sign(bad.message)
    other = group.deal(terms, Slot(2, 0), salt=b"other")
    for fault in (
        InvalidDealing(terms, forged),
        make_double_dealing(terms, forged, other),
        ShareDispute(terms, forged, complaint),
        ShareDispute(terms, bad, group.members[3].sign(complaint.message)),
    ):
        verdicts = [group.judge.judge(check) for check in find_checks(fault)]
        assert Verdict.FORGED in verdicts
        assert compute_offence(fault, verdicts) is None


def test_evidence_whose_parts_do_not_belong_together_is_refused(group, terms):
    dealing = group.deal(terms, Slot(2, 0))
    complaint = group.members[1].complain(terms, 1, dealing)
    other_terms = replace(terms, attempt=1)
    stranger = group.members[0].sign(Dealing(terms.terms_id, 9, 0, b"\x01"))
    foreign = group.members[0].sign(Dealing(terms.terms_id, 0, 1, b"\x01"))
    nobody = group.members[9].complain(terms, 9, dealing)
    elsewhere = group.members[1].complain(other_terms, 1, dealing)
    for fault in (
        InvalidDealing(other_terms, dealing),
        InvalidDealing(terms, complaint),
        InvalidDealing(terms, stranger),
        InvalidDealing(terms, foreign),
        make_double_dealing(terms, dealing, group.deal(terms, Slot(1, 0))),
        make_double_dealing(terms, dealing, complaint),
        ShareDispute(terms, dealing, dealing),
        ShareDispute(terms, complaint, complaint),
        ShareDispute(terms, dealing, nobody),
        ShareDispute(terms, dealing, elsewhere),
        ShareDispute(other_terms, dealing, complaint),
    ):
        with pytest.raises(CeremonyFaultError):
            find_checks(fault)


def test_codes_are_stable():
    assert sorted(CeremonyRefusal) == [
        "ceremony.author_unknown",
        "ceremony.dealing_unknown",
        "ceremony.disqualified",
        "ceremony.forged",
        "ceremony.refuted",
        "ceremony.repeated",
        "ceremony.slot_unknown",
        "ceremony.terms_unknown",
        "ceremony.too_early",
        "ceremony.too_late",
    ]
    assert sorted(OffenceKind) == [
        "bad_share",
        "double_dealing",
        "false_complaint",
        "invalid_dealing",
    ]
