"""The nonce window: lets each nonce of one signing key through once, in almost any order.

A counter would make every lost or overtaken envelope a blockage. Instead the window keeps the
highest `NONCE_WINDOW` nonces that it let through, and a watermark: the highest nonce that ever
fell out. A nonce passes iff it is above the watermark and not kept; so none ever passes twice,
however many fall out, and a sender may have that many envelopes in flight in any order.
"""

import sys
from array import array
from bisect import bisect_left
from typing import Final

from mempool.refusal import RefusalCode

NONCE_WINDOW: Final = 128
"""Nonces kept for a signing key; how far out of order its envelopes may arrive."""

_IS_LITTLE_ENDIAN: Final = sys.byteorder == "little"


class NonceWindow:
    """The nonces of one signing key. Nonce 0 never passes: it is the watermark of a new window."""

    __slots__ = ("_kept", "watermark")

    def __init__(self) -> None:
        self.watermark = 0
        """The highest nonce that fell out of the window; all at or below it are refused."""
        self._kept = array("Q")
        # Rising. An array, not a list: a full window takes 1 KiB instead of 5.

    def __len__(self) -> int:
        return len(self._kept)

    def check(self, nonce: int) -> RefusalCode | None:
        """Return why the nonce may not pass, or None."""
        if nonce <= self.watermark:
            return RefusalCode.NONCE_TOO_LOW
        position = bisect_left(self._kept, nonce)
        if position < len(self._kept) and self._kept[position] == nonce:
            return RefusalCode.NONCE_DUPLICATE
        return None

    def apply_nonce(self, nonce: int) -> None:
        """Record that the nonce passed; `check` must have allowed it."""
        position = bisect_left(self._kept, nonce)
        assert nonce > self.watermark
        assert position == len(self._kept) or self._kept[position] != nonce
        self._kept.insert(position, nonce)
        if len(self._kept) > NONCE_WINDOW:
            # Only ever rises: what falls out is above the watermark, as is everything kept.
            self.watermark = self._kept.pop(0)

    def pack(self) -> bytes:
        """Return the kept nonces, rising, 8 bytes big-endian each."""
        if not _IS_LITTLE_ENDIAN:
            return self._kept.tobytes()
        swapped = self._kept[:]
        swapped.byteswap()
        return swapped.tobytes()

    @classmethod
    def unpack(cls, watermark: int, packed: bytes) -> "NonceWindow":
        """Rebuild a window. Raises `ValueError` for bytes that `pack` cannot have made."""
        window = cls()
        window.watermark = watermark
        window._kept.frombytes(packed)
        if _IS_LITTLE_ENDIAN:
            window._kept.byteswap()
        kept = window._kept
        previous = watermark
        for nonce in kept:
            if nonce <= previous:
                raise ValueError("kept nonces do not rise above the watermark")
            previous = nonce
        if len(kept) > NONCE_WINDOW:
            raise ValueError("more nonces than a window keeps")
        return window
