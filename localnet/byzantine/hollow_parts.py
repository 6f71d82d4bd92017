"""Hides a certificate that nobody signed inside, or beside, what the others rightly trust."""

from collections.abc import Iterable, Iterator
from typing import ClassVar, Final

from msgspec.structs import replace

from consensus.effects import Received, Send, ServeCommitted
from consensus.messages import BLOCKS_MAX_PER_RESPONSE, Advance, CommittedResponse, Timeout
from consensus.types import QC, TC, Block, VoteData
from crypto.bitmap import encode_bitmap
from localnet.byzantine.behaviour import Need
from localnet.byzantine.notebook import Listener
from node.events import NodeEffect, NodeEvent

_INVENTED: Final = bytes([7]) * 96
"""The same for all who lie so: what one of them showed, another one shows again."""

_VIEWS_AHEAD: Final = 3


class HollowParts(Listener):
    """What the behaviours of this module have in common."""

    def hollow_qc(self, data: VoteData) -> QC:
        """A QC that names everybody and that nobody signed."""
        count = len(self.tools.committee)
        return QC(data, encode_bitmap(range(count), count), _INVENTED)


class HollowInside(HollowParts):
    """Shows real TCs around an invented QC, its own and those that another liar showed before."""

    name: ClassVar[str] = "hollow_inside"
    needs: ClassVar[Need] = Need.FAILED_VIEWS

    def send(self, now_ms: int, send: Send) -> Iterable[Send]:
        match send.message:
            case Advance(qc=qc, tc=TC() as tc):
                yield Send(send.to, Advance(qc, self._hollow(tc)))
            case Timeout(last_tc=TC() as tc):
                mine, others = self.tools.split_own(send.to)
                yield Send(others, replace(send.message, last_tc=self._hollow(tc)), send.after)
                yield replace(send, to=mine)
            case _:
                yield send

    def volunteer(self, now_ms: int, event: NodeEvent) -> Iterable[Send]:
        match event:
            case Received(message=Advance(tc=TC(high_qc=QC(signature=signature)))):
                if signature == _INVENTED:
                    yield Send(self.tools.others, event.message)
            case _:
                return

    def _hollow(self, tc: TC) -> TC:
        return replace(tc, high_qc=self.hollow_qc(tc.high_qc.data))


class HollowAdvance(HollowParts):
    """Announces QCs of views to come that nobody signed."""

    name: ClassVar[str] = "hollow_advance"

    def volunteer(self, now_ms: int, event: NodeEvent) -> Iterable[Send]:
        if self.opened is not None:
            block = self.opened.block
            block_id = self.tools.random.randbytes(32)
            data = VoteData(block.epoch, block.view + _VIEWS_AHEAD, block.height + 1, block_id)
            yield Send(self.tools.others, Advance(self.hollow_qc(data), None))


class HollowProof(HollowParts):
    """Answers those who are far behind with the right blocks, and with an invented QC as proof."""

    name: ClassVar[str] = "hollow_proof"
    needs: ClassVar[Need] = Need.LONG_ABSENCE

    def bend(self, now_ms: int, effect: NodeEffect) -> Iterable[NodeEffect]:
        if isinstance(effect, Send):
            self.notes.note(effect.message)
        if not isinstance(effect, ServeCommitted):
            return (effect,)
        blocks = tuple(self._find_chain(effect.from_height))[:BLOCKS_MAX_PER_RESPONSE]
        if not blocks:
            return (effect,)
        newest = blocks[-1]
        block_id = newest.block_id(self.tools.chain_id)
        data = VoteData(newest.epoch, newest.view + _VIEWS_AHEAD, newest.height, block_id)
        proof = self.hollow_qc(data)
        return (Send((effect.to,), CommittedResponse(blocks, proof, effect.committed_height)),)

    def _find_chain(self, from_height: int) -> Iterator[Block]:
        """Blocks from a height on, each the parent of the next."""
        parent_id: bytes | None = None
        for _, proposal in sorted(self.notes.proposals.items()):
            block = proposal.block
            is_next = (
                block.height == from_height if parent_id is None else (block.parent_id == parent_id)
            )
            if is_next:
                yield block
                parent_id = block.block_id(self.tools.chain_id)
