"""Ceremonies with the real mathematics: from the first dealing to a body that opens."""

from itertools import combinations

import pytest
from msgspec.structs import replace

from committee.ceremony.attempt import CeremonyRefusal
from committee.ceremony.checks import ComplaintCheck, DealingCheck, JudgedTransaction, Verdict
from committee.ceremony.faults import OffenceKind, ShareDispute, compute_offence, find_checks
from committee.ceremony.judge import KeyJudge, form_ceremony_keys, make_sharing
from committee.ceremony.machine import Ceremony
from committee.ceremony.member import (
    compute_encryption_key_context,
    compute_secrets,
    find_complaints,
    make_acknowledgement,
    make_dealing,
)
from committee.ceremony.plan import (
    CeremonyPlan,
    Holder,
    OldKey,
    Participant,
    Phase,
    Slot,
    Windows,
)
from committee.ceremony.transactions import (
    CeremonyTransaction,
    Complaint,
    Dealing,
    compute_message_id,
)
from crypto.codec import decode, encode
from crypto.dkg.dealing import Dealing as DealtOut
from crypto.dkg.dealing import compute_dealing_context, draw_scalars, prove_dealing
from crypto.dkg.encryption_key import is_encryption_key_right, make_encryption_key
from crypto.dkg.receiving import Complaint as OpenedComplaint
from crypto.group import encode_scalar
from crypto.mock import MockIdentity, derive_test_secret
from crypto.threshold.opening import open_block
from crypto.threshold.proof import check_headers
from crypto.threshold.sealed import Label
from crypto.threshold.sealing import open_body, seal
from crypto.threshold.shares import compute_shares

CHAIN_ID = b"\x07" * 32
IDENTITY = MockIdentity()


class Member:
    """What one participant keeps to itself."""

    def __init__(self, number):
        self.number = number
        self.secret = derive_test_secret(f"member {number}")
        self.key = IDENTITY.public_key(self.secret)
        context = compute_encryption_key_context(CHAIN_ID, self.key)
        made = make_encryption_key(context, bytes([number + 1]) * 32)
        self.encryption_secret, self.encryption_key, self.proof = made
        assert is_encryption_key_right(context, self.encryption_key, self.proof)

    def sign(self, message):
        return CeremonyTransaction(message, IDENTITY.sign(self.secret, compute_message_id(message)))


