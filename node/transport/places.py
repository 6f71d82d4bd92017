"""Places for connections that have not proven who they are.

When all are taken, the address that holds most of them loses its oldest: a handshake takes
milliseconds, so an honest one is through long before its turn to leave, however many silent ones
arrive; and whoever floods from one address crowds out itself alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from node.transport.errors import PeerError


class HandshakePlaces:
    """A bounded number of places, shared out by address."""

    def __init__(self, places_max: int) -> None:
        self._places_max = places_max
        self._by_address: dict[str, dict[int, trio.CancelScope]] = {}
        """Addresses by their first arrival, the connections of each oldest first."""
        self._arrivals = 0

    def __len__(self) -> int:
        return sum(map(len, self._by_address.values()))

    @contextmanager
    def take(self, address: str) -> Iterator[None]:
        """Hold a place. Raises `PeerError` (`peer.crowded_out`) if it had to be given up."""
        if len(self) >= self._places_max:
            crowded = max(self._by_address, key=lambda each: len(self._by_address[each]))
            oldest = next(iter(self._by_address[crowded]))
            self._leave(crowded, oldest).cancel()
        self._arrivals += 1
        number = self._arrivals
        with trio.CancelScope() as scope:
            self._by_address.setdefault(address, {})[number] = scope
            try:
                yield
            finally:
                if number in self._by_address.get(address, ()):
                    self._leave(address, number)
        if scope.cancelled_caught:
            raise PeerError("peer.crowded_out", "too many connections wait to be known")

    def _leave(self, address: str, number: int) -> trio.CancelScope:
        scope = self._by_address[address].pop(number)
        if not self._by_address[address]:
            del self._by_address[address]
        return scope
