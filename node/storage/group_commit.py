"""Group commit: from the event loop to a blocking store and back.

While one commit runs in a worker thread, whatever is submitted meanwhile gathers; it becomes the
next commit. So a lone write waits for one fsync, and a hundred writes at once also share one. The
order of submission is the order of commits and of callbacks.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

import trio

from node.service import ServiceThreads
from node.storage.errors import StorageError

T = TypeVar("T")

PENDING_MAX: Final = 65_536
"""Writes that may wait. A node that gets here produces faster than its disk can take for minutes;
it stops rather than fill its memory."""

ITEMS_PER_COMMIT_MAX: Final = 1024
"""Bounds how long one commit takes."""


class CommitStatistics(NamedTuple):
    """What a committer has done since it was made."""

    pending: int
    commits: int
    items: int
    """Durable writes."""
    last_commit_s: float
    """Duration of the newest commit, thread hand-over included."""
    max_commit_s: float


class GroupCommitter(Generic[T]):
    """Feeds one store. `submit` and `write` from the trio thread, `run` as a task of its own."""

    def __init__(
        self,
        commit: Callable[[Sequence[T]], None],
        *,
        items_per_commit_max: int = ITEMS_PER_COMMIT_MAX,
        pause_s: float = 0.0,
    ) -> None:
        """`commit` blocks, writes all items or raises, and is called from one thread at a time.

        `pause_s` passes after each commit, for a store whose writes nothing waits for: fewer and
        larger commits cost less of the event loop.
        """
        self._commit = commit
        self._items_per_commit_max = items_per_commit_max
        self._pause_s = pause_s
        self._pending: deque[tuple[T, Callable[[], None] | None]] = deque()
        self._waiters = trio.lowlevel.ParkingLot()
        """Unparked after every commit, and when there will be no more."""
        self._failure: Exception | None = None
        # Never shared: a committer must not wait for a thread that somebody else occupies.
        self._thread = ServiceThreads("commit")
        self._is_idle = False
        """Running, and no commit under way."""
        self._submitted = 0
        self._durable = 0
        self._commits = 0
        self._last_commit_s = 0.0
        self._max_commit_s = 0.0

    def submit(self, item: T, on_durable: Callable[[], None] | None = None) -> None:
        """Queue one write; `on_durable` is called on the trio thread once it is durable, and never
        if it fails. Raises the store's error if it has failed before."""
        if self._failure is not None:
            raise self._failure
        if len(self._pending) >= PENDING_MAX:
            raise StorageError("storage.overloaded", f"{PENDING_MAX} writes are waiting")
        self._pending.append((item, on_durable))
        self._submitted += 1
        self._begin()

    async def write(self, item: T) -> None:
        """Write and wait until it is durable. Raises the store's error if that fails."""
        self.submit(item)
        await self.drain()

    async def drain(self) -> None:
        """Wait until everything submitted before this call is durable. Raises the store's error
        if that fails, or `StorageError` if `run` ends first."""
        target = self._submitted
        while self._durable < target:
            if self._failure is not None:
                raise self._failure
            await self._waiters.park()

    async def run(self) -> None:
        """Commit until cancelled. Raises what the store raises, which must end the process.

        A commit that has begun is finished and reported before a cancellation takes effect, and no
        other begins; call `drain` first to lose nothing that waits.
        """
        self._is_idle = True
        self._begin()
        try:
            await self._thread.run()
        except Exception as error:
            # Raised on; noted so that whoever waits for a commit hears why there will be none.
            self._failure = error
            raise
        finally:
            if self._failure is None:
                self._failure = StorageError("storage.failed", "the writer has stopped")
            self._waiters.unpark_all()

    def statistics(self) -> CommitStatistics:
        """Counters since the committer was made."""
        return CommitStatistics(
            len(self._pending),
            self._commits,
            self._durable,
            self._last_commit_s,
            self._max_commit_s,
        )

    def _begin(self) -> None:
        """Start the next commit if there is anything to write and none is under way."""
        if not self._is_idle or not self._pending or self._failure is not None:
            return
        self._is_idle = False
        size = min(len(self._pending), self._items_per_commit_max)
        group = [self._pending.popleft() for _ in range(size)]
        self._thread.submit(
            lambda: self._run_commit([item for item, _ in group]),
            lambda duration_s: self._finish(group, duration_s),
        )

    def _run_commit(self, items: list[T]) -> float:
        """On the thread; returns how long it took."""
        started = time.monotonic()
        self._commit(items)
        return time.monotonic() - started

    def _finish(self, group: list[tuple[T, Callable[[], None] | None]], duration_s: float) -> None:
        self._last_commit_s = duration_s
        self._max_commit_s = max(self._max_commit_s, duration_s)
        self._commits += 1
        self._durable += len(group)
        for _, on_durable in group:
            if on_durable is not None:
                on_durable()
        self._waiters.unpark_all()
        if self._pause_s:
            self._thread.submit(lambda: time.sleep(self._pause_s), lambda _: self._resume())
        else:
            self._resume()

    def _resume(self) -> None:
        self._is_idle = True
        self._begin()
