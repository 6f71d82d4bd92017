"""Seal a message to the committee's key, and open a body once its key is known.

Sealing costs a client about 1.1 ms, four multiplications and one decoding of the key; opening a
body costs 10 us a kilobyte or so.
"""

import hashlib
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from crypto.group import (
    G1_SIZE_BYTES,
    ORDER,
    G,
    G1Point,
    GroupError,
    decode_g1,
    encode_g1,
    encode_scalar,
    multiply,
)
from crypto.threshold.proof import SECOND_GENERATOR, compute_challenge
from crypto.threshold.sealed import (
    HEADER_SIZE_BYTES,
    Label,
    SealError,
    find_size_class,
    pad,
    strip_padding,
)

SEED_SIZE_BYTES: Final = 32
"""Of the randomness of one sealing."""

_KEY_SALT = b"rota/sealed-key/v1"
_NONCE = bytes(12)
"""Zero, for a key seals one body only: it depends on U, which is fresh, and on the label."""


def seal(public_key: bytes, label: Label, message: bytes, seed: bytes) -> bytes:
    """Return the sealed body of `message`: as long as the label's size class says.

    `public_key` is Y, compressed; `seed` 32 fresh random bytes. A seed that is used twice gives
    away nothing as long as message or label differ, for they are hashed in with it. Raises
    `SealError` for a message that the label's class does not hold, a key that is none and a seed of
    another length.
    """
    if len(seed) != SEED_SIZE_BYTES:
        raise SealError("sealed.seed_invalid")
    if find_size_class(len(message)) > label.size_class:
        raise SealError("sealed.message_too_large")
    try:
        key_point = _decode_public_key(public_key)
    except GroupError as error:
        raise SealError("sealed.key_invalid") from error
    label_digest = label.compute_digest()
    exponent, blinding = _derive_exponents(seed, label_digest, message)

    first = encode_g1(multiply(G, exponent))
    first_bar = encode_g1(multiply(SECOND_GENERATOR, exponent))
    shared = encode_g1(multiply(key_point, exponent))
    cipher = ChaCha20Poly1305(derive_body_key(shared, first, label_digest))
    ciphertext = cipher.encrypt(_NONCE, pad(message, label.size_class), label_digest)

    points = first + first_bar
    points += encode_g1(multiply(G, blinding)) + encode_g1(multiply(SECOND_GENERATOR, blinding))
    challenge = compute_challenge(label_digest, points, ciphertext)
    return points + encode_scalar(blinding + challenge * exponent) + ciphertext


@lru_cache(maxsize=8)
def _decode_public_key(public_key: bytes) -> G1Point:
    return decode_g1(public_key)


def _derive_exponents(seed: bytes, label_digest: bytes, message: bytes) -> tuple[int, int]:
    """Return the ciphertext's exponent and the proof's, uniform in [1, r) but for 2^-128."""
    state = hashlib.shake_256(b"rota/sealing-seed/v1" + seed + label_digest + message)
    stream = state.digest(96)
    first, second = (int.from_bytes(half, "big") for half in (stream[:48], stream[48:]))
    return first % (ORDER - 1) + 1, second % (ORDER - 1) + 1


def derive_body_key(shared: bytes, first: bytes, label_digest: bytes) -> bytes:
    """Return the AEAD key of a body: HKDF-SHA256 (RFC 5869) of K and U, both compressed, for the
    label.

    K is only ever hashed: with Y2 public anyone can tell K from a random point by a pairing, so it
    must not serve as a mask.
    """
    kdf = HKDF(hashes.SHA256(), length=32, salt=_KEY_SALT, info=label_digest)
    return kdf.derive(shared + first)


def open_body(label_digest: bytes, body: bytes, key: bytes) -> bytes | None:
    """Return the message, or None: under a verified key that is the sender's fault.

    The same on every node, for key, label and bytes leave no freedom. `body` passed the header
    check and `key` is K, compressed, as `opening` verified it. A body that fails under a key that
    was not verified says nothing about anybody.
    """
    cipher = ChaCha20Poly1305(derive_body_key(key, body[:G1_SIZE_BYTES], label_digest))
    try:
        padded = cipher.decrypt(_NONCE, body[HEADER_SIZE_BYTES:], label_digest)
    except InvalidTag:
        return None
    return strip_padding(padded)
