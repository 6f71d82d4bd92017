"""Whatever members send and whoever orders it: the rules hold, and a snapshot is the state."""

from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from committee.ceremony.attempt import CeremonyRefusal
from committee.ceremony.checks import JudgedTransaction, Verdict
from committee.ceremony.faults import compute_offence, decode_fault, find_checks
from committee.ceremony.machine import Ceremony
from committee.ceremony.plan import Phase, Slot, Windows
from committee.ceremony.transactions import (
    Acknowledgement,
    CeremonyTransaction,
    Complaint,
    Dealing,
    decode_transaction,
)
from crypto.codec import encode

WINDOWS = st.builds(Windows, *[st.integers(1, 3)] * 3)
POWERS = st.lists(st.integers(1, 5), min_size=1, max_size=7)

SMALL = st.integers(0, 7)
KINDS = ["fitting"] * 5 + ["deal", "complain", "acknowledge", "stale"]
MANNERS = ["right"] * 8 + ["wrong", "forged", "cheats", "cheats", "other"]
ACTIONS = st.tuples(st.sampled_from(KINDS), SMALL, SMALL, st.sampled_from(MANNERS))
BLOCKS = st.lists(st.lists(ACTIONS, max_size=3), min_size=3, max_size=22)


@st.composite
def olds(draw):
    """No old key, or one whose holders are partly participants."""
    if draw(st.booleans()):
        return None
    members = draw(st.lists(st.integers(0, 7), min_size=1, max_size=4, unique=True))
    holders = [(member, draw(st.integers(0, 2))) for member in members]
    total = sum(count for _, count in holders)
    if not total:
        return None
    return draw(st.integers(1, total)), holders


def make_transaction(group, ceremony, seen, action):
    """What an action comes to under the terms of the moment."""
    kind, actor, target, how = action
    terms = ceremony.terms
    if kind == "fitting":
        kinds = {Phase.COMPLAINT: "complain", Phase.ACKNOWLEDGEMENT: "acknowledge"}
        kind = kinds.get(ceremony.phase, "deal")
    member = group.members[actor]
    if kind == "stale" and seen:
        return seen[(actor * 8 + target) % len(seen)]
    if kind == "complain" and ceremony.dealings:
        about = ceremony.dealings[target % len(ceremony.dealings)]
        made = member.complain(terms, actor, about, is_right=how != "wrong")
    elif kind == "acknowledge":
        made = member.acknowledge(terms, actor, is_right=how != "wrong")
    else:
        slots = group.slots(terms)
        slot = slots[target % len(slots)]
        more = {"cheated": [actor] if how == "cheats" else [], "is_right": how != "wrong"}
        made = group.deal(terms, slot, salt=b"other" if how == "other" else b"", **more)
        if how == "other" and actor == 0:
            made = member.sign(Dealing(terms.terms_id, actor, target, b"\x01"))
    if how == "forged":
        return CeremonyTransaction(made.message, bytes(64))
    return made


def check_restored(ceremony):
    again = Ceremony.restore(ceremony.snapshot(), ceremony.root())
    assert again.snapshot() == ceremony.snapshot()
    assert (again.terms, again.dealings) == (ceremony.terms, ceremony.dealings)
    assert (again.phase, again.outcome) == (ceremony.phase, ceremony.outcome)
    return again


def check_faults(group, ceremony, terms, faults):
    """Every piece of evidence convicts somebody who is out, by itself."""
    for fault in faults:
        assert decode_fault(encode(fault)) == fault
        assert fault.terms == terms
        verdicts = [group.judge.judge(check) for check in find_checks(fault)]
        offence = compute_offence(fault, verdicts)
        assert offence is not None
        if ceremony.terms == terms:
            assert offence.identity_key in ceremony.disqualified


