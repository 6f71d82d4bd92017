"""Accuses the innocent: its blocks carry evidence in good form, with signatures it made up."""

from typing import ClassVar

from msgspec.structs import replace

from consensus.evidence import (
    Evidence,
    make_double_batch,
    make_double_proposal,
    make_double_state_vote,
    make_double_timeout,
    make_double_vote,
)
from consensus.types import (
    EVIDENCE_MAX_PER_BLOCK,
    BatchHeader,
    Block,
    CheckpointHeader,
    TimeoutData,
    VoteData,
)
from crypto.codec import encode
from crypto.digest import ZERO_DIGEST
from localnet.byzantine.leading import BendingLeader


class FalseAccuser(BendingLeader):
    """Accuses the innocent of everything, in good form, with signatures it made up."""

    name: ClassVar[str] = "false_accuser"

    def bend_block(self, now_ms: int, block: Block) -> Block:
        invented = {encode(self._accuse(block)) for _ in range(EVIDENCE_MAX_PER_BLOCK)}
        return replace(block, evidence=tuple(sorted(invented)))

    def _accuse(self, block: Block) -> Evidence:
        """Two contents that compete, each with this member's own signature under the other's
        name."""
        innocent = self.tools.random.choice(self.tools.others)
        kinds = (self._vote, self._timeout, self._propose, self._report, self._fork)
        return self.tools.random.choice(kinds)(block, innocent)

    def _vote(self, block: Block, innocent: int) -> Evidence:
        one, other = (
            self.tools.sign_vote(VoteData(block.epoch, block.view, block.height, self._noise()))
            for _ in range(2)
        )
        return make_double_vote(replace(one, author=innocent), replace(other, author=innocent))

    def _timeout(self, block: Block, innocent: int) -> Evidence:
        one, other = (
            self.tools.sign_timeout(
                TimeoutData(block.epoch, block.view, block.qc.view, tip_view), block.qc, None
            )
            for tip_view in (0, block.view)
        )
        return make_double_timeout(replace(one, author=innocent), replace(other, author=innocent))

    def _propose(self, block: Block, innocent: int) -> Evidence:
        one, other = ((self._noise(), self.tools.sign(self._noise())) for _ in range(2))
        return make_double_proposal(innocent, block.epoch, block.view, one, other)

    def _report(self, block: Block, innocent: int) -> Evidence:
        one, other = (
            self.tools.sign_state_vote(
                CheckpointHeader(
                    epoch=block.epoch,
                    height=block.height,
                    block_id=block.parent_id,
                    time_ms=block.time_ms,
                    order_root=self._noise(),
                    market_root=self._noise(),
                    receipts_root=self._noise(),
                )
            )
            for _ in range(2)
        )
        return make_double_state_vote(
            replace(one, author=innocent), replace(other, author=innocent)
        )

    def _fork(self, block: Block, innocent: int) -> Evidence:
        one, other = (
            self.tools.sign_header(
                BatchHeader(block.epoch, innocent, 1, ZERO_DIGEST, self._noise(), 1)
            )
            for _ in range(2)
        )
        return make_double_batch(one, other)

    def _noise(self) -> bytes:
        return self.tools.random.randbytes(32)
