"""`EngineWorker`: the engine in a process of its own, so that a heavy block never delays a vote.

    async with open_engine_worker(genesis, directory, chain_id) as worker:
        result = await worker.execute(request)      # heights in order
        book = await worker.query("book", (1, 10))  # between blocks
        await worker.begin_save(worker.height)      # a snapshot, while it goes on

The process does everything in the order in which it was asked, so a query sees the state after the
blocks that were sent before it. A block may be sent ahead; its batch bodies lie in the pipe while
the previous one runs. A caller that is cancelled takes nothing back: its request still runs, and
only its answer is dropped.

If the process ends, for whatever reason, every call that waits and every later one raises
`EngineWorkerError`, and so does the context. What survives is the newest snapshot.
"""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import trio
from msgspec import Struct

from crypto.codec import decode_lenient, encode
from engine.genesis import EngineGenesis
from node.storage.errors import StorageError
from node.workers.engine_messages import (
    FRAME_MAX_BYTES,
    Answered,
    Ask,
    Broken,
    Execute,
    ExecuteRequest,
    ExecuteResult,
    Open,
    Opened,
    Refused,
    Reply,
    Save,
    Saved,
    SaveNow,
    Saving,
    StorageFailed,
)
from node.workers.errors import EngineWorkerError, WorkerError, WorkerQueryError
from node.workers.process import WorkerProcess, open_background, open_worker_process

__all__ = [
    "EngineWorker",
    "EngineWorkerError",
    "EngineWorkerStatistics",
    "ExecuteRequest",
    "ExecuteResult",
    "WorkerQueryError",
    "open_engine_worker",
]

COMMANDS_AHEAD_MAX: Final = 16
"""Blocks and saves that are sent and not answered; further callers wait their turn. Two keep the
process busy on an idle machine: one runs while the next one's bytes arrive. On a busy one the node
may be woken only every tens of milliseconds, in which many small blocks are done."""

QUERIES_PENDING_MAX: Final = 64
"""Queries that are sent and not answered; more are refused. A query takes well below a millisecond,
so all of them together delay a block by a few tens."""

_R = TypeVar("_R", bound=Struct)


class EngineWorkerStatistics(NamedTuple):
    """How busy the worker is."""

    height: int
    commands_pending: int
    """Blocks and saves that are sent and not answered."""
    commands_waiting: int
    """Callers whose block or save is not sent yet."""
    queries_pending: int


class _Call:
    """A request on its way."""

    __slots__ = ("done", "frames", "is_command", "reply")

    def __init__(self, frames: tuple[bytes, ...], *, is_command: bool) -> None:
        self.frames = frames
        self.is_command = is_command
        self.done = trio.Event()
        self.reply: Reply | None = None


