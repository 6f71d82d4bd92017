"""`CryptoPool`: processes for batch checks and bulk Ed25519 verification.

    async with open_crypto_pool(2, chain_id) as pool:
        verdict = await pool.check_batch(batch)
        results = await pool.verify_identities(claims)

Jobs wait in one queue and are taken in order by whichever process has room: a few small ones are
sent ahead, so that a process need not sleep while its answer is on its way. On a machine with more
to run than it has cores, going to sleep and being woken takes tens of milliseconds each time, and a
restarted node has thousands of jobs to catch up. When the queue is full its callers wait, in order.
A caller that is cancelled leaves: its job is skipped if it was not sent, and its answer dropped
otherwise.

A job costs the event loop about 70 us, whatever its size: as much as one Ed25519 verification. On a
thread the same claims would cost the event loop all of their time.

A process that dies is replaced, and what it had not answered is sent to its successor. The death
counts against the job that it was at, the first one. A job that ends two processes raises
`WorkerError` where it was asked for, and the pool goes on with the next one.
"""

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import structlog
import trio

from crypto.codec import decode_lenient, encode
from crypto.scheme import Claim
from crypto.types import BATCH_BODY_MAX_BYTES
from mempool.batch import BatchVerdict, CheckableBatch
from node.workers.crypto_messages import (
    FRAME_MAX_BYTES,
    BatchChecked,
    BatchesReopened,
    CheckBatch,
    IdentitiesVerified,
    Open,
    ReopenBatches,
    Reply,
    VerifyIdentities,
)
from node.workers.errors import WorkerError
from node.workers.process import WorkerProcess, open_background, open_worker_process

__all__ = ["CryptoPool", "CryptoPoolStatistics", "WorkerError", "open_crypto_pool"]

JOBS_QUEUED_MAX: Final = 256
"""Jobs that wait for a process; further callers wait to queue theirs."""

JOBS_AHEAD_MAX: Final = 16
"""Jobs that one process was sent and has not answered."""

AHEAD_SIZE_MAX_BYTES: Final = 64 << 10
"""While so much is sent and not answered, no more is: some 15 ms of work, for which a job is not
kept from another process that may be free sooner."""

TRIES_MAX: Final = 2
"""Processes that one job may end."""

_log = structlog.get_logger()


class CryptoPoolStatistics(NamedTuple):
    """What a pool has done since it was opened."""

    processes: int
    queued: int
    """Jobs that wait for a process."""
    jobs: int
    """Jobs that were given an answer or an error."""
    restarts: int
    """Processes that died and were replaced."""
    pids: tuple[int, ...]
    """Of the processes that run now."""


class _Job:
    __slots__ = ("done", "error", "frames", "is_abandoned", "reply", "size_bytes", "tries")

    def __init__(self, frames: tuple[bytes, ...]) -> None:
        self.frames = frames
        self.size_bytes = sum(map(len, frames))
        self.done = trio.Event()
        self.reply: Reply | None = None
        self.error: WorkerError | None = None
        self.is_abandoned = False
        self.tries = 0


class _Ahead:
    """What one process has not answered, oldest first."""

    def __init__(self) -> None:
        self.jobs: deque[_Job] = deque()
        self._size_bytes = 0
        self._answered = trio.Event()

    def add(self, job: _Job) -> None:
        self.jobs.append(job)
        self._size_bytes += job.size_bytes

    def pop(self) -> _Job:
        job = self.jobs.popleft()
        self._size_bytes -= job.size_bytes
        self._answered.set()
        return job

    async def wait_for_room(self) -> None:
        while len(self.jobs) >= JOBS_AHEAD_MAX or self._size_bytes >= AHEAD_SIZE_MAX_BYTES:
            self._answered = trio.Event()
            await self._answered.wait()


