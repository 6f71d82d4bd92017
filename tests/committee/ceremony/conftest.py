"""A group of members who run a ceremony, honestly unless a test says otherwise."""

import pytest

from committee.ceremony.attempt import CeremonyRefusal
from committee.ceremony.checks import JudgedTransaction
from committee.ceremony.machine import Ceremony
from committee.ceremony.mock import MockJudge, MockMember
from committee.ceremony.plan import (
    FRESH_TICKET,
    CeremonyPlan,
    Holder,
    OldKey,
    Participant,
    Slot,
    Windows,
)
from crypto.mock import MockIdentity, derive_test_secret

START_HEIGHT = 100
WINDOWS = Windows(3, 2, 2)
CHAIN_ID = b"\x07" * 32


class Group:
    """Members by number: keys, plans, blocks."""

    def __init__(self) -> None:
        self.identity = MockIdentity()
        self.judge = MockJudge(self.identity)
        self._secrets = [derive_test_secret(f"member {number}") for number in range(16)]
        self.members = [MockMember(self.identity, secret) for secret in self._secrets]
        self.keys = [self.identity.public_key(secret) for secret in self._secrets]

    def make_plan(self, powers, old=None, windows=WINDOWS, epoch=4):
        """A plan for members 0, 1, ...; `old` is a threshold and (member, tickets) of holders."""
        participants = tuple(
            Participant(self.keys[number], bytes([number + 1]) * 48, power)
            for number, power in enumerate(powers)
        )
        if old is not None:
            threshold, holders = old
            held = tuple(Holder(self.keys[member], count) for member, count in holders)
            old = OldKey(b"\x05" * 32, threshold, held)
        return CeremonyPlan(CHAIN_ID, epoch, participants, old, windows)

    def begin(self, powers, old=None, **more):
        return Ceremony(self.make_plan(powers, old, **more), START_HEIGHT)

    def member_of(self, key):
        return self.members[self.keys.index(key)]

    def slots(self, terms):
        """Every slot of an attempt."""
        old_key = terms.plan.old_key
        if old_key is None:
            return [Slot(i, FRESH_TICKET) for i, n in enumerate(terms.tickets.counts) if n]
        numbers = [i for i, holder in enumerate(old_key.holders) for _ in range(holder.tickets)]
        return [Slot(holder, ticket + 1) for ticket, holder in enumerate(numbers)]

    def deal(self, terms, slot, **more):
        return self.member_of(terms.dealer_key(slot.dealer)).deal(terms, slot, **more)

    def deal_all(self, terms):
        return [self.deal(terms, slot) for slot in self.slots(terms)]

    def acknowledge_all(self, terms, without=()):
        return [
            self.members[member].acknowledge(terms, member)
            for member, count in enumerate(terms.tickets.counts)
            if count and member not in without
        ]

    def apply(self, ceremony, *transactions):
        """One block, its checks made before it."""
        judged = []
        for transaction in transactions:
            check = ceremony.find_check(transaction)
            is_refused = isinstance(check, CeremonyRefusal)
            verdict = None if is_refused else self.judge.judge(check)
            judged.append(JudgedTransaction(transaction, verdict))
        return ceremony.apply_block(ceremony.height + 1, judged)

    def skip_to(self, ceremony, phase):
        """Empty blocks until the next one may carry what belongs to a phase."""
        for _ in range(100):
            if ceremony.phase is phase:
                return
            self.apply(ceremony)
        raise AssertionError(f"never {phase}")


@pytest.fixture
def group():
    return Group()
