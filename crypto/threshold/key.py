"""What everybody knows of the secret that a committee shares."""

from functools import lru_cache
from typing import Annotated

from msgspec import Meta, Struct

from crypto.digest import Domain, digest
from crypto.group import G, G2Point, GroupError, H, decode_g1, decode_g2, is_pairing_product_one
from crypto.threshold.lagrange import TICKETS_MAX
from crypto.types import BlsPublicKey, BlsSignature

DECODED_KEYS_MAX = 4096
"""Verification keys kept decoded: a few committees' worth."""


class ThresholdKeyError(Exception):
    """A key that no ceremony can have made; `code` says so."""

    code = "threshold.key_invalid"


class ThresholdKey(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The public side of a secret x, shared so that any `threshold` tickets can apply it.

    Resharing gives other tickets and verification keys under the same public key.
    """

    public_key: BlsPublicKey
    """Y = xG: what clients seal to."""
    public_key_g2: BlsSignature
    """Y2 = xH: what keys of opened bodies are verified against."""
    threshold: Annotated[int, Meta(ge=1, le=TICKETS_MAX)]
    """tau: tickets that must work together."""
    verification_keys: Annotated[
        tuple[BlsSignature, ...], Meta(min_length=1, max_length=TICKETS_MAX)
    ]
    """VK_s = x_s H of the tickets 1, 2, ..."""

    @property
    def tickets(self) -> int:
        """W."""
        return len(self.verification_keys)

    def key_id(self, chain_id: bytes) -> bytes:
        """Names the public key in labels: the same after resharing, another for a fresh key."""
        return digest(Domain.SEALING_KEY, chain_id, self.public_key)


def validate_key(key: ThresholdKey) -> None:
    """Refuse a key whose parts do not fit together. Raises `ThresholdKeyError`.

    That the verification keys lie on one polynomial is the ceremony's to guarantee: it computes
    them from the polynomial's commitments.
    """
    if key.threshold > key.tickets:
        raise ThresholdKeyError("more tickets are needed than there are")
    try:
        public_key = decode_g1(key.public_key)
        public_key_g2 = decode_g2(key.public_key_g2)
        for each in key.verification_keys:
            decode_g2(each)
    except GroupError as error:
        raise ThresholdKeyError(error.code) from error
    if not is_pairing_product_one([(public_key, H), (-G, public_key_g2)]):
        raise ThresholdKeyError("Y and Y2 have different logarithms")


@lru_cache(maxsize=DECODED_KEYS_MAX)
def decode_verification_key(data: bytes) -> G2Point:
    """Return the point of a Y2 or VK_s of a validated key. Raises `GroupError`."""
    return decode_g2(data)
