"""What clients and the archive are told of envelopes: levels, notices and lasting records.

A height's records are written in one piece when it is delivered for the first time. When a
restarted node delivers it again nothing is written, and levels are told again, since nobody knows
any more what the earlier life had told to whom.

`available` says that an envelope will be ordered unless it expires. So it is not told of a copy
that the header ledger of today would refuse: its like may have passed long ago, before anything
that is remembered, and somebody put it into a lane once more.
"""

from collections.abc import Iterable, Sequence

from consensus.effects import Put, compute_key
from crypto.codec import encode
from mempool.ledger import HeaderLedger
from mempool.refusal import RefusalCode
from mempool.validity import EnvelopeSummary
from node.delivery import DeliveredBlock
from node.events import DeliveredNotice, NodeEffect, ReceiptUpdate
from node.protocol import ReceiptLevel
from node.recovery import DELIVERY_TABLE, ENVELOPE_TABLE, REFUSED_TABLE
from node.results import Passed
from node.tracking import EnvelopeTracker


class Clerk:
    """Keeps the tracker, and appends what there is to tell to the `out` of a step."""

    def __init__(self, ledger: HeaderLedger) -> None:
        """`ledger` is the node's own, as of its last delivered height."""
        self.tracker = EnvelopeTracker()
        self._ledger = ledger

    def tell_received(self, envelopes: Iterable[EnvelopeSummary], out: list[NodeEffect]) -> None:
        """Clients' envelopes were let in, which the ledger would let through."""
        for entry in envelopes:
            self._open(entry, ReceiptLevel.RECEIVED, out)

    def tell_available(self, envelopes: Iterable[EnvelopeSummary], out: list[NodeEffect]) -> None:
        """A batch with these envelopes is certified and not ordered yet."""
        ledger = self._ledger
        height, time_ms = ledger.height + 1, ledger.time_ms + 1
        for entry in envelopes:
            is_known = self.tracker.status(entry.envelope_id) is not None
            if is_known or ledger.check(entry, height, time_ms) is None:
                self._open(entry, ReceiptLevel.AVAILABLE, out)

    def tell_passed(
        self, height: int, passed: Passed, level: ReceiptLevel, out: list[NodeEffect]
    ) -> None:
        """What a height let through is ordered, or its result is settled."""
        for envelope_id, account in passed:
            if self.tracker.settle(envelope_id, account, level, height):
                out.append(ReceiptUpdate(envelope_id, account, level, height, None))

    def tell_settled(self, settled: Sequence[tuple[int, Passed]], out: list[NodeEffect]) -> None:
        """Results up to a height are final."""
        for height, passed in settled:
            self.tell_passed(height, passed, ReceiptLevel.EXECUTED, out)

    def tell_refused(self, delivered: DeliveredBlock, out: list[NodeEffect]) -> list[Put]:
        """Tell of the copies that a height refused and of what expires at it, after `tell_passed`;
        return what to archive of them. Whoever reads the archive looks for a pass first: one may
        lie before everything that the tracker remembers."""
        height = delivered.block.height
        puts: list[Put] = []
        for batch in delivered.batches:
            for entry, code in zip(batch.summary.envelopes, batch.verdicts, strict=True):
                status = self.tracker.status(entry.envelope_id)
                if code is None or (status is not None and status.has_passed):
                    continue
                puts.append(self._refuse(entry.envelope_id, height, code, out))
        for envelope_id in self.tracker.expiring_at(height):
            puts.append(self._refuse(envelope_id, height, RefusalCode.EXPIRED, out))
        return puts

    def record(self, delivered: DeliveredBlock, out: list[NodeEffect]) -> list[Put]:
        """Tell of a height that was delivered for the first time; return its records."""
        height = delivered.block.height
        puts = [Put(DELIVERY_TABLE, compute_key(height), encode(delivered.record()))]
        opaque: dict[int, tuple[int, int]] = {}
        envelopes = refused = 0
        for batch in delivered.batches:
            for each in batch.summary.opaque:
                count, size = opaque.get(each.namespace, (0, 0))
                opaque[each.namespace] = (count + each.count, size + each.size_bytes)
            for entry, code in zip(batch.summary.envelopes, batch.verdicts, strict=True):
                envelopes += 1
                if code is None:
                    puts.append(Put(ENVELOPE_TABLE, entry.envelope_id, compute_key(height)))
                else:
                    refused += 1
        totals = tuple((namespace, *opaque[namespace]) for namespace in sorted(opaque))
        out.append(DeliveredNotice(height, envelopes, refused, totals))
        return puts

    def _open(self, entry: EnvelopeSummary, level: ReceiptLevel, out: list[NodeEffect]) -> None:
        envelope_id, account = entry.envelope_id, entry.header.sender
        if self.tracker.open(envelope_id, account, level, entry.header.expiry_height):
            out.append(ReceiptUpdate(envelope_id, account, level, 0, None))

    def _refuse(
        self, envelope_id: bytes, height: int, code: RefusalCode, out: list[NodeEffect]
    ) -> Put:
        if self.tracker.refuse(envelope_id, height, code.value):
            status = self.tracker.status(envelope_id)
            assert status is not None, "what is told is remembered"
            level = ReceiptLevel.REFUSED
            out.append(ReceiptUpdate(envelope_id, status.account, level, height, code.value))
        return Put(REFUSED_TABLE, envelope_id, code.value.encode())
