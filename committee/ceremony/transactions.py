"""What members say in a ceremony: dealings, complaints and acknowledgements, as the chain has them.

The order state reads who speaks about what. What it takes cryptography to judge is an opaque body
(`committee.ceremony.dkg` says what it holds).

A dealing is random, so a member must have it on disk, or the seed that it follows from, before it
sends it: made again after a crash from another seed it would be another, and two different dealings
convict their dealer.
"""

from typing import Annotated, Final

from msgspec import Meta, Struct

from committee.ceremony.plan import Slot, TicketNumber
from committee.committee import MemberIndex
from committee.tickets import TICKETS_MAX
from crypto.codec import decode, encode
from crypto.digest import Domain, digest
from crypto.types import Digest, Ed25519Signature

_COMMITMENT_SIZE_BYTES = 98
"""A compressed point of G2 and the head of its encoding."""
_SHARE_SIZE_BYTES = 32
_SECRETS = 2
"""Each dealing shares two secrets: one opens envelopes, the other makes the beacon."""

DEALING_BODY_MAX_BYTES: Final = (
    _SECRETS * TICKETS_MAX * (_COMMITMENT_SIZE_BYTES + _SHARE_SIZE_BYTES) + 2048
)
"""Commitments to the polynomials, an encrypted share for each ticket, and proofs of knowledge."""

COMPLAINT_BODY_MAX_BYTES: Final = 512
"""One opened Diffie-Hellman key and the proof that it is the right one."""

ACKNOWLEDGEMENT_BODY_MAX_BYTES: Final = 512
"""One proof for all shares of a member."""

TRANSACTION_MAX_BYTES: Final = DEALING_BODY_MAX_BYTES + 256
"""Of an encoded `CeremonyTransaction`; callers refuse longer bytes before they decode them."""


class Dealing(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="dealing"):
    """One secret shared out among all tickets of the attempt."""

    terms_id: Digest
    dealer: MemberIndex
    ticket: TicketNumber
    """Of the old key, whose share is dealt out; 0 for a fresh secret."""
    body: Annotated[bytes, Meta(min_length=1, max_length=DEALING_BODY_MAX_BYTES)]

    @property
    def slot(self) -> Slot:
        """Where it counts."""
        return Slot(self.dealer, self.ticket)


class Complaint(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="complaint"):
    """A participant opens what it was dealt, to show that it is wrong."""

    terms_id: Digest
    complainer: MemberIndex
    dealer: MemberIndex
    ticket: TicketNumber
    dealing_id: Digest
    """`compute_message_id` of the dealing. Without it a dealer could show the complaint beside
    another dealing of its own, which the opened share contradicts, and convict the complainer."""
    body: Annotated[bytes, Meta(min_length=1, max_length=COMPLAINT_BODY_MAX_BYTES)]

    @property
    def slot(self) -> Slot:
        """Of the dealing that it is about."""
        return Slot(self.dealer, self.ticket)


class Acknowledgement(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="acknowledgement"
):
    """A participant proves that it holds working shares for all its tickets."""

    terms_id: Digest
    member: MemberIndex
    body: Annotated[bytes, Meta(min_length=1, max_length=ACKNOWLEDGEMENT_BODY_MAX_BYTES)]


CeremonyMessage = Dealing | Complaint | Acknowledgement


class CeremonyTransaction(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A message and its author's signature over `compute_message_id`."""

    message: CeremonyMessage
    signature: Ed25519Signature

    def transaction_id(self) -> bytes:
        """Return a digest of message and signature."""
        return digest(Domain.CEREMONY_TRANSACTION, encode(self.message), self.signature)


def compute_message_id(message: CeremonyMessage) -> bytes:
    """Return the digest of a message: what its author's identity key signs, and what names it.

    The terms that it names bind chain, epoch and attempt.
    """
    return digest(Domain.CEREMONY_TRANSACTION, encode(message))


def decode_transaction(data: bytes) -> CeremonyTransaction:
    """Decode one transaction. Raises `DecodeError`. The caller bounds `len(data)`."""
    return decode(CeremonyTransaction, data)
