"""Plans, transactions and snapshots from outside: bounded, and taken only as they should be."""

import pytest
from msgspec import ValidationError, convert, to_builtins
from msgspec.structs import replace

from committee.ceremony.machine import Ceremony, CeremonyError, CeremonyRecord
from committee.ceremony.plan import (
    CeremonyPlan,
    CeremonyTerms,
    Holder,
    OldKey,
    Participant,
    Phase,
    Slot,
    Windows,
    make_terms,
)
from committee.ceremony.transactions import (
    ACKNOWLEDGEMENT_BODY_MAX_BYTES,
    COMPLAINT_BODY_MAX_BYTES,
    DEALING_BODY_MAX_BYTES,
    TRANSACTION_MAX_BYTES,
    Acknowledgement,
    CeremonyTransaction,
    Complaint,
    Dealing,
    decode_transaction,
)
from committee.committee import COMMITTEE_SIZE_MAX, POWER_MAX
from committee.tickets import TICKETS_MAX, Tickets
from crypto.codec import DecodeError, decode, encode

ID = bytes(32)


@pytest.fixture
def ceremony(group):
    """One in which something of everything happened."""
    ceremony = group.begin([1] * 5)
    terms = ceremony.terms
    bad = group.deal(terms, Slot(4, 0), cheated=[1])
    group.apply(ceremony, *group.deal_all(terms)[:4], bad)
    group.skip_to(ceremony, Phase.COMPLAINT)
    group.apply(ceremony, group.members[1].complain(terms, 1, bad))
    group.skip_to(ceremony, Phase.ACKNOWLEDGEMENT)
    wrong = group.members[3].acknowledge(terms, 3, is_right=False)
    group.apply(ceremony, wrong, group.members[0].acknowledge(terms, 0))
    return ceremony


def test_only_the_snapshot_of_the_root_is_taken(group, ceremony):
    data, root = ceremony.snapshot(), ceremony.root()
    assert Ceremony.restore(data, root).root() == root
    record = decode(CeremonyRecord, data)
    complaint = group.members[1].complain(record.terms, 1, record.dealings[0])
    dealing = CeremonyTransaction(record.dealings[0].message, bytes(64))
    for changed in (
        replace(record, height=record.height + 1),
        replace(record, dealings=record.dealings[::-1]),
        replace(record, dealings=(*record.dealings, record.dealings[0])),
        replace(record, dealings=(dealing, *record.dealings[1:])),
        replace(record, dealings=(complaint,)),
        replace(record, disqualified=()),
        replace(record, disqualified=record.disqualified * 2),
        replace(record, acknowledged=(0, 1)),
        replace(record, acknowledged=(0, 0)),
        replace(record, refuted=()),
        replace(record, refuted=(127,)),
        replace(record, terms=replace(record.terms, attempt=1)),
    ):
        with pytest.raises(CeremonyError):
            Ceremony.restore(encode(changed), root)
    for broken in (b"", data[:-1], data + b"\0", b"\xc1"):
        with pytest.raises(CeremonyError):
            Ceremony.restore(broken, root)
    with pytest.raises(CeremonyError):
        Ceremony.restore(data, ID)


def test_every_block_changes_the_root(group, ceremony):
    roots = {ceremony.root()}
    for _ in range(30):
        group.apply(ceremony)
        roots.add(ceremony.root())
    assert len(roots) == 31


def test_the_terms_bind_everything_that_a_transaction_depends_on(group):
    plan = group.make_plan([1, 2, 3], (2, [(0, 1), (1, 2)]))
    terms = make_terms(plan, 0, 100, (0, 1, 2))
    first = plan.participants[0]
    old_key = plan.old_key
    plans = [
        replace(plan, chain_id=b"\x01" * 32),
        replace(plan, epoch=5),
        replace(plan, participants=plan.participants[::-1]),
        replace(plan, participants=(replace(first, power=2), *plan.participants[1:])),
        replace(
            plan,
            participants=(replace(first, encryption_key=b"e" * 48), *plan.participants[1:]),
        ),
        replace(plan, old_key=None),
        replace(plan, old_key=replace(old_key, key_digest=ID)),
        replace(plan, old_key=replace(old_key, threshold=3)),
        replace(plan, windows=Windows(3, 2, 3)),
    ]
    others = [
        replace(terms, attempt=1),
        replace(terms, start_height=101),
        replace(terms, tickets=replace(terms.tickets, spare=0)),
        *(replace(terms, plan=each) for each in plans),
    ]
    assert len({each.terms_id for each in (terms, *others)}) == len(others) + 1


