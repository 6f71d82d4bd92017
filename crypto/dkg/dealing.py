"""One dealer's part of a ceremony: made by the dealer, checked by everybody.

What everybody can check, `find_dealing_fault` checks; a dealing that fails it never counts, and
with the dealer's signature it is evidence. Whether the encrypted shares are right, each recipient
alone sees (`receiving`).
"""

import hashlib
from collections.abc import Iterator, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Final

from msgspec import Meta, Struct
from msgspec.structs import replace

from crypto.codec import encode
from crypto.digest import Domain, digest
from crypto.dkg.proofs import compute_proof_size_bytes, is_knowledge_right, prove_knowledge
from crypto.dkg.sharing import PURPOSES, RECIPIENTS_MAX, MemberNumber, Sharing, TicketNumber
from crypto.group import (
    ORDER,
    SCALAR_SIZE_BYTES,
    G,
    G1Point,
    G2Point,
    GroupError,
    H,
    decode_g1,
    decode_g2,
    decode_scalar,
    encode_g1,
    encode_g2,
    encode_scalar,
    is_pairing_product_one,
    multiply,
    multiply_g2,
)
from crypto.threshold.lagrange import TICKETS_MAX
from crypto.threshold.polynomial import evaluate
from crypto.types import BlsPublicKey, BlsSignature

SEED_SIZE_BYTES: Final = 32

DECODED_MAX: Final = 256
"""Polynomials whose commitments are kept decoded: a ceremony of usual size, and half a megabyte."""

_WIDE_SCALAR_SIZE_BYTES = 48  # reduced modulo r, uniform but for 2^-128

Commitments = Annotated[tuple[BlsSignature, ...], Meta(min_length=1, max_length=TICKETS_MAX)]


class DealingFault(StrEnum):
    """Why a dealing can never count: found from its bytes and its sharing alone."""

    SHAPE = "dkg.dealing_malformed"
    """Its parts are not as many or as long as the sharing asks for."""
    POINT = "dkg.point_invalid"
    """A commitment, R or Y is no canonical point of its group, or the identity."""
    SCALAR = "dkg.scalar_invalid"
    """An encrypted share is not below the group's order."""
    SECRET = "dkg.secret_wrong"
    """C_0 and Y have different logarithms, or C_0 is not the old ticket's verification key."""
    PROOF = "dkg.proof_wrong"
    """Somebody else's dealing, or one by a dealer who does not know what it deals."""


