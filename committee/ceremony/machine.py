"""The ceremony in order state: attempts until one succeeds, their root and their snapshot."""

from collections.abc import Sequence
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, Struct

from committee.ceremony.attempt import Attempt, CeremonyRefusal
from committee.ceremony.checks import Check, JudgedTransaction
from committee.ceremony.faults import CeremonyFault
from committee.ceremony.plan import CeremonyPlan, CeremonyTerms, Phase, Slot, make_terms
from committee.ceremony.transactions import CeremonyTransaction, Dealing
from committee.committee import COMMITTEE_SIZE_MAX, MemberIndex
from committee.tickets import TICKETS_MAX
from crypto.codec import DecodeError, decode, encode
from crypto.digest import Domain, digest
from crypto.types import Ed25519PublicKey, Uint

DISQUALIFIED_MAX: Final = 2 * COMMITTEE_SIZE_MAX
"""Holders of the old key and participants are two committees."""

_Members = Annotated[tuple[MemberIndex, ...], Meta(max_length=COMMITTEE_SIZE_MAX)]


class CeremonyError(Exception):
    """The snapshot is not of a ceremony with the expected root."""

    code = "ceremony.snapshot_invalid"


class CeremonyRecord(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A whole ceremony in canonical form."""

    terms: CeremonyTerms
    height: Uint
    dealings: Annotated[tuple[CeremonyTransaction, ...], Meta(max_length=TICKETS_MAX)]
    """In chain order."""
    disqualified: Annotated[tuple[Ed25519PublicKey, ...], Meta(max_length=DISQUALIFIED_MAX)]
    """Identity keys, rising."""
    acknowledged: _Members
    """Rising, and so is the next."""
    refuted: _Members


class CeremonyStep(NamedTuple):
    """What a block came to."""

    refusals: tuple[CeremonyRefusal | None, ...]
    """By transaction; None for one that changed something by its author's right."""
    faults: tuple[CeremonyFault, ...]
    """What they prove, in the order of transactions."""


class CeremonyOutcome(NamedTuple):
    """A ceremony that succeeded: the key is a function of this."""

    terms: CeremonyTerms
    dealings: tuple[CeremonyTransaction, ...]
    """Those that count, in chain order."""


class Ceremony:
    """A ceremony after the block at `height`."""

    def __init__(self, plan: CeremonyPlan, height: int) -> None:
        """Begin at the end of the block at `height`: dealings may come from the next one on."""
        self.height = height
        """Height of the last block applied."""
        everybody = tuple(range(len(plan.participants)))
        self._attempt = Attempt(make_terms(plan, 0, height, everybody))
        self._dealing_ids: dict[Slot, bytes] = {}

    # ---- questions -------------------------------------------------------------------------

    @property
    def terms(self) -> CeremonyTerms:
        """The terms of the attempt under way, or of the one that succeeded."""
        return self._attempt.terms

    @property
    def phase(self) -> Phase:
        """What the next block may carry."""
        # An attempt that fails is replaced in the very block of its verdict.
        return self.terms.phase_at(self.height + 1)

    @property
    def dealings(self) -> tuple[CeremonyTransaction, ...]:
        """The dealings that stand, in chain order; from the acknowledgement window on those that
        count."""
        return tuple(self._attempt.dealings.values())

    @property
    def disqualified(self) -> tuple[bytes, ...]:
        """Identity keys of those who were caught in this attempt, rising."""
        return tuple(sorted(self._attempt.disqualified))

    @property
    def acknowledged(self) -> tuple[int, ...]:
        """Participants who proved that they hold their shares, rising."""
        return tuple(sorted(self._attempt.acknowledged))

    @property
    def left_out(self) -> tuple[int, ...]:
        """Participants of the plan who have no part in this attempt, rising."""
        counts = self.terms.tickets.counts
        return tuple(index for index, count in enumerate(counts) if not count)

    @property
    def outcome(self) -> CeremonyOutcome | None:
        """What came of it, from the end of the block at `verdict_height` on; None until then."""
        if self.phase is not Phase.DONE:
            return None
        return CeremonyOutcome(self.terms, self.dealings)

    def find_check(self, transaction: CeremonyTransaction) -> Check | CeremonyRefusal:
        """Return what must be checked about a transaction of the next block.

        A refusal is final for that block: whatever comes before it there, it changes nothing.
        """
        return self._attempt.find_check(transaction, self.phase)

    # ---- changes ---------------------------------------------------------------------------

    def apply_block(self, height: int, transactions: Sequence[JudgedTransaction]) -> CeremonyStep:
        """Apply a committed block's transactions in order, then what its height brings."""
        assert height == self.height + 1, "blocks are applied in order, each once"
        phase = self.phase
        refusals: list[CeremonyRefusal | None] = []
        faults: list[CeremonyFault] = []
        for judged in transactions:
            refusal, fault = self._attempt.apply_transaction(judged, phase)
            refusals.append(refusal)
            if fault is not None:
                faults.append(fault)
        self.height = height
        self._apply_height()
        return CeremonyStep(tuple(refusals), tuple(faults))

    def _apply_height(self) -> None:
        """Judge what a window left, at the end of its last block."""
        attempt, terms = self._attempt, self.terms
        if self.height == terms.dealing_end_height and not attempt.has_enough_dealings():
            self._begin_next_attempt()
        elif self.height == terms.complaint_end_height:
            if attempt.has_enough_dealings():
                attempt.fix_dealings()
            else:
                self._begin_next_attempt()
        elif self.height == terms.verdict_height and not attempt.is_acknowledged():
            self._begin_next_attempt()

    def _begin_next_attempt(self) -> None:
        """Try again with those who acknowledged, or with everybody if those are too few.

        Less than a third of all power is left out in either case, so that faulty members, with
        less than a third of all, stay below half of what remains: they never reach the threshold
        alone, even if every member left out was honest.
        """
        plan = self.terms.plan
        remaining = self.acknowledged
        if sum(plan.participants[index].power for index in remaining) < plan.quorum_power:
            remaining = tuple(range(len(plan.participants)))
        terms = make_terms(plan, self.terms.attempt + 1, self.height, remaining)
        self._attempt = Attempt(terms)
        self._dealing_ids = {}

    # ---- commitment and snapshots ----------------------------------------------------------

    def root(self) -> bytes:
        """Return the digest of the whole ceremony, for the order state's own root.

        Dealings enter by digests that are computed once: none ever takes another's slot.
        """
        known = self._dealing_ids
        self._dealing_ids = {
            slot: known.get(slot) or transaction.transaction_id()
            for slot, transaction in self._attempt.dealings.items()
        }
        return digest(
            Domain.CEREMONY_STATE,
            self.terms.terms_id,
            self.height.to_bytes(8, "big"),
            b"".join(self._dealing_ids.values()),
            encode((self.disqualified, self.acknowledged, self._refuted())),
        )

    def snapshot(self) -> bytes:
        """Return the canonical bytes of the whole ceremony."""
        return encode(
            CeremonyRecord(
                self.terms,
                self.height,
                self.dealings,
                self.disqualified,
                self.acknowledged,
                self._refuted(),
            )
        )

    @classmethod
    def restore(cls, data: bytes, root: bytes) -> "Ceremony":
        """Rebuild a ceremony from somebody's snapshot and the root that was committed to.

        Raises `CeremonyError` unless the bytes are exactly those of the ceremony with this root.
        """
        try:
            record = decode(CeremonyRecord, data)
        except DecodeError as error:
            raise CeremonyError(str(error)) from error
        attempt = Attempt(record.terms)
        for transaction in record.dealings:
            if not isinstance(transaction.message, Dealing):
                raise CeremonyError("not a dealing")
            attempt.dealings[transaction.message.slot] = transaction
        attempt.disqualified = set(record.disqualified)
        attempt.acknowledged = set(record.acknowledged)
        attempt.refuted = set(record.refuted)
        ceremony = cls.__new__(cls)
        ceremony.height = record.height
        ceremony._attempt = attempt
        ceremony._dealing_ids = {}
        # The second condition catches repetitions and orders that the root cannot see.
        if ceremony.root() != root or ceremony.snapshot() != data:
            raise CeremonyError("the snapshot is not of this root")
        return ceremony

    def _refuted(self) -> tuple[int, ...]:
        return tuple(sorted(self._attempt.refuted))
