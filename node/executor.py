"""Delivered heights on their way to the engine's process, and its results on their way back.

One at a time and in order. What was begun is finished also when the node stops, because the engine
must not get ahead of what is archived about its heights.
"""

from collections.abc import Callable
from typing import Final

import trio

from consensus.effects import Put, compute_key
from node.events import Execute, Executed, SaveState
from node.execution import EXECUTION_AHEAD_MAX
from node.recovery import OUTPUT_TABLE, Batches
from node.storage.group_commit import GroupCommitter
from node.storage.records import RecordWrite
from node.workers.engine import EngineWorker, ExecuteRequest

EXECUTION_QUEUE_MAX: Final = 2 * EXECUTION_AHEAD_MAX
"""Requests that wait: the core hands out `EXECUTION_AHEAD_MAX` heights ahead of results, each with
at most one order to save."""


class Executor:
    """`submit` from the trio thread, `run` as a task of its own."""

    def __init__(
        self,
        engine: EngineWorker,
        batches: Batches,
        archive: GroupCommitter[RecordWrite],
        on_output: Callable[[int, bytes], None],
        on_executed: Callable[[Executed], None],
    ) -> None:
        """`on_output` gets a height with instructions and the engine's encoded output, right
        before `on_executed` gets its result."""
        self._engine = engine
        self._batches = batches
        self._archive = archive
        self._on_output = on_output
        self._on_executed = on_executed
        send, receive = trio.open_memory_channel[Execute | SaveState](EXECUTION_QUEUE_MAX)
        self._send, self._receive = send, receive

    def submit(self, request: Execute | SaveState) -> None:
        """Queue a request after the earlier ones."""
        self._send.send_nowait(request)

    async def run(self) -> None:
        """Carry out requests until cancelled. Raises what the engine or a store raises."""
        async for request in self._receive:
            with trio.CancelScope(shield=True):
                if isinstance(request, SaveState):
                    # Also after a power cut the archive holds the outputs of all heights that the
                    # engine will not execute again.
                    await self._archive.write(RecordWrite((), is_synced=True))
                    await self._engine.begin_save(request.height)
                else:
                    await self._execute(request)

    async def _execute(self, request: Execute) -> None:
        batches = []
        for batch in request.batches:
            stored = await trio.to_thread.run_sync(self._batches.get, batch.batch_id)
            assert stored is not None, "a delivered batch is stored"
            batches.append((stored[1], batch.refused))
        result = await self._engine.execute(
            ExecuteRequest(
                request.height, request.time_ms, request.seed, tuple(batches), request.reporters
            )
        )
        if result.instructions:
            put = Put(OUTPUT_TABLE, compute_key(result.height), result.output)
            self._archive.submit(RecordWrite((put,)))
            self._on_output(result.height, result.output)
        self._on_executed(
            Executed(
                result.height,
                result.market_root,
                result.receipts_root,
                result.instructions,
                result.fills,
            )
        )
