"""Worker processes: one task at a time, one process a core.

Each worker has a hash seed of its own, and what is to be compared is run by two processes: so an
order that depends on hashes shows.
"""

import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Final, Generic, TypeVar

from msgspec import Struct

from localnet.sim.profiled import profile_schedule
from localnet.sim.scenario import Outcome, run_schedule
from localnet.sim.schedule import Schedule
from node.exit_codes import ExitCode, OperatorError

T = TypeVar("T")
R = TypeVar("R")

_HASH_SEED: Final = "PYTHONHASHSEED"

COLLECT_EVERY_TASKS: Final = 8
"""A cluster is one large cycle: memory is reclaimed after so many of them."""


ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
"""Workers leave them to who started them: a terminal sends them to the whole group."""


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
    outcome: Outcome | None
    """None for a run that was profiled: nothing else is asked of it."""
    cpu_s: float
    parts: dict[str, float]
    """Where the time went, if that was asked for."""


def run_task(task: Task) -> Ran:
    """Run one schedule in this process."""
    if task.is_profiled:
        return Ran(task, None, 0.0, profile_schedule(task.schedule))
    start_s = time.process_time()
    outcome = run_schedule(task.schedule)
    return Ran(task, outcome, time.process_time() - start_s, {})


def run_tasks(tasks: Iterable[Task], jobs: int) -> Iterator[Ran]:
    """Run schedules in worker processes, or in this one if there is to be one only; results come
    as they are ready. A repetition is run by another process. Raises `WorkerDiedError`."""
    return run_all(
        run_task,
        tasks,
        jobs,
        lambda task: f"seed {task.schedule.seed}",
        lambda task: None if task.is_profiled else task.number,
    )


def run_all(
    function: Callable[[T], R],
    tasks: Iterable[T],
    jobs: int,
    describe: Callable[[T], str],
    name: Callable[[T], Hashable] = lambda task: None,
) -> Iterator[R]:
    """Call a function of some module for each task, in worker processes or in this one if there
    is to be one only; results come as they are ready. Two tasks of one `name` are run by two
    processes with two hash seeds, whatever `jobs` says. Raises `WorkerDiedError`."""
    if jobs <= 1:
        yield from _run_here(function, tasks, describe, name)
        return
    pool = _Pool[T, R](describe, name)
    try:
        pool.start(function, jobs)
        yield from pool.run(iter(tasks))
    finally:
        pool.close()


def _run_here(
    function: Callable[[T], R],
    tasks: Iterable[T],
    describe: Callable[[T], str],
    name: Callable[[T], Hashable],
) -> Iterator[R]:
    """One after the other; those that were run before, by a process of their own."""
    other: _Pool[T, R] | None = None
    known: set[Hashable] = set()
    try:
        with _rare_collections() as collect:
            for task in tasks:
                key = name(task)
                if key is None or key not in known:
                    known.add(key)
                    yield function(task)
                    collect()
                    continue
                known.discard(key)
                if other is None:
                    other = _Pool(describe)
                    other.start(function, 1)
                yield from other.run(iter((task,)))
    finally:
        if other is not None:
            other.close()


@dataclass(slots=True)
class _Worker(Generic[T]):
    process: BaseProcess
    connection: Connection
    task: T | None = None
    names: set[Hashable] = field(default_factory=set)
    """Of what it ran, as long as somebody else has yet to run the like."""


