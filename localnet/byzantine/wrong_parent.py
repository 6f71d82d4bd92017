"""Proposes blocks that do not fit the parent that their certificate names."""

from itertools import cycle
from typing import ClassVar

from msgspec.structs import replace

from consensus.types import Block
from localnet.byzantine.behaviour import Tools
from localnet.byzantine.leading import BendingLeader
from node.events import NodeEvent


class WrongParent(BendingLeader):
    """Proposes blocks with, in turn, another parent's id, a wrong height, a time in the past."""

    name: ClassVar[str] = "wrong_parent"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._lies = cycle((self._name_another, self._skip_height, self._go_back))

    def bend_block(self, now_ms: int, block: Block) -> Block:
        return next(self._lies)(block)

    def _name_another(self, block: Block) -> Block:
        return replace(block, parent_id=self.tools.random.randbytes(32))

    def _skip_height(self, block: Block) -> Block:
        return replace(block, height=block.height + 1)

    def _go_back(self, block: Block) -> Block:
        return replace(block, time_ms=0)


class WrongUncle(BendingLeader):
    """Names its grandparent as its parent, with the certificate and the height of neither."""

    name: ClassVar[str] = "wrong_uncle"

    def hear(self, now_ms: int, event: NodeEvent) -> NodeEvent | None:
        self.notes.hear(event)
        return event

    def bend_block(self, now_ms: int, block: Block) -> Block:
        parent = self.notes.proposals.get(block.qc.view)
        if parent is None or block.height < 3:
            return block
        bare = replace(block, lanes=(), state_certificate=None)
        return replace(bare, parent_id=parent.block.parent_id, height=parent.block.height)
