"""Sized byte strings and bounded integers, shared by every typed message."""

from typing import Annotated

from msgspec import Meta

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