class Real:
    """A ceremony and its members, by the real judge."""

    def __init__(self, powers, before=None, epoch=1):
        self.members = [Member(number) for number in range(len(powers))]
        self.before = before
        old_key, old_keys = None, {}
        if before is not None:
            counts = before.sharing.recipients
            holders = zip(before.members, counts, strict=True)
            held = tuple(Holder(member.key, each.tickets) for member, each in holders)
            name = before.keys.compute_digest()
            old_keys = {name: before.keys}
            old_key = OldKey(name, before.sharing.threshold, held)
        participants = tuple(
            Participant(member.key, member.encryption_key, power)
            for member, power in zip(self.members, powers, strict=True)
        )
        plan = CeremonyPlan(CHAIN_ID, epoch, participants, old_key, Windows(1, 1, 1))
        self.ceremony = Ceremony(plan, 10)
        self.judge = KeyJudge(IDENTITY, old_keys)
        self.sharing = make_sharing(self.ceremony.terms, old_keys)

    @property
    def terms(self):
        return self.ceremony.terms

    def deal_all(self):
        if self.before is None:
            slots = [(Slot(number, 0), None) for number in range(len(self.members))]
        else:
            slots = [
                (Slot(member, ticket), secrets)
                for member, held in enumerate(self.before.secrets)
                for ticket, secrets in zip(
                    self.before.sharing.tickets_of(member), held, strict=True
                )
            ]
        return [self.deal(slot, secrets) for slot, secrets in slots]

    def deal(self, slot, secrets=None):
        seed = bytes([slot.dealer, slot.ticket]) * 16
        message = make_dealing(self.terms, self.sharing, slot, seed, secrets)
        dealers = self.before.members if self.before else self.members
        return dealers[slot.dealer].sign(message)

    def spoil(self, transaction, recipient):
        """The dealing with a share off its polynomial, proven and signed by its dealer."""
        message = transaction.message
        dealing = decode(DealtOut, message.body)
        context = compute_dealing_context(self.sharing, message.dealer, 0)
        drawn = draw_scalars(bytes([message.dealer, 0]) * 16, context)
        scalars = [next(drawn) for _ in range(1 + 2 * self.sharing.threshold)]
        known = [scalars[0], scalars[1], scalars[1 + self.sharing.threshold]]
        parts = list(dealing.encrypted)
        value = int.from_bytes(parts[recipient][:32], "big") + 1
        parts[recipient] = encode_scalar(value) + parts[recipient][32:]
        changed = replace(dealing, encrypted=tuple(parts), proof=b"")
        body = encode(prove_dealing(self.sharing, changed, known))
        return self.members[message.dealer].sign(replace(message, body=body))

    def apply(self, *transactions):
        judged = []
        for transaction in transactions:
            check = self.ceremony.find_check(transaction)
            is_refused = isinstance(check, CeremonyRefusal)
            verdict = None if is_refused else self.judge.judge(check)
            judged.append(JudgedTransaction(transaction, verdict))
        return self.ceremony.apply_block(self.ceremony.height + 1, judged)

    def complain_all(self):
        return [
            self.members[member].sign(complaint)
            for member in range(len(self.members))
            for complaint in find_complaints(
                self.terms,
                self.sharing,
                self.ceremony.dealings,
                member,
                self.members[member].encryption_secret,
            )
        ]

    def finish(self):
        """From the acknowledgement window to the keys."""
        dealings = self.ceremony.dealings
        self.keys = form_ceremony_keys(self.sharing, dealings)
        self.secrets = [
            compute_secrets(self.sharing, dealings, member.number, member.encryption_secret)
            for member in self.members
        ]
        acknowledgements = [
            member.sign(
                make_acknowledgement(
                    self.terms, self.sharing, dealings, member.number, self.secrets[member.number]
                )
            )
            for member in self.members
        ]
        step = self.apply(*acknowledgements)
        assert step.refusals == (None,) * len(self.members)
        assert self.ceremony.outcome is not None

    def run(self):
        assert set(self.apply(*self.deal_all()).refusals) == {None}
        assert self.complain_all() == []
        self.apply()
        self.finish()
        return self

    def open(self, label, body, tickets):
        """The message, by some tickets."""
        digest = label.compute_digest()
        points = check_headers([(digest, body)], bytes(32))
        held = dict(enumerate((pair for held in self.secrets for pair in held), start=1))
        total = self.sharing.tickets
        shares = {s: compute_shares([held[s][0]], total, points)[0] for s in tickets}
        opening = open_block(self.keys.sealing, points, shares, bytes(32))
        return open_body(digest, body, opening.keys[0]) if opening.is_open else None


@pytest.fixture(scope="module")
def first():
    return Real([3, 3, 3, 3]).run()


def test_what_is_sealed_to_a_fresh_key_opens_by_it_and_after_it_was_handed_on(first):
    label = Label(CHAIN_ID, first.keys.sealing.key_id(CHAIN_ID), 0, *[bytes(32)] * 2, 1, 9, 9, 0)
    body = seal(first.keys.sealing.public_key, label, b"buy", bytes(32))
    for tickets in combinations(range(1, 5), 3):
        assert first.open(label, body, tickets) == b"buy"
    assert first.open(label, body, (1, 2)) is None
    second = Real([2, 1, 2], before=first, epoch=2).run()
    assert second.keys.sealing.public_key == first.keys.sealing.public_key
    assert second.keys.beacon.public_key == first.keys.beacon.public_key
    threshold, total = second.sharing.threshold, second.sharing.tickets
    assert second.open(label, body, range(1, threshold + 1)) == b"buy"
    assert second.open(label, body, range(total - threshold + 1, total + 1)) == b"buy"
    assert second.open(label, body, range(1, threshold)) is None