class CryptoPool:
    """See the module docstring. Made by `open_crypto_pool`."""

    def __init__(self, processes: int, chain_id: bytes) -> None:
        assert processes > 0, "a pool works"
        self._processes = processes
        self._chain_id = chain_id
        self._to_do, self._waiting = trio.open_memory_channel[_Job](JOBS_QUEUED_MAX)
        self._unanswered: set[_Job] = set()
        self._running: dict[int, WorkerProcess] = {}
        self._jobs = 0
        self._restarts = 0
        self._is_closed = False

    async def check_batch(self, batch: CheckableBatch) -> BatchVerdict:
        """Run `mempool.batch.check_batch`. Raises `WorkerError`.

        The body has at most `BATCH_BODY_MAX_BYTES`: whoever received it has refused more.
        """
        assert len(batch.body) <= BATCH_BODY_MAX_BYTES, "bounded where it was received"
        header = CheckBatch(
            batch.author_key,
            batch.author_signing_bytes,
            batch.signature,
            batch.body_digest,
            batch.size_bytes,
        )
        reply = await self._do((encode(header), batch.body))
        assert isinstance(reply, BatchChecked), "the answer to this job"
        return reply.verdict

    async def verify_identities(self, claims: Sequence[Claim]) -> tuple[bool, ...]:
        """Is each Ed25519 claim (of one key) true? In order. Raises `WorkerError`."""
        reply = await self._do((encode(VerifyIdentities(tuple(claims))),))
        assert isinstance(reply, IdentitiesVerified), "the answer to this job"
        return reply.results

    async def reopen_batches(
        self, batches: Sequence[tuple[bytes, bytes]]
    ) -> tuple[BatchVerdict, ...]:
        """Run `mempool.batch.reopen_batch` on each (body digest, body). Raises `WorkerError`."""
        header = ReopenBatches(tuple(body_digest for body_digest, _ in batches))
        reply = await self._do((encode(header), *(body for _, body in batches)))
        assert isinstance(reply, BatchesReopened), "the answer to this job"
        return reply.verdicts

    def statistics(self) -> CryptoPoolStatistics:
        """Counters, queue length and process ids."""
        return CryptoPoolStatistics(
            self._processes,
            self._waiting.statistics().current_buffer_used,
            self._jobs,
            self._restarts,
            tuple(process.pid for _, process in sorted(self._running.items())),
        )

    async def _do(self, frames: tuple[bytes, ...]) -> Reply:
        job = _Job(frames)
        if self._is_closed:
            raise WorkerError("worker.closed", "the crypto pool was closed")
        self._unanswered.add(job)
        try:
            await self._to_do.send(job)
            await job.done.wait()
        except trio.BrokenResourceError:
            raise WorkerError("worker.closed", "the crypto pool was closed") from None
        finally:
            job.is_abandoned = True
            self._unanswered.discard(job)
        if job.error is not None:
            raise job.error
        assert job.reply is not None, "done with a reply or an error"
        return job.reply

    async def serve(self, number: int) -> None:
        """Keep one process going: start it, give it jobs, replace it when it dies."""
        ahead = _Ahead()
        while True:
            async with open_worker_process(
                "node.workers.crypto_main", name=f"crypto-{number}", frame_max_bytes=FRAME_MAX_BYTES
            ) as process:
                self._running[number] = process
                try:
                    async with open_background() as nursery:
                        nursery.start_soon(self._give, process, ahead)
                        await self._take_answers(process, ahead)
                except WorkerError as error:
                    _log.error("crypto_worker_died", worker=process.name, detail=error.detail)
                    death = error
                finally:
                    del self._running[number]
            # Replaced only once there is work, which the death then counts against: so a process
            # that cannot even start is not started for ever.
            if not ahead.jobs:
                ahead.add(await self._waiting.receive())
            self._after_death(ahead, death)
            self._restarts += 1

    async def _give(self, process: WorkerProcess, ahead: _Ahead) -> None:
        """Send what a predecessor left, then new jobs while there is room."""
        async with process.explaining_end():
            await process.stream.send_frame(encode(Open(self._chain_id)))
            for job in tuple(ahead.jobs):
                await process.stream.send_frames(job.frames)
            while True:
                await ahead.wait_for_room()
                job = await self._waiting.receive()
                if not job.is_abandoned:
                    ahead.add(job)
                    await process.stream.send_frames(job.frames)

    async def _take_answers(self, process: WorkerProcess, ahead: _Ahead) -> None:
        async with process.explaining_end():
            while True:
                frame = await process.stream.receive_frame()
                job = ahead.pop()
                job.reply = decode_lenient(Reply, frame)  # type: ignore[arg-type]  # a union
                self._finish(job)

    def _after_death(self, ahead: _Ahead, error: WorkerError) -> None:
        """Give up the job that the process was at if it has ended as many as it may."""
        job = ahead.jobs[0]
        job.tries += 1
        if job.tries == TRIES_MAX:
            job.error = WorkerError(
                error.code, f"a job ended {job.tries} processes: {error.detail}"
            )
            self._finish(ahead.pop())

    def _finish(self, job: _Job) -> None:
        self._jobs += 1
        job.done.set()

    def close(self) -> None:
        """Tell everybody who still waits."""
        self._is_closed = True
        self._waiting.close()
        for job in self._unanswered:
            job.error = WorkerError("worker.closed", "the crypto pool was closed")
            job.done.set()


@asynccontextmanager
async def open_crypto_pool(processes: int, chain_id: bytes) -> AsyncIterator[CryptoPool]:
    """Run a pool of `processes` crypto processes; they end with the context."""
    pool = CryptoPool(processes, chain_id)
    try:
        async with open_background() as nursery:
            for number in range(processes):
                nursery.start_soon(pool.serve, number)
            yield pool
    finally:
        pool.close()
