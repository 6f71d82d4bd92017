"""Proposes with timeout certificates whose groups stand in another order."""

from collections.abc import Iterable
from typing import ClassVar

from msgspec.structs import replace

from consensus.effects import Send
from consensus.messages import Timeout
from consensus.types import Block
from localnet.byzantine.behaviour import Need
from localnet.byzantine.leading import BendingLeader
from localnet.byzantine.stale_qc import extend


class ReorderedTC(BendingLeader):
    """Turns the groups of timeout certificates round, so that the newest QC named comes first,
    and builds on that of the last. So that there are two groups, it denies what it voted for."""

    name: ClassVar[str] = "reordered_tc"
    needs: ClassVar[Need] = Need.FAILED_VIEWS

    def send(self, now_ms: int, send: Send) -> Iterable[Send]:
        match send.message:
            case Timeout(data=data, high_qc=qc, last_tc=tc):
                bare = replace(data, tip_view=0)
                yield replace(send, message=self.tools.sign_timeout(bare, qc, tc))
            case _:
                yield from super().send(now_ms, send)

    def bend_block(self, now_ms: int, block: Block) -> Block:
        tc = block.tc
        if tc is None or len(tc.groups) < 2:
            return block
        groups = tc.groups[::-1]
        qc = self.notes.qcs.get(groups[-1].high_qc_view)
        if qc is None:
            return block
        return replace(extend(qc, block), tc=replace(tc, groups=groups, high_qc=qc))
