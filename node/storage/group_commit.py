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
    ) -> None:
        """`commit` blocks, writes all items or raises, and is called from one thread at a time."""
        self._commit = commit
        self._items_per_commit_max = items_per_commit_max
        self._pending: deque[tuple[T, Callable[[], None] | None]] = deque()
        self._work = trio.Event()
        self._waiters = trio.lowlevel.ParkingLot()
        """Unparked after every commit, and when there will be no more."""
        self._failure: Exception | None = None
        # Never shared: a committer must not wait for a thread that somebody else occupies.
        self._limiter = trio.CapacityLimiter(1)
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
        self._work.set()

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

        A commit that has begun is finished and reported before a cancellation takes effect; call
        `drain` first to lose nothing that waits.
        """
        try:
            while True:
                await self._work.wait()
                await self._commit_group()
        except Exception as error:
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

    async def _commit_group(self) -> None:
        size = min(len(self._pending), self._items_per_commit_max)
        group = [self._pending.popleft() for _ in range(size)]
        started = time.monotonic()
        await trio.to_thread.run_sync(
            self._commit, [item for item, _ in group], limiter=self._limiter
        )
        self._last_commit_s = time.monotonic() - started
        self._max_commit_s = max(self._max_commit_s, self._last_commit_s)
        self._commits += 1
        self._durable += size
        if not self._pending:
            self._work = trio.Event()
        for _, on_durable in group:
            if on_durable is not None:
                on_durable()
        self._waiters.unpark_all()
