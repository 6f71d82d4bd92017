"""Proposes blocks that do not fit the ancestors that their certificate names."""

from collections.abc import Iterator
from itertools import cycle
from typing import ClassVar

from msgspec.structs import replace

from consensus.types import Block
from localnet.byzantine.behaviour import Need, Tools
from localnet.byzantine.leading import BendingLeader


class WrongParent(BendingLeader):
    """Proposes blocks with, in turn, another parent's id, a wrong height, a time in the past, the
    parent's time, lanes that are ordered already, a result that is certified already."""

    name: ClassVar[str] = "wrong_parent"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._lies = cycle(
            (
                self._name_another,
                self._skip_height,
                self._go_back,
                self._stand_still,
                self._order_again,
                self._certify_again,
            )
        )

    def bend_block(self, now_ms: int, block: Block) -> Block:
        return next(self._lies)(block)

    def _ancestors(self, block: Block) -> Iterator[Block]:
        """From the parent down, as far as the proposals are known."""
        while (known := self.notes.proposals.get(block.qc.view)) is not None:
            block = known.block
            yield block

    def _name_another(self, block: Block) -> Block:
        return replace(block, parent_id=self.tools.random.randbytes(32))

    def _skip_height(self, block: Block) -> Block:
        return replace(block, height=block.height + 1)

    def _go_back(self, block: Block) -> Block:
        return replace(block, time_ms=0)

    def _stand_still(self, block: Block) -> Block:
        for parent in self._ancestors(block):
            return replace(block, time_ms=parent.time_ms)
        return block

    def _order_again(self, block: Block) -> Block:
        for ancestor in self._ancestors(block):
            if ancestor.lanes:
                return replace(block, lanes=ancestor.lanes)
        return block

    def _certify_again(self, block: Block) -> Block:
        for ancestor in self._ancestors(block):
            if ancestor.state_certificate is not None:
                return replace(block, state_certificate=ancestor.state_certificate)
        return block


class WrongUncle(BendingLeader):
    """Names its grandparent as its parent, with the certificate and the height of neither."""

    name: ClassVar[str] = "wrong_uncle"
    needs: ClassVar[Need] = Need.FAILED_VIEWS

    def bend_block(self, now_ms: int, block: Block) -> Block:
        parent = self.notes.proposals.get(block.qc.view)
        if parent is None or block.height < 3:
            return block
        bare = replace(block, lanes=(), state_certificate=None)
        return replace(bare, parent_id=parent.block.parent_id, height=parent.block.height)
