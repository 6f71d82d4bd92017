"""Who takes part in a ceremony, for how long, and the terms of one attempt."""

from enum import StrEnum
from functools import cached_property
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, Struct

from committee.committee import COMMITTEE_SIZE_MAX, POWER_MAX
from committee.tickets import TICKETS_MAX, TicketCount, Tickets, compute_tickets
from crypto.codec import encode
from crypto.digest import Domain, digest
from crypto.types import BlsPublicKey, Digest, Ed25519PublicKey, Uint

WINDOW_MAX_HEIGHTS: Final = 1 << 20
"""Of one window, before attempts lengthen it."""

WINDOW_DOUBLINGS_MAX: Final = 3
"""From the fourth attempt on windows are eight times as long as the plan says: how long members
need is unknown, but a ceremony that fails for other reasons must not take ever longer."""

WindowHeights = Annotated[int, Meta(ge=1, le=WINDOW_MAX_HEIGHTS)]

TicketNumber = Annotated[int, Meta(ge=0, le=TICKETS_MAX)]
"""A ticket of the old key, counted from 1; 0 in a ceremony for a fresh key."""

FRESH_TICKET: Final = 0


class Participant(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A member who is to hold shares of the new key."""

    identity_key: Ed25519PublicKey
    """Signs its transactions."""
    encryption_key: BlsPublicKey
    """Shares are encrypted to it. Whoever registered it proved that it knows the secret."""
    power: Annotated[int, Meta(ge=1, le=POWER_MAX)]


class Holder(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A member who holds shares of the old key."""

    identity_key: Ed25519PublicKey
    tickets: TicketCount


class OldKey(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The key that is to be shared anew."""

    key_digest: Digest
    """Of its public part, verification keys included, which the checks of dealings need."""
    threshold: Annotated[int, Meta(ge=1, le=TICKETS_MAX)]
    holders: Annotated[tuple[Holder, ...], Meta(min_length=1, max_length=COMMITTEE_SIZE_MAX)]

    def __post_init__(self) -> None:
        _require_distinct("identity key", [holder.identity_key for holder in self.holders])
        if not self.threshold <= sum(holder.tickets for holder in self.holders) <= TICKETS_MAX:
            raise ValueError("the old key's tickets do not fit its threshold")


class Windows(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How many blocks each part of the first attempt lasts."""

    dealing: WindowHeights
    complaint: WindowHeights
    acknowledgement: WindowHeights


class CeremonyPlan(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a ceremony is for. Without an `old_key` the key is fresh."""

    chain_id: Digest
    epoch: Uint
    """The first epoch that is to use the shares."""
    participants: Annotated[
        tuple[Participant, ...], Meta(min_length=1, max_length=COMMITTEE_SIZE_MAX)
    ]
    old_key: OldKey | None
    windows: Windows

    def __post_init__(self) -> None:
        """Refuse duplicates: one key counted twice would speak for two members."""
        participants = self.participants
        _require_distinct("identity key", [each.identity_key for each in participants])
        _require_distinct("encryption key", [each.encryption_key for each in participants])

    @property
    def quorum_power(self) -> int:
        """Q of all participants: an attempt without some of them needs at least this much."""
        return 2 * sum(each.power for each in self.participants) // 3 + 1


class Phase(StrEnum):
    """Where an attempt stands."""

    DEALING = "dealing"
    COMPLAINT = "complaint"
    ACKNOWLEDGEMENT = "acknowledgement"
    DONE = "done"


class Slot(NamedTuple):
    """The place of one dealing."""

    dealer: int
    """Index among the participants for a fresh key, among the old key's holders otherwise."""
    ticket: int


class CeremonyTerms(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, dict=True):
    """The terms of one attempt, fixed as it begins. All its transactions name their digest."""

    plan: CeremonyPlan
    attempt: Uint
    start_height: Uint
    """The dealing window begins at the next block."""
    tickets: Tickets
    """By participant; none for those whom this attempt leaves out."""

    def __post_init__(self) -> None:
        if len(self.tickets.counts) != len(self.plan.participants):
            raise ValueError("not one number of tickets for each participant")

    @cached_property
    def terms_id(self) -> bytes:
        """Names chain, epoch, members, their keys and tickets, attempt and heights."""
        return digest(Domain.CEREMONY_TERMS, encode(self))

    @property
    def dealing_end_height(self) -> int:
        """The last block that may carry dealings."""
        return self.start_height + self._lengthen(self.plan.windows.dealing)

    @property
    def complaint_end_height(self) -> int:
        """The last block that may carry complaints; at its end it is fixed which dealings count."""
        return self.dealing_end_height + self._lengthen(self.plan.windows.complaint)

    @property
    def verdict_height(self) -> int:
        """The last block that may carry acknowledgements; at its end the attempt is judged."""
        return self.complaint_end_height + self._lengthen(self.plan.windows.acknowledgement)

    def phase_at(self, height: int) -> Phase:
        """Return what a block of this height, above the start, may carry."""
        if height <= self.dealing_end_height:
            return Phase.DEALING
        if height <= self.complaint_end_height:
            return Phase.COMPLAINT
        return Phase.ACKNOWLEDGEMENT if height <= self.verdict_height else Phase.DONE

    def dealer_key(self, index: int) -> bytes | None:
        """Return the identity key of a dealer, or None if the index names none."""
        if self.plan.old_key is None:
            return self.participant_key(index)
        holders = self.plan.old_key.holders
        return holders[index].identity_key if index < len(holders) else None

    def participant_key(self, index: int) -> bytes | None:
        """Return the identity key of a participant, or None if the index names none or one who is
        left out of this attempt."""
        if index >= len(self.plan.participants) or not self.tickets.counts[index]:
            return None
        return self.plan.participants[index].identity_key

    def is_slot(self, slot: Slot) -> bool:
        """May its dealer deal there?"""
        if self.plan.old_key is None:
            return slot.ticket == FRESH_TICKET and self.participant_key(slot.dealer) is not None
        return slot.dealer < len(self._old_ranges) and slot.ticket in self._old_ranges[slot.dealer]

    def power_of(self, index: int) -> int:
        """Return a participant's power."""
        return self.plan.participants[index].power

    @cached_property
    def power(self) -> int:
        """All power that takes part in this attempt."""
        counts = self.tickets.counts
        return sum(
            each.power for each, count in zip(self.plan.participants, counts, strict=True) if count
        )

    @cached_property
    def _old_ranges(self) -> tuple[range, ...]:
        assert self.plan.old_key is not None
        counts = tuple(holder.tickets for holder in self.plan.old_key.holders)
        return Tickets(counts, self.plan.old_key.threshold, 0).ranges()

    def _lengthen(self, heights: int) -> int:
        return heights << min(self.attempt, WINDOW_DOUBLINGS_MAX)


def make_terms(
    plan: CeremonyPlan, attempt: int, start_height: int, taking_part: tuple[int, ...]
) -> CeremonyTerms:
    """Return the terms of an attempt with some participants, given by rising index."""
    dealt = compute_tickets([plan.participants[index].power for index in taking_part])
    counts = [0] * len(plan.participants)
    for index, count in zip(taking_part, dealt.counts, strict=True):
        counts[index] = count
    tickets = Tickets(tuple(counts), dealt.threshold, dealt.spare)
    return CeremonyTerms(plan, attempt, start_height, tickets)


def _require_distinct(what: str, values: list[bytes]) -> None:
    if len(set(values)) != len(values):
        raise ValueError(f"one {what} twice")
