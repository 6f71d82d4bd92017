"""The engine worker as the node sees it.

One process holds the market state. Blocks go in one after another and results come out; between
two blocks the worker answers queries, of which only a few are let into its pipe at once, so that
neither waits long for the other. The node decides when the state is saved. After a crash of the
worker or the node, the worker comes up at the height of its newest good snapshot and the node
executes the stored blocks from there again; the results are the same.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
import trio

from crypto.codec import decode_lenient, encode
from engine.genesis import EngineGenesis
from node.workers.engine_calls import (
    ExecuteRequest,
    ExecuteResult,
    Failed,
    Load,
    Loaded,
    QueryAnswer,
    QueryRequest,
    Reply,
    Request,
    Saved,
    SaveRequest,
)
from node.workers.process import WorkerCrashedError, WorkerProcess, open_worker

WORKER_MODULE: Final = "node.workers.engine_main"

QUERIES_IN_FLIGHT_MAX: Final = 8
"""More queries wait in the node, where a block passes them."""

_log = structlog.get_logger(__name__)

R = TypeVar("R", Loaded, ExecuteResult, Saved, QueryAnswer)


class EngineWorkerError(Exception):
    """The engine is gone; the node cannot execute any further and ends.

    | code | meaning |
    |---|---|
    | `engine.crashed` | the process died (killed, out of memory) |
    | `engine.invariant` | the books do not balance: halt, do not restart |
    | `engine.failed` | any other error inside the engine: a bug |
    | `storage.full`, `storage.failed` | the state could not be saved or read |
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class WorkerQueryError(Exception):
    """A query makes no sense: the client's fault (`query.malformed`, `query.unknown`,
    `market.unknown`)."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class EngineWorker:
    """Made by `open_engine_worker`. Blocks are executed one at a time, in height order."""

    def __init__(self, process: WorkerProcess) -> None:
        self._process = process
        self._queries = trio.CapacityLimiter(QUERIES_IN_FLIGHT_MAX)
        self.height = 0
        """The newest height whose result came back, or that a snapshot held at the start."""

    @property
    def pid(self) -> int:
        """Process id, for statistics and tests that kill it."""
        return self._process.pid

    async def execute(self, request: ExecuteRequest) -> ExecuteResult:
        """Run one height. Raises `EngineWorkerError`.

        A cancelled call is carried out nevertheless: the worker is then ahead of `height`.
        """
        result = await self._call(request, ExecuteResult)
        self.height = result.height
        return result

    async def save(self, height: int) -> bool:
        """Save the state as of `height`; False, and nothing saved, if the worker has moved on
        (after a cancelled `execute`). Raises `EngineWorkerError`."""
        return (await self._call(SaveRequest(height), Saved)).is_saved

    async def query(self, name: str, arguments: tuple[Any, ...] = ()) -> bytes:
        """An encoded view of the newest executed state. Raises `WorkerQueryError` for a senseless
        query, `EngineWorkerError` if the engine is gone."""
        async with self._queries:
            answer = await self._call(QueryRequest(name, arguments), QueryAnswer)
        if answer.code is not None:
            raise WorkerQueryError(answer.code, answer.detail)
        return bytes(answer.body)

    async def _load(self, genesis: EngineGenesis, chain_id: bytes, directory: Path) -> None:
        loaded = await self._call(Load(genesis, chain_id, str(directory)), Loaded)
        self.height = loaded.height
        for skipped in loaded.skipped:
            _log.warning("engine_snapshot_skipped", detail=skipped)

    async def _call(self, request: Request, type_: type[R]) -> R:
        try:
            frame = await self._process.call(encode(request))
        except WorkerCrashedError as error:
            raise EngineWorkerError("engine.crashed", str(error)) from error
        reply: Reply = decode_lenient(Reply, frame)  # type: ignore[arg-type]  # a union
        if isinstance(reply, Failed):
            raise EngineWorkerError(reply.code, reply.detail)
        assert isinstance(reply, type_), "the worker answers in order"
        return reply


@asynccontextmanager
async def open_engine_worker(
    genesis: EngineGenesis, directory: Path, chain_id: bytes
) -> AsyncIterator[EngineWorker]:
    """Start the engine and load its newest state from `directory`; it ends with the block.

    Raises `EngineWorkerError`, also into the block (in an exception group) when the engine dies.
    """
    async with open_worker(WORKER_MODULE) as process, trio.open_nursery() as nursery:
        nursery.start_soon(_watch, process)
        worker = EngineWorker(process)
        await worker._load(genesis, chain_id, directory)
        yield worker
        nursery.cancel_scope.cancel()


async def _watch(process: WorkerProcess) -> None:
    try:
        await process.run()
    except WorkerCrashedError as error:
        raise EngineWorkerError("engine.crashed", str(error)) from error


@asynccontextmanager
async def _explaining_end(process: WorkerProcess) -> AsyncIterator[None]:
    try:
        async with process.explaining_end():
            yield
    except EngineWorkerError:
        raise
    except WorkerError as error:
        raise EngineWorkerError(error.code, error.detail) from error


async def _run_or_close(worker: EngineWorker, task: Callable[[], Awaitable[None]]) -> None:
    """Run one of the worker's tasks; let its failure reach every caller."""
    try:
        await task()
    except EngineWorkerError as error:
        worker.close(error)
        raise


async def _receive(process: WorkerProcess) -> Reply:
    frame = await process.stream.receive_frame()
    reply: Reply = decode_lenient(Reply, frame)  # type: ignore[arg-type]  # a union
    if isinstance(reply, Broken):
        raise EngineWorkerError(reply.code, reply.detail)
    return reply
