"""A ceremony's course: who counts, who is out, and when another attempt begins."""

import pytest

from committee.ceremony.attempt import CeremonyRefusal
from committee.ceremony.checks import JudgedTransaction, Verdict
from committee.ceremony.faults import DoubleDealing, InvalidDealing, ShareDispute
from committee.ceremony.plan import Phase, Slot
from committee.ceremony.transactions import Dealing

EQUAL = [1, 1, 1, 1]
OLD = (3, [(0, 1), (1, 2), (5, 1)])


@pytest.mark.parametrize("old", [None, OLD])
def test_honest_members_come_to_a_key_in_the_first_attempt(group, old):
    ceremony = group.begin(EQUAL, old)
    terms = ceremony.terms
    assert (ceremony.phase, terms.attempt, terms.start_height) == (Phase.DEALING, 0, 100)
    dealings = group.deal_all(terms)
    assert group.apply(ceremony, *dealings) == ((None,) * 4, ())
    group.skip_to(ceremony, Phase.ACKNOWLEDGEMENT)
    assert ceremony.height == terms.complaint_end_height == 105
    group.apply(ceremony, *group.acknowledge_all(terms))
    assert ceremony.outcome is None, "judged at its height, not before"
    group.skip_to(ceremony, Phase.DONE)
    assert ceremony.height == terms.verdict_height == 107
    expected = dealings if old is None else dealings[:3]
    assert ceremony.outcome == (terms, tuple(expected))
    assert group.apply(ceremony, dealings[0]).refusals == (CeremonyRefusal.TOO_LATE,)
    assert ceremony.outcome.terms == terms


def test_what_is_not_said_in_its_window_is_refused(group):
    ceremony = group.begin(EQUAL)
    terms = ceremony.terms
    dealings = group.deal_all(terms)
    complaint = group.members[1].complain(terms, 1, dealings[0])
    acknowledgement = group.members[1].acknowledge(terms, 1)
    early = group.apply(ceremony, complaint, acknowledgement, *dealings[:3])
    assert early.refusals[:2] == (CeremonyRefusal.TOO_EARLY,) * 2
    group.skip_to(ceremony, Phase.COMPLAINT)
    step = group.apply(ceremony, dealings[3], acknowledgement)
    assert step.refusals == (CeremonyRefusal.TOO_LATE, CeremonyRefusal.TOO_EARLY)
    group.skip_to(ceremony, Phase.ACKNOWLEDGEMENT)
    step = group.apply(ceremony, dealings[3], complaint)
    assert step.refusals == (CeremonyRefusal.TOO_LATE,) * 2
    assert ceremony.dealings == tuple(dealings[:3])


def test_the_last_block_of_a_window_belongs_to_it(group):
    ceremony = group.begin(EQUAL)
    terms = ceremony.terms
    dealings = group.deal_all(terms)
    while ceremony.height + 1 < terms.dealing_end_height:
        group.apply(ceremony)
    assert group.apply(ceremony, *dealings).refusals == (None,) * 4
    while ceremony.height + 1 < terms.complaint_end_height:
        group.apply(ceremony)
    complaint = group.members[1].complain(terms, 1, dealings[0])
    assert group.apply(ceremony, complaint).refusals == (CeremonyRefusal.REFUTED,)
    while ceremony.height + 1 < terms.verdict_height:
        group.apply(ceremony)
    group.apply(ceremony, *group.acknowledge_all(terms))
    assert ceremony.outcome is not None


def test_the_same_dealing_twice_is_nothing_and_another_one_disqualifies(group):
    ceremony = group.begin(EQUAL)
    first, *others = group.deal_all(ceremony.terms)
    assert group.apply(ceremony, first, first).refusals == (None, CeremonyRefusal.REPEATED)
    other = group.deal(ceremony.terms, Slot(0, 0), salt=b"other")
    step = group.apply(ceremony, *others, other, first)
    assert step.refusals[3:] == (CeremonyRefusal.REPEATED, CeremonyRefusal.DISQUALIFIED)
    (fault,) = step.faults
    assert isinstance(fault, DoubleDealing)
    assert {fault.first, fault.second} == {first, other}
    assert ceremony.dealings == tuple(others)
    assert ceremony.disqualified == (group.keys[0],)


def test_whoever_deals_twice_in_one_block_is_caught_though_neither_stood_before_it(group):
    ceremony = group.begin(EQUAL)
    one = group.deal(ceremony.terms, Slot(0, 0))
    other = group.deal(ceremony.terms, Slot(0, 0), is_right=False)
    assert len(group.apply(ceremony, one, other).faults) == 1
    assert ceremony.dealings == ()


def test_a_dealing_that_nobody_signed_convicts_nobody(group):
    ceremony = group.begin(EQUAL)
    right = group.deal(ceremony.terms, Slot(0, 0))
    message = group.deal(ceremony.terms, Slot(0, 0), is_right=False).message
    forged = group.members[1].sign(message)
    for transactions in ((forged, right), (forged,)):
        step = group.apply(ceremony, *transactions)
        assert step.refusals[0] is CeremonyRefusal.FORGED
        assert step.faults == ()
    assert ceremony.dealings == (right,)


