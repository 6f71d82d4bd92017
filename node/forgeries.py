"""A ration of forged envelopes: for each connection, and for each address that connects.

An honest client signs all that it sends, so a signature that does not verify is a lie or a bug; yet
finding that out costs a node 45 us, and the sender nothing. Whoever has sent a few is therefore cut
off, and an address that keeps coming back is given no more signature checks on trust until its
window is over. All of it is counted in tables of bounded size.
"""

from collections import OrderedDict
from typing import Final

FORGERY_WINDOW_S: Final = 60.0
"""A count begins with a forgery and is forgotten this much later."""

FORGERIES_PER_CONNECTION_MAX: Final = 16
"""In a window; the next one ends the connection."""

FORGERIES_PER_ADDRESS_MAX: Final = 64
"""In a window, over all connections of an address. Then each connection ends at its first forgery,
and one that has shown no valid signature yet gets none checked."""

ADDRESSES_MAX: Final = 4096
"""Addresses counted at once; the one that has not forged for longest is forgotten first."""


class ForgeryCount:
    """Forgeries of one sender in the current window. Times are in seconds of any one clock."""

    __slots__ = ("_count", "_started_s")

    def __init__(self) -> None:
        self._count = 0
        self._started_s = 0.0

    def add(self, now_s: float, count: int) -> None:
        """Count forgeries, in a new window if the last one is over."""
        if self.within(now_s) == 0:
            self._count, self._started_s = 0, now_s
        self._count += count

    def within(self, now_s: float) -> int:
        """How many there are in the window of now."""
        return self._count if now_s < self._started_s + FORGERY_WINDOW_S else 0


class AddressForgeries:
    """Forgeries by address."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, ForgeryCount] = OrderedDict()
        """The address that forged last comes last."""

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, address: str, now_s: float, count: int) -> None:
        """Count forgeries of an address (`node.addresses.group_address`)."""
        self._counts.setdefault(address, ForgeryCount()).add(now_s, count)
        self._counts.move_to_end(address)
        if len(self._counts) > ADDRESSES_MAX:
            self._counts.popitem(last=False)

    def is_spent(self, address: str, now_s: float) -> bool:
        """Has this address used up its ration?"""
        counted = self._counts.get(address)
        return counted is not None and counted.within(now_s) >= FORGERIES_PER_ADDRESS_MAX
