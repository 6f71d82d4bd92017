"""Builds on old certificates, with and without a timeout certificate as an excuse."""

from typing import ClassVar

from msgspec.structs import replace

from consensus.types import QC, Block
from localnet.byzantine.behaviour import Need, Tools
from localnet.byzantine.leading import BendingLeader


class StaleQC(BendingLeader):
    """Builds on the certificate of its first proposal for ever."""

    name: ClassVar[str] = "stale_qc"
    needs: ClassVar[Need] = Need.FAILED_VIEWS

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._qc: QC | None = None

    def bend_block(self, now_ms: int, block: Block) -> Block:
        if self._qc is None:
            self._qc = block.qc
        return extend(self._qc, block)


class OlderQC(BendingLeader):
    """Builds on the certificate before the newest one, in spite of what it has voted for."""

    name: ClassVar[str] = "older_qc"
    needs: ClassVar[Need] = Need.FAILED_VIEWS

    def bend_block(self, now_ms: int, block: Block) -> Block:
        newest_view = block.qc.view if block.tc is None else block.tc.high_qc.view
        older = [view for view in self.notes.qcs if view < newest_view]
        return self.extend_older(self.notes.qcs[max(older)], block) if older else block

    def extend_older(self, qc: QC, block: Block) -> Block:
        """How to justify it."""
        return extend(qc, block)


class LoweredTC(OlderQC):
    """Swaps the newest QC that a TC reports for an older one, and builds on that."""

    name: ClassVar[str] = "lowered_tc"

    def extend_older(self, qc: QC, block: Block) -> Block:
        if block.tc is None:
            return block
        return replace(extend(qc, block), tc=replace(block.tc, high_qc=qc))


class StaleTC(BendingLeader):
    """Its blocks build on an old certificate, which a TC long past is to excuse."""

    name: ClassVar[str] = "stale_tc"
    needs: ClassVar[Need] = Need.FAILED_VIEWS

    def bend_block(self, now_ms: int, block: Block) -> Block:
        past = [tc for view, tc in sorted(self.notes.tcs.items()) if view + 1 < block.view]
        if not past:
            return block
        return replace(extend(past[0].high_qc, block), tc=past[0])


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
