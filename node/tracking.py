"""Where every envelope stands: the levels that a client can ask for and wait on.

Levels only rise. `available` is given for exactly the chain under a verified availability
certificate, never by lane position alone, so a forking author cannot make this node promise the
wrong batch. A refusal is of one copy: should another copy pass later (it may have been handed to
two nodes), that counts, so `ordered` is above `refused`.

The map is a bounded memory of recent envelopes; what fell out of it is answered from the archive.
For the same reason a refusal is told only of envelopes that this node itself took from a client in
this life: of those it knows for certain that no earlier copy has passed.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

from node.protocol import ReceiptLevel

TRACKED_ENVELOPES_MAX: Final = 200_000
"""Recent envelopes remembered with their level; the oldest are forgotten first."""


class EnvelopeStatus(NamedTuple):
    """The newest level of one envelope."""

    account: bytes
    level: ReceiptLevel
    height: int
    """0 while it has none."""
    code: str | None
    is_own: bool
    """Taken from a client by this node, in this life."""

    @property
    def has_passed(self) -> bool:
        """Did a copy pass the header ledger?"""
        return self.level.rank >= ReceiptLevel.ORDERED.rank


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
        """Note a level; False when it is no news. `RECEIVED` is told when a client's envelope
        was let in, so it marks the envelope as this node's own."""
        known = self._statuses.get(envelope_id)
        is_own = level is ReceiptLevel.RECEIVED or (known is not None and known.is_own)
        if known is not None and known.level.rank >= level.rank:
            self._statuses[envelope_id] = known._replace(is_own=is_own)
            return False
        self._statuses[envelope_id] = EnvelopeStatus(account, level, height, code, is_own)
        if known is None and len(self._statuses) > self._capacity:
            self._statuses.popitem(last=False)
        return True

    def forget(self, envelope_id: bytes) -> None:
        """Leave the answer to the archive."""
        self._statuses.pop(envelope_id, None)

    def status(self, envelope_id: bytes) -> EnvelopeStatus | None:
        """The newest level, or None for an envelope not seen lately."""
        return self._statuses.get(envelope_id)
