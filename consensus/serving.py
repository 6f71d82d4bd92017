"""Answering peers that lag: blocks from the tree, archived blocks through the host.

Each peer has its own allowance, so none can make a node spend its time on answers, and an answer
is never larger than one response.
"""

from typing import Final

from consensus.block_tree import BlockTree
from consensus.effects import Effect, Send, ServeCommitted
from consensus.messages import (
    BLOCKS_MAX_PER_RESPONSE,
    SYNC_RESPONSE_MAX_BYTES,
    BlockRequest,
    BlockResponse,
    CommittedRequest,
    CommittedResponse,
)
from consensus.types import Block
from crypto.codec import encode

SERVE_BURST: Final = 16
SERVE_REFILL_MS: Final = 20
"""One peer gets `SERVE_BURST` answers at once and then one every `SERVE_REFILL_MS`."""


class TokenBucket:
    """Permits at a bounded rate."""

    def __init__(self, burst: int, refill_ms: int) -> None:
        self._span_ms = burst * refill_ms
        self._refill_ms = refill_ms
        self._spent_until_ms = -self._span_ms
        """Where the permits taken so far reach on a time line that ends now."""

    def take(self, now_ms: int) -> bool:
        """Take one permit if there is one."""
        spent_until_ms = max(self._spent_until_ms, now_ms - self._span_ms) + self._refill_ms
        if spent_until_ms > now_ms:
            return False
        self._spent_until_ms = spent_until_ms
        return True


class Allowance:
    """One bucket a member; all who are not members share one."""

    def __init__(self, member_count: int) -> None:
        self._buckets = [TokenBucket(SERVE_BURST, SERVE_REFILL_MS) for _ in range(member_count + 1)]

    def take(self, now_ms: int, peer: int) -> bool:
        """May this peer have another answer now?"""
        return self._buckets[min(peer, len(self._buckets) - 1)].take(now_ms)


class BlockServer:
    """Answers block requests."""

    def __init__(self, tree: BlockTree, member_count: int) -> None:
        self._tree = tree
        self._allowance = Allowance(member_count)

    def serve(
        self, now_ms: int, sender: int, request: BlockRequest | CommittedRequest
    ) -> Effect | None:
        """The answer, or None if the peer asks too often."""
        if not self._allowance.take(now_ms, sender):
            return None
        if isinstance(request, BlockRequest):
            return Send((sender,), BlockResponse(self._collect(request)))
        committed_height = self._tree.root.height
        if 1 <= request.from_height <= committed_height:
            return ServeCommitted(sender, request.from_height, committed_height)
        return Send((sender,), CommittedResponse((), None, committed_height))

    def _collect(self, request: BlockRequest) -> tuple[Block, ...]:
        blocks: list[Block] = []
        block_id = request.block_id
        size_bytes = 0
        while len(blocks) < BLOCKS_MAX_PER_RESPONSE and size_bytes < SYNC_RESPONSE_MAX_BYTES:
            block = self._tree.find_block(block_id)
            if block is None or block.height <= request.above_height:
                break
            blocks.append(block)
            size_bytes += len(encode(block))
            block_id = block.parent_id
        return tuple(blocks)
