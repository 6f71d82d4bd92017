"""Sized byte strings and bounds that packages which may not import each other share."""

from typing import Annotated, Final

from msgspec import Meta

BATCH_BODY_MAX_BYTES: Final = 1 << 20
"""An encoded batch body: what lane headers may name and what a batch check accepts, which must be
the same number, or a batch could be ordered that nobody can check."""

Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
"""A 32-byte hash or root."""

BlsPublicKey = Annotated[bytes, Meta(min_length=48, max_length=48)]
"""A compressed G1 point."""

BlsSignature = Annotated[bytes, Meta(min_length=96, max_length=96)]
"""A compressed G2 point: one signature or an aggregate."""

Ed25519PublicKey = Annotated[bytes, Meta(min_length=32, max_length=32)]

Ed25519Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]

Uint = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""A counter: a view, height, epoch, sequence or time in milliseconds. It fits SQLite's integer."""

Bitmap = Annotated[bytes, Meta(min_length=1, max_length=32)]
"""Who signed, one bit a committee member in committee order (`crypto.bitmap`); at most 256."""
