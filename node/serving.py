"""Answering members that lag or join: stored batches, archived blocks and snapshots, off the event
loop.

The core decides what a member may have, by an allowance for each. Here every member has one answer
under way and a bounded number that wait, so that a slow disk never turns requests into threads or
memory, and one member's long catch-up never delays another's.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

import trio

from consensus.chain import ARCHIVE_BLOCK_TABLE, ARCHIVE_COMMIT_TABLE
from consensus.effects import ServeBatches, ServeCommitted, compute_key
from consensus.messages import (
    BLOCKS_MAX_PER_RESPONSE,
    SYNC_RESPONSE_MAX_BYTES,
    BatchMessage,
    CommittedResponse,
    SnapshotChunk,
    SnapshotOffer,
    encode_message,
)
from consensus.types import QC, Block
from crypto.codec import decode
from node.events import ServeChunk, ServeOffer
from node.recovery import Archive, Batches
from node.snapshot_library import SnapshotLibrary

ANSWERS_WAITING_MAX: Final = 32
"""Answers to one member that have not begun. The allowances of the core let fewer come in a burst;
one more is dropped, and the member asks again."""


_T = TypeVar("_T")

Answer = ServeBatches | ServeCommitted | ServeOffer | ServeChunk
"""What the core may ask for on behalf of a member."""


class Serving:
    """`serve` from the trio thread, `run` as a task of its own."""

    def __init__(
        self,
        batches: Batches,
        archive: Archive,
        library: SnapshotLibrary,
        send: Callable[[int, bytes], object],
    ) -> None:
        """`send` gets the member and an encoded bulk message, and does not wait."""
        self._batches = batches
        self._archive = archive
        self._library = library
        self._library_turn = trio.Lock()
        self._send = send
        self._waiting: dict[int, deque[Answer]] = {}
        """Of each member with an answer under way, what comes after it."""
        self._nursery: trio.Nursery | None = None
        self.dropped = 0
        """Answers that did not find room."""

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Raises what a store raises."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def serve(self, effect: Answer) -> None:
        """Answer a member after its earlier answers, unless too many wait."""
        assert self._nursery is not None, "effects come only while running"
        waiting = self._waiting.get(effect.to)
        if waiting is None:
            self._waiting[effect.to] = deque((effect,))
            self._nursery.start_soon(self._serve_member, effect.to)
        elif len(waiting) < ANSWERS_WAITING_MAX:
            waiting.append(effect)
        else:
            self.dropped += 1

    async def _serve_member(self, member: int) -> None:
        waiting = self._waiting[member]
        while waiting:
            effect = waiting.popleft()
            match effect:
                case ServeBatches():
                    await self._serve_batches(effect)
                case ServeCommitted():
                    response = await trio.to_thread.run_sync(read_committed, self._archive, effect)
                    self._send(member, encode_message(response))
                case ServeOffer():
                    offer = await self._read(self._library.read_offer, effect.above_height)
                    self._send(member, encode_message(SnapshotOffer(offer)))
                case ServeChunk():
                    data = await self._read(self._library.read_chunk, effect.name)
                    self._send(member, encode_message(SnapshotChunk(effect.name, data)))
        del self._waiting[member]

    async def _read(self, read: Callable[[_T], bytes], what: _T) -> bytes:
        """Read from the library, which is for one thread at a time."""
        async with self._library_turn:
            return await trio.to_thread.run_sync(read, what)

    async def _serve_batches(self, effect: ServeBatches) -> None:
        for batch_id in effect.batch_ids:
            stored = await trio.to_thread.run_sync(self._batches.get, batch_id)
            if stored is not None:
                self._send(effect.to, encode_message(BatchMessage(*stored)))


def read_committed(archive: Archive, effect: ServeCommitted) -> CommittedResponse:
    """Archived blocks of rising height without a gap, until a response's worth, and the
    certificate of the last. Blocks: a thread runs this."""
    blocks: list[Block] = []
    size_bytes = 0
    from_key = compute_key(effect.from_height)
    for _, value in archive.read_range(ARCHIVE_BLOCK_TABLE, from_key, BLOCKS_MAX_PER_RESPONSE):
        block = decode(Block, value)
        size_bytes += len(value)
        is_next = block.height == effect.from_height + len(blocks)
        if not is_next or (blocks and size_bytes > SYNC_RESPONSE_MAX_BYTES):
            break
        blocks.append(block)
    proof = None
    if blocks:
        commit = archive.read(ARCHIVE_COMMIT_TABLE, compute_key(blocks[-1].height))
        proof = None if commit is None else decode(QC, commit)
    return CommittedResponse(tuple(blocks), proof, effect.committed_height)