class Reference:
    """The same rules once more, from the log of one attempt, said as plainly as can be."""

    def __init__(self, group, terms):
        self.group, self.terms = group, terms
        self.log = []

    def add(self, transactions, phase):
        self.log.extend((transaction, phase) for transaction in transactions)

    def verdict(self, key, transaction, dealing=None, dealings=()):
        message = transaction.message
        if isinstance(message, Dealing):
            right = message.body[:1] == b"\x01"
        elif isinstance(message, Complaint):
            cheated = dealing.message.body[1:].split(b"\xff")[0]
            right = message.body == b"\x01" and message.complainer in cheated
        else:
            cheated = b"".join(each.message.body[1:].split(b"\xff")[0] for each in dealings)
            right = message.body == b"\x01" and message.member not in cheated
        signed = transaction.signature == self.group.member_of(key).sign(message).signature
        return right if signed else None

    def said(self, type_, phase):
        return [
            transaction
            for transaction, at in self.log
            if at is phase
            and isinstance(transaction.message, type_)
            and transaction.message.terms_id == self.terms.terms_id
        ]

    def dealings(self):
        """Those that stand after both windows, and who is out. Nothing depends on the order of
        dealings of different dealers but their own order."""
        said: dict[Slot, list] = {}
        out = set()
        for each in self.said(Dealing, Phase.DEALING):
            slot = each.message.slot
            if slot not in self.group.slots(self.terms):
                continue
            key = self.terms.dealer_key(slot.dealer)
            right = self.verdict(key, each)
            if right is None:
                continue
            others = said.setdefault(slot, [])
            if each.message not in [other.message for other in others]:
                others.append(each)
            if not right or len(others) > 1:
                out.add(key)
        standing = {slot: each[0] for slot, each in said.items()}
        for each in self.said(Complaint, Phase.COMPLAINT):
            complaint = each.message
            complainer = self.terms.participant_key(complaint.complainer)
            dealing = standing.get(complaint.slot)
            dealer = self.terms.dealer_key(complaint.dealer)
            if complainer is None or complainer in out or dealing is None or dealer in out:
                continue
            right = self.verdict(complainer, each, dealing)
            if right is not None:
                out.add(dealer if right else complainer)
        left = [
            each for slot, each in standing.items() if self.terms.dealer_key(slot.dealer) not in out
        ]
        return left, out

    def acknowledged(self, counting):
        first = {}
        for each in self.said(Acknowledgement, Phase.ACKNOWLEDGEMENT):
            key = self.terms.participant_key(each.message.member)
            if key is None:
                continue
            right = self.verdict(key, each, dealings=counting)
            if right is not None:
                first.setdefault(each.message.member, right)
        return sorted(member for member, right in first.items() if right)


def check_outcome(ceremony, reference):
    """What the machine came to at a verdict, by the plain rules."""
    terms = reference.terms
    left, out = reference.dealings()
    old_key = terms.plan.old_key
    if old_key is not None:
        enough = len(left) >= old_key.threshold
        left = left[: old_key.threshold]
    else:
        powers = [terms.plan.participants[each.message.dealer].power for each in left]
        taking_part = [
            participant.power
            for participant, count in zip(
                terms.plan.participants, terms.tickets.counts, strict=True
            )
            if count
        ]
        enough = 3 * sum(powers) >= 2 * sum(taking_part)
    acknowledged = reference.acknowledged(left) if enough else []
    tickets = sum(terms.tickets.counts[member] for member in acknowledged)
    if enough and tickets >= terms.tickets.threshold + terms.tickets.spare:
        assert ceremony.outcome == (terms, tuple(left))
        assert set(ceremony.disqualified) == out
        assert list(ceremony.acknowledged) == acknowledged
        return
    assert ceremony.outcome is None
    assert ceremony.terms.attempt == terms.attempt + 1
    participants = terms.plan.participants
    power = sum(participants[member].power for member in acknowledged)
    if 3 * power > 2 * sum(each.power for each in participants):
        assert set(ceremony.left_out) == set(range(len(participants))) - set(acknowledged)
    else:
        assert ceremony.left_out == ()


@settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(POWERS, olds(), WINDOWS, BLOCKS, st.integers(0, 2**32))
def test_any_sequence_of_transactions_keeps_the_rules(group, powers, old, windows, blocks, seed):
    random = Random(seed)
    ceremony = group.begin(powers, old, windows=windows)
    seen = []
    reference = Reference(group, ceremony.terms)
    for actions in blocks:
        # Most of the time members do what is to be done, so that attempts get somewhere.
        duties = []
        if ceremony.phase is Phase.DEALING and random.random() < 0.8:
            duties = group.deal_all(ceremony.terms)
        elif ceremony.phase is Phase.ACKNOWLEDGEMENT and random.random() < 0.8:
            duties = group.acknowledge_all(ceremony.terms, without=[random.randrange(12)])
        made = [make_transaction(group, ceremony, seen, action) for action in actions]
        transactions = [*made, *duties]
        random.shuffle(transactions)
        assert all(decode_transaction(encode(each)) == each for each in transactions)
        seen.extend(made)
        terms, phase = ceremony.terms, ceremony.phase
        twin = check_restored(ceremony)
        reference.add(transactions, phase)
        step = group.apply(ceremony, *transactions)
        assert group.apply(twin, *transactions) == step
        assert (twin.root(), twin.snapshot()) == (ceremony.root(), ceremony.snapshot())
        check_faults(group, ceremony, terms, step.faults)
        if ceremony.terms != terms or (ceremony.phase is Phase.DONE and phase is not Phase.DONE):
            check_outcome(ceremony, reference)
            reference = Reference(group, ceremony.terms)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.integers(1, 5), min_size=4, max_size=7), st.booleans(), st.integers(0, 2**32))
