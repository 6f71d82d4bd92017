"""The rules of one attempt: what each transaction changes, in chain order."""

from enum import StrEnum

from committee.ceremony.checks import (
    AcknowledgementCheck,
    Check,
    ComplaintCheck,
    DealingCheck,
    JudgedTransaction,
    Verdict,
)
from committee.ceremony.faults import (
    CeremonyFault,
    InvalidDealing,
    ShareDispute,
    make_double_dealing,
)
from committee.ceremony.plan import CeremonyTerms, Phase, Slot
from committee.ceremony.transactions import (
    Acknowledgement,
    CeremonyTransaction,
    Complaint,
    Dealing,
    compute_message_id,
)


class CeremonyRefusal(StrEnum):
    """Why a transaction changes nothing. Append-only."""

    TERMS_UNKNOWN = "ceremony.terms_unknown"
    """It is for another chain, epoch or attempt, or for other members."""
    TOO_EARLY = "ceremony.too_early"
    """Its window has not begun."""
    TOO_LATE = "ceremony.too_late"
    """Its window is over."""
    AUTHOR_UNKNOWN = "ceremony.author_unknown"
    """Its author has no such part in this attempt."""
    SLOT_UNKNOWN = "ceremony.slot_unknown"
    """The dealer has no such ticket."""
    DEALING_UNKNOWN = "ceremony.dealing_unknown"
    """No such dealing stands, or not any more."""
    DISQUALIFIED = "ceremony.disqualified"
    """Its author is not heard any more."""
    REPEATED = "ceremony.repeated"
    """The same was said before, or the one chance to acknowledge is spent."""
    FORGED = "ceremony.forged"
    """Its author did not sign it."""
    REFUTED = "ceremony.refuted"
    """It is wrong, by its author's fault."""


_WINDOWS = {
    Dealing: Phase.DEALING,
    Complaint: Phase.COMPLAINT,
    Acknowledgement: Phase.ACKNOWLEDGEMENT,
}

_ORDER = tuple(Phase)