class Dealing(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Two polynomials, one for each of `PURPOSES`, in commitments and encrypted values."""

    dealer: MemberNumber
    """In the dealing committee. Its signature around this is the caller's to check; and, where the
    secrets are reshared, that the old ticket was its own."""
    old_ticket: TicketNumber
    """The ticket of the previous committee that is dealt out, or 0 where the secrets are fresh."""
    commitments: tuple[Commitments, Commitments]
    """a_k H."""
    public_points: Annotated[tuple[BlsPublicKey, ...], Meta(max_length=2)]
    """a_0 G of both where the secrets are fresh; nothing where they are reshared."""
    ephemeral: BlsPublicKey
    """R = rho G."""
    encrypted: Annotated[tuple[bytes, ...], Meta(max_length=RECIPIENTS_MAX)]
    """For each recipient the values at its tickets, 32 bytes each, both purposes of a ticket side
    by side; a pad is added to each modulo r."""
    proof: Annotated[bytes, Meta(max_length=compute_proof_size_bytes(3))]
    """Of knowledge of rho and, where fresh, of both a_0; bound to all of the above."""

    def compute_digest(self) -> bytes:
        """Names the dealing, proof included."""
        return digest(Domain.DKG_DEALING, b"dealing", encode(self))


def deal_fresh(sharing: Sharing, dealer: int, seed: bytes) -> Dealing:
    """Deal two new secrets. `seed`: 32 fresh random bytes, which nobody may ever see again."""
    assert sharing.previous is None
    return _deal(sharing, dealer, 0, (None, None), seed)


def deal_again(
    sharing: Sharing, dealer: int, old_ticket: int, secrets: tuple[bytes, bytes], seed: bytes
) -> Dealing:
    """Deal out what one of our old tickets holds, in the order of `PURPOSES`."""
    assert sharing.previous is not None
    sealing, beacon = (decode_scalar(secret) for secret in secrets)
    return _deal(sharing, dealer, old_ticket, (sealing, beacon), seed)


def _deal(
    sharing: Sharing,
    dealer: int,
    old_ticket: int,
    constants: tuple[int | None, int | None],
    seed: bytes,
) -> Dealing:
    assert len(seed) == SEED_SIZE_BYTES
    assert 1 <= sharing.threshold <= sharing.tickets
    context = compute_dealing_context(sharing, dealer, old_ticket)
    random = draw_scalars(seed, context)
    ephemeral_secret = next(random)
    polynomials = [
        [next(random) if constant is None else constant]
        + [next(random) for _ in range(sharing.threshold - 1)]
        for constant in constants
    ]
    ephemeral = encode_g1(multiply(G, ephemeral_secret))
    encrypted = []
    for i, recipient in enumerate(sharing.recipients):
        shared = encode_g1(multiply(decode_g1(recipient.encryption_key), ephemeral_secret))
        pads = compute_pads(context, ephemeral, i, shared, recipient.tickets)
        values = (
            evaluate(polynomial, ticket)
            for ticket in sharing.tickets_of(i)
            for polynomial in polynomials
        )
        encrypted.append(
            b"".join(encode_scalar(value + pad) for value, pad in zip(values, pads, strict=True))
        )
    first, second = (
        tuple(encode_g2(multiply_g2(H, each)) for each in polynomial) for polynomial in polynomials
    )
    is_fresh = old_ticket == 0
    fresh_secrets = [polynomial[0] for polynomial in polynomials] if is_fresh else []
    public_points = tuple(encode_g1(multiply(G, each)) for each in fresh_secrets)
    unproven = Dealing(
        dealer, old_ticket, (first, second), public_points, ephemeral, tuple(encrypted), b""
    )
    return prove_dealing(sharing, unproven, [ephemeral_secret, *fresh_secrets])


def prove_dealing(sharing: Sharing, unproven: Dealing, known: Sequence[int]) -> Dealing:
    """Return the dealing with the proof that its dealer knows rho and, where fresh, both a_0."""
    context = compute_dealing_context(sharing, unproven.dealer, unproven.old_ticket)
    bound = _compute_proof_context(context, unproven)
    return replace(unproven, proof=prove_knowledge(Domain.DKG_DEALING, bound, known))


def draw_scalars(seed: bytes, context: bytes) -> Iterator[int]:
    """Yield scalars in [1, r), uniform but for 2^-128, different for every dealing."""
    counter = 0
    while True:
        material = b"rota/dkg-seed/v1" + seed + context + counter.to_bytes(4, "big")
        stream = hashlib.shake_256(material).digest(_WIDE_SCALAR_SIZE_BYTES)
        yield int.from_bytes(stream, "big") % (ORDER - 1) + 1
        counter += 1


def find_dealing_fault(sharing: Sharing, dealing: Dealing) -> DealingFault | None:
    """Judge a dealing as everybody can, without any secret or randomness.

    Of usual size (24 tickets, threshold 17) 10 ms, nearly all of it to decode commitments.
    """
    if not _is_shape_right(sharing, dealing):
        return DealingFault.SHAPE
    try:
        for commitments in dealing.commitments:
            decode_commitments(commitments)
        points = [decode_g1(each) for each in (dealing.ephemeral, *dealing.public_points)]
    except GroupError:
        return DealingFault.POINT
    try:
        for part in dealing.encrypted:
            split_scalars(part)
    except GroupError:
        return DealingFault.SCALAR
    if not _is_secret_right(sharing, dealing, points[1:]):
        return DealingFault.SECRET
    context = compute_dealing_context(sharing, dealing.dealer, dealing.old_ticket)
    bound = _compute_proof_context(context, dealing)
    if not is_knowledge_right(Domain.DKG_DEALING, bound, points, dealing.proof):
        return DealingFault.PROOF
    return None


def _is_shape_right(sharing: Sharing, dealing: Dealing) -> bool:
    if any(len(each) != sharing.threshold for each in dealing.commitments):
        return False
    is_fresh = sharing.previous is None
    if is_fresh != (dealing.old_ticket == 0):
        return False
    if sharing.previous and dealing.old_ticket > sharing.previous.sealing.tickets:
        return False
    if len(dealing.public_points) != (len(PURPOSES) if is_fresh else 0):
        return False
    if len(dealing.encrypted) != len(sharing.recipients):
        return False
    return all(
        len(part) == recipient.tickets * len(PURPOSES) * SCALAR_SIZE_BYTES
        for part, recipient in zip(dealing.encrypted, sharing.recipients, strict=True)
    )


def _is_secret_right(sharing: Sharing, dealing: Dealing, public: Sequence[G1Point]) -> bool:
    if sharing.previous is not None:
        return all(
            commitments[0] == key.verification_keys[dealing.old_ticket - 1]
            for commitments, key in zip(dealing.commitments, sharing.previous.both, strict=True)
        )
    return all(
        is_pairing_product_one([(point, H), (-G, decode_commitments(commitments)[0])])
        for commitments, point in zip(dealing.commitments, public, strict=True)
    )


def compute_dealing_context(sharing: Sharing, dealer: int, old_ticket: int) -> bytes:
    """Return the digest that binds what is in a dealing to its sharing and dealer."""
    numbers = dealer.to_bytes(2, "big"), old_ticket.to_bytes(2, "big")
    return digest(Domain.DKG_DEALING, b"context", sharing.context, *numbers)


def _compute_proof_context(context: bytes, dealing: Dealing) -> bytes:
    """Return the digest that a dealing's proof is bound to: all but the proof itself."""
    return digest(Domain.DKG_DEALING, b"proof", context, encode(replace(dealing, proof=b"")))


def compute_pads(
    context: bytes, ephemeral: bytes, recipient: int, shared: bytes, tickets: int
) -> list[int]:
    """Return what is added to a recipient's shares: SHAKE-256 of the point that only dealer and
    recipient can compute, compressed, and of everything that names the place."""
    material = shared + ephemeral + context + recipient.to_bytes(2, "big")
    count = tickets * len(PURPOSES)
    state = hashlib.shake_256(b"rota/dkg-pads/v1" + material)
    stream = state.digest(count * _WIDE_SCALAR_SIZE_BYTES)
    return [
        int.from_bytes(stream[start : start + _WIDE_SCALAR_SIZE_BYTES], "big") % ORDER
        for start in range(0, len(stream), _WIDE_SCALAR_SIZE_BYTES)
    ]


def split_scalars(part: bytes) -> list[int]:
    """Return the scalars of a recipient's part. Raises `GroupError`."""
    return [
        decode_scalar(part[start : start + SCALAR_SIZE_BYTES])
        for start in range(0, len(part), SCALAR_SIZE_BYTES)
    ]


@lru_cache(maxsize=DECODED_MAX)
def decode_commitments(commitments: tuple[bytes, ...]) -> tuple[G2Point, ...]:
    """Return the points. Raises `GroupError`; 160 us each.

    Kept, for a node decodes them to check a dealing, to open it and to form the keys. What raises
    is not kept, so bad dealings push out no good ones.
    """
    return tuple(decode_g2(each) for each in commitments)