def test_a_dealer_that_cheats_one_member_is_brought_down_and_the_others_make_a_key():
    real = Real([3, 3, 3, 3])
    dealings = real.deal_all()
    dealings[1] = real.spoil(dealings[1], 2)
    assert set(real.apply(*dealings).refusals) == {None}
    complaints = real.complain_all()
    assert [each.message.complainer for each in complaints] == [2]
    step = real.apply(*complaints)
    assert step.refusals == (None,)
    (fault,) = step.faults
    checks = find_checks(fault)
    offence = compute_offence(fault, [real.judge.judge(check) for check in checks])
    assert offence == (real.members[1].key, OffenceKind.BAD_SHARE)
    assert [each.message.dealer for each in real.ceremony.dealings] == [0, 2, 3]
    assert real.ceremony.phase is Phase.ACKNOWLEDGEMENT
    real.finish()


def test_a_false_complaint_convicts_who_made_it():
    """An honest one about a bad dealing, shown beside the good one that its dealer sent instead."""
    real = Real([3, 3, 3, 3])
    dealings = real.deal_all()
    real.apply(*dealings)
    good = dealings[1]
    member = real.members[2]
    bad = real.spoil(good, 2)
    (honest,) = find_complaints(real.terms, real.sharing, [bad], 2, member.encryption_secret)
    opened = decode(OpenedComplaint, honest.body)
    lie = replace(opened, dealing=decode(DealtOut, good.message.body).compute_digest())
    named = compute_message_id(good.message)
    for body in (honest.body, encode(lie), b"\x00", encode(replace(lie, recipient=3))):
        complaint = Complaint(real.terms.terms_id, 2, 1, 0, named, body)
        check = real.ceremony.find_check(member.sign(complaint))
        assert isinstance(check, ComplaintCheck)
        assert real.judge.judge(check) is Verdict.REFUTED
    step = real.apply(member.sign(complaint))
    assert step.refusals == (CeremonyRefusal.REFUTED,)
    offence = compute_offence(step.faults[0], [Verdict.UPHELD, Verdict.REFUTED])
    assert offence == (member.key, OffenceKind.FALSE_COMPLAINT)


def test_what_nobody_signed_is_forged_and_what_was_signed_badly_is_refuted(first):
    real = Real([3, 3, 3, 3])
    dealing = real.deal(Slot(1, 0))
    other = real.deal(Slot(0, 0))

    def judge(transaction):
        return real.judge.judge(DealingCheck(real.terms, real.members[1].key, transaction))

    assert judge(dealing) is Verdict.UPHELD
    assert judge(replace(dealing, signature=other.signature)) is Verdict.FORGED
    for body in (
        b"\x00",
        other.message.body,
        dealing.message.body[:-1],
        dealing.message.body + b"\x00",
        encode(replace(decode(DealtOut, dealing.message.body), proof=b"")),
        encode(replace(decode(DealtOut, dealing.message.body), old_ticket=1)),
    ):
        changed = replace(dealing.message, body=body)
        assert judge(real.members[1].sign(changed)) is Verdict.REFUTED


def test_a_dealing_of_another_attempt_is_refuted(first):
    real = Real([3, 3, 3, 3], epoch=2)
    body = Real([3, 3, 3, 3], epoch=1).deal(Slot(1, 0)).message.body
    message = replace(real.deal(Slot(1, 0)).message, body=body)
    check = DealingCheck(real.terms, real.members[1].key, real.members[1].sign(message))
    assert real.judge.judge(check) is Verdict.REFUTED


