"""Where every envelope stands: the levels that a client can ask for and wait on.

Levels only rise. `available` is given for exactly the chain under a verified availability
certificate, never by lane position alone, so a forking author cannot make this node promise the
wrong batch. The map is a bounded memory of recent envelopes; what fell out of it is answered from
the archive.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

from node.protocol import ReceiptLevel

TRACKED_ENVELOPES_MAX: Final = 200_000
"""Recent envelopes remembered with their level; the oldest are forgotten first."""

_RANK: Final = {
    ReceiptLevel.RECEIVED: 0,
    ReceiptLevel.AVAILABLE: 1,
    ReceiptLevel.ORDERED: 2,
    ReceiptLevel.EXECUTED: 3,
    ReceiptLevel.REFUSED: 4,
}


class EnvelopeStatus(NamedTuple):
    """The newest level of one envelope."""

    account: bytes
    level: ReceiptLevel
    height: int
    """0 while it has none."""
    code: str | None


class EnvelopeTracker:
    """Remembers the newest level of recent envelopes."""

    def __init__(self, capacity: int = TRACKED_ENVELOPES_MAX) -> None:
        self._capacity = capacity
        self._statuses: OrderedDict[bytes, EnvelopeStatus] = OrderedDict()

    def __len__(self) -> int:
        return len(self._statuses)

    def raise_level(
        self,
        envelope_id: bytes,
        account: bytes,
        level: ReceiptLevel,
        height: int = 0,
        code: str | None = None,
    ) -> bool:
        """Note a level; False when it is no news."""
        known = self._statuses.get(envelope_id)
        if known is not None and _RANK[known.level] >= _RANK[level]:
            return False
        self._statuses[envelope_id] = EnvelopeStatus(account, level, height, code)
        if known is None and len(self._statuses) > self._capacity:
            self._statuses.popitem(last=False)
        return True

    def status(self, envelope_id: bytes) -> EnvelopeStatus | None:
        """The newest level, or None for an envelope not seen lately."""
        return self._statuses.get(envelope_id)
