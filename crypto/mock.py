"""Signatures for simulation: keyed MACs with the sizes and the refusals of the real ones.

A run of the simulator signs and verifies the exact production bytes under these schemes, so a
field that is not signed, a forged signature, a missing or an additional signer is caught as it
would be with real cryptography, at about 2 us instead of 1 ms. What differs: verification needs
the secrets, which the instance keeps by public key, so all parties of a run share one instance and
whoever holds it could forge. A public key is a one-way function of its secret.

A signature is BLAKE3 keyed with the secret; an aggregate is the sum of signatures modulo 2**768,
which like a curve sum ignores order, counts repetition, and leaves a single signature as it is.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from blake3 import blake3

from crypto.digest import Domain, digest
from crypto.ed25519 import PUBLIC_KEY_SIZE_BYTES as IDENTITY_PUBLIC_KEY_SIZE_BYTES
from crypto.ed25519 import SIGNATURE_SIZE_BYTES as IDENTITY_SIGNATURE_SIZE_BYTES
from crypto.scheme import (
    PUBLIC_KEY_SIZE_BYTES,
    SECRET_SIZE_BYTES,
    SIGNATURE_SIZE_BYTES,
    SchemeError,
)

KEYS_MAX: Final = 4_096
"""Public keys remembered; others are derived again."""

MACS_MAX: Final = 8_192
"""MACs remembered; others are computed again. What one party signs, all others verify."""

_MODULUS: Final[int] = 2 ** (8 * SIGNATURE_SIZE_BYTES)
_IDENTITY: Final = bytes(SIGNATURE_SIZE_BYTES)
_SIGNATURE_TAG: Final = b"\x01"
_POSSESSION_TAG: Final = b"\x02"


class _SecretRegistry:
    """The secrets of one simulated world, by public key; grows with the keys that it uses."""

    def __init__(self, context: str, public_key_size_bytes: int) -> None:
        self._context = context
        self._public_key_size_bytes = public_key_size_bytes
        self._secrets: dict[bytes, bytes] = {}
        self._public_keys: dict[bytes, bytes] = {}

    def register(self, secret: bytes) -> bytes:
        known = self._public_keys.get(secret)
        if known is not None:
            return known
        if len(secret) != SECRET_SIZE_BYTES:
            raise SchemeError("scheme.secret_invalid", "a mock secret is 32 bytes")
        public_key = _derive_public_key(secret, self._context, self._public_key_size_bytes)
        self._secrets[public_key] = secret
        self._public_keys[secret] = public_key
        return public_key

    def find(self, public_key: bytes) -> bytes | None:
        return self._secrets.get(public_key)


@lru_cache(maxsize=KEYS_MAX)
def _derive_public_key(secret: bytes, context: str, size_bytes: int) -> bytes:
    return blake3(secret, derive_key_context=context).digest(length=size_bytes)


@lru_cache(maxsize=MACS_MAX)
def _compute_mac(secret: bytes, tag: bytes, message: bytes, size_bytes: int) -> bytes:
    return blake3(tag + message, key=secret).digest(length=size_bytes)


def _add_up(signatures: Iterable[bytes]) -> bytes:
    total = sum([int.from_bytes(each, "big") for each in signatures])
    return (total % _MODULUS).to_bytes(SIGNATURE_SIZE_BYTES, "big")


class MockScheme:
    """A `SignatureScheme` for one simulated world."""

    def __init__(self) -> None:
        self._registry = _SecretRegistry("rota mock public key v1", PUBLIC_KEY_SIZE_BYTES)
        self._add_up = lru_cache(maxsize=MACS_MAX)(self._compute_aggregate)

    def public_key(self, secret: bytes) -> bytes:
        """Return the public key, which from now on can be verified against."""
        return self._registry.register(secret)

    def sign(self, secret: bytes, message: bytes) -> bytes:
        """Return the MAC of the message."""
        self._registry.register(secret)
        return _compute_mac(secret, _SIGNATURE_TAG, message, SIGNATURE_SIZE_BYTES)

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Is it this key's MAC of this message? False for a key of another world."""
        secret = self._registry.find(public_key)
        if secret is None:
            return False
        return signature == _compute_mac(secret, _SIGNATURE_TAG, message, SIGNATURE_SIZE_BYTES)

    def aggregate(self, signatures: Sequence[bytes]) -> bytes:
        """Add the signatures up."""
        if not signatures:
            raise SchemeError("scheme.signature_invalid", "nothing to aggregate")
        if not all(self.is_signature(each) for each in signatures):
            raise SchemeError("scheme.signature_invalid", "not a signature")
        return _add_up(signatures)

    def verify_aggregate(
        self, public_keys: Sequence[bytes], message: bytes, signature: bytes
    ) -> bool:
        """Is it the sum of exactly these keys' MACs of this message?"""
        if not public_keys or len(set(public_keys)) != len(public_keys):
            return False
        if not self.is_signature(signature):
            return False
        secrets = [self._registry.find(public_key) for public_key in public_keys]
        known = tuple(secret for secret in secrets if secret is not None)
        return len(known) == len(secrets) and signature == self._add_up(known, message)

    def _compute_aggregate(self, secrets: tuple[bytes, ...], message: bytes) -> bytes:
        macs = (
            _compute_mac(secret, _SIGNATURE_TAG, message, SIGNATURE_SIZE_BYTES)
            for secret in secrets
        )
        return _add_up(macs)

    def is_signature(self, signature: bytes) -> bool:
        """Has it the right size, and is it not the identity?"""
        return len(signature) == SIGNATURE_SIZE_BYTES and signature != _IDENTITY

    def prove_possession(self, secret: bytes) -> bytes:
        """Return a MAC of the public key under a tag of its own."""
        public_key = self._registry.register(secret)
        return _compute_mac(secret, _POSSESSION_TAG, public_key, SIGNATURE_SIZE_BYTES)

    def verify_possession(self, public_key: bytes, proof: bytes) -> bool:
        """Is it the proof for this key?"""
        secret = self._registry.find(public_key)
        if secret is None:
            return False
        return proof == _compute_mac(secret, _POSSESSION_TAG, public_key, SIGNATURE_SIZE_BYTES)


class MockIdentity:
    """An `IdentityScheme` for one simulated world."""

    def __init__(self) -> None:
        self._registry = _SecretRegistry("rota mock identity v1", IDENTITY_PUBLIC_KEY_SIZE_BYTES)

    def public_key(self, secret: bytes) -> bytes:
        """Return the public key, which from now on can be verified against."""
        return self._registry.register(secret)

    def sign(self, secret: bytes, message: bytes) -> bytes:
        """Return the MAC of the message."""
        self._registry.register(secret)
        return _compute_mac(secret, _SIGNATURE_TAG, message, IDENTITY_SIGNATURE_SIZE_BYTES)

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Is it this key's MAC of this message? False for a key of another world."""
        secret = self._registry.find(public_key)
        if secret is None:
            return False
        mac = _compute_mac(secret, _SIGNATURE_TAG, message, IDENTITY_SIGNATURE_SIZE_BYTES)
        return signature == mac

    def is_public_key(self, public_key: bytes) -> bool:
        """Does somebody of this world have this key?"""
        return self._registry.find(public_key) is not None


def derive_test_secret(label: str) -> bytes:
    """Return a secret for simulations and tests: valid for every scheme, the same every time."""
    return bytes(1) + digest(Domain.SEED, b"mock secret", label.encode())[1:]