def test_honest_members_are_never_convicted_and_come_to_a_key(group, powers, is_reshare, seed):
    """Faulty members leave the others a quorum, and say whatever they like in any order. Each
    attempt that fails costs at least one of them its part."""
    random = Random(seed)
    spare_power = (sum(powers) - 1) // 3
    faulty = []
    for member in random.sample(range(len(powers)), len(powers)):
        if sum(powers[each] for each in [*faulty, member]) <= spare_power:
            faulty.append(member)
    old = None
    if is_reshare:
        plain = group.begin(powers).terms.tickets
        old = (plain.threshold, list(enumerate(plain.counts)))
    ceremony = group.begin(powers, old, windows=Windows(1, 1, 1))
    honest_keys = {group.keys[member] for member in range(len(powers)) if member not in faulty}
    while ceremony.outcome is None:
        terms = ceremony.terms
        assert terms.attempt <= len(faulty)
        assert not honest_keys & {group.keys[member] for member in ceremony.left_out}
        wanted = {
            Phase.DEALING: group.deal_all,
            Phase.COMPLAINT: lambda terms: complain_all(group, ceremony),
            Phase.ACKNOWLEDGEMENT: group.acknowledge_all,
        }[ceremony.phase](terms)
        honest = [each for each in wanted if author_key(terms, each) in honest_keys]
        lies = [
            make_lie(group, ceremony, faulty, [random.randrange(8) for _ in range(3)])
            for _ in range(random.randrange(6) if faulty else 0)
        ]
        said = [*honest, *lies]
        step = group.apply(ceremony, *random.sample(said, len(said)))
        for fault in step.faults:
            verdicts = [group.judge.judge(check) for check in find_checks(fault)]
            assert compute_offence(fault, verdicts).identity_key not in honest_keys


def author_key(terms, transaction):
    match transaction.message:
        case Dealing(dealer=dealer):
            return terms.dealer_key(dealer)
        case Complaint(complainer=member) | Acknowledgement(member=member):
            return terms.participant_key(member)


def complain_all(group, ceremony):
    """Every participant about every bad share that it was dealt."""
    made = []
    for dealing in ceremony.dealings:
        cheated = dealing.message.body[1:].split(b"\xff")[0]
        for member in cheated:
            if ceremony.terms.participant_key(member) is not None:
                made.append(group.members[member].complain(ceremony.terms, member, dealing))
    return made


def make_lie(group, ceremony, faulty, numbers):
    """Something that a faulty member may send, also in the name of others."""
    first, second, third = numbers
    terms = ceremony.terms
    liar = faulty[first % len(faulty)]
    member = group.members[liar]
    if ceremony.phase is Phase.COMPLAINT and ceremony.dealings:
        about = ceremony.dealings[second % len(ceremony.dealings)]
        return member.complain(terms, liar, about, is_right=bool(third % 2))
    if ceremony.phase is Phase.ACKNOWLEDGEMENT:
        return member.acknowledge(terms, liar if third else second, is_right=bool(third % 3))
    slots = group.slots(terms)
    own = [slot for slot in slots if terms.dealer_key(slot.dealer) == group.keys[liar]]
    slot = (own or slots)[second % len(own or slots)]
    body = bytes([third % 5 != 0, third]) + b"\xff"
    return member.sign(Dealing(terms.terms_id, slot.dealer, slot.ticket, body))


def test_the_order_within_a_block_decides_only_what_the_rules_say_it_does(group):
    """Of the same transactions, acknowledgements and dealings of a fresh key count in any order."""
    outcomes = set()
    for turn in range(4):
        ceremony = group.begin([3, 2, 2, 1])
        dealings = group.deal_all(ceremony.terms)
        group.apply(ceremony, *dealings[turn:], *dealings[:turn])
        group.skip_to(ceremony, Phase.ACKNOWLEDGEMENT)
        said = group.acknowledge_all(ceremony.terms)
        group.apply(ceremony, *said[turn:], *said[:turn])
        group.skip_to(ceremony, Phase.DONE)
        outcomes.add((frozenset(ceremony.outcome.dealings), ceremony.acknowledged))
    assert len(outcomes) == 1


def test_what_is_refused_leaves_no_trace(group):
    ceremony, twin = group.begin([1] * 4), group.begin([1] * 4)
    dealings = group.deal_all(ceremony.terms)
    group.apply(ceremony, *dealings)
    group.apply(twin, *dealings)
    forged = CeremonyTransaction(dealings[0].message, bytes(64))
    step = group.apply(ceremony, forged, dealings[1], group.members[0].acknowledge(twin.terms, 0))
    assert None not in step.refusals
    group.apply(twin)
    assert ceremony.root() == twin.root()


def test_an_answer_is_needed_once_for_what_stands_in_a_block_twice(group):
    ceremony = group.begin([1] * 4)
    (first, *_) = group.deal_all(ceremony.terms)
    judged = [JudgedTransaction(first, Verdict.UPHELD)] * 2
    step = ceremony.apply_block(101, judged)
    assert step.refusals == (None, CeremonyRefusal.REPEATED)
