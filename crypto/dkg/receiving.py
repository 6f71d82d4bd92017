"""A recipient's side of a dealing: its shares, or a complaint that shows everybody who lied.

There is no apology round: a complaint opens the recipient's part of that dealing to all, so it is
judged on the spot and for good. One of the two is dishonest, and which one is not a question of
belief.
"""

from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

from crypto.digest import Domain, digest
from crypto.dkg.dealing import (
    Dealing,
    compute_dealing_context,
    compute_pads,
    decode_commitments,
    split_scalars,
)
from crypto.dkg.proofs import compute_proof_size_bytes, is_proof_right, prove
from crypto.dkg.sharing import PURPOSES, MemberNumber, Sharing
from crypto.group import (
    ORDER,
    G,
    GroupError,
    decode_g1,
    decode_scalar,
    encode_g1,
    encode_scalar,
    multiply,
)
from crypto.threshold.polynomial import is_value_right
from crypto.types import BlsPublicKey, Digest

_PROOF_SIZE_BYTES: Final = compute_proof_size_bytes(1)

TicketSecrets = tuple[bytes, bytes]
"""What a ticket holds of each of `PURPOSES`: 32-byte scalars."""


class Complaint(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A recipient's claim that a dealing's shares for it are wrong, with what it takes to see."""

    dealing: Digest
    """`Dealing.compute_digest`: a dealer that sends two must not have a complaint about the one
    held against the other."""
    recipient: MemberNumber
    shared: BlsPublicKey
    """dk R: opens the recipient's part of this dealing, and of no other."""
    proof: Annotated[bytes, Meta(min_length=_PROOF_SIZE_BYTES, max_length=_PROOF_SIZE_BYTES)]
    """That `shared` and the recipient's encryption key have the same logarithm, under R and G."""


class Blame(StrEnum):
    """Who lied."""

    DEALER = "dkg.share_wrong"
    """A share does not lie on the committed polynomial."""
    COMPLAINER = "dkg.complaint_false"
    """The shares are right, or the complaint does not open them."""


def open_dealing(
    sharing: Sharing, dealing: Dealing, recipient: int, secret: bytes
) -> list[TicketSecrets] | Complaint:
    """Return our shares, ticket by ticket, or the complaint to be made instead.

    `dealing` has no fault that everybody sees; `secret` is the one of our encryption key. 1.6 ms a
    ticket and 20 us a coefficient; a proof more where there is a complaint.
    """
    exponent = decode_scalar(secret)
    ephemeral = decode_g1(dealing.ephemeral)
    shared = multiply(ephemeral, exponent)
    shares = _find_shares(sharing, dealing, recipient, encode_g1(shared))
    if shares is not None:
        return shares
    encryption_key = decode_g1(sharing.recipients[recipient].encryption_key)
    context = _compute_context(dealing, recipient)
    statement = [(G, encryption_key, 0), (ephemeral, shared, 0)]
    proof = prove(Domain.DKG_COMPLAINT, context, statement, [exponent])
    return Complaint(dealing.compute_digest(), recipient, encode_g1(shared), proof)


def judge_complaint(sharing: Sharing, dealing: Dealing, complaint: Complaint) -> Blame:
    """Say who lied, as everybody can. The complaint names this dealing, which has no fault that
    everybody sees, and its signer is the recipient: both are the caller's to check."""
    assert complaint.dealing == dealing.compute_digest()
    if complaint.recipient >= len(sharing.recipients):
        return Blame.COMPLAINER
    ephemeral = decode_g1(dealing.ephemeral)
    encryption_key = decode_g1(sharing.recipients[complaint.recipient].encryption_key)
    try:
        shared = decode_g1(complaint.shared)
    except GroupError:
        return Blame.COMPLAINER
    context = _compute_context(dealing, complaint.recipient)
    statement = [(G, encryption_key, 0), (ephemeral, shared, 0)]
    if not is_proof_right(Domain.DKG_COMPLAINT, context, statement, complaint.proof):
        return Blame.COMPLAINER
    shares = _find_shares(sharing, dealing, complaint.recipient, complaint.shared)
    return Blame.DEALER if shares is None else Blame.COMPLAINER


def _find_shares(
    sharing: Sharing, dealing: Dealing, recipient: int, shared: bytes
) -> list[TicketSecrets] | None:
    """Return the shares that the pads lay bare, or None if one is off its polynomial."""
    tickets = sharing.tickets_of(recipient)
    context = compute_dealing_context(sharing, dealing.dealer, dealing.old_ticket)
    pads = compute_pads(context, dealing.ephemeral, recipient, shared, len(tickets))
    padded = split_scalars(dealing.encrypted[recipient])
    values = [(value - pad) % ORDER for value, pad in zip(padded, pads, strict=True)]
    polynomials = [decode_commitments(each) for each in dealing.commitments]
    shares: list[TicketSecrets] = []
    for position, ticket in enumerate(tickets):
        pair = values[position * len(PURPOSES) : (position + 1) * len(PURPOSES)]
        for commitments, value in zip(polynomials, pair, strict=True):
            if not is_value_right(commitments, ticket, value):
                return None
        sealing, beacon = pair
        shares.append((encode_scalar(sealing), encode_scalar(beacon)))
    return shares


def _compute_context(dealing: Dealing, recipient: int) -> bytes:
    return digest(
        Domain.DKG_COMPLAINT, b"context", dealing.compute_digest(), recipient.to_bytes(2, "big")
    )
