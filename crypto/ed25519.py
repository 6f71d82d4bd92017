"""Ed25519 (RFC 8032) for users, peers and batch authors, by libsodium through PyNaCl.

Verification must give one answer on every node. libsodium refuses a non-canonical S, a small-order
R and a small-order or non-canonical public key, and compares R byte for byte (no cofactor), so its
answer has no freedom left; tests hold it to that. A key with a small-order *component* is still
accepted by it; `is_public_key` refuses such a key where a committee is formed.

A secret is the 32-byte seed of RFC 8032. Verification costs 45 us and releases the interpreter
lock.
"""

from functools import lru_cache
from typing import Final

from nacl.bindings import (
    crypto_core_ed25519_is_valid_point,
    crypto_sign,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import CryptoError

from crypto.scheme import SECRET_SIZE_BYTES, SchemeError

PUBLIC_KEY_SIZE_BYTES: Final = 32
SIGNATURE_SIZE_BYTES: Final = 64

KEY_PAIR_CACHE_SIZE: Final = 1024
"""Expanded key pairs kept: expanding a seed costs as much as signing."""


@lru_cache(maxsize=KEY_PAIR_CACHE_SIZE)
def _expand(secret: bytes) -> tuple[bytes, bytes]:
    if len(secret) != SECRET_SIZE_BYTES:
        raise SchemeError("scheme.secret_invalid", "an Ed25519 secret is a 32-byte seed")
    public_key, key_pair = crypto_sign_seed_keypair(secret)
    return public_key, key_pair


def public_key(secret: bytes) -> bytes:
    """Return the 32-byte public key. Raises `SchemeError` unless the secret is 32 bytes."""
    return _expand(secret)[0]


def sign(secret: bytes, message: bytes) -> bytes:
    """Return the 64-byte signature. Raises `SchemeError` unless the secret is 32 bytes."""
    return crypto_sign(message, _expand(secret)[1])[:SIGNATURE_SIZE_BYTES]


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Is this the signature of that key over that message? False for any malformed bytes."""
    if len(public_key) != PUBLIC_KEY_SIZE_BYTES or len(signature) != SIGNATURE_SIZE_BYTES:
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except CryptoError:
        return False
    return True


def is_public_key(public_key: bytes) -> bool:
    """Is it the canonical encoding of a point of the prime-order subgroup? Ask at registration."""
    if len(public_key) != PUBLIC_KEY_SIZE_BYTES:
        return False
    return bool(crypto_core_ed25519_is_valid_point(public_key))


class Ed25519Identity:
    """The production `IdentityScheme`: this module's functions as one value."""

    def public_key(self, secret: bytes) -> bytes:
        """Return the public key of `secret`."""
        return public_key(secret)

    def sign(self, secret: bytes, message: bytes) -> bytes:
        """Sign; 18 us."""
        return sign(secret, message)

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Verify; 45 us."""
        return verify(public_key, message, signature)

    def is_public_key(self, public_key: bytes) -> bool:
        """Is it a canonical point of the prime-order subgroup?"""
        return is_public_key(public_key)


ED25519: Final = Ed25519Identity()
"""The one instance; it holds no secrets but the cache of expanded seeds."""
