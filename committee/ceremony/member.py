"""A member's own part in a ceremony: what to deal, what to complain about, what to acknowledge.

Pure functions of the terms, of the dealings that the chain shows, and of the member's secrets. What
they return is to be signed (`compute_message_id`) and sent; a dealing is to be on disk before.
"""

from collections.abc import Sequence

from committee.ceremony.judge import decode_dealing, form_ceremony_keys
from committee.ceremony.plan import FRESH_TICKET, CeremonyTerms, Slot
from committee.ceremony.transactions import (
    Acknowledgement,
    CeremonyTransaction,
    Complaint,
    Dealing,
    compute_message_id,
)
from crypto.codec import encode
from crypto.digest import Domain, digest
from crypto.dkg.acknowledgement import acknowledge
from crypto.dkg.dealing import deal_again, deal_fresh
from crypto.dkg.outcome import form_secrets
from crypto.dkg.receiving import Complaint as OpenedComplaint
from crypto.dkg.receiving import TicketSecrets, open_dealing
from crypto.dkg.sharing import Sharing


def compute_encryption_key_context(chain_id: bytes, identity_key: bytes) -> bytes:
    """Return what a participant's encryption key is proven for (`crypto.dkg.encryption_key`)."""
    return digest(Domain.DKG_ENCRYPTION_KEY, b"owner", chain_id, identity_key)


def make_dealing(
    terms: CeremonyTerms,
    sharing: Sharing,
    slot: Slot,
    seed: bytes,
    secrets: TicketSecrets | None = None,
) -> Dealing:
    """Return the dealing of one of our slots.

    `seed`: 32 random bytes, never used again. `secrets`: what our old ticket holds, unless the key
    is fresh.
    """
    if slot.ticket == FRESH_TICKET:
        dealing = deal_fresh(sharing, slot.dealer, seed)
    else:
        assert secrets is not None
        dealing = deal_again(sharing, slot.dealer, slot.ticket, secrets, seed)
    return Dealing(terms.terms_id, slot.dealer, slot.ticket, encode(dealing))


def find_complaints(
    terms: CeremonyTerms,
    sharing: Sharing,
    dealings: Sequence[CeremonyTransaction],
    member: int,
    encryption_secret: bytes,
) -> list[Complaint]:
    """Return our complaints about dealings that stand: of each that cheats us."""
    complaints = []
    for transaction in dealings:
        opened = open_dealing(sharing, decode_dealing(transaction), member, encryption_secret)
        if isinstance(opened, OpenedComplaint):
            about = transaction.message
            assert isinstance(about, Dealing)
            named = compute_message_id(about)
            slot = about.slot
            complaints.append(
                Complaint(terms.terms_id, member, slot.dealer, slot.ticket, named, encode(opened))
            )
    return complaints


def compute_secrets(
    sharing: Sharing,
    dealings: Sequence[CeremonyTransaction],
    member: int,
    encryption_secret: bytes,
) -> list[TicketSecrets] | None:
    """Return what our tickets hold under the new key, or None if a dealing that counts cheats us:
    our complaint did not get through."""
    decoded = [decode_dealing(transaction) for transaction in dealings]
    received = []
    for dealing in decoded:
        opened = open_dealing(sharing, dealing, member, encryption_secret)
        if isinstance(opened, OpenedComplaint):
            return None
        received.append(opened)
    return form_secrets(sharing, decoded, received)


def make_acknowledgement(
    terms: CeremonyTerms,
    sharing: Sharing,
    dealings: Sequence[CeremonyTransaction],
    member: int,
    secrets: Sequence[TicketSecrets],
) -> Acknowledgement:
    """Return the proof that we hold what `compute_secrets` gave for the dealings that count."""
    keys = form_ceremony_keys(sharing, dealings)
    body = acknowledge(sharing, keys, member, secrets)
    return Acknowledgement(terms.terms_id, member, body)
