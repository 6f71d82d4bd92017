"""A ration of forged envelopes: for each connection, and for each address that connects.

An honest client signs all that it sends, so a signature that does not verify is a lie or a bug; yet
finding that out costs a node 45 us, and the sender nothing. A client gains standing with its first
valid signature. Until then one submission at a time is checked for it; whoever sent a few forgeries
is cut off; and once an address has spent its ration, a connection of it without standing gets
nothing checked until the window is over.
"""

from collections.abc import Callable
from typing import Final

from mempool.refusal import RefusalCode
from node.addresses import AddressCounts, WindowCount
from node.protocol import Submitted

FORGERY_WINDOW_S: Final = 60.0
"""A count of forgeries begins with one and is forgotten this much later."""

FORGERIES_PER_CONNECTION_MAX: Final = 16
"""In a window; the next one ends the connection."""

FORGERIES_PER_ADDRESS_MAX: Final = 64
"""In a window, over all connections of an address (`node.addresses`); from then on each of them
ends at its first."""


class Standing:
    """What one connection has shown of itself."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.is_trusted = False
        """The last envelopes that were checked for it were genuine."""
        self.unchecked = 0
        """Submissions of envelopes without an answer yet."""
        self.forgeries = WindowCount(FORGERY_WINDOW_S)


class Forgeries:
    """Counts what all clients forge; a `source` names a client."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` is in seconds."""
        self._clock = clock
        self._by_address = AddressCounts(FORGERY_WINDOW_S)
        self._submitters: dict[int, Standing] = {}
        """Clients with unanswered envelopes, also those that have left: leaving before the answer
        must not save anybody from paying for it."""

    def begin(self, source: int, standing: Standing) -> None:
        """A submission of envelopes goes to be checked."""
        standing.unchecked += 1
        self._submitters[source] = standing

    def finish(self, source: int, answer: Submitted) -> bool:
        """Note what the signatures of a submission were worth; True if its sender must go."""
        standing = self._submitters[source]
        standing.unchecked -= 1
        if not standing.unchecked:
            del self._submitters[source]
        codes = [result.code for result in answer.results]
        forged = codes.count(RefusalCode.SIGNATURE_INVALID.value)
        if not forged:
            standing.is_trusted = standing.is_trusted or None in codes
            return False
        now_s = self._clock()
        standing.is_trusted = False
        standing.forgeries.add(now_s, forged)
        self._by_address.add(standing.address, now_s, forged)
        of_connection = standing.forgeries.within(now_s)
        return of_connection > FORGERIES_PER_CONNECTION_MAX or self._is_spent(standing.address)

    def is_suspect(self, standing: Standing) -> bool:
        """Must the envelopes of this connection stay unchecked?"""
        return not standing.is_trusted and self._is_spent(standing.address)

    def _is_spent(self, address: str) -> bool:
        return self._by_address.within(address, self._clock()) >= FORGERIES_PER_ADDRESS_MAX
