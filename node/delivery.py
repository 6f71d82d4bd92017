"""From committed blocks to execution: the order in which everything is delivered, exactly once.

A block names certified lane tips. Its contents are, lane by lane in rising author order, the
batches from just above the lane's cursor up to the tip, oldest first; inside a batch, envelopes in
place. Ordering never waits for contents: a committed block stays queued here until every batch of
its lanes is held and checked by this node itself. Then, in height order:

1. the header ledger passes or refuses each envelope from its clear header alone;
2. the order state records cursors, proven evidence and the newest state certificate;
3. the height, its batches and the verdicts go to the engine, and a `DeliveryRecord` to the archive,
   so that a restarted node replays the same verdicts without the ledger that made them.

*Memory.* Kept are the queued blocks and one summary for each batch that is checked and not yet
delivered. Both grow while commits run ahead of contents or of execution, as in a long catch-up, so
there is a limit to how far ahead: at `QUEUED_BLOCKS_MAX` blocks or `QUEUED_LOADED_BLOCKS_MAX` with
lanes the queue `is_full`, and the node takes no consensus messages from others until it has
worked some off. It then is what it looks like to them, absent; what it missed it fetches as after
any absence. (Rejected: forgetting queued blocks and reading them from the archive again. That
saves nothing of the summaries, which weigh most.) The chain's own execution lag, 64 blocks by
default, keeps a committee whose engines are all slow far below these limits under load.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from msgspec import Struct

from committee.state import EvidenceRecord, OrderState
from consensus.evidence import compute_evidence_id, decode_evidence
from consensus.types import BatchHeader, Block
from crypto.digest import Domain, digest
from crypto.types import Digest, Uint
from mempool.batch import BatchSummary
from mempool.ledger import HeaderLedger
from mempool.refusal import RefusalCode

QUEUED_BLOCKS_MAX: Final = 16_384
"""Committed blocks that wait for delivery: an hour of idle blocks, some 2 KiB each."""

QUEUED_LOADED_BLOCKS_MAX: Final = 1_024
"""Those among them that name batches, whose summaries may wait in memory, too."""


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


class _Queued:
    """A committed block, and what is known about its contents."""

    __slots__ = ("block", "block_id", "evidence_verdicts", "known_batches")

    def __init__(
        self, block_id: bytes, block: Block, known_batches: tuple[bytes, ...] | None
    ) -> None:
        self.block_id = block_id
        self.block = block
        self.known_batches = known_batches
        self.evidence_verdicts: tuple[bool, ...] | None = None if block.evidence else ()


class DeliveredBatch(NamedTuple):
    """A delivered batch with what is known of its contents."""

    batch_id: bytes
    summary: BatchSummary
    verdicts: tuple[RefusalCode | None, ...]

    def refused(self) -> tuple[int, ...]:
        """Positions of the envelopes that the header ledger refused, rising."""
        return tuple(position for position, code in enumerate(self.verdicts) if code is not None)


class DeliveredBlock(NamedTuple):
    """One height, complete."""

    block_id: bytes
    block: Block
    order_root: bytes
    batches: tuple[DeliveredBatch, ...]
    convictions: tuple[EvidenceRecord, ...]
    """Those that are new."""
    parent_time_ms: int

    def passed(self) -> tuple[tuple[bytes, bytes], ...]:
        """(envelope id, account) of the envelopes that the header ledger let through, in order."""
        return tuple(
            (entry.envelope_id, entry.header.sender)
            for batch in self.batches
            for entry, code in zip(batch.summary.envelopes, batch.verdicts, strict=True)
            if code is None
        )

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
        self,
        order_state: OrderState,
        ledger: HeaderLedger,
        batches_of: BatchesOf,
        queued_blocks_max: int = QUEUED_BLOCKS_MAX,
        queued_loaded_blocks_max: int = QUEUED_LOADED_BLOCKS_MAX,
    ) -> None:
        self.order_state = order_state
        self.ledger = ledger
        self._batches_of = batches_of
        self._queued_blocks_max = queued_blocks_max
        self._queued_loaded_blocks_max = queued_loaded_blocks_max
        self._queue: deque[_Queued] = deque()
        self._loaded_blocks = 0
        self._summaries: dict[bytes, BatchSummary] = {}
        self._places: list[dict[int, list[bytes]]] = [{} for _ in order_state.committee.members]
        # The ids of the summaries, by author and sequence.

    @property
    def delivered_height(self) -> int:
        """The newest height whose contents were delivered."""
        return self.order_state.height

    @property
    def queued_blocks(self) -> int:
        """Committed blocks that wait for their contents."""
        return len(self._queue)

    @property
    def summaries_held(self) -> int:
        """Batches checked and not yet delivered."""
        return len(self._summaries)

    @property
    def is_full(self) -> bool:
        """Is delivery so far behind the commits that no more may be taken in?"""
        return (
            len(self._queue) >= self._queued_blocks_max
            or self._loaded_blocks >= self._queued_loaded_blocks_max
        )

    def add_block(
        self, block_id: bytes, block: Block, known_batches: tuple[bytes, ...] | None = None
    ) -> None:
        """Queue a committed block. `known_batches` are its batch ids when a delivery record of an
        earlier life of this node names them, else the lanes are asked."""
        expected = self._queue[-1].block.height if self._queue else self.delivered_height
        assert block.height == expected + 1, "committed blocks arrive gap-free in height order"
        self._queue.append(_Queued(block_id, block, known_batches))
        self._loaded_blocks += bool(block.lanes)

    def judge_evidence(self, height: int, verdicts: tuple[bool, ...]) -> None:
        """Say which evidence of a queued block convicts: a block with evidence waits for it."""
        queued = self._queue[height - self.delivered_height - 1]
        assert len(verdicts) == len(queued.block.evidence), "one verdict a piece"
        queued.evidence_verdicts = verdicts

    def add_summary(self, batch_id: bytes, header: BatchHeader, summary: BatchSummary) -> None:
        """Keep what a checked batch contains until its place in the lane is delivered, by it or,
        if its author made two, by the other."""
        is_late = header.sequence <= self.order_state.lane_cursor(header.author).sequence
        if is_late or batch_id in self._summaries:
            return
        self._summaries[batch_id] = summary
        self._places[header.author].setdefault(header.sequence, []).append(batch_id)

    def summary(self, batch_id: bytes) -> BatchSummary | None:
        """The contents of a batch that is checked and not yet delivered."""
        return self._summaries.get(batch_id)

    def advance(self) -> DeliveredBlock | None:
        """Deliver the next queued block if its contents are complete."""
        if not self._queue:
            return None
        queued = self._queue[0]
        if queued.evidence_verdicts is None:
            return None
        batch_ids = queued.known_batches
        if batch_ids is None:
            batch_ids = self._batches_of(queued.block.height)
        if batch_ids is None or any(each not in self._summaries for each in batch_ids):
            return None
        self._queue.popleft()
        self._loaded_blocks -= bool(queued.block.lanes)
        return self._deliver(queued, queued.evidence_verdicts, batch_ids)

    def _deliver(
        self, queued: _Queued, evidence_verdicts: tuple[bool, ...], batch_ids: tuple[bytes, ...]
    ) -> DeliveredBlock:
        block = queued.block
        parent_time_ms = self.order_state.time_ms
        summaries = [(each, self._summaries[each]) for each in batch_ids]
        entries = [entry for _, summary in summaries for entry in summary.envelopes]
        verdicts = self.ledger.apply_block(block.height, block.time_ms, entries)
        for tip in block.lanes:
            self._drop_summaries(tip.data.author, tip.data.sequence)
        convictions = self.order_state.apply_block(
            height=block.height,
            time_ms=block.time_ms,
            cursors={
                tip.data.author: (tip.data.sequence, tip.data.batch_id) for tip in block.lanes
            },
            evidence=tuple(
                _record_of(encoded, block.height)
                for encoded, convicts in zip(block.evidence, evidence_verdicts, strict=True)
                if convicts
            ),
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
        return DeliveredBlock(
            queued.block_id, block, order_root, tuple(batches), convictions, parent_time_ms
        )

    def _drop_summaries(self, author: int, sequence: int) -> None:
        """Forget what lies at or below a place that is being delivered."""
        places = self._places[author]
        cursor = self.order_state.lane_cursor(author).sequence
        for passed in range(cursor + 1, sequence + 1):
            for batch_id in places.pop(passed, ()):
                del self._summaries[batch_id]


def _record_of(encoded: bytes, height: int) -> EvidenceRecord:
    evidence = decode_evidence(encoded)
    kind = type(evidence).__name__
    return EvidenceRecord(compute_evidence_id(encoded), evidence.offender, kind, height)
