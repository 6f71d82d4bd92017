"""Builds on an old certificate for ever, as if nothing had been certified since."""

from typing import ClassVar

from msgspec.structs import replace

from consensus.types import QC, Block
from localnet.byzantine.behaviour import Tools
from localnet.byzantine.leading import BendingLeader


class StaleQC(BendingLeader):
    """Builds on the certificate of its first proposal for ever."""

    name: ClassVar[str] = "stale_qc"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._qc: QC | None = None

    def bend_block(self, now_ms: int, block: Block) -> Block:
        if self._qc is None:
            self._qc = block.qc
        return extend(self._qc, block)


class LoweredTC(BendingLeader):
    """Swaps the newest QC that a TC reports for an older one, and builds on that."""

    name: ClassVar[str] = "lowered_tc"

    def bend_block(self, now_ms: int, block: Block) -> Block:
        if block.tc is None:
            return block
        older = [qc for view, qc in self.notes.qcs.items() if view < block.tc.high_qc.view]
        if not older:
            return block
        lowered = replace(block.tc, high_qc=older[-1])
        return replace(extend(older[-1], block), tc=lowered)


def extend(qc: QC, block: Block) -> Block:
    """The same block upon another parent, without what its old ancestors allowed."""
    return replace(
        block,
        qc=qc,
        parent_id=qc.block_id,
        height=qc.height + 1,
        lanes=(),
        state_certificate=None,
    )
