"""From committed blocks to execution: the order in which everything is delivered, exactly once.

A block names certified lane tips. Its contents are, lane by lane in rising author order, the
batches from just above the lane's cursor up to the tip, oldest first; inside a batch, envelopes in
place. Ordering never waits for contents: a committed block stays queued here until every batch of
its lanes is held and checked by this node itself. Then, in height order:

1. the header ledger passes or refuses each envelope from its clear header alone;
2. the order state records cursors, evidence and the newest state certificate;
3. the height, its batches and the verdicts go to the engine, and a `DeliveryRecord` to the archive,
   so that a restarted node replays the same verdicts without the ledger that made them.

Memory: one summary a batch that is checked but not yet delivered, which `consensus.lanes` bounds.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct

from committee.state import EvidenceRecord, OrderState
from consensus.evidence import compute_evidence_id, decode_evidence
from consensus.types import Block
from crypto.digest import Domain, digest
from crypto.types import Digest, Uint
from mempool.batch import BatchSummary
from mempool.ledger import HeaderLedger
from mempool.refusal import RefusalCode


class BatchVerdicts(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One batch of a delivered block."""

    batch_id: Digest
    envelope_count: Uint
    refused: tuple[tuple[int, str], ...]
    """(position, code) of the envelopes that the header ledger refused, by rising position."""


class DeliveryRecord(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a height delivered: enough to execute it again from the stored batches."""

    height: Uint
    order_root: Digest
    batches: tuple[BatchVerdicts, ...]


class _Queued(NamedTuple):
    block_id: bytes
    block: Block
    known_batches: tuple[bytes, ...] | None


class DeliveredBatch(NamedTuple):
    """A delivered batch with what is known of its contents."""

    batch_id: bytes
    summary: BatchSummary
    verdicts: tuple[RefusalCode | None, ...]


class DeliveredBlock(NamedTuple):
    """One height, complete."""

    block_id: bytes
    block: Block
    order_root: bytes
    batches: tuple[DeliveredBatch, ...]

    def record(self) -> DeliveryRecord:
        """The archive's record of this delivery."""
        return DeliveryRecord(
            self.block.height,
            self.order_root,
            tuple(
                BatchVerdicts(
                    batch.batch_id,
                    len(batch.verdicts),
                    tuple(
                        (position, code.value)
                        for position, code in enumerate(batch.verdicts)
                        if code is not None
                    ),
                )
                for batch in self.batches
            ),
        )


BatchesOf = Callable[[int], tuple[bytes, ...] | None]
"""`batches_of(height)`: a committed block's batch ids in execution order (`Lanes.delivery`), or
None while one of them is missing."""


def compute_order_root(order_state: OrderState, ledger: HeaderLedger) -> bytes:
    """The root of everything that ordering and header validity read."""
    return digest(Domain.ORDER_STATE, order_state.root(), ledger.root())


def compute_block_seed(chain_id: bytes, height: int) -> bytes:
    """The engine's seed for a height.

    It derives from genesis and height alone, so anybody can predict it: it fixes the order inside a
    block's phases, but hides nothing. The per-block beacon replaces it when the committee has one.
    """
    return digest(Domain.SEED, chain_id, height.to_bytes(8, "big"))


class Delivery:
    """The queue of committed blocks and the order state that they advance."""

    def __init__(
        self, order_state: OrderState, ledger: HeaderLedger, batches_of: BatchesOf
    ) -> None:
        self.order_state = order_state
        self.ledger = ledger
        self._batches_of = batches_of
        self._queue: deque[_Queued] = deque()
        self._summaries: dict[bytes, BatchSummary] = {}

    @property
    def delivered_height(self) -> int:
        """The newest height whose contents were delivered."""
        return self.order_state.height

    @property
    def queued_blocks(self) -> int:
        """Committed blocks that wait for their contents."""
        return len(self._queue)

    def add_block(
        self, block_id: bytes, block: Block, known_batches: tuple[bytes, ...] | None = None
    ) -> None:
        """Queue a committed block. `known_batches` are its batch ids when a delivery record of an
        earlier life of this node names them, else the lanes are asked."""
        expected = self._queue[-1].block.height if self._queue else self.delivered_height
        assert block.height == expected + 1, "committed blocks arrive gap-free in height order"
        self._queue.append(_Queued(block_id, block, known_batches))

    def add_summary(self, batch_id: bytes, summary: BatchSummary) -> None:
        """Keep what a checked batch contains until it is delivered."""
        self._summaries[batch_id] = summary

    def summary(self, batch_id: bytes) -> BatchSummary | None:
        """The contents of a batch that is checked and not yet delivered."""
        return self._summaries.get(batch_id)

    def advance(self) -> DeliveredBlock | None:
        """Deliver the next queued block if its contents are complete."""
        if not self._queue:
            return None
        queued = self._queue[0]
        batch_ids = queued.known_batches
        if batch_ids is None:
            batch_ids = self._batches_of(queued.block.height)
        if batch_ids is None or any(each not in self._summaries for each in batch_ids):
            return None
        self._queue.popleft()
        return self._deliver(queued.block_id, queued.block, batch_ids)

    def _deliver(
        self, block_id: bytes, block: Block, batch_ids: tuple[bytes, ...]
    ) -> DeliveredBlock:
        summaries = [(each, self._summaries.pop(each)) for each in batch_ids]
        entries = [entry for _, summary in summaries for entry in summary.envelopes]
        verdicts = self.ledger.apply_block(block.height, block.time_ms, entries)
        self.order_state.apply_block(
            height=block.height,
            time_ms=block.time_ms,
            cursors={
                tip.data.author: (tip.data.sequence, tip.data.batch_id) for tip in block.lanes
            },
            evidence=tuple(_record_of(encoded, block.height) for encoded in block.evidence),
            certified_height=(
                block.state_certificate.header.height if block.state_certificate else None
            ),
        )
        batches, position = [], 0
        for batch_id, summary in summaries:
            end = position + len(summary.envelopes)
            batches.append(DeliveredBatch(batch_id, summary, tuple(verdicts[position:end])))
            position = end
        order_root = compute_order_root(self.order_state, self.ledger)
        return DeliveredBlock(block_id, block, order_root, tuple(batches))


def _record_of(encoded: bytes, height: int) -> EvidenceRecord:
    evidence = decode_evidence(encoded)
    kind = type(evidence).__name__
    return EvidenceRecord(compute_evidence_id(encoded), evidence.offender, kind, height)
