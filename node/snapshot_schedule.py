"""At which heights order state and engine are saved.

A save is due every so many blocks, and whenever so much time has passed on the chain; it happens at
the next checkpoint. So what is saved can be certified by the committee: a node that joins needs no
trust in whoever gives it a snapshot, and a statement of solvency is about a certified state.

All of it follows from the chain alone, and a life that begins at a save owes nothing, as the one
that saved owed nothing from there on: so the heights are the same in every life of every node with
these settings. A state of the engine is only worth as much as the order state that was saved at or
below its height.
"""

from consensus.checkpoints import is_checkpoint
from consensus.types import Block


class SnapshotSchedule:
    """To be asked about each delivered block, once and in order."""

    def __init__(self, interval_blocks: int, interval_ms: int) -> None:
        self._interval_blocks = interval_blocks
        self._interval_ms = interval_ms
        self._is_owed = False

    def take_due(self, block: Block, parent_time_ms: int) -> bool:
        """Is the state after this block to be saved?"""
        self._is_owed |= (
            block.height % self._interval_blocks == 0
            or block.time_ms // self._interval_ms > parent_time_ms // self._interval_ms
        )
        if not (self._is_owed and is_checkpoint(block)):
            return False
        self._is_owed = False
        return True
