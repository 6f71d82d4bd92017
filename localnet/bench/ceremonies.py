"""Key ceremonies among members of unequal power, some of whom lie: what they cost and come to.

Every message goes through the rules of `committee.ceremony` and the production judge, as blocks
would carry it. In the first ceremony the member with least power deals a bad share to the first,
and the next one complains about a share that is good; both are convicted, and the others make the
key. In the second the key is handed on to the same members with their powers turned round.

Every node checks the same, so checks are done once and count for each. Processor time only: what
windows last is for the chain to say.
"""

import hashlib
from collections.abc import Callable, Sequence
from time import thread_time
from typing import Final, TypeVar

from msgspec import Struct

from committee.ceremony.attempt import CeremonyRefusal
from committee.ceremony.checks import JudgedTransaction
from committee.ceremony.faults import compute_offence, find_checks
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
    FRESH_TICKET,
    CeremonyPlan,
    Holder,
    OldKey,
    Participant,
    Slot,
    Windows,
)
from committee.ceremony.transactions import (
    CeremonyMessage,
    CeremonyTransaction,
    compute_message_id,
)
from crypto.codec import encode
from crypto.dkg.encryption_key import make_encryption_key
from crypto.dkg.receiving import TicketSecrets
from crypto.dkg.sharing import Keys, Sharing
from crypto.ed25519 import ED25519
from localnet.byzantine.bad_dealings import complain_falsely, spoil_share

T = TypeVar("T")

MEMBERS_DEFAULT: Final = (4, 7, 16, 32)
MEMBERS_MIN: Final = 4
MEMBERS_MAX: Final = 128

POWER_UNIT: Final = 1_000_000
"""Power of the first member; member i has a part of 1/i of it."""

_CHAIN_ID: Final = bytes(32)
_WINDOWS: Final = Windows(1, 1, 1)


class CeremonyRow(Struct, frozen=True):
    """One ceremony."""

    kind: str
    """`fresh` or `resharing`."""
    members: int
    tickets: int
    threshold: int
    dealings: int
    """That count."""
    convicted: tuple[str, ...]
    """Of what, in the order of blocks."""
    deal_ms: float
    """A member's dealings and acknowledgement, the mean over all."""
    check_ms: float
    """Everybody's dealings and complaints, as each node checks them."""
    receive_ms: float
    """A member opens what it was dealt, twice: to complain, and to hold it."""
    acknowledge_ms: float
    """The key, and everybody's acknowledgement of it."""
    node_ms: float
    """All of that."""
    chain_bytes: int
    """Of all transactions."""
    is_same_key: bool
    """Resharing: are both public keys those of before?"""


class CeremoniesResult(Struct, frozen=True):
    """What ceremonies cost on this machine."""

    rows: tuple[CeremonyRow, ...]

    @property
    def met(self) -> bool:
        """Did every ceremony convict whom it should, and hand on the same key?"""
        return all(
            row.is_same_key
            if row.kind == "resharing"
            else row.convicted == ("bad_share", "false_complaint")
            for row in self.rows
        )


