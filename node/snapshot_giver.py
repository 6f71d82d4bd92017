"""Giving snapshots to nodes that join: who may have what, and how often.

What is read and sent is the host's (`node.snapshot_library`); here each member has an allowance, so
that none can make a node spend its time or its line on answers.
"""

from typing import Final

from consensus.effects import Event, Received
from consensus.messages import ChunkRequest, SnapshotRequest
from consensus.serving import TokenBucket
from node.events import NodeEffect, ServeChunk, ServeOffer

OFFERS_BURST: Final = 4
OFFERS_REFILL_MS: Final = 500
"""An offer has up to megabytes, and its reader asks once a second."""

CHUNKS_BURST: Final = 32
CHUNKS_REFILL_MS: Final = 10
"""Pieces of at most 256 KiB each: a member gets no more than 25 MB a second."""


class SnapshotGiver:
    """See the module docstring."""

    def __init__(self, member_count: int) -> None:
        members = range(member_count)
        self._offers = [TokenBucket(OFFERS_BURST, OFFERS_REFILL_MS) for _ in members]
        self._chunks = [TokenBucket(CHUNKS_BURST, CHUNKS_REFILL_MS) for _ in members]

    def step(self, now_ms: int, event: Event) -> list[NodeEffect]:
        """What follows from a message. Answers to a node that has joined already say nothing."""
        match event:
            case Received(sender, SnapshotRequest(above_height)):
                if self._offers[sender].take(now_ms):
                    return [ServeOffer(sender, above_height)]
            case Received(sender, ChunkRequest(name)):
                if self._chunks[sender].take(now_ms):
                    return [ServeChunk(sender, name)]
        return []
