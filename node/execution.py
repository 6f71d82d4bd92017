"""Delivered heights on their way through the engine, and the checkpoint headers that come out.

The engine keeps its own snapshots, so after a restart it may be ahead of the order state: heights
that it has behind it are delivered again, but not executed again.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from committee.committee import Member
from consensus.checkpoints import is_checkpoint
from consensus.types import Block, CheckpointHeader
from node.delivery import DeliveredBlock, compute_block_seed
from node.engine_input import make_reporters
from node.events import BatchToExecute, Execute, Executed

EXECUTION_AHEAD_MAX: Final = 128
"""Delivered heights that wait for the engine; beyond it delivery waits. The engine never idles with
that many to do, and what they hold in memory is small."""


class _Awaited(NamedTuple):
    block_id: bytes
    block: Block
    order_root: bytes


class Execution:
    """The heights that the engine was given and has not answered."""

    def __init__(
        self,
        chain_id: bytes,
        members: Sequence[Member],
        engine_height: int,
        ahead_max: int = EXECUTION_AHEAD_MAX,
    ) -> None:
        self._chain_id = chain_id
        self._reporters = make_reporters(members)
        self._engine_height = engine_height
        self._ahead_max = ahead_max
        self._awaited: deque[_Awaited] = deque()

    def has_room(self) -> bool:
        """May another height be delivered?"""
        return len(self._awaited) < self._ahead_max

    def submit(self, delivered: DeliveredBlock) -> Execute | None:
        """What to execute for a delivered height; None if the engine is past it."""
        block = delivered.block
        if block.height <= self._engine_height:
            return None
        self._awaited.append(_Awaited(delivered.block_id, block, delivered.order_root))
        batches = tuple(
            BatchToExecute(batch.batch_id, batch.refused())
            for batch in delivered.batches
            if batch.verdicts
        )
        seed = compute_block_seed(self._chain_id, block.height)
        return Execute(block.height, block.time_ms, seed, batches, self._reporters)

    def on_executed(self, event: Executed) -> CheckpointHeader | None:
        """The header of an executed height if it is a checkpoint."""
        block_id, block, order_root = self._awaited.popleft()
        assert event.height == block.height, "the engine answers in height order"
        if not is_checkpoint(block):
            return None
        return make_checkpoint_header(
            block_id,
            block,
            order_root=order_root,
            market_root=event.market_root,
            receipts_root=event.receipts_root,
        )


def make_checkpoint_header(
    block_id: bytes, block: Block, *, order_root: bytes, market_root: bytes, receipts_root: bytes
) -> CheckpointHeader:
    """What a node says of a height that it has executed."""
    return CheckpointHeader(
        epoch=block.epoch,
        height=block.height,
        block_id=block_id,
        time_ms=block.time_ms,
        order_root=order_root,
        market_root=market_root,
        receipts_root=receipts_root,
    )
