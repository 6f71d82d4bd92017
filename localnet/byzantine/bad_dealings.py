"""Deals a share off its polynomial, or complains about one that is good: what members of a key
ceremony can do and everybody can judge."""

from itertools import islice

from msgspec.structs import replace

from committee.ceremony.judge import decode_dealing
from committee.ceremony.plan import CeremonyTerms
from committee.ceremony.transactions import CeremonyTransaction, Complaint, Dealing
from committee.ceremony.transactions import compute_message_id as name_message
from crypto.codec import encode
from crypto.dkg.dealing import compute_dealing_context, draw_scalars, prove_dealing
from crypto.dkg.receiving import Complaint as ComplaintBody
from crypto.dkg.receiving import open_dealing
from crypto.dkg.sharing import Sharing
from crypto.group import encode_scalar


def spoil_share(
    sharing: Sharing, transaction: CeremonyTransaction, recipient: int, seed: bytes
) -> Dealing:
    """Return a fresh dealing, made from `seed`, with the recipient's first share off its
    polynomial, proven by the dealer: nobody but the recipient sees it."""
    message = transaction.message
    assert isinstance(message, Dealing)
    dealing = decode_dealing(transaction)
    parts = list(dealing.encrypted)
    value = int.from_bytes(parts[recipient][:32], "big") + 1
    parts[recipient] = encode_scalar(value) + parts[recipient][32:]
    drawn = draw_scalars(seed, compute_dealing_context(sharing, dealing.dealer, 0))
    ephemeral, *coefficients = islice(drawn, 1 + 2 * sharing.threshold)
    known = [ephemeral, coefficients[0], coefficients[sharing.threshold]]
    changed = replace(dealing, encrypted=tuple(parts), proof=b"")
    return replace(message, body=encode(prove_dealing(sharing, changed, known)))


def complain_falsely(
    terms: CeremonyTerms,
    sharing: Sharing,
    transaction: CeremonyTransaction,
    member: int,
    encryption_secret: bytes,
) -> Complaint:
    """Return a complaint about a good dealing whose proof is of another one, made up for it."""
    dealing = decode_dealing(transaction)
    parts = list(dealing.encrypted)
    parts[member] = encode_scalar(1) + parts[member][32:]
    made_up = replace(dealing, encrypted=tuple(parts))
    opened = open_dealing(sharing, made_up, member, encryption_secret)
    assert isinstance(opened, ComplaintBody)
    lie = replace(opened, dealing=dealing.compute_digest())
    named = name_message(transaction.message)
    return Complaint(terms.terms_id, member, dealing.dealer, dealing.old_ticket, named, encode(lie))
