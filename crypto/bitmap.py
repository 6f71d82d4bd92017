"""Who signed: one bit a committee member, in exactly one byte string.

Member `i` is bit `i % 8` (least significant first) of byte `i // 8`; the length is the committee's
size rounded up to whole bytes, and the spare bits of the last byte are zero. A set of signers thus
has one encoding, and the power of a certificate is counted from the bitmap, never from a list.
"""

from collections.abc import Sequence
from typing import ClassVar


class BitmapError(Exception):
    """The bytes are not the bitmap of a committee of that size: the sender's fault."""

    code: ClassVar[str] = "bitmap.malformed"


def compute_bitmap_size_bytes(member_count: int) -> int:
    """Return how long the bitmap of a committee of `member_count` is."""
    return (member_count + 7) // 8


def encode_bitmap(indices: Sequence[int], member_count: int) -> bytes:
    """Return the bitmap of strictly ascending member indices below `member_count`."""
    bits = 0
    previous = -1
    for index in indices:
        assert previous < index < member_count, "signer indices ascend inside the committee"
        bits |= 1 << index
        previous = index
    return bits.to_bytes(compute_bitmap_size_bytes(member_count), "little")


def decode_bitmap(bitmap: bytes, member_count: int) -> tuple[int, ...]:
    """Return the member indices in ascending order; a bitmap with no bit set gives none.

    Raises `BitmapError` unless `bitmap` is the one encoding of a set of members.
    """
    if len(bitmap) != compute_bitmap_size_bytes(member_count):
        raise BitmapError(f"{len(bitmap)} bytes cannot name {member_count} members")
    bits = int.from_bytes(bitmap, "little")
    if bits >> member_count:
        raise BitmapError(f"a bit beyond the {member_count} members is set")
    return tuple(index for index in range(member_count) if bits >> index & 1)


def is_member_set(bitmap: bytes, index: int) -> bool:
    """Is member `index` in this validated bitmap?"""
    return index // 8 < len(bitmap) and bool(bitmap[index // 8] >> (index % 8) & 1)