class Attempt:
    """One attempt after some blocks.

    Nothing is kept of complaints: each one that is judged disqualifies somebody, and so cannot be
    heard twice.
    """

    def __init__(self, terms: CeremonyTerms) -> None:
        """Nothing is dealt yet."""
        self.terms = terms
        self.dealings: dict[Slot, CeremonyTransaction] = {}
        """Those that stand, in chain order; none of a disqualified dealer."""
        self.disqualified: set[bytes] = set()
        """Identity keys."""
        self.acknowledged: set[int] = set()
        """Participants who proved that they hold their shares."""
        self.refuted: set[int] = set()
        """Participants who tried to, and failed."""

    # ---- questions -------------------------------------------------------------------------

    def find_check(self, transaction: CeremonyTransaction, phase: Phase) -> Check | CeremonyRefusal:
        """Return what must be checked about a transaction of the next block, or why nothing."""
        message = transaction.message
        if message.terms_id != self.terms.terms_id:
            return CeremonyRefusal.TERMS_UNKNOWN
        window = _WINDOWS[type(message)]
        if phase is not window:
            is_early = _ORDER.index(phase) < _ORDER.index(window)
            return CeremonyRefusal.TOO_EARLY if is_early else CeremonyRefusal.TOO_LATE
        match message:
            case Dealing():
                return self._find_dealing_check(transaction, message)
            case Complaint():
                return self._find_complaint_check(transaction, message)
            case Acknowledgement():
                return self._find_acknowledgement_check(transaction, message)

    def _find_dealing_check(
        self, transaction: CeremonyTransaction, dealing: Dealing
    ) -> Check | CeremonyRefusal:
        author_key = self.terms.dealer_key(dealing.dealer)
        if author_key is None:
            return CeremonyRefusal.AUTHOR_UNKNOWN
        if author_key in self.disqualified:
            return CeremonyRefusal.DISQUALIFIED
        if not self.terms.is_slot(dealing.slot):
            return CeremonyRefusal.SLOT_UNKNOWN
        standing = self.dealings.get(dealing.slot)
        if standing is not None and standing.message == dealing:
            return CeremonyRefusal.REPEATED
        return DealingCheck(self.terms, author_key, transaction)

    def _find_complaint_check(
        self, transaction: CeremonyTransaction, complaint: Complaint
    ) -> Check | CeremonyRefusal:
        author_key = self.terms.participant_key(complaint.complainer)
        if author_key is None:
            return CeremonyRefusal.AUTHOR_UNKNOWN
        if author_key in self.disqualified:
            return CeremonyRefusal.DISQUALIFIED
        dealing = self.dealings.get(complaint.slot)
        if dealing is None or compute_message_id(dealing.message) != complaint.dealing_id:
            return CeremonyRefusal.DEALING_UNKNOWN
        return ComplaintCheck(self.terms, author_key, transaction, dealing)

    def _find_acknowledgement_check(
        self, transaction: CeremonyTransaction, acknowledgement: Acknowledgement
    ) -> Check | CeremonyRefusal:
        member = acknowledgement.member
        author_key = self.terms.participant_key(member)
        if author_key is None:
            return CeremonyRefusal.AUTHOR_UNKNOWN
        if member in self.acknowledged or member in self.refuted:
            return CeremonyRefusal.REPEATED
        dealings = tuple(self.dealings.values())
        return AcknowledgementCheck(self.terms, author_key, transaction, dealings)

    def has_enough_dealings(self) -> bool:
        """Do the dealings that stand suffice for a key?

        A fresh one: their dealers hold two thirds of the power that takes part, so that an honest
        one is among them and no set below a third can prevent it. Resharing: there are as many as
        the old key's threshold.
        """
        old_key = self.terms.plan.old_key
        if old_key is not None:
            return len(self.dealings) >= old_key.threshold
        power = sum(self.terms.power_of(slot.dealer) for slot in self.dealings)
        return 3 * power >= 2 * self.terms.power

    def is_acknowledged(self) -> bool:
        """Have enough tickets proven their shares for the key to be relied upon?"""
        tickets = self.terms.tickets
        held = sum(tickets.counts[member] for member in self.acknowledged)
        return held >= tickets.tickets_to_switch

    # ---- changes ---------------------------------------------------------------------------

    def apply_transaction(
        self, judged: JudgedTransaction, phase: Phase
    ) -> tuple[CeremonyRefusal | None, CeremonyFault | None]:
        """Apply one transaction of a block; return why it changes nothing, and what it proves."""
        transaction, verdict = judged
        check = self.find_check(transaction, phase)
        if isinstance(check, CeremonyRefusal):
            return check, None
        assert verdict is not None, "what is to be checked was already so before the block"
        if verdict is Verdict.FORGED:
            return CeremonyRefusal.FORGED, None
        is_upheld = verdict is Verdict.UPHELD
        match check:
            case DealingCheck():
                return self._apply_dealing(check, is_upheld)
            case ComplaintCheck():
                return self._apply_complaint(check, is_upheld)
            case AcknowledgementCheck():
                return self._apply_acknowledgement(check, is_upheld), None

    def _apply_dealing(
        self, check: DealingCheck, is_upheld: bool
    ) -> tuple[CeremonyRefusal | None, CeremonyFault | None]:
        dealing = check.transaction.message
        assert isinstance(dealing, Dealing)
        standing = self.dealings.get(dealing.slot)
        if standing is not None:
            self._disqualify(check.author_key)
            fault = make_double_dealing(self.terms, standing, check.transaction)
            return CeremonyRefusal.REPEATED, fault
        if not is_upheld:
            self._disqualify(check.author_key)
            return CeremonyRefusal.REFUTED, InvalidDealing(self.terms, check.transaction)
        self.dealings[dealing.slot] = check.transaction
        return None, None

    def _apply_complaint(
        self, check: ComplaintCheck, is_upheld: bool
    ) -> tuple[CeremonyRefusal | None, CeremonyFault | None]:
        fault = ShareDispute(self.terms, check.dealing, check.transaction)
        if not is_upheld:
            self._disqualify(check.author_key)
            return CeremonyRefusal.REFUTED, fault
        assert isinstance(check.dealing.message, Dealing)
        dealer_key = self.terms.dealer_key(check.dealing.message.dealer)
        assert dealer_key is not None, "its dealing stands"
        self._disqualify(dealer_key)
        return None, fault

    def _apply_acknowledgement(
        self, check: AcknowledgementCheck, is_upheld: bool
    ) -> CeremonyRefusal | None:
        acknowledgement = check.transaction.message
        assert isinstance(acknowledgement, Acknowledgement)
        if not is_upheld:
            # It harms nobody but its author; a second chance would be work without end.
            self.refuted.add(acknowledgement.member)
            return CeremonyRefusal.REFUTED
        self.acknowledged.add(acknowledgement.member)
        return None

    def _disqualify(self, identity_key: bytes) -> None:
        """Drop all that the member dealt, and hear neither dealing nor complaint of it again."""
        self.disqualified.add(identity_key)
        for slot in list(self.dealings):
            if self.terms.dealer_key(slot.dealer) == identity_key:
                del self.dealings[slot]

    def fix_dealings(self) -> None:
        """At the end of the complaint window: keep the dealings that count."""
        old_key = self.terms.plan.old_key
        if old_key is not None:
            for slot in list(self.dealings)[old_key.threshold :]:
                del self.dealings[slot]
