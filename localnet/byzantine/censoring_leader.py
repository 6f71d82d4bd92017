"""Leaves other members' lanes out of all its blocks: it orders its own clients only, or nobody."""

from typing import ClassVar

from msgspec.structs import replace

from consensus.types import Block
from localnet.byzantine.leading import BendingLeader


class CensoringLeader(BendingLeader):
    """Orders its own lane alone and leaves all others out of its blocks."""

    name: ClassVar[str] = "censoring_leader"

    def bend_block(self, now_ms: int, block: Block) -> Block:
        mine = tuple(each for each in block.lanes if each.data.author == self.tools.member)
        return replace(block, lanes=mine)


class EmptyBlocks(BendingLeader):
    """Proposes empty blocks for ever: orders nothing, certifies no state, reports no offence."""

    name: ClassVar[str] = "empty_blocks"

    def bend_block(self, now_ms: int, block: Block) -> Block:
        return replace(block, lanes=(), evidence=(), state_certificate=None)
