"""Proposes upon genesis with another certificate than that of genesis."""

from typing import ClassVar

from msgspec.structs import replace

from consensus.types import GENESIS_VIEW, Block
from localnet.byzantine.leading import BendingLeader


class TamperedGenesis(BendingLeader):
    """Where a block would name the certificate of genesis, it names one with another signature."""

    name: ClassVar[str] = "tampered_genesis"

    def bend_block(self, now_ms: int, block: Block) -> Block:
        if block.qc.view != GENESIS_VIEW:
            return block
        return replace(block, qc=replace(block.qc, signature=bytes([1]) * 96))
