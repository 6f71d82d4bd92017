"""Where every envelope stands: the levels that a client can ask for and wait on.

Levels only rise. `available` is given for exactly the chain under a verified availability
certificate, never by lane position alone, so a forking author cannot make this node promise the
wrong batch. A refusal is of one copy: should another copy pass later (it may have been handed to
two nodes), that counts, so `ordered` is above `refused`.

Both maps are bounded memories; what fell out of them is answered from the archive. Nothing rises
above `executed`, so of what came so far only the newest are kept: few, as they fill at the pace of
the traffic and would make a node grow for hours.

An envelope enters while no copy has passed or as one passes (`node.clerk`), so of one that is here
and has not passed it is certain that no copy did, and a refusal may be told.

At the height at which an envelope expires no copy can pass any more, whatever became of the
batches that carried it: who still waits for it then is to hear so.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

from node.protocol import ReceiptLevel

TRACKED_ENVELOPES_MAX: Final = 200_000
"""Envelopes below `executed` that are remembered; the oldest are forgotten first."""

EXECUTED_ENVELOPES_MAX: Final = 8_192
"""Executed envelopes that are remembered; the oldest are forgotten first."""


_OPEN_LEVELS: Final = frozenset(
    level for level in ReceiptLevel if level.rank < ReceiptLevel.REFUSED.rank
)


class EnvelopeStatus(NamedTuple):
    """The newest level of one envelope."""

    account: bytes
    level: ReceiptLevel
    height: int
    """0 while it has none."""
    code: str | None
    expiry_height: int
    """From here on no copy can pass; 0 for an envelope that was not seen before it passed."""

    @property
    def has_passed(self) -> bool:
        """Did a copy pass the header ledger?"""
        return self.level.rank >= ReceiptLevel.ORDERED.rank

    @property
    def is_open(self) -> bool:
        """Has it been neither passed nor refused?"""
        return self.level in _OPEN_LEVELS


class EnvelopeTracker:
    """Remembers the newest level of recent envelopes."""

    def __init__(
        self,
        capacity: int = TRACKED_ENVELOPES_MAX,
        executed_capacity: int = EXECUTED_ENVELOPES_MAX,
    ) -> None:
        self._capacity = capacity
        self._executed_capacity = executed_capacity
        self._statuses: OrderedDict[bytes, EnvelopeStatus] = OrderedDict()
        self._executed: OrderedDict[bytes, EnvelopeStatus] = OrderedDict()
        self._open: dict[int, dict[bytes, None]] = {}
        # The open envelopes by the height at which they expire, each in order of arrival.

    def __len__(self) -> int:
        return len(self._statuses) + len(self._executed)

    @property
    def open_count(self) -> int:
        """Envelopes that wait to be passed or refused."""
        return sum(len(each) for each in self._open.values())

    def open(
        self, envelope_id: bytes, account: bytes, level: ReceiptLevel, expiry_height: int
    ) -> bool:
        """Note a level below `refused`; False when it is no news."""
        known = self.status(envelope_id)
        if known is not None:
            return self._replace(envelope_id, known, known._replace(level=level))
        self._add(envelope_id, EnvelopeStatus(account, level, 0, None, expiry_height))
        self._open.setdefault(expiry_height, {})[envelope_id] = None
        return True

    def refuse(self, envelope_id: bytes, height: int, code: str) -> bool:
        """Note that a copy was refused; False when it is no news, or when nothing is remembered
        of the envelope: then an earlier copy may have passed."""
        known = self.status(envelope_id)
        if known is None:
            return False
        refused = known._replace(level=ReceiptLevel.REFUSED, height=height, code=code)
        return self._replace(envelope_id, known, refused)

    def settle(self, envelope_id: bytes, account: bytes, level: ReceiptLevel, height: int) -> bool:
        """Note a level from `ordered` on; False when it is no news."""
        known = self.status(envelope_id)
        if known is None:
            self._add(envelope_id, EnvelopeStatus(account, level, height, None, 0))
            return True
        settled = EnvelopeStatus(known.account, level, height, None, known.expiry_height)
        return self._replace(envelope_id, known, settled)

    def expiring_at(self, height: int) -> list[bytes]:
        """The open envelopes that expire at this height, oldest first."""
        return list(self._open.get(height, ()))

    def status(self, envelope_id: bytes) -> EnvelopeStatus | None:
        """The newest level, or None for an envelope not seen lately."""
        return self._statuses.get(envelope_id) or self._executed.get(envelope_id)

    def _add(self, envelope_id: bytes, status: EnvelopeStatus) -> None:
        if status.level is ReceiptLevel.EXECUTED:
            self._executed[envelope_id] = status
            if len(self._executed) > self._executed_capacity:
                self._executed.popitem(last=False)
            return
        self._statuses[envelope_id] = status
        if len(self._statuses) > self._capacity:
            self._close(*self._statuses.popitem(last=False))

    def _replace(self, envelope_id: bytes, known: EnvelopeStatus, status: EnvelopeStatus) -> bool:
        if known.level.rank >= status.level.rank:
            return False
        if not status.is_open:
            self._close(envelope_id, known)
        if status.level is ReceiptLevel.EXECUTED:
            del self._statuses[envelope_id]
            self._add(envelope_id, status)
        else:
            self._statuses[envelope_id] = status
        return True

    def _close(self, envelope_id: bytes, known: EnvelopeStatus) -> None:
        if known.is_open:
            waiting = self._open[known.expiry_height]
            del waiting[envelope_id]
            if not waiting:
                del self._open[known.expiry_height]
