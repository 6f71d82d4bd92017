"""Proposes with certificates that say nothing for its block, or where it does not lead at all."""

from collections.abc import Iterable
from typing import ClassVar

from msgspec.structs import replace

from consensus.effects import Send
from consensus.messages import Advance, Timeout
from consensus.types import GENESIS_VIEW, QC, Block
from localnet.byzantine.behaviour import Behaviour, Tools
from localnet.byzantine.leading import BendingLeader
from localnet.byzantine.notebook import Notebook
from localnet.byzantine.stale_qc import extend
from node.events import NodeEvent


class TamperedGenesis(BendingLeader):
    """Where a block would name the certificate of genesis, it names one with another signature."""

    name: ClassVar[str] = "tampered_genesis"

    def bend_block(self, now_ms: int, block: Block) -> Block:
        if block.qc.view != GENESIS_VIEW:
            return block
        return replace(block, qc=replace(block.qc, signature=bytes([1]) * 96))


class StaleTC(BendingLeader):
    """Its blocks build on an old certificate, which a TC long past is to excuse."""

    name: ClassVar[str] = "stale_tc"

    def hear(self, now_ms: int, event: NodeEvent) -> NodeEvent | None:
        self.notes.hear(event)
        return event

    def bend_block(self, now_ms: int, block: Block) -> Block:
        past = [tc for view, tc in sorted(self.notes.tcs.items()) if view + 1 < block.view]
        if not past:
            return block
        return replace(extend(past[0].high_qc, block), tc=past[0])


class ReorderedTC(BendingLeader):
    """Turns the groups of timeout certificates round, so that the newest QC named comes first,
    and builds on that of the last. So that there are two groups, it denies what it voted for."""

    name: ClassVar[str] = "reordered_tc"

    def hear(self, now_ms: int, event: NodeEvent) -> NodeEvent | None:
        self.notes.hear(event)
        return event

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


class Usurper(Behaviour):
    """Proposes in views that others lead, as soon as it has the certificate to build on."""

    name: ClassVar[str] = "usurper"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._notes = Notebook(tools.chain_id)

    def hear(self, now_ms: int, event: NodeEvent) -> NodeEvent | None:
        self._notes.hear(event)
        return event

    def send(self, now_ms: int, send: Send) -> Iterable[Send]:
        self._notes.note(send.message)
        match send.message:
            case Advance(qc=qc, tc=None):
                yield from self._usurp(now_ms, send.to, qc)
            case _:
                pass
        yield send

    def _usurp(self, now_ms: int, to: tuple[int, ...], qc: QC) -> Iterable[Send]:
        parent = self._notes.proposals.get(qc.view)
        if parent is None:
            return
        mine = replace(
            extend(qc, parent.block),
            view=qc.view + 1,
            author=self.tools.member,
            time_ms=max(now_ms, parent.block.time_ms + 1),
            evidence=(),
            tc=None,
        )
        yield Send(to, self.tools.sign_proposal(mine, mine.view))
