"""Delivered heights on their way to the engine's process, and its results on their way back.

In order, and as many together as wait: their batches are read in one go, and the engine is sent all
of them before the first result is awaited. A live node has one height at a time. One that catches
up has many, and on a busy machine each wait for another thread or process takes tens of
milliseconds, so that their number decides how fast it comes forward. What was begun is finished
also when the node stops, because the engine must not get ahead of what is archived about its
heights.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final, NamedTuple

import trio

from consensus.effects import Put, compute_key
from node.events import Execute, Executed, SaveState
from node.execution import EXECUTION_AHEAD_MAX
from node.recovery import OUTPUT_TABLE, Batches
from node.storage.group_commit import GroupCommitter
from node.storage.records import RecordWrite
from node.workers.engine import (
    COMMANDS_AHEAD_MAX,
    EngineWorker,
    ExecuteRequest,
    ExecuteResult,
)

HEIGHTS_TOGETHER_MAX: Final = COMMANDS_AHEAD_MAX
"""Heights read and sent before the first result is awaited."""

READ_TOGETHER_MAX_BYTES: Final = 256 << 10
"""Bodies read at once, unless one height alone has more: some thousand orders, which the engine has
before it looks at a query or at the end of the node."""

EXECUTION_QUEUE_MAX: Final = 2 * EXECUTION_AHEAD_MAX
"""Requests that wait: the core hands out `EXECUTION_AHEAD_MAX` heights ahead of results, each with
at most one order to save."""


class _Loaded(NamedTuple):
    """A height whose batches were read."""

    request: Execute
    bodies: tuple[bytes, ...]


def read_bodies(batches: Batches, batch_ids: Iterable[bytes]) -> tuple[bytes, ...]:
    """Read stored batches. Blocking; raises what the store raises."""
    bodies = []
    for batch_id in batch_ids:
        stored = batches.get(batch_id)
        assert stored is not None, "a delivered batch is stored"
        bodies.append(stored[1])
    return tuple(bodies)


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
        self._queue: deque[Execute | SaveState] = deque()
        self._queued = trio.Event()

    def submit(self, request: Execute | SaveState) -> None:
        """Queue a request after the earlier ones."""
        assert len(self._queue) < EXECUTION_QUEUE_MAX, "the core waits for results"
        self._queue.append(request)
        self._queued.set()

    async def run(self) -> None:
        """Carry out requests until cancelled. Raises what the engine or a store raises."""
        while True:
            await self._queued.wait()
            with trio.CancelScope(shield=True):
                await self._work()
            if not self._queue:
                self._queued = trio.Event()

    async def _work(self) -> None:
        """Carry out what is first in the queue, and what can be done together with it."""
        first = self._queue[0]
        if isinstance(first, SaveState):
            # Also after a power cut the archive holds the outputs of all heights that the engine
            # will not execute again.
            await self._archive.write(RecordWrite((), is_synced=True))
            await self._engine.begin_save(first.height)
            self._queue.popleft()
            return
        heights: list[Execute] = []
        for request in islice(self._queue, HEIGHTS_TOGETHER_MAX):
            if isinstance(request, SaveState):
                break
            heights.append(request)
        loaded = await trio.to_thread.run_sync(self._read, heights)
        results = []
        for request, bodies in loaded:
            self._queue.popleft()
            refused = (batch.refused for batch in request.batches)
            batches = tuple(zip(bodies, refused, strict=True))
            results.append(
                await self._engine.begin_execute(
                    ExecuteRequest(
                        request.height, request.time_ms, request.seed, batches, request.reporters
                    )
                )
            )
        for result in results:
            self._finish(await result())

    def _read(self, heights: Sequence[Execute]) -> list[_Loaded]:
        """Read what the first heights contain, as many as may be read at once."""
        loaded: list[_Loaded] = []
        size_bytes = 0
        for request in heights:
            bodies = read_bodies(self._batches, (each.batch_id for each in request.batches))
            size_bytes += sum(map(len, bodies))
            loaded.append(_Loaded(request, bodies))
            if size_bytes >= READ_TOGETHER_MAX_BYTES:
                break
        return loaded

    def _finish(self, result: ExecuteResult) -> None:
        if not result.is_empty:
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
