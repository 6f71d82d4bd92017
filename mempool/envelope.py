"""The envelope: one signed user transaction, a clear header and a body that is plain or sealed.

Only the header is read before the order is final: who pays, which nonce, until when, how large.
The body is bound by its digest, so one Ed25519 signature over the header covers everything, and a
body of many instructions costs one signature.
"""

from enum import IntEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

from crypto.codec import decode, encode
from crypto.digest import Domain, bulk_digest, digest
from crypto.types import Digest, Ed25519PublicKey, Ed25519Signature, Uint

BODY_SIZE_MAX_BYTES: Final = 64 << 10
"""Body of one envelope."""

ENVELOPE_SIZE_MAX_BYTES: Final = BODY_SIZE_MAX_BYTES + 512
"""An encoded envelope, header and signature included."""

NAMESPACE_ENGINE: Final = 0
"""The exchange engine; other namespaces are ordered and delivered, never executed here."""


class BodyKind(IntEnum):
    """How an envelope's body is to be read."""

    PLAIN = 0
    """A bundle of engine instructions in the clear."""
    SEALED = 1
    """Reserved: a bundle encrypted to the committee key. Refused as `envelope.kind_unsupported`
    by a chain without a decryption key."""
    KEYS = 2
    """Session-key changes (`mempool.keys`), always plain: they decide header validity."""


class EnvelopeHeader(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What admission, ordering and the header ledger may look at."""

    chain_id: Digest
    namespace: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    kind: BodyKind
    sender: Ed25519PublicKey
    """The account: named by its root key."""
    signer: Ed25519PublicKey
    """The key that signs: the root key itself or an authorised session key."""
    nonce: Uint
    """Milliseconds since the epoch by custom; unique within the signing key's window."""
    expiry_height: Uint
    """The envelope is refused from this height on."""
    body_digest: Digest
    body_size_bytes: Annotated[int, Meta(ge=1, le=BODY_SIZE_MAX_BYTES)]

    def envelope_id(self) -> bytes:
        """Names the envelope in receipts; header and (by digest) body decide it."""
        return digest(Domain.ENVELOPE, encode(self))

    def signing_bytes(self) -> bytes:
        return digest(Domain.ENVELOPE_SIGNATURE, encode(self))


class Envelope(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Header, signature by `header.signer` over `header.signing_bytes()`, body."""

    header: EnvelopeHeader
    signature: Ed25519Signature
    body: Annotated[bytes, Meta(min_length=1, max_length=BODY_SIZE_MAX_BYTES)]


def compute_body_digest(body: bytes) -> bytes:
    """The digest that a header carries for its body."""
    return bulk_digest(Domain.ENVELOPE_BODY, body)


def decode_envelope(data: bytes) -> Envelope:
    """Decode one envelope; raises `crypto.codec.DecodeError`. The caller bounds the length."""
    return decode(Envelope, data)