def test_an_acknowledgement_without_the_shares_is_refuted():
    real = Real([3, 3, 3, 3])
    real.apply(*real.deal_all())
    real.apply()
    member = real.members[0]
    dealings = real.ceremony.dealings
    secrets = compute_secrets(real.sharing, dealings, 0, member.encryption_secret)
    wrong = [(secrets[0][1], secrets[0][0])]
    for held, body in ((secrets, b"\x00"), (wrong, None)):
        message = make_acknowledgement(real.terms, real.sharing, dealings, 0, held)
        if body is not None:
            message = replace(message, body=body)
        check = real.ceremony.find_check(member.sign(message))
        assert real.judge.judge(check) is Verdict.REFUTED


def test_a_member_whose_complaint_did_not_get_through_has_no_shares():
    real = Real([3, 3, 3, 3])
    dealings = real.deal_all()
    dealings[1] = real.spoil(dealings[1], 2)
    real.apply(*dealings)
    real.apply()
    member = real.members[2]
    held = compute_secrets(real.sharing, real.ceremony.dealings, 2, member.encryption_secret)
    assert held is None


def test_encryption_keys_are_proven_for_chain_and_owner():
    context = compute_encryption_key_context(CHAIN_ID, b"\x01" * 32)
    assert context != compute_encryption_key_context(CHAIN_ID, b"\x02" * 32)
    assert context != compute_encryption_key_context(bytes(32), b"\x01" * 32)


def test_terms_that_no_ceremony_can_have_convict_nobody(first):
    again = Real([2, 1, 2], before=first, epoch=2)
    dealing = again.deal(Slot(1, 2), first.secrets[1][0])
    plan = again.terms.plan
    one, *others = plan.participants
    no_key = replace(one, encryption_key=b"\xff" * 48)
    for changed in (
        replace(plan, participants=(no_key, *others)),
        replace(plan, old_key=replace(plan.old_key, key_digest=bytes(32))),
        replace(plan, old_key=replace(plan.old_key, threshold=2)),
        replace(plan, old_key=replace(plan.old_key, holders=plan.old_key.holders[:3])),
    ):
        terms = replace(again.terms, plan=changed)
        message = replace(dealing.message, terms_id=terms.terms_id)
        check = DealingCheck(terms, first.members[1].key, first.members[1].sign(message))
        assert again.judge.judge(check) is Verdict.FORGED
    check = DealingCheck(again.terms, first.members[1].key, dealing)
    assert again.judge.judge(check) is Verdict.UPHELD


def test_a_dispute_about_what_is_no_dealing_convicts_nobody_of_anything_about_shares():
    real = Real([3, 3, 3, 3])
    dealing = decode(DealtOut, real.deal(Slot(1, 0)).message.body)
    for wrong in (
        replace(dealing, encrypted=dealing.encrypted[:2]),
        replace(dealing, ephemeral=bytes(48)),
        replace(dealing, commitments=(dealing.commitments[0], (b"\xff" * 96,) * 3)),
    ):
        message = Dealing(real.terms.terms_id, 1, 0, encode(wrong))
        opened = OpenedComplaint(wrong.compute_digest(), 2, dealing.ephemeral, bytes(48))
        named = compute_message_id(message)
        complaint = Complaint(real.terms.terms_id, 2, 1, 0, named, encode(opened))
        fault = ShareDispute(
            real.terms, real.members[1].sign(message), real.members[2].sign(complaint)
        )
        verdicts = [real.judge.judge(check) for check in find_checks(fault)]
        assert verdicts == [Verdict.REFUTED, Verdict.REFUTED]
        assert compute_offence(fault, verdicts) is None


def test_a_complaint_of_somebody_else_is_nobodys_own():
    real = Real([3, 3, 3, 3])
    bad = real.spoil(real.deal(Slot(1, 0)), 3)
    secret = real.members[3].encryption_secret
    (right,) = find_complaints(real.terms, real.sharing, [bad], 3, secret)
    taken = replace(right, complainer=2)
    for member, message, verdict in ((3, right, Verdict.UPHELD), (2, taken, Verdict.REFUTED)):
        signed = real.members[member].sign(message)
        check = ComplaintCheck(real.terms, real.members[member].key, signed, bad)
        assert real.judge.judge(check) is verdict