class EngineWorker:
    """See the module docstring. Made by `open_engine_worker`."""

    def __init__(self, process: WorkerProcess, height: int) -> None:
        self.height = height
        """The newest height that was executed here and answered."""
        self.pid = process.pid
        self._process = process
        self._sent_height = height
        self._unsent: deque[_Call] = deque()
        self._work = trio.Event()
        self._unanswered: deque[_Call] = deque()
        self._commands = trio.CapacityLimiter(COMMANDS_AHEAD_MAX)
        self._queries_pending = 0
        self._failure: EngineWorkerError | None = None

    async def execute(self, request: ExecuteRequest) -> ExecuteResult:
        """Run one height. Raises `EngineWorkerError`.

        Heights come without gaps, one above `height` first. The caller may ask for the next height
        before the previous one is answered.
        """
        return await (await self.begin_execute(request))()

    async def begin_execute(
        self, request: ExecuteRequest
    ) -> Callable[[], Awaitable[ExecuteResult]]:
        """Ask for one height as `execute` does, once there is room; call what it returns for the
        result. Both raise `EngineWorkerError`."""
        header = Execute(
            request.height,
            request.time_ms,
            request.seed,
            tuple(refused for _, refused in request.batches),
            request.reporters,
        )
        frames = (encode(header), *(body for body, _ in request.batches))
        call = _Call(frames, is_command=True)
        await self._take_turn(call)
        assert request.height == self._sent_height + 1, "heights come in order"
        self._sent_height += 1
        self._send(call)
        return lambda: self._finish(call, ExecuteResult)

    async def begin_save(self, height: int) -> None:
        """Begin to save the state while later heights are executed.

        `height` must be the last that was given to `execute`. Raises `StorageError` (the worker
        lives on), also if the save before has failed, and `EngineWorkerError`.
        """
        await self._save(Save(height), Saving)

    async def save_now(self, height: int) -> None:
        """Save the state; it is durable on return. Raises what `begin_save` raises."""
        await self._save(SaveNow(height), Saved)

    async def _save(self, request: Save | SaveNow, expected: type[_R]) -> _R:
        call = _Call((encode(request),), is_command=True)
        await self._take_turn(call)
        assert request.height == self._sent_height, "a save is asked for before the next height"
        self._send(call)
        return await self._finish(call, expected)

    async def query(self, name: str, arguments: tuple[Any, ...]) -> bytes:
        """Return a view (`node.workers.views`) as MessagePack of plain values.

        Raises `WorkerQueryError` and `EngineWorkerError`.
        """
        self._check_alive()
        if self._queries_pending >= QUERIES_PENDING_MAX:
            raise WorkerQueryError("query.overloaded", f"{QUERIES_PENDING_MAX} queries wait")
        call = _Call((encode(Ask(name, encode(arguments))),), is_command=False)
        self._queries_pending += 1
        self._send(call)
        return (await self._finish(call, Answered)).body

    def statistics(self) -> EngineWorkerStatistics:
        """Heights and queue lengths."""
        commands = self._commands.statistics()
        return EngineWorkerStatistics(
            self.height, commands.borrowed_tokens, commands.tasks_waiting, self._queries_pending
        )

    # ---- calls ------------------------------------------------------------------------------

    async def _take_turn(self, call: _Call) -> None:
        """Wait until few enough commands are ahead. The caller sends at once, without a checkpoint,
        so that commands go out in the order of their turns."""
        self._check_alive()
        await self._commands.acquire_on_behalf_of(call)
        if self._failure is not None:
            self._commands.release_on_behalf_of(call)
            self._check_alive()

    def _send(self, call: _Call) -> None:
        self._unsent.append(call)
        self._work.set()

    async def _finish(self, call: _Call, expected: type[_R]) -> _R:
        await call.done.wait()
        reply = call.reply
        if reply is None:
            self._check_alive()
        if isinstance(reply, Refused):
            raise WorkerQueryError(reply.code, reply.detail)
        if isinstance(reply, StorageFailed):
            raise StorageError(reply.code, reply.message)
        assert isinstance(reply, expected), "answers come in the order of the requests"
        return reply

    def _check_alive(self) -> None:
        if self._failure is not None:
            # A fresh one for each caller: a raised exception carries its caller's traceback.
            raise EngineWorkerError(self._failure.code, self._failure.detail)

    def _complete(self, call: _Call, reply: Reply | None) -> None:
        """Free the call's place, also if its caller has gone, and wake the caller."""
        if call.is_command:
            self._commands.release_on_behalf_of(call)
        else:
            self._queries_pending -= 1
        call.reply = reply
        call.done.set()

    # ---- tasks of the context ---------------------------------------------------------------

    async def run_writer(self) -> None:
        """Send what was asked: apart from the callers, so that none of them, being cancelled, can
        stop in the middle of a frame."""
        async with _explaining_end(self._process):
            while True:
                await self._work.wait()
                self._work = trio.Event()
                while self._unsent:
                    call = self._unsent.popleft()
                    self._unanswered.append(call)
                    await self._process.stream.send_frames(call.frames)
                    call.frames = ()

    async def run_reader(self) -> None:
        """Take the answers and give them to who waits."""
        async with _explaining_end(self._process):
            while True:
                reply = await _receive(self._process)
                if isinstance(reply, ExecuteResult):
                    self.height = reply.height
                self._complete(self._unanswered.popleft(), reply)

    async def run_or_close(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run one of these tasks; let its failure reach every caller."""
        try:
            await task()
        except EngineWorkerError as error:
            self.close(error)
            raise

    def close(self, failure: EngineWorkerError) -> None:
        """Answer every call, now and later, with `failure`; the first one stays."""
        if self._failure is None:
            self._failure = failure
        while self._unanswered or self._unsent:
            self._complete((self._unanswered or self._unsent).popleft(), None)


@asynccontextmanager
async def open_engine_worker(
    genesis: EngineGenesis, directory: Path, chain_id: bytes
) -> AsyncIterator[EngineWorker]:
    """Start the process and load the newest valid snapshot in `directory`, or else genesis.

    Raises `StorageError` (`storage.foreign` for a snapshot of another chain) and
    `EngineWorkerError`, the latter also out of the body when the process ends early.
    """
    async with open_worker_process(
        "node.workers.engine_main", name="engine", frame_max_bytes=FRAME_MAX_BYTES
    ) as process:
        async with _explaining_end(process):
            await process.stream.send_frame(encode(Open(chain_id, genesis, str(directory))))
            opened = await _receive(process)
        if isinstance(opened, StorageFailed):
            raise StorageError(opened.code, opened.message)
        assert isinstance(opened, Opened), "the first answer"
        worker = EngineWorker(process, opened.height)
        try:
            async with open_background() as nursery:
                nursery.start_soon(worker.run_or_close, worker.run_writer)
                nursery.start_soon(worker.run_or_close, worker.run_reader)
                yield worker
        finally:
            worker.close(EngineWorkerError("worker.closed", "the engine worker was stopped"))


@asynccontextmanager
async def _explaining_end(process: WorkerProcess) -> AsyncIterator[None]:
    try:
        async with process.explaining_end():
            yield
    except EngineWorkerError:
        raise
    except WorkerError as error:
        raise EngineWorkerError(error.code, error.detail) from error


async def _receive(process: WorkerProcess) -> Reply:
    frame = await process.stream.receive_frame()
    reply: Reply = decode_lenient(Reply, frame)  # type: ignore[arg-type]  # a union
    if isinstance(reply, Broken):
        raise EngineWorkerError(reply.code, reply.detail)
    return reply
