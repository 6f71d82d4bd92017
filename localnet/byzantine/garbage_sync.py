"""Answers requests with what was not asked for: wrong blocks, wrong bodies, or far too much."""

from collections.abc import Iterable
from itertools import cycle, islice
from typing import ClassVar, Final

from msgspec.structs import replace

from consensus.effects import Send, ServeBatches, ServeCommitted
from consensus.messages import (
    BATCHES_MAX_PER_REQUEST,
    BLOCKS_MAX_PER_RESPONSE,
    BlockResponse,
    CommittedResponse,
)
from consensus.types import QC, Block
from localnet.byzantine.behaviour import Need
from localnet.byzantine.notebook import Listener
from node.events import NodeEffect

HALF: Final = 0.5
"""Of the answers about known blocks come with a block that somebody proposed."""


def invent(block: Block) -> Block:
    """A block that nobody proposed, where a proposed one belongs."""
    return replace(block, time_ms=block.time_ms + 1, lanes=(), state_certificate=None)


class GarbageBlocks(Listener):
    """Answers requests with blocks that do not follow each other, proofs of others, and blocks that
    nobody proposed, which fit but for their id."""

    name: ClassVar[str] = "garbage_blocks"
    needs: ClassVar[Need] = Need.MISSING_BLOCKS

    def bend(self, now_ms: int, effect: NodeEffect) -> Iterable[NodeEffect]:
        if isinstance(effect, Send):
            self.notes.note(effect.message)
        if not self.notes.proposals:
            return (effect,)
        match effect:
            case Send(to, BlockResponse(blocks=blocks)):
                return (Send(to, self.bend_blocks(blocks)),)
            case ServeCommitted(to, from_height, committed_height):
                return (Send((to,), self.make_committed(from_height, committed_height)),)
            case _:
                return (effect,)

    def bend_blocks(self, blocks: tuple[Block, ...]) -> BlockResponse:
        """The block that was asked for, and then one that is not its parent."""
        parent = self._find_parent(blocks)
        if parent is None or self.tools.random.random() < HALF:
            parent = self.pick_block()
        else:
            parent = invent(parent)
        return BlockResponse((*blocks[:1], parent))

    def make_committed(self, from_height: int, committed_height: int) -> CommittedResponse:
        """A block, with a proof for another one or with none."""
        proof = self._find_proof(from_height)
        if proof is None or self.tools.random.random() < HALF:
            other = self.tools.random.choice([None, *self.notes.qcs.values()])
            return CommittedResponse((self.pick_block(),), other, committed_height)
        block, certificate = proof
        return CommittedResponse((invent(block),), certificate, committed_height)

    def _find_parent(self, blocks: tuple[Block, ...]) -> Block | None:
        """The block below the one that was asked for, if it is known."""
        if len(blocks) > 1:
            return blocks[1]
        below = None if not blocks else self.notes.proposals.get(blocks[0].qc.view)
        is_parent = below is not None and self._name(below.block) == blocks[0].parent_id
        return below.block if below is not None and is_parent else None

    def _find_proof(self, height: int) -> tuple[Block, QC] | None:
        """A block of a height with its certificate, if both are known."""
        known = {qc.block_id: qc for qc in self.notes.qcs.values() if qc.height == height}
        for proposal in self.notes.proposals.values():
            block = proposal.block
            if known and block.height == height and self._name(block) in known:
                return block, known[self._name(block)]
        return None

    def _name(self, block: Block) -> bytes:
        return block.block_id(self.tools.chain_id)

    def pick_block(self) -> Block:
        """Some block that was proposed."""
        return self.tools.random.choice(list(self.notes.proposals.values())).block


class OversizedSync(GarbageBlocks):
    """Answers requests with as much as a response can hold, whatever was asked for."""

    name: ClassVar[str] = "oversized_sync"

    def bend(self, now_ms: int, effect: NodeEffect) -> Iterable[NodeEffect]:
        yield from super().bend(now_ms, effect)
        if isinstance(effect, ServeBatches):
            known = list(self.notes.batches.values())[-BATCHES_MAX_PER_REQUEST:]
            for message in known:
                yield Send((effect.to,), message)

    def bend_blocks(self, blocks: tuple[Block, ...]) -> BlockResponse:
        return BlockResponse((*blocks[:1], *self._pick_many())[:BLOCKS_MAX_PER_RESPONSE])

    def make_committed(self, from_height: int, committed_height: int) -> CommittedResponse:
        del from_height
        proof = self.notes.qcs[max(self.notes.qcs)]
        return CommittedResponse(tuple(self._pick_many()), proof, 2**62)

    def _pick_many(self) -> Iterable[Block]:
        blocks = [proposal.block for proposal in self.notes.proposals.values()]
        return islice(cycle(blocks), BLOCKS_MAX_PER_RESPONSE)


class GarbageBodies(GarbageBlocks):
    """Serves batches with another body, or with a signature that is none."""

    name: ClassVar[str] = "garbage_bodies"
    needs: ClassVar[Need] = Need.MISSING_BATCHES

    def bend(self, now_ms: int, effect: NodeEffect) -> Iterable[NodeEffect]:
        if isinstance(effect, Send):
            self.notes.note(effect.message)
        if not isinstance(effect, ServeBatches):
            yield effect
            return
        for batch_id in effect.batch_ids:
            message = self.notes.batches.get(batch_id)
            if message is None:
                continue
            if self.tools.random.random() < 0.5:
                body = message.body[:-1] + bytes([message.body[-1] ^ 1])
                yield Send((effect.to,), replace(message, body=body))
            else:
                signed = replace(message.signed_header, signature=bytes(64))
                yield Send((effect.to,), replace(message, signed_header=signed))
