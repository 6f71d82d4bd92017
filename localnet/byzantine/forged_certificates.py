"""Shows certificates that it made itself: signed by it alone, or with signatures it invented."""

from collections.abc import Iterable
from itertools import count
from typing import ClassVar

from msgspec.structs import replace

from consensus.effects import Send
from consensus.messages import Advance, LaneCertificate
from consensus.types import (
    AckData,
    AvailabilityCertificate,
    Block,
    CheckpointHeader,
    TimeoutData,
    VoteData,
)
from consensus.validation import STATE_CERTIFICATE_DEPTH_MIN
from localnet.byzantine.behaviour import Need, Tools
from localnet.byzantine.forging import Forger
from localnet.byzantine.leading import BendingLeader
from localnet.byzantine.notebook import Listener
from node.events import NodeEvent


class ForgedQC(BendingLeader):
    """Extends blocks that nobody but it knows, with a QC signed by nobody but it."""

    name: ClassVar[str] = "forged_qc"
    is_hollow: ClassVar[bool] = False

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self.forger = Forger(tools, is_hollow=self.is_hollow)

    def bend_block(self, now_ms: int, block: Block) -> Block:
        parent_id = self.tools.random.randbytes(32)
        data = VoteData(block.epoch, block.view - 1, block.height - 1, parent_id)
        qc = self.forger.forge_qc(data)
        return replace(block, qc=qc, parent_id=parent_id, tc=None, lanes=())


class HollowQC(ForgedQC):
    """Extends blocks that nobody knows, with a QC that names everybody and is signed by one."""

    name: ClassVar[str] = "hollow_qc"
    is_hollow: ClassVar[bool] = True


class ForgedTC(Listener):
    """Gives up views that lie ahead, and shows a TC of its own for what is between."""

    name: ClassVar[str] = "forged_last_certificate"
    needs: ClassVar[Need] = Need.FAILED_VIEWS
    is_hollow: ClassVar[bool] = False

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._forger = Forger(tools, is_hollow=self.is_hollow)

    def volunteer(self, now_ms: int, event: NodeEvent) -> Iterable[Send]:
        heard = self.opened
        if heard is None:
            return
        high_qc, epoch = heard.block.qc, heard.block.epoch
        tc = self._forger.forge_tc(heard.view + 2, high_qc)
        data = TimeoutData(epoch, heard.view + 3, high_qc.view, 0)
        yield Send(self.tools.others, self.tools.sign_timeout(data, high_qc, tc))
        yield Send(self.tools.others, Advance(high_qc, tc))


class HollowTC(ForgedTC):
    """Shows a TC that names everybody and is signed by one."""

    name: ClassVar[str] = "hollow_last_certificate"
    is_hollow: ClassVar[bool] = True


class InvalidAvailability(BendingLeader):
    """Orders batches of its own that nobody but it holds, as only its own signature says."""

    name: ClassVar[str] = "invalid_availability"
    is_hollow: ClassVar[bool] = False

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._forger = Forger(tools, is_hollow=self.is_hollow)
        self._sequences = count(1_000_000)

    def bend_block(self, now_ms: int, block: Block) -> Block:
        honest = tuple(each for each in block.lanes if each.data.author != self.tools.member)
        lanes = sorted((*honest, self._forge()), key=lambda each: each.data.author)
        return replace(block, lanes=tuple(lanes))

    def volunteer(self, now_ms: int, event: NodeEvent) -> Iterable[Send]:
        if self.opened is not None:
            yield Send(self.tools.others, LaneCertificate(self._forge()))

    def _forge(self) -> AvailabilityCertificate:
        tools = self.tools
        batch_id = tools.random.randbytes(32)
        data = AckData(tools.committee.epoch, tools.member, next(self._sequences), batch_id)
        return self._forger.forge_availability(data)


class HollowAvailability(InvalidAvailability):
    """Orders batches that nobody holds, with a certificate that names everybody."""

    name: ClassVar[str] = "hollow_availability"
    is_hollow: ClassVar[bool] = True


class ForgedState(BendingLeader):
    """Puts a result into its blocks that nobody but it signed."""

    name: ClassVar[str] = "forged_state"
    is_hollow: ClassVar[bool] = False

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._forger = Forger(tools, is_hollow=self.is_hollow)

    def bend_block(self, now_ms: int, block: Block) -> Block:
        # The newest height that any block may name, so that it is newer than what is known.
        known = self._find_committed(block)
        if known is None:
            return block
        random = self.tools.random
        header = CheckpointHeader(
            epoch=block.epoch,
            height=known.height,
            block_id=known.block_id,
            time_ms=block.time_ms,
            order_root=random.randbytes(32),
            market_root=random.randbytes(32),
            receipts_root=random.randbytes(32),
        )
        return replace(block, state_certificate=self._forger.forge_state(header))

    def _find_committed(self, block: Block) -> VoteData | None:
        """The grandparent as its certificate names it."""
        heights = {qc.height: qc.data for qc in self.notes.qcs.values() if qc.height}
        return heights.get(block.height - STATE_CERTIFICATE_DEPTH_MIN)


class HollowState(ForgedState):
    """Puts a result into its blocks that everybody is said to have signed."""

    name: ClassVar[str] = "hollow_state"
    is_hollow: ClassVar[bool] = True
