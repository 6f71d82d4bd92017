"""Transactions and answers without cryptography, for simulation and tests.

Signatures are real ones of whatever `IdentityScheme` is given. A body only says what would be found
out about it: the first byte tells a right one from a wrong one, and the rest of a dealing names the
participants whose shares in it are bad.
"""

from collections.abc import Iterable
from typing import Final

from committee.ceremony.checks import (
    AcknowledgementCheck,
    Check,
    ComplaintCheck,
    DealingCheck,
    Verdict,
)
from committee.ceremony.plan import CeremonyTerms, Slot
from committee.ceremony.transactions import (
    Acknowledgement,
    CeremonyMessage,
    CeremonyTransaction,
    Complaint,
    Dealing,
    compute_message_id,
)
from crypto.scheme import IdentityScheme

RIGHT: Final = b"\x01"
WRONG: Final = b"\x00"


class MockJudge:
    """A `CeremonyJudge` that believes what bodies say about themselves."""

    def __init__(self, identity: IdentityScheme) -> None:
        self._identity = identity

    def judge(self, check: Check) -> Verdict:
        """Return the answer."""
        transaction = check.transaction
        message_id = compute_message_id(transaction.message)
        if not self._identity.verify(check.author_key, message_id, transaction.signature):
            return Verdict.FORGED
        body = transaction.message.body
        match check:
            case DealingCheck():
                is_upheld = body[:1] == RIGHT
            case ComplaintCheck():
                complaint = transaction.message
                assert isinstance(complaint, Complaint)
                is_upheld = body == RIGHT and _is_cheated(check.dealing, complaint.complainer)
            case AcknowledgementCheck():
                acknowledgement = transaction.message
                assert isinstance(acknowledgement, Acknowledgement)
                member = acknowledgement.member
                is_upheld = body == RIGHT and not any(
                    _is_cheated(dealing, member) for dealing in check.dealings
                )
        return Verdict.UPHELD if is_upheld else Verdict.REFUTED


class MockMember:
    """Signs what a member says."""

    def __init__(self, identity: IdentityScheme, secret: bytes) -> None:
        self._identity = identity
        self._secret = secret

    def deal(
        self,
        terms: CeremonyTerms,
        slot: Slot,
        cheated: Iterable[int] = (),
        salt: bytes = b"",
        is_right: bool = True,
    ) -> CeremonyTransaction:
        """Return a dealing with bad shares for some participants; another salt, another dealing."""
        body = (RIGHT if is_right else WRONG) + bytes(sorted(cheated)) + b"\xff" + salt
        return self.sign(Dealing(terms.terms_id, slot.dealer, slot.ticket, body))

    def complain(
        self,
        terms: CeremonyTerms,
        complainer: int,
        dealing: CeremonyTransaction,
        is_right: bool = True,
    ) -> CeremonyTransaction:
        """Return a complaint, which is upheld if its proof is right and the share bad."""
        about = dealing.message
        assert isinstance(about, Dealing)
        return self.sign(
            Complaint(
                terms.terms_id,
                complainer,
                about.dealer,
                about.ticket,
                compute_message_id(about),
                RIGHT if is_right else WRONG,
            )
        )

    def acknowledge(
        self, terms: CeremonyTerms, member: int, is_right: bool = True
    ) -> CeremonyTransaction:
        """Return an acknowledgement, which is upheld if no dealing that counts cheats it."""
        body = RIGHT if is_right else WRONG
        return self.sign(Acknowledgement(terms.terms_id, member, body))

    def sign(self, message: CeremonyMessage) -> CeremonyTransaction:
        """Return the message with the member's signature."""
        signature = self._identity.sign(self._secret, compute_message_id(message))
        return CeremonyTransaction(message, signature)


def _is_cheated(dealing: CeremonyTransaction, participant: int) -> bool:
    cheated, _, _ = dealing.message.body[1:].partition(b"\xff")
    return participant in cheated
