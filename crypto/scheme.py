"""What every signature scheme offers, and what there is to verify.

Code that signs or verifies is written against `SignatureScheme` (keys that aggregate: committee
members) or `IdentityScheme` (keys that do not: users and connections), never against a library.
Production passes `crypto.bls.BLS` and `crypto.ed25519.ED25519`; the simulator passes
`crypto.mock`, which has the same sizes and the same refusals at a thousandth of the cost.

Verification answers True or False for any bytes whatsoever and never raises: its input comes from
the network. Signing and aggregating raise `SchemeError`, because their input is ours.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from msgspec import Struct

SECRET_SIZE_BYTES: Final = 32
"""A secret key of either kind: a BLS12-381 scalar (big-endian) or an Ed25519 seed."""

PUBLIC_KEY_SIZE_BYTES: Final = 48
"""A compressed G1 point."""

SIGNATURE_SIZE_BYTES: Final = 96
"""A compressed G2 point; an aggregate has the same size as one signature."""


class SchemeError(Exception):
    """A secret, key or signature of our own cannot be used; `code` says which."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        """`scheme.secret_invalid`, `scheme.public_key_invalid` or `scheme.signature_invalid`."""


class SignatureScheme(Protocol):
    """Signatures by many keys over one message that fold into one signature.

    Aggregation is safe only for public keys whose possession was proven (`verify_possession`)
    when they were registered; otherwise a rogue key could cancel an honest one.
    """

    def public_key(self, secret: bytes) -> bytes:
        """Return the 48-byte public key. Raises `SchemeError` for an unusable secret."""
        ...

    def sign(self, secret: bytes, message: bytes) -> bytes:
        """Return the 96-byte signature, a function of secret and message alone.

        Raises `SchemeError` for an unusable secret.
        """
        ...

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Is this the signature of that key over that message?"""
        ...

    def aggregate(self, signatures: Sequence[bytes]) -> bytes:
        """Fold signatures, or aggregates of disjoint signers, into one.

        Raises `SchemeError` if there is none or one is not a signature at all (malformed bytes,
        a point outside the group). Whether they are valid is for `verify_aggregate` to say.
        """
        ...

    def verify_aggregate(
        self, public_keys: Sequence[bytes], message: bytes, signature: bytes
    ) -> bool:
        """Did exactly these keys, once each, sign this one message?

        False for no keys, for a key named twice and for the identity as key or signature.
        """
        ...

    def is_signature(self, signature: bytes) -> bool:
        """Could these bytes be a signature by anybody? Costs no pairing."""
        ...

    def prove_possession(self, secret: bytes) -> bytes:
        """Return the proof that whoever registers this key's public half knows the secret.

        It signs the public key under a domain of its own, so that no signature over a message
        can ever serve as a proof. Raises `SchemeError` for an unusable secret.
        """
        ...

    def verify_possession(self, public_key: bytes, proof: bytes) -> bool:
        """Is this a proof of possession of that key?"""
        ...


class IdentityScheme(Protocol):
    """Plain signatures: 32-byte secrets and public keys, 64-byte signatures."""

    def public_key(self, secret: bytes) -> bytes:
        """Return the public key. Raises `SchemeError` for an unusable secret."""
        ...

    def sign(self, secret: bytes, message: bytes) -> bytes:
        """Return the signature. Raises `SchemeError` for an unusable secret."""
        ...

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Is this the signature of that key over that message?"""
        ...

    def is_public_key(self, public_key: bytes) -> bool:
        """Could these bytes be somebody's public key? Ask when a member's key is registered."""
        ...


class Claim(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Something to verify, as plain data: it travels in effects and to worker processes.

    One key stands for a plain signature, several for an aggregate over the same message.
    """

    public_keys: tuple[bytes, ...]
    message: bytes
    signature: bytes


def verify_claim(scheme: SignatureScheme, claim: Claim) -> bool:
    """Does the claim hold?"""
    if len(claim.public_keys) == 1:
        return scheme.verify(claim.public_keys[0], claim.message, claim.signature)
    return scheme.verify_aggregate(claim.public_keys, claim.message, claim.signature)
