"""The bytes of a sealed body, the classes of its size, and the label that it is bound to.

A sealed body is, without any framing:

| offset | bytes | what |
|---|---|---|
| 0 | 48 | U, compressed |
| 48 | 48 | Ubar, compressed |
| 96 | 48 | A, compressed |
| 144 | 48 | Abar, compressed |
| 192 | 32 | z, big-endian, below r |
| 224 | rest | ChaCha20-Poly1305: padded message, then the tag of 16 bytes |

It is as long as one of `SIZE_CLASSES_BYTES`, all told, so that length betrays the class and no
more. The message is padded with one byte 0x80 and zeros (ISO/IEC 7816-4).
"""

from enum import StrEnum
from typing import Final, NewType

from msgspec import Struct

from crypto.digest import Domain, digest
from crypto.group import G1_SIZE_BYTES, SCALAR_SIZE_BYTES
from crypto.types import Digest, Ed25519PublicKey, Uint

SIZE_CLASSES_BYTES: Final = tuple(512 << power for power in range(8))
"""Lengths of sealed bodies: 512 bytes to 64 KiB."""

POINTS_SIZE_BYTES: Final = 4 * G1_SIZE_BYTES
HEADER_SIZE_BYTES: Final = POINTS_SIZE_BYTES + SCALAR_SIZE_BYTES
"""U, Ubar, A, Abar and z."""

TAG_SIZE_BYTES: Final = 16
"""The AEAD's authenticator."""

OVERHEAD_BYTES: Final = HEADER_SIZE_BYTES + TAG_SIZE_BYTES + 1
"""What a sealed body holds besides the message and the zeros of its padding."""

MESSAGE_SIZE_MAX_BYTES: Final = SIZE_CLASSES_BYTES[-1] - OVERHEAD_BYTES
"""The longest message that can be sealed."""

CheckedPoint = NewType("CheckedPoint", bytes)
"""U of a sealed body whose header `proof.check_headers` found good in this node, uncompressed
(96 bytes). To check again that it is in G1 costs 53 us, so its type says that it is."""


class SealFault(StrEnum):
    """Why a body can never be opened: found from its own bytes and label alone."""

    SIZE = "sealed.size_wrong"
    """Its length is none of the size classes."""
    POINT = "sealed.point_invalid"
    """U, Ubar, A or Abar is not canonical, off the curve or the identity; or U or Ubar is outside
    the prime-order subgroup."""
    SCALAR = "sealed.scalar_invalid"
    """z is not below the group's order."""
    PROOF = "sealed.proof_wrong"
    """The proof fails: the body was made for another label, from another's ciphertext, or badly."""


class SealError(Exception):
    """Our own message or key cannot be used for sealing; `code` says why.

    `sealed.message_too_large`, `sealed.key_invalid` or `sealed.seed_invalid`.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Label(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Everything clear that a sealed body is bound to: under any other label its proof fails.

    Without it, whoever sees an envelope could send its body again as his own, in another place or
    time, and read it when that copy is opened.
    """

    chain_id: Digest
    key_id: Digest
    """Names the committee's public key (`ThresholdKey.key_id`)."""
    namespace: int
    sender: Ed25519PublicKey
    signer: Ed25519PublicKey
    """A session key's holder must not read what another key of the account has sealed."""
    nonce: Uint
    expiry_height: Uint
    fee: Uint
    """What the sender agreed to pay for ordering and opening, in micro-quote."""
    size_class: int
    """Index into `SIZE_CLASSES_BYTES`."""

    def compute_digest(self) -> bytes:
        """The 32 bytes that stand for the label in proof, key derivation and AEAD."""
        return digest(
            Domain.SEALED_LABEL,
            self.chain_id,
            self.key_id,
            self.namespace.to_bytes(4, "big"),
            self.sender,
            self.signer,
            self.nonce.to_bytes(8, "big"),
            self.expiry_height.to_bytes(8, "big"),
            self.fee.to_bytes(8, "big"),
            self.size_class.to_bytes(1, "big"),
        )


def find_size_class(message_size_bytes: int) -> int:
    """Return the index of the smallest class whose bodies hold a message of this length.

    Raises `SealError` (`sealed.message_too_large`).
    """
    for index, size_bytes in enumerate(SIZE_CLASSES_BYTES):
        if message_size_bytes + OVERHEAD_BYTES <= size_bytes:
            return index
    raise SealError("sealed.message_too_large")


def pad(message: bytes, size_class: int) -> bytes:
    """Return the message padded to what a body of the class holds."""
    padded_size_bytes = SIZE_CLASSES_BYTES[size_class] - HEADER_SIZE_BYTES - TAG_SIZE_BYTES
    assert len(message) < padded_size_bytes
    return (message + b"\x80").ljust(padded_size_bytes, b"\x00")


def strip_padding(padded: bytes) -> bytes | None:
    """Return the message, or None where there is no padding to take away."""
    stripped = padded.rstrip(b"\x00")
    return stripped[:-1] if stripped.endswith(b"\x80") else None
