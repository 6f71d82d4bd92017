"""BLS signatures on BLS12-381: votes, certificates and checkpoints.

The ciphersuite is `BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_` of draft-irtf-cfrg-bls-signature,
as Ethereum's consensus layer uses it: public keys in G1 (48 bytes), signatures in G2 (96 bytes),
rogue keys kept out by proofs of possession. blspy (blst) does the curve work and releases the
interpreter lock while it does, so a verification in a worker thread runs beside the event loop.

blspy decodes the identity point, and its aggregate verification takes a key list with duplicates;
both are refused here.
"""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from blspy import G1Element, G2Element, PopSchemeMPL, PrivateKey
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from crypto.scheme import (
    PUBLIC_KEY_SIZE_BYTES,
    SECRET_SIZE_BYTES,
    SIGNATURE_SIZE_BYTES,
    SchemeError,
)

PUBLIC_KEY_CACHE_SIZE: Final = 4096
"""Decoded keys kept. Decoding with its subgroup check costs 55 us, and a certificate names up to
128 keys of which nearly all return in the next one. About 300 bytes each."""

GROUP_ORDER: Final = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
"""r, the prime order of G1 and G2; a secret is an integer in [1, r)."""

_KEY_MATERIAL_SIZE_BYTES = 48  # ceil(1.5 * 255 bits): makes the reduction modulo r uniform
_IDENTITY_PUBLIC_KEY = b"\xc0" + bytes(PUBLIC_KEY_SIZE_BYTES - 1)
_IDENTITY_SIGNATURE = b"\xc0" + bytes(SIGNATURE_SIZE_BYTES - 1)


def generate_secret(seed: bytes) -> bytes:
    """Derive a secret from 32 bytes of uniform randomness.

    KeyGen of the draft, section 2.3, which is also the master key of EIP-2333. (blspy's own
    derivation follows an older draft and gives other keys.) Raises `SchemeError`
    (`scheme.secret_invalid`) for a seed of any other length.
    """
    if len(seed) != SECRET_SIZE_BYTES:
        raise SchemeError("scheme.secret_invalid", "a key seed is exactly 32 bytes")
    salt = b"BLS-SIG-KEYGEN-SALT-"
    scalar = 0
    while scalar == 0:
        salt = sha256(salt).digest()
        info = _KEY_MATERIAL_SIZE_BYTES.to_bytes(2, "big")
        hkdf = HKDF(hashes.SHA256(), _KEY_MATERIAL_SIZE_BYTES, salt, info)
        scalar = int.from_bytes(hkdf.derive(seed + b"\x00"), "big") % GROUP_ORDER
    return scalar.to_bytes(SECRET_SIZE_BYTES, "big")


def _decode_secret(secret: bytes) -> Any:
    if len(secret) != SECRET_SIZE_BYTES or not 0 < int.from_bytes(secret, "big") < GROUP_ORDER:
        raise SchemeError("scheme.secret_invalid", "a BLS secret is a 32-byte integer in [1, r)")
    return PrivateKey.from_bytes(secret)


@lru_cache(maxsize=PUBLIC_KEY_CACHE_SIZE)
def _decode_public_key(public_key: bytes) -> Any:
    """Return the point: canonical, on the curve, in the subgroup, not the identity.

    Raising keeps a failure out of the cache, so bad keys cannot push out good ones.
    """
    if public_key == _IDENTITY_PUBLIC_KEY:
        raise SchemeError("scheme.public_key_invalid", "the public key is the identity")
    try:
        return G1Element.from_bytes(public_key)
    except ValueError as error:
        raise SchemeError("scheme.public_key_invalid", str(error)) from error


def _decode_signature(signature: bytes) -> Any:
    if signature == _IDENTITY_SIGNATURE:
        raise SchemeError("scheme.signature_invalid", "the signature is the identity")
    try:
        return G2Element.from_bytes(signature)
    except ValueError as error:
        raise SchemeError("scheme.signature_invalid", str(error)) from error


class BlsScheme:
    """The production `SignatureScheme`. Stateless but for the cache of decoded keys."""

    def public_key(self, secret: bytes) -> bytes:
        """Return the compressed public key of `secret`."""
        return bytes(_decode_secret(secret).get_g1())

    def sign(self, secret: bytes, message: bytes) -> bytes:
        """Sign; 0.35 ms. Deterministic: there is no nonce to lose."""
        return bytes(PopSchemeMPL.sign(_decode_secret(secret), message))

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Verify one signature; 1.05 ms."""
        try:
            key = _decode_public_key(public_key)
            point = _decode_signature(signature)
        except SchemeError:
            return False
        return bool(PopSchemeMPL.verify(key, message, point))

    def aggregate(self, signatures: Sequence[bytes]) -> bytes:
        """Add the signatures up; 80 us each, nearly all of it decoding."""
        if not signatures:
            raise SchemeError("scheme.signature_invalid", "nothing to aggregate")
        return bytes(PopSchemeMPL.aggregate([_decode_signature(each) for each in signatures]))

    def verify_aggregate(
        self, public_keys: Sequence[bytes], message: bytes, signature: bytes
    ) -> bool:
        """Verify an aggregate over one message; 1.1 ms for a hundred keys."""
        if not public_keys or len(set(public_keys)) != len(public_keys):
            return False
        try:
            keys = [_decode_public_key(each) for each in public_keys]
            point = _decode_signature(signature)
        except SchemeError:
            return False
        return bool(PopSchemeMPL.fast_aggregate_verify(keys, message, point))

    def is_signature(self, signature: bytes) -> bool:
        """Is it the canonical encoding of a point of G2 other than the identity? 80 us."""
        try:
            _decode_signature(signature)
        except SchemeError:
            return False
        return True

    def prove_possession(self, secret: bytes) -> bytes:
        """PopProve of the draft, section 3.3.2: signs the public key under the POP domain tag."""
        return bytes(PopSchemeMPL.pop_prove(_decode_secret(secret)))

    def verify_possession(self, public_key: bytes, proof: bytes) -> bool:
        """PopVerify of the draft, section 3.3.3; 1.05 ms."""
        try:
            key = _decode_public_key(public_key)
            point = _decode_signature(proof)
        except SchemeError:
            return False
        return bool(PopSchemeMPL.pop_verify(key, point))


BLS: Final = BlsScheme()
"""The one instance; it holds no secrets."""