def test_an_invalid_dealing_disqualifies_all_that_its_dealer_dealt(group):
    ceremony = group.begin(EQUAL, OLD)
    terms = ceremony.terms
    slots = group.slots(terms)
    right = [group.deal(terms, slot) for slot in slots[:2]]
    wrong = group.deal(terms, slots[2], is_right=False)
    step = group.apply(ceremony, *right, wrong)
    assert step.refusals == (None, None, CeremonyRefusal.REFUTED)
    assert step.faults == (InvalidDealing(terms, wrong),)
    assert ceremony.dealings == (right[0],), "member 1 holds tickets 2 and 3"


def test_a_complaint_disqualifies_the_dealer_who_cheated(group):
    ceremony = group.begin(EQUAL)
    terms = ceremony.terms
    bad = group.deal(terms, Slot(3, 0), cheated=[1, 2])
    group.apply(ceremony, *group.deal_all(terms)[:3], bad)
    group.skip_to(ceremony, Phase.COMPLAINT)
    complaint = group.members[1].complain(terms, 1, bad)
    later = group.members[2].complain(terms, 2, bad)
    step = group.apply(ceremony, complaint, later)
    assert step.refusals == (None, CeremonyRefusal.DEALING_UNKNOWN)
    assert step.faults == (ShareDispute(terms, bad, complaint),)
    assert ceremony.disqualified == (group.keys[3],)
    group.skip_to(ceremony, Phase.ACKNOWLEDGEMENT)
    # It still receives what others dealt it.
    group.apply(ceremony, *group.acknowledge_all(terms))
    group.skip_to(ceremony, Phase.DONE)
    assert len(ceremony.outcome.dealings) == 3


@pytest.mark.parametrize("proves", [True, False])
def test_a_false_complaint_disqualifies_the_complainer(group, proves):
    ceremony = group.begin(EQUAL)
    terms = ceremony.terms
    cheats = [] if proves else [1]
    dealings = [group.deal(terms, Slot(0, 0), cheated=cheats), *group.deal_all(terms)[1:]]
    group.apply(ceremony, *dealings)
    group.skip_to(ceremony, Phase.COMPLAINT)
    false = group.members[1].complain(terms, 1, dealings[0], is_right=proves)
    again = group.members[1].complain(terms, 1, dealings[2])
    step = group.apply(ceremony, false, again)
    assert step.refusals == (CeremonyRefusal.REFUTED, CeremonyRefusal.DISQUALIFIED)
    assert step.faults == (ShareDispute(terms, dealings[0], false),)
    assert ceremony.dealings == (dealings[0], *dealings[2:])


def test_a_complaint_is_heard_about_the_dealing_that_it_names_alone(group):
    ceremony = group.begin(EQUAL)
    terms = ceremony.terms
    group.apply(ceremony, *group.deal_all(terms))
    group.skip_to(ceremony, Phase.COMPLAINT)
    other = group.deal(terms, Slot(0, 0), cheated=[1])
    step = group.apply(ceremony, group.members[1].complain(terms, 1, other))
    assert step == ((CeremonyRefusal.DEALING_UNKNOWN,), ())


@pytest.mark.parametrize(("dealers", "is_enough"), [([0, 1], False), ([0, 1, 2], True)])
def test_a_fresh_key_needs_dealers_with_two_thirds_of_the_power(group, dealers, is_enough):
    ceremony = group.begin([1, 1, 1, 1])
    terms = ceremony.terms
    group.apply(ceremony, *[group.deal(terms, Slot(dealer, 0)) for dealer in dealers])
    while ceremony.height < terms.dealing_end_height:
        group.apply(ceremony)
    assert (ceremony.terms.attempt == 0) is is_enough


def test_exactly_two_thirds_of_the_power_suffice(group):
    ceremony = group.begin([2, 2, 1, 1])
    terms = ceremony.terms
    group.apply(ceremony, *[group.deal(terms, Slot(dealer, 0)) for dealer in (0, 1)])
    group.skip_to(ceremony, Phase.ACKNOWLEDGEMENT)
    assert ceremony.terms == terms


def test_resharing_takes_the_first_dealings_in_chain_order_that_are_left(group):
    ceremony = group.begin(EQUAL, OLD)
    terms = ceremony.terms
    slots = group.slots(terms)
    # Ticket 4, of holder 2, comes first in the chain and cheats.
    bad = group.deal(terms, slots[3], cheated=[0])
    third, second, first = (group.deal(terms, slot) for slot in slots[2::-1])
    group.apply(ceremony, bad, third)
    group.apply(ceremony, first, second)
    group.skip_to(ceremony, Phase.COMPLAINT)
    assert ceremony.dealings == (bad, third, first, second)
    group.apply(ceremony, group.members[0].complain(terms, 0, bad))
    group.skip_to(ceremony, Phase.ACKNOWLEDGEMENT)
    assert ceremony.dealings == (third, first, second)


