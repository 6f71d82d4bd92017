"""Self-contained evidence of what a member did wrong in a ceremony.

The terms that a transaction names are shown in full, so whoever knows the members' identity keys,
and for resharing the old key, can convict: the same checks that judged the transaction are made
again (`find_checks`), and their answers say whose fault it is (`compute_offence`).
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

from committee.ceremony.checks import Check, ComplaintCheck, DealingCheck, Verdict
from committee.ceremony.plan import CeremonyTerms
from committee.ceremony.transactions import (
    CeremonyTransaction,
    Complaint,
    Dealing,
    compute_message_id,
)
from crypto.codec import decode, encode
from crypto.digest import Domain, digest


class CeremonyFaultError(Exception):
    """The parts of the evidence do not belong together: it convicts nobody."""

    code = "ceremony.fault_invalid"


class OffenceKind(StrEnum):
    """What a member is convicted of; penalties go by it. Append-only."""

    INVALID_DEALING = "invalid_dealing"
    """It signed a dealing that anybody can see to be wrong."""
    DOUBLE_DEALING = "double_dealing"
    """It signed two dealings for one slot."""
    BAD_SHARE = "bad_share"
    """It dealt a share that contradicts the public part of its dealing."""
    FALSE_COMPLAINT = "false_complaint"
    """It complained about a share that fits, or did not show what it was dealt."""


class Offence(NamedTuple):
    """Who did what."""

    identity_key: bytes
    kind: OffenceKind


class InvalidDealing(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="invalid_dealing"
):
    """A dealing whose public part is wrong."""

    terms: CeremonyTerms
    dealing: CeremonyTransaction


class DoubleDealing(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="double_dealing"
):
    """Two dealings for one slot, in byte order of their encodings."""

    terms: CeremonyTerms
    first: CeremonyTransaction
    second: CeremonyTransaction


class ShareDispute(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="share_dispute"
):
    """A complaint and the dealing that it is about: one of the two authors is guilty."""

    terms: CeremonyTerms
    dealing: CeremonyTransaction
    complaint: CeremonyTransaction


CeremonyFault = InvalidDealing | DoubleDealing | ShareDispute


def make_double_dealing(
    terms: CeremonyTerms, one: CeremonyTransaction, other: CeremonyTransaction
) -> DoubleDealing:
    """Return the evidence that two dealings make; which came first makes no difference."""
    first, second = sorted((one, other), key=encode)
    return DoubleDealing(terms, first, second)


def decode_fault(data: bytes) -> CeremonyFault:
    """Decode evidence. Raises `DecodeError`. The caller bounds `len(data)`."""
    return decode(CeremonyFault, data)  # type: ignore[arg-type]  # a union of structs


def compute_fault_id(fault: CeremonyFault) -> bytes:
    """Return the digest that names a piece of evidence."""
    return digest(Domain.EVIDENCE, encode(fault))


def find_checks(fault: CeremonyFault) -> tuple[Check, ...]:
    """Return what must be checked before the evidence convicts anybody.

    Raises `CeremonyFaultError` if its parts do not belong together.
    """
    terms = fault.terms
    match fault:
        case InvalidDealing():
            return (_check_dealing(terms, fault.dealing),)
        case DoubleDealing():
            checks = (_check_dealing(terms, fault.first), _check_dealing(terms, fault.second))
            first, second = fault.first.message, fault.second.message
            assert isinstance(first, Dealing)
            assert isinstance(second, Dealing)
            if first.slot != second.slot or first == second:
                raise CeremonyFaultError("not two dealings for one slot")
            if encode(fault.first) > encode(fault.second):
                raise CeremonyFaultError("not in byte order")
            return checks
        case ShareDispute():
            dealing = _check_dealing(terms, fault.dealing)
            return dealing, _check_complaint(terms, fault.dealing, fault.complaint)


def compute_offence(fault: CeremonyFault, verdicts: Sequence[Verdict]) -> Offence | None:
    """Return who is guilty of what, given the answers to `find_checks`; None for nobody."""
    checks = find_checks(fault)
    assert len(checks) == len(verdicts), "one answer to each check"
    if Verdict.FORGED in verdicts:
        return None
    dealer = checks[0].author_key
    match fault:
        case InvalidDealing():
            is_guilty = verdicts[0] is Verdict.REFUTED
            return Offence(dealer, OffenceKind.INVALID_DEALING) if is_guilty else None
        case DoubleDealing():
            return Offence(dealer, OffenceKind.DOUBLE_DEALING)
        case ShareDispute():
            if verdicts[0] is Verdict.REFUTED:
                # What is no dealing deals no share; that itself is another offence.
                return None
            if verdicts[1] is Verdict.UPHELD:
                return Offence(dealer, OffenceKind.BAD_SHARE)
            return Offence(checks[1].author_key, OffenceKind.FALSE_COMPLAINT)


def _check_dealing(terms: CeremonyTerms, transaction: CeremonyTransaction) -> DealingCheck:
    dealing = transaction.message
    if not isinstance(dealing, Dealing) or dealing.terms_id != terms.terms_id:
        raise CeremonyFaultError("not a dealing under these terms")
    author_key = terms.dealer_key(dealing.dealer)
    if author_key is None or not terms.is_slot(dealing.slot):
        raise CeremonyFaultError("not a slot of these terms")
    return DealingCheck(terms, author_key, transaction)


def _check_complaint(
    terms: CeremonyTerms, dealing: CeremonyTransaction, transaction: CeremonyTransaction
) -> ComplaintCheck:
    complaint = transaction.message
    if not isinstance(complaint, Complaint) or complaint.terms_id != terms.terms_id:
        raise CeremonyFaultError("not a complaint under these terms")
    assert isinstance(dealing.message, Dealing)
    is_about = compute_message_id(dealing.message) == complaint.dealing_id
    if complaint.slot != dealing.message.slot or not is_about:
        raise CeremonyFaultError("a complaint about another dealing")
    author_key = terms.participant_key(complaint.complainer)
    if author_key is None:
        raise CeremonyFaultError("not a participant of these terms")
    return ComplaintCheck(terms, author_key, transaction, dealing)