class _Pool(Generic[T, R]):
    def __init__(
        self, describe: Callable[[T], str], name: Callable[[T], Hashable] = lambda task: None
    ) -> None:
        self._describe = describe
        self._name = name
        self._put_off: list[T] = []
        """Tasks that wait for another worker than the one that was free."""
        self._workers: list[_Worker[T]] = []

    def start(self, function: Callable[[T], R], jobs: int) -> None:
        context = multiprocessing.get_context("spawn")
        with deaf_children():
            for number in range(jobs):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(function, theirs), daemon=True)
                with _hash_seed(number):
                    process.start()
                theirs.close()
                self._workers.append(_Worker(process, ours))

    def run(self, tasks: Iterator[T]) -> Iterator[R]:
        self._give_all(tasks)
        while busy := [worker for worker in self._workers if worker.task is not None]:
            for connection in wait([worker.connection for worker in busy]):
                worker = next(each for each in busy if each.connection is connection)
                result = self._take(worker)
                worker.task = None
                self._give_all(tasks)
                yield result
        assert not self._put_off, "there is another worker for everything"

    def _give_all(self, tasks: Iterator[T]) -> None:
        """Something to do for whoever is free."""
        for worker in self._workers:
            if worker.task is None:
                worker.task = self._find(worker, tasks)
                if worker.task is not None:
                    worker.connection.send(worker.task)

    def _find(self, worker: _Worker[T], tasks: Iterator[T]) -> T | None:
        for task in self._put_off:
            if self._name(task) not in worker.names:
                self._put_off.remove(task)
                self._forget(self._name(task))
                return task
        for task in tasks:
            key = self._name(task)
            if key is None:
                return task
            if key in worker.names:
                self._put_off.append(task)
                continue
            if not self._forget(key):
                worker.names.add(key)
            return task
        return None

    def _forget(self, key: Hashable) -> bool:
        """Two have run it now, or will; False if this one is the first."""
        known = [each for each in self._workers if key in each.names]
        for each in known:
            each.names.discard(key)
        return bool(known)

    def _take(self, worker: _Worker[T]) -> R:
        task = worker.task
        assert task is not None, "only the busy are waited for"
        try:
            result: R | _Refusal = worker.connection.recv()
        except (EOFError, ConnectionError) as error:
            worker.process.join()
            raise WorkerDiedError(
                f"the worker of {self._describe(task)} ended (exit code {worker.process.exitcode})",
                advice="see that there is memory left, and run this alone with --jobs 1",
            ) from error
        if isinstance(result, _Refusal):
            raise result.error()
        return result

    def close(self) -> None:
        for worker in self._workers:
            worker.connection.close()
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that are started meanwhile never hear of the signals that end a command, from
    their first instruction on; what comes meanwhile is heard here afterwards."""
    # Started by itself: it would let the signals through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Refusal(Struct, frozen=True):
    """An `OperatorError` on its way to who started the worker."""

    message: str
    advice: str
    code: str
    exit_code: ExitCode

    def error(self) -> OperatorError:
        return OperatorError(
            self.message, advice=self.advice, code=self.code, exit_code=self.exit_code
        )


@contextmanager
def _hash_seed(number: int) -> Iterator[None]:
    """Let a process that is started meanwhile hash as no other one does."""
    own = os.environ.get(_HASH_SEED)
    # Nor as this one does, should it have a fixed seed.
    seed = 2 * number + 1
    os.environ[_HASH_SEED] = str(seed + 1 if own == str(seed) else seed)
    try:
        yield
    finally:
        if own is None:
            del os.environ[_HASH_SEED]
        else:
            os.environ[_HASH_SEED] = own


def _serve(function: Callable[[Any], Any], connection: Connection) -> None:
    """What a worker does: it ends when nobody listens any more."""
    with _rare_collections() as collect:
        while True:
            try:
                connection.send(_call(function, connection.recv()))
            except (EOFError, ConnectionError):
                return
            collect()


def _call(function: Callable[[Any], Any], task: Any) -> Any:
    try:
        return function(task)
    except OperatorError as error:
        return _Refusal(error.message, error.advice, error.code, error.exit_code)


@contextmanager
def _rare_collections() -> Iterator[Callable[[], None]]:
    """Leave cycles alone but for what this yields, to be called after each task: looking for them
    within a run finds none."""
    tasks = count(1)

    def collect() -> None:
        if next(tasks) % COLLECT_EVERY_TASKS == 0:
            gc.collect()

    gc.freeze()
    gc.disable()
    try:
        yield collect
    finally:
        gc.enable()
        gc.unfreeze()