@pytest.mark.parametrize("size", [1, COMPLAINT_BODY_MAX_BYTES])
def test_the_largest_bodies_are_taken_and_larger_ones_refused(size):
    limits = {
        Dealing: ((ID, 127, TICKETS_MAX), DEALING_BODY_MAX_BYTES),
        Complaint: ((ID, 127, 127, TICKETS_MAX, ID), COMPLAINT_BODY_MAX_BYTES),
        Acknowledgement: ((ID, 127), ACKNOWLEDGEMENT_BODY_MAX_BYTES),
    }
    for type_, (fields, limit) in limits.items():
        for body_size, is_taken in ((size, True), (limit, True), (limit + 1, False), (0, False)):
            data = encode(CeremonyTransaction(type_(*fields, bytes(body_size)), bytes(64)))
            if is_taken:
                assert len(data) <= TRANSACTION_MAX_BYTES
                assert encode(decode_transaction(data)) == data
            else:
                with pytest.raises(DecodeError):
                    decode_transaction(data)


@pytest.mark.parametrize(
    "message",
    [
        Dealing(ID, COMMITTEE_SIZE_MAX, 0, b"x"),
        Dealing(ID, -1, 0, b"x"),
        Dealing(ID, 0, TICKETS_MAX + 1, b"x"),
        Dealing(ID[1:], 0, 0, b"x"),
        Complaint(ID, COMMITTEE_SIZE_MAX, 0, 0, ID, b"x"),
        Complaint(ID, 0, COMMITTEE_SIZE_MAX, 0, ID, b"x"),
        Complaint(ID, 0, 0, -1, ID, b"x"),
        Complaint(ID, 0, 0, 0, b"", b"x"),
        Acknowledgement(ID, COMMITTEE_SIZE_MAX, b"x"),
    ],
)
def test_fields_out_of_range_are_no_transaction(message):
    with pytest.raises(DecodeError):
        decode_transaction(encode(CeremonyTransaction(message, bytes(64))))


def test_no_plan_counts_anybody_twice_or_asks_for_what_nobody_holds():
    one, other = (Participant(bytes([n]) * 32, bytes([n]) * 48, 1) for n in (1, 2))
    windows = Windows(1, 1, 1)
    holder = Holder(one.identity_key, 2)
    for participants in (
        (one, replace(other, identity_key=one.identity_key)),
        (one, replace(other, encryption_key=one.encryption_key)),
    ):
        with pytest.raises(ValueError, match="twice"):
            CeremonyPlan(ID, 1, participants, None, windows)
    for threshold, holders in (
        (1, (holder, holder)),
        (3, (holder,)),
        (1, (replace(holder, tickets=TICKETS_MAX), Holder(other.identity_key, 1))),
    ):
        with pytest.raises(ValueError, match=r"twice|fit"):
            OldKey(ID, threshold, holders)
    plan = CeremonyPlan(ID, 1, (one, other), None, windows)
    with pytest.raises(ValueError, match="one number"):
        CeremonyTerms(plan, 0, 0, Tickets((1,), 1, 0))
    raw = to_builtins(plan)
    for path, value in (((4, 0), 0), ((4, 1), 2**20 + 1), ((2, 0, 2), POWER_MAX + 1), ((2,), [])):
        changed = convert(raw, list)
        *way, last = path
        target = changed
        for index in way:
            target[index] = list(target[index])
            target = target[index]
        target[last] = value
        with pytest.raises(ValidationError):
            convert(changed, CeremonyPlan)


def test_the_largest_ceremony_keeps_its_heights_and_numbers_in_range(group):
    huge = 2**20
    ceremony = group.begin([POWER_MAX] * 4, windows=Windows(huge, huge, huge))
    assert ceremony.terms.verdict_height == ceremony.height + 3 * huge
    assert Ceremony.restore(ceremony.snapshot(), ceremony.root()).terms == ceremony.terms
