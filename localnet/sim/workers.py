"""Worker processes that run schedules: one schedule at a time, one process a core.

Each worker has a hash seed of its own, so that a schedule that is run a second time by another
worker also shows an order that depends on hashes.
"""

import gc
import multiprocessing
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Final

from msgspec import Struct

from localnet.sim.parts import measure_parts
from localnet.sim.scenario import Outcome, run_schedule
from localnet.sim.schedule import Schedule, decode_schedule, encode_schedule
from node.exit_codes import ExitCode, OperatorError

COLLECT_EVERY_RUNS: Final = 8
"""A cluster is one large cycle: memory is reclaimed after so many of them."""


class WorkerDiedError(OperatorError):
    """A worker process ended while it ran a schedule."""

    code = "sim.worker_died"
    exit_code = ExitCode.UNEXPECTED


class Task(Struct, frozen=True):
    """One schedule to be run."""

    number: int
    """Of the schedule, from 0; a repetition has the number of its first run."""
    schedule: Schedule
    is_repetition: bool = False
    is_profiled: bool = False


class Ran(Struct, frozen=True):
    """One schedule that was run."""

    task: Task
    outcome: Outcome
    cpu_s: float
    parts: dict[str, float]
    """Where the time went, if that was asked for."""


def run_task(task: Task) -> Ran:
    """Run one schedule in this process."""
    if task.is_profiled:
        outcomes: list[Outcome] = []
        parts = measure_parts(lambda: outcomes.append(run_schedule(task.schedule)))
        return Ran(task, outcomes[0], 0.0, dict(parts))
    start_s = time.process_time()
    outcome = run_schedule(task.schedule)
    return Ran(task, outcome, time.process_time() - start_s, {})


def run_tasks(tasks: Iterable[Task], jobs: int) -> Iterator[Ran]:
    """Run tasks in worker processes, or in this one if there is to be one only; results come as
    they are ready. Raises `WorkerDiedError`."""
    if jobs <= 1:
        yield from map(run_task, tasks)
        return
    pool = _Pool(jobs)
    try:
        yield from pool.run(iter(tasks))
    finally:
        pool.close()


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    connection: Connection
    task: Task | None = None


class _Pool:
    def __init__(self, jobs: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        for _ in range(jobs):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._workers.append(_Worker(process, ours))

    def run(self, tasks: Iterator[Task]) -> Iterator[Ran]:
        for worker in self._workers:
            self._give(worker, tasks)
        while busy := [worker for worker in self._workers if worker.task is not None]:
            for connection in wait([worker.connection for worker in busy]):
                worker = next(each for each in busy if each.connection is connection)
                ran = self._take(worker)
                self._give(worker, tasks)
                yield ran

    def _give(self, worker: _Worker, tasks: Iterator[Task]) -> None:
        worker.task = next(tasks, None)
        if worker.task is not None:
            task = worker.task
            worker.connection.send(
                (encode_schedule(task.schedule), task.is_repetition, task.is_profiled)
            )

    def _take(self, worker: _Worker) -> Ran:
        task = worker.task
        assert task is not None, "only the busy are waited for"
        try:
            outcome, cpu_s, parts = worker.connection.recv()
        except (EOFError, ConnectionError) as error:
            worker.process.join()
            raise WorkerDiedError(
                f"the worker of seed {task.schedule.seed} ended"
                f" (exit code {worker.process.exitcode})",
                advice="see that there is memory left, and run this seed alone with --jobs 1",
            ) from error
        return Ran(task, outcome, cpu_s, parts)

    def close(self) -> None:
        for worker in self._workers:
            worker.connection.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()


def _serve(connection: Connection) -> None:
    """What a worker does: it ends when nobody listens any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Who started it ends it.
    gc.freeze()
    gc.disable()
    count = 0
    while True:
        try:
            encoded, is_repetition, is_profiled = connection.recv()
        except (EOFError, ConnectionError):
            return
        ran = run_task(Task(0, decode_schedule(encoded), is_repetition, is_profiled))
        connection.send((ran.outcome, ran.cpu_s, ran.parts))
        count += 1
        if count % COLLECT_EVERY_RUNS == 0:
            gc.collect()