def measure_ceremonies(members: Sequence[int], note: Callable[[str], None]) -> CeremoniesResult:
    """Run a fresh ceremony and a resharing for each size."""
    rows = []
    for size in members:
        note(f"a fresh key among {size} members, and its resharing")
        powers = [max(1, POWER_UNIT // (i + 1)) for i in range(size)]
        fresh = _Run(powers, None)
        rows.append(fresh.play())
        rows.append(_Run(powers[::-1], fresh).play())
    return CeremoniesResult(tuple(rows))


class _Member:
    """What one member keeps to itself."""

    def __init__(self, number: int, epoch: int) -> None:
        self.secret = hashlib.sha256(b"ceremony %d" % number).digest()
        self.identity_key = ED25519.public_key(self.secret)
        context = compute_encryption_key_context(_CHAIN_ID, self.identity_key)
        seed = hashlib.sha256(b"encryption %d %d" % (number, epoch)).digest()
        self.encryption_secret, self.encryption_key, _ = make_encryption_key(context, seed)

    def sign(self, message: CeremonyMessage) -> CeremonyTransaction:
        signature = ED25519.sign(self.secret, compute_message_id(message))
        return CeremonyTransaction(message, signature)


class _Run:
    """One ceremony from its first block to its last."""

    def __init__(self, powers: Sequence[int], before: "_Run | None") -> None:
        self._before = before
        epoch = 1 if before is None else 2
        self._members = [_Member(number, epoch) for number in range(len(powers))]
        participants = tuple(
            Participant(member.identity_key, member.encryption_key, power)
            for member, power in zip(self._members, powers, strict=True)
        )
        old_key, old_keys = None, {}
        if before is not None:
            held = zip(before._members, before.sharing.recipients, strict=True)
            holders = tuple(Holder(member.identity_key, each.tickets) for member, each in held)
            name = before.keys.compute_digest()
            old_key, old_keys = OldKey(name, before.sharing.threshold, holders), {name: before.keys}
        plan = CeremonyPlan(_CHAIN_ID, epoch, participants, old_key, _WINDOWS)
        self._ceremony = Ceremony(plan, 0)
        self._judge = KeyJudge(ED25519, old_keys)
        self.sharing: Sharing = make_sharing(self._ceremony.terms, old_keys)
        self.secrets: list[list[TicketSecrets]] = []
        self._spent_s: dict[str, float] = {}
        self._chain_bytes = 0
        self._convicted: list[str] = []

    @property
    def keys(self) -> Keys:
        """What came of it."""
        return form_ceremony_keys(self.sharing, self._ceremony.dealings)

    def play(self) -> CeremonyRow:
        """Everything in its window."""
        size = len(self._members)
        dealings = self._spend("deal", self._deal_all)
        if self._before is None:
            dealings[-1] = self._spoil(dealings[-1])
        self._spend("check", lambda: self._apply(dealings))
        complaints = self._spend("receive", self._complain_all)
        self._spend("check", lambda: self._apply(complaints))
        self.secrets = self._spend("receive", self._receive_all)
        self._spend("acknowledge", lambda: self.keys)
        acknowledgements = self._spend("deal", self._acknowledge_all)
        self._spend("acknowledge", lambda: self._apply(acknowledgements))
        assert self._ceremony.outcome is not None, "less than a third lied"
        spent_ms = {name: spent_s * 1000 for name, spent_s in self._spent_s.items()}
        deal_ms, receive_ms = spent_ms["deal"] / size, spent_ms["receive"] / size
        check_ms, acknowledge_ms = spent_ms["check"], spent_ms["acknowledge"]
        return CeremonyRow(
            kind="fresh" if self._before is None else "resharing",
            members=size,
            tickets=self.sharing.tickets,
            threshold=self.sharing.threshold,
            dealings=len(self._ceremony.dealings),
            convicted=tuple(self._convicted),
            deal_ms=deal_ms,
            check_ms=check_ms,
            receive_ms=receive_ms,
            acknowledge_ms=acknowledge_ms,
            node_ms=deal_ms + check_ms + receive_ms + acknowledge_ms,
            chain_bytes=self._chain_bytes,
            is_same_key=self._before is not None and self._has_same_key(self._before),
        )

    def _has_same_key(self, before: "_Run") -> bool:
        return all(
            (new.public_key, new.public_key_g2) == (old.public_key, old.public_key_g2)
            for new, old in zip(self.keys.both, before.keys.both, strict=True)
        )

    def _spend(self, name: str, work: Callable[[], T]) -> T:
        start_s = thread_time()
        result = work()
        self._spent_s[name] = self._spent_s.get(name, 0.0) + thread_time() - start_s
        return result

    def _apply(self, transactions: Sequence[CeremonyTransaction]) -> None:
        """One block, its checks made before it."""
        judged = []
        for transaction in transactions:
            self._chain_bytes += len(encode(transaction))
            check = self._ceremony.find_check(transaction)
            assert not isinstance(check, CeremonyRefusal), "everything comes in its window"
            judged.append(JudgedTransaction(transaction, self._judge.judge(check)))
        step = self._ceremony.apply_block(self._ceremony.height + 1, judged)
        for fault in step.faults:
            verdicts = [self._judge.judge(check) for check in find_checks(fault)]
            offence = compute_offence(fault, verdicts)
            assert offence is not None
            self._convicted.append(offence.kind.value)

    def _deal_all(self) -> list[CeremonyTransaction]:
        before, terms = self._before, self._ceremony.terms
        if before is None:
            slots = [Slot(number, FRESH_TICKET) for number in range(len(self._members))]
            return [
                member.sign(make_dealing(terms, self.sharing, slot, _make_seed(slot)))
                for member, slot in zip(self._members, slots, strict=True)
            ]
        dealt = []
        for dealer, held in enumerate(before.secrets):
            for ticket, secrets in zip(before.sharing.tickets_of(dealer), held, strict=True):
                slot = Slot(dealer, ticket)
                message = make_dealing(terms, self.sharing, slot, _make_seed(slot), secrets)
                dealt.append(before._members[dealer].sign(message))
        return dealt

    def _spoil(self, transaction: CeremonyTransaction) -> CeremonyTransaction:
        last = len(self._members) - 1
        seed = _make_seed(Slot(last, FRESH_TICKET))
        return self._members[last].sign(spoil_share(self.sharing, transaction, 0, seed))

    def _complain_all(self) -> list[CeremonyTransaction]:
        """By whoever was cheated, and in the first ceremony by one who was not."""
        terms, dealings = self._ceremony.terms, self._ceremony.dealings
        complaints = [
            member.sign(complaint)
            for number, member in enumerate(self._members)
            for complaint in find_complaints(
                terms, self.sharing, dealings, number, member.encryption_secret
            )
        ]
        if self._before is None:
            liar = len(self._members) - 2
            member = self._members[liar]
            lie = complain_falsely(terms, self.sharing, dealings[0], liar, member.encryption_secret)
            complaints.append(member.sign(lie))
        return complaints

    def _receive_all(self) -> list[list[TicketSecrets]]:
        dealings = self._ceremony.dealings
        received = []
        for number, member in enumerate(self._members):
            secrets = compute_secrets(self.sharing, dealings, number, member.encryption_secret)
            assert secrets is not None, "who cheats does not count"
            received.append(secrets)
        return received

    def _acknowledge_all(self) -> list[CeremonyTransaction]:
        terms, dealings = self._ceremony.terms, self._ceremony.dealings
        return [
            member.sign(
                make_acknowledgement(terms, self.sharing, dealings, number, self.secrets[number])
            )
            for number, member in enumerate(self._members)
        ]


def _make_seed(slot: Slot) -> bytes:
    return hashlib.sha256(b"dealing %d %d" % slot).digest()