def test_disqualification_can_leave_too_few_dealings(group):
    ceremony = group.begin(EQUAL)
    terms = ceremony.terms
    bad = group.deal(terms, Slot(2, 0), cheated=[0])
    group.apply(ceremony, *group.deal_all(terms)[:2], bad)
    group.skip_to(ceremony, Phase.COMPLAINT)
    group.apply(ceremony, group.members[0].complain(terms, 0, bad))
    while ceremony.height < terms.complaint_end_height:
        group.apply(ceremony)
    assert (ceremony.terms.attempt, ceremony.terms.start_height) == (1, 105)
    assert ceremony.left_out == (), "nobody was asked to acknowledge yet"


def test_whoever_does_not_acknowledge_is_left_out_of_the_next_attempt(group):
    ceremony = group.begin(EQUAL)
    terms = ceremony.terms
    group.apply(ceremony, *group.deal_all(terms))
    group.skip_to(ceremony, Phase.ACKNOWLEDGEMENT)
    wrong = group.members[2].acknowledge(terms, 2, is_right=False)
    right = group.members[2].acknowledge(terms, 2)
    step = group.apply(ceremony, wrong, right, *group.acknowledge_all(terms, without=[2]))
    assert step.refusals[:2] == (CeremonyRefusal.REFUTED, CeremonyRefusal.REPEATED)
    assert step.faults == ()
    group.skip_to(ceremony, Phase.DEALING)
    later = ceremony.terms
    assert (later.attempt, later.start_height) == (1, terms.verdict_height)
    assert (ceremony.left_out, later.tickets.counts) == ((2,), (1, 1, 0, 1))
    assert ceremony.dealings == ceremony.acknowledged == ceremony.disqualified == ()
    assert later.dealing_end_height - later.start_height == 6, "twice as long"
    stale = group.apply(ceremony, group.deal_all(terms)[0])
    assert stale.refusals == (CeremonyRefusal.TERMS_UNKNOWN,)
    left_out = group.members[2].sign(Dealing(later.terms_id, 2, 0, b"\x01"))
    assert group.apply(ceremony, left_out).refusals == (CeremonyRefusal.AUTHOR_UNKNOWN,)
    group.apply(ceremony, *group.deal_all(later))
    group.skip_to(ceremony, Phase.ACKNOWLEDGEMENT)
    group.apply(ceremony, *group.acknowledge_all(later))
    group.skip_to(ceremony, Phase.DONE)
    assert ceremony.outcome.terms == later


def test_everybody_is_asked_again_if_those_who_acknowledged_are_no_quorum(group):
    ceremony = group.begin(EQUAL)
    for missing in ([2], [3], [1]):
        terms = ceremony.terms
        group.apply(ceremony, *group.deal_all(terms))
        group.skip_to(ceremony, Phase.ACKNOWLEDGEMENT)
        group.apply(ceremony, *group.acknowledge_all(terms, without=missing))
        group.skip_to(ceremony, Phase.DEALING)
        # Without 2 the others are a quorum; without 2 and 3 they are none.
        assert ceremony.left_out == {2: (2,), 3: (), 1: (1,)}[missing[0]]


def test_windows_grow_no_further_than_eightfold(group):
    ceremony = group.begin(EQUAL)
    lengths = []
    for _ in range(6):
        terms = ceremony.terms
        lengths.append(terms.dealing_end_height - terms.start_height)
        while ceremony.terms is terms:
            group.apply(ceremony)
    assert lengths == [3, 6, 12, 24, 24, 24]


def test_a_stranger_and_a_ticket_of_somebody_else_are_refused(group):
    ceremony = group.begin(EQUAL, OLD)
    terms = ceremony.terms
    stranger = group.members[0].sign(Dealing(terms.terms_id, 3, 1, b"\x01"))
    foreign = group.members[0].sign(Dealing(terms.terms_id, 0, 2, b"\x01"))
    fresh = group.members[0].sign(Dealing(terms.terms_id, 0, 0, b"\x01"))
    step = group.apply(ceremony, stranger, foreign, fresh)
    unknown = CeremonyRefusal.SLOT_UNKNOWN
    assert step == ((CeremonyRefusal.AUTHOR_UNKNOWN, unknown, unknown), ())


def test_an_answer_that_is_owed_must_be_there(group):
    ceremony = group.begin(EQUAL)
    with pytest.raises(AssertionError):
        ceremony.apply_block(101, [JudgedTransaction(group.deal_all(ceremony.terms)[0], None)])


def test_blocks_are_applied_in_order(group):
    ceremony = group.begin(EQUAL)
    with pytest.raises(AssertionError):
        ceremony.apply_block(102, [])


def test_an_answer_to_what_is_refused_changes_nothing(group):
    ceremony = group.begin(EQUAL)
    early = group.members[0].acknowledge(ceremony.terms, 0)
    step = ceremony.apply_block(101, [JudgedTransaction(early, Verdict.UPHELD)])
    assert step.refusals == (CeremonyRefusal.TOO_EARLY,)
    assert ceremony.acknowledged == ()
