"""Threads that stay: blocking work handed over by a call, answered by a call.

A node hands a few dozen small jobs a block to other threads. Starting a task and a thread call for
each costs about 250 us of the event loop, several times what the hand-over itself costs. Here a job
is put on a queue, a thread that lives as long as the node runs it, and the results that have come
in by then are given back on the trio thread in one go.

Jobs start in the order in which they came. With more than one thread they may end in any order.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

import trio

T = TypeVar("T")

JOBS_WAITING_MAX: Final = 100_000
"""Jobs not begun. Whoever submits bounds what it has under way far below; this is the last stop."""


class ServiceOverloadedError(Exception):
    """Work comes in faster than the threads do it, and nobody held back."""


class _Job(NamedTuple):
    work: Callable[[], Any]
    done: Callable[[Any], None]


class _Result(NamedTuple):
    job: _Job
    value: Any
    error: BaseException | None


class ServiceThreads:
    """`submit` from the trio thread, `run` as a task of its own."""

    def __init__(self, name: str, count: int = 1) -> None:
        self._name = name
        self._count = count
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._results: deque[_Result] = deque()
        self._token: trio.lowlevel.TrioToken | None = None
        self._failure: BaseException | None = None
        self._failed = trio.Event()
        self._under_way = 0
        """Jobs submitted and not answered."""
        self._idle = trio.Event()
        self._idle.set()
        self._is_stopping = False

    def submit(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """Run `work` on a thread, then `done` with its result on the trio thread. If `work` raises,
        `run` raises the same and `done` is not called. Dropped once `run` has begun to stop."""
        if self._is_stopping:
            # An answer that is still given may ask for more. No thread would take it, and `run`
            # would wait for it for ever.
            return
        if self._under_way >= JOBS_WAITING_MAX:
            raise ServiceOverloadedError(f"{self._name}: {JOBS_WAITING_MAX} jobs wait")
        self._under_way += 1
        self._idle = trio.Event() if self._idle.is_set() else self._idle
        self._jobs.put(_Job(work, done))

    async def run(self) -> None:
        """Serve until cancelled. Jobs begun by then are finished and answered first, the others
        dropped. Raises what a job raises."""
        self._token = trio.lowlevel.current_trio_token()
        threads = [
            threading.Thread(target=self._serve, name=f"{self._name}-{number}", daemon=True)
            for number in range(self._count)
        ]
        for thread in threads:
            thread.start()
        try:
            await self._failed.wait()
            assert self._failure is not None, "it failed with something"
            raise self._failure
        finally:
            self._is_stopping = True
            self._drop_waiting()
            for _ in threads:
                self._jobs.put(None)
            with trio.CancelScope(shield=True):
                if self._failure is None:
                    await self._idle.wait()

    def _drop_waiting(self) -> None:
        while True:
            try:
                self._jobs.get_nowait()
            except queue.Empty:
                break
            self._under_way -= 1
        if not self._under_way:
            self._idle.set()

    def _serve(self) -> None:
        assert self._token is not None
        while (job := self._jobs.get()) is not None:
            try:
                result = _Result(job, job.work(), None)
            except BaseException as error:
                # Handed over whole: `run` raises it where it ends the node.
                result = _Result(job, None, error)
            self._results.append(result)
            try:
                self._token.run_sync_soon(self._answer, idempotent=True)
            except trio.RunFinishedError:
                return

    def _answer(self) -> None:
        """On the trio thread: give back everything that is done."""
        while self._results:
            result = self._results.popleft()
            self._under_way -= 1
            error = result.error
            if error is None and self._failure is None:
                try:
                    result.job.done(result.value)
                except BaseException as raised:
                    # An exception out of a callback would take trio itself down.
                    error = raised
            if error is not None and self._failure is None:
                self._failure = error
                self._failed.set()
        if not self._under_way:
            self._idle.set()
