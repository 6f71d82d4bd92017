"""The production judge: what the mathematics of `crypto.dkg` says about a ceremony's transactions.

A transaction's body is the canonical encoding of what that package makes: a dealing, a complaint,
or an acknowledgement's 48 bytes as they are. What a body says about its dealer, ticket or recipient
must be what its transaction says.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from committee.ceremony.checks import (
    AcknowledgementCheck,
    Check,
    ComplaintCheck,
    DealingCheck,
    Verdict,
)
from committee.ceremony.plan import CeremonyTerms
from committee.ceremony.transactions import (
    Acknowledgement,
    CeremonyTransaction,
    Complaint,
    Dealing,
    compute_message_id,
)
from crypto.codec import DecodeError, decode
from crypto.dkg.acknowledgement import is_acknowledgement_right
from crypto.dkg.dealing import Dealing as DealingBody
from crypto.dkg.dealing import find_dealing_fault
from crypto.dkg.outcome import form_keys
from crypto.dkg.receiving import Blame, judge_complaint
from crypto.dkg.receiving import Complaint as ComplaintBody
from crypto.dkg.sharing import Keys, Recipient, Sharing
from crypto.group import GroupError, decode_g1
from crypto.scheme import IdentityScheme

OUTCOMES_MAX: Final = 4
"""Keys that are kept after they were formed: every acknowledgement of an attempt asks for the same.
"""


class KeyJudge:
    """A `CeremonyJudge`. It knows the old keys that plans name, and nothing secret.

    Evidence shows its terms, and whoever made it up may have made up those. Terms that no ceremony
    can have, or that reshare a key that this judge was not given, convict nobody: whatever is said
    under them counts as forged.
    """

    def __init__(self, identity: IdentityScheme, old_keys: Mapping[bytes, Keys]) -> None:
        """`old_keys` by `Keys.compute_digest`."""
        self._identity = identity
        self._old_keys = old_keys

    def judge(self, check: Check) -> Verdict:
        """Return the answer; a dealing costs 10 ms, the first acknowledgement some 100 ms more."""
        transaction = check.transaction
        message_id = compute_message_id(transaction.message)
        if not self._identity.verify(check.author_key, message_id, transaction.signature):
            return Verdict.FORGED
        if not self._are_possible(check.terms):
            return Verdict.FORGED
        sharing = make_sharing(check.terms, self._old_keys)
        try:
            match check:
                case DealingCheck():
                    is_upheld = _is_dealing_valid(sharing, transaction)
                case ComplaintCheck():
                    is_upheld = _is_complaint_right(sharing, transaction, check.dealing)
                case AcknowledgementCheck():
                    is_upheld = _is_acknowledged(sharing, transaction, check.dealings)
        except DecodeError:
            is_upheld = False
        return Verdict.UPHELD if is_upheld else Verdict.REFUTED

    def _are_possible(self, terms: CeremonyTerms) -> bool:
        old_key = terms.plan.old_key
        if old_key is not None:
            keys = self._old_keys.get(old_key.key_digest)
            shape = sum(holder.tickets for holder in old_key.holders), old_key.threshold
            if keys is None or any((each.tickets, each.threshold) != shape for each in keys.both):
                return False
        return _are_points(tuple(each.encryption_key for each in terms.plan.participants))


@lru_cache(maxsize=OUTCOMES_MAX)
def _are_points(encoded: tuple[bytes, ...]) -> bool:
    try:
        for each in encoded:
            decode_g1(each)
    except GroupError:
        return False
    return True


def make_sharing(terms: CeremonyTerms, old_keys: Mapping[bytes, Keys]) -> Sharing:
    """Return what the mathematics needs to know of an attempt; the old key must be there."""
    plan, tickets = terms.plan, terms.tickets
    recipients = tuple(
        Recipient(participant.encryption_key, count)
        for participant, count in zip(plan.participants, tickets.counts, strict=True)
    )
    previous = old_keys[plan.old_key.key_digest] if plan.old_key else None
    return Sharing(terms.terms_id, tickets.threshold, recipients, previous)


@lru_cache(maxsize=OUTCOMES_MAX)
def _form_keys(sharing: Sharing, bodies: tuple[bytes, ...]) -> Keys:
    return form_keys(sharing, [decode(DealingBody, body) for body in bodies])


def form_ceremony_keys(sharing: Sharing, dealings: Sequence[CeremonyTransaction]) -> Keys:
    """Return the keys that dealings make which count, in chain order: all of them were upheld."""
    return _form_keys(sharing, tuple(dealing.message.body for dealing in dealings))


def decode_dealing(transaction: CeremonyTransaction) -> DealingBody:
    """Return what a dealing's transaction carries. Raises `DecodeError`."""
    message = transaction.message
    assert isinstance(message, Dealing)
    dealing = decode(DealingBody, message.body)
    if (dealing.dealer, dealing.old_ticket) != message.slot:
        raise DecodeError("the body is for another slot")
    return dealing


def _is_dealing_valid(sharing: Sharing, transaction: CeremonyTransaction) -> bool:
    return find_dealing_fault(sharing, decode_dealing(transaction)) is None


def _is_complaint_right(
    sharing: Sharing, transaction: CeremonyTransaction, about: CeremonyTransaction
) -> bool:
    message = transaction.message
    assert isinstance(message, Complaint)
    dealing = decode_dealing(about)
    complaint = decode(ComplaintBody, message.body)
    if complaint.recipient != message.complainer or complaint.dealing != dealing.compute_digest():
        return False
    if find_dealing_fault(sharing, dealing) is not None:
        # Only in evidence: the chain hears complaints about dealings that stand. Another check says
        # what becomes of such a dealing, and then nobody asks about shares.
        return False
    return judge_complaint(sharing, dealing, complaint) is Blame.DEALER


def _is_acknowledged(
    sharing: Sharing, transaction: CeremonyTransaction, dealings: Sequence[CeremonyTransaction]
) -> bool:
    message = transaction.message
    assert isinstance(message, Acknowledgement)
    keys = form_ceremony_keys(sharing, dealings)
    return is_acknowledgement_right(sharing, keys, message.member, message.body)
