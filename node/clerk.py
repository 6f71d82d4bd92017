"""What clients and the archive are told of envelopes: levels, notices and lasting records.

A height's records are written in one piece when it is delivered for the first time. When a
restarted node delivers it again nothing is written, and levels are told again, since nobody knows
any more what the earlier life had told to whom.
"""

from collections.abc import Iterable, Sequence

from consensus.effects import Put, compute_key
from crypto.codec import encode
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

    def __init__(self) -> None:
        self.tracker = EnvelopeTracker()

    def tell_level(
        self, envelopes: Iterable[EnvelopeSummary], level: ReceiptLevel, out: list[NodeEffect]
    ) -> None:
        """Envelopes that are not ordered yet reached a level."""
        for entry in envelopes:
            self._raise(out, entry.envelope_id, entry.header.sender, level)

    def tell_passed(
        self, height: int, passed: Passed, level: ReceiptLevel, out: list[NodeEffect]
    ) -> None:
        """What a height let through is ordered, or its result is settled."""
        for envelope_id, account in passed:
            self._raise(out, envelope_id, account, level, height)

    def tell_settled(self, settled: Sequence[tuple[int, Passed]], out: list[NodeEffect]) -> None:
        """Results up to a height are final."""
        for height, passed in settled:
            self.tell_passed(height, passed, ReceiptLevel.EXECUTED, out)

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
                    puts += self._refuse(entry, code, height, out)
        totals = tuple((namespace, *opaque[namespace]) for namespace in sorted(opaque))
        out.append(DeliveredNotice(height, envelopes, refused, totals))
        return puts

    def _refuse(
        self, entry: EnvelopeSummary, code: RefusalCode, height: int, out: list[NodeEffect]
    ) -> list[Put]:
        """One copy of an envelope was refused; perhaps another one passed, maybe in an earlier
        life of this node. Whoever reads the archive looks for the pass first."""
        envelope_id = entry.envelope_id
        status = self.tracker.status(envelope_id)
        if status is not None and status.has_passed:
            return []
        if status is not None and status.is_own:
            level, account = ReceiptLevel.REFUSED, entry.header.sender
            self._raise(out, envelope_id, account, level, height, code.value)
        else:
            self.tracker.forget(envelope_id)
        return [Put(REFUSED_TABLE, envelope_id, code.value.encode())]

    def _raise(
        self,
        out: list[NodeEffect],
        envelope_id: bytes,
        account: bytes,
        level: ReceiptLevel,
        height: int = 0,
        code: str | None = None,
    ) -> None:
        if self.tracker.raise_level(envelope_id, account, level, height, code):
            out.append(ReceiptUpdate(envelope_id, account, level, height, code))
