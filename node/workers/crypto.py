"""The crypto pool: batch checks and bulk Ed25519 verification in worker processes.

A worker that dies is started again and what it had not answered is done once more. Work that kills
two workers is not tried on a third: `CryptoWorkerError` ends the node.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import structlog
import trio

from crypto.codec import decode_lenient, encode
from crypto.scheme import Claim
from mempool.batch import BatchVerdict
from node.workers.crypto_jobs import CheckBatchJob, VerifyIdentitiesJob
from node.workers.process import WorkerCrashedError, WorkerProcess, open_worker

WORKER_MODULE: Final = "node.workers.crypto_main"

CALLS_PER_WORKER: Final = 2
"""While a worker computes, the next job crosses the pipe."""

JOBS_QUEUED_MAX: Final = 256
"""Jobs that wait for a worker; one more makes its caller wait to queue."""

TRIES_MAX: Final = 2

RESTART_WAIT_S: Final = 0.1
"""Between the death of a worker and its successor's start."""

_log = structlog.get_logger(__name__)


DEATHS_WITHOUT_WORK_MAX: Final = 3
"""Workers that may die one after another without having done anything: then none ever will."""


class CryptoWorkerError(Exception):
    """A job killed every worker that tried it, or workers cannot even start."""

    code = "crypto.worker_crashed"


class PoolStatistics(NamedTuple):
    """What a pool has done."""

    workers: int
    queued: int
    jobs: int
    restarts: int


class _Job:
    __slots__ = ("answer", "done", "request", "tries")

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.tries = 0
        self.answer: bytes | None = None
        self.done = trio.Event()


class CryptoPool:
    """Made by `open_crypto_pool`."""

    def __init__(self, workers: int, chain_id: bytes) -> None:
        self._workers = workers
        self._chain_id = chain_id
        self._send, self._receive = trio.open_memory_channel[_Job](JOBS_QUEUED_MAX)
        self._jobs = 0
        self._done = 0
        self._restarts = 0
        self._processes: dict[int, WorkerProcess] = {}

    async def check_batch(
        self,
        *,
        author_key: bytes,
        author_signing_bytes: bytes,
        signature: bytes,
        body_digest: bytes,
        size_bytes: int,
        body: bytes,
    ) -> BatchVerdict:
        """`mempool.batch.check_batch`. Raises `CryptoWorkerError`."""
        job = CheckBatchJob(
            self._chain_id,
            author_key,
            author_signing_bytes,
            signature,
            body_digest,
            size_bytes,
            body,
        )
        return decode_lenient(BatchVerdict, await self._run_job(encode(job)))

    async def verify_identities(self, claims: Sequence[Claim]) -> tuple[bool, ...]:
        """Is each Ed25519 claim true? In order. Raises `CryptoWorkerError`."""
        job = VerifyIdentitiesJob(tuple(claims))
        return decode_lenient(tuple[bool, ...], await self._run_job(encode(job)))

    def statistics(self) -> PoolStatistics:
        """Counters and queue length."""
        queued = self._send.statistics().current_buffer_used
        return PoolStatistics(self._workers, queued, self._jobs, self._restarts)

    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers that run now."""
        return tuple(process.pid for process in self._processes.values())

    async def run(self) -> None:
        """Keep the workers running until cancelled."""
        async with trio.open_nursery() as nursery:
            for number in range(self._workers):
                nursery.start_soon(self._keep_worker, number)

    async def _run_job(self, request: bytes) -> bytes:
        job = _Job(request)
        self._jobs += 1
        await self._send.send(job)
        await job.done.wait()
        if job.answer is None:
            raise CryptoWorkerError(f"a job of {len(request)} bytes killed {job.tries} workers")
        return job.answer

    async def _keep_worker(self, number: int) -> None:
        unfinished: list[_Job] = []
        deaths = 0
        while deaths < DEATHS_WITHOUT_WORK_MAX:
            done_before = self._done
            async with open_worker(WORKER_MODULE) as process:
                self._processes[number] = process
                try:
                    async with trio.open_nursery() as nursery:
                        for _ in range(CALLS_PER_WORKER):
                            nursery.start_soon(self._feed, process, unfinished)
                        await process.run()
                except* WorkerCrashedError as group:
                    _log.error("crypto_worker_died", worker=number, detail=str(group.exceptions[0]))
                finally:
                    del self._processes[number]
            deaths = deaths + 1 if self._done == done_before else 0
            self._restarts += 1
            await trio.sleep(RESTART_WAIT_S)
        raise CryptoWorkerError(f"{deaths} workers died one after another without doing anything")

    async def _feed(self, process: WorkerProcess, unfinished: list[_Job]) -> None:
        """Give jobs to a worker until it dies; what it leaves behind comes first for the next."""
        while True:
            job = unfinished.pop() if unfinished else await self._receive.receive()
            job.tries += 1
            try:
                job.answer = await process.call(job.request)
            except WorkerCrashedError:
                if job.tries < TRIES_MAX:
                    unfinished.append(job)
                else:
                    job.done.set()
                raise
            self._done += 1
            job.done.set()


@asynccontextmanager
async def open_crypto_pool(workers: int, chain_id: bytes) -> AsyncIterator[CryptoPool]:
    """Run a pool of worker processes; they end with the block."""
    pool = CryptoPool(workers, chain_id)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.run)
        yield pool
        nursery.cancel_scope.cancel()
