"""The node's end of a worker process: spawning it, framed pipes, noticing and explaining its end.

The worker's stdin and stdout carry frames (`node.framing`); its stderr is forwarded to the log.
A worker may take arbitrarily long, so its stream has no deadlines: the kernel tells when it dies.
"""

import fcntl
import math
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Final

import structlog
import trio

import node
from node.framing import FramedStream, FramingError
from node.groups import walk_leaves
from node.workers.errors import WorkerError

PIPE_SIZE_BYTES: Final = 1 << 20
"""Asked of the kernel for each pipe, so that a batch body crosses in one or two system calls."""

STOP_TIMEOUT_S: Final = 5.0
"""From closing the worker's stdin to SIGKILL. State on disk is only ever replaced atomically, so
killing loses nothing but time."""

STDERR_LINE_MAX_BYTES: Final = 4096
"""Longer lines are logged in pieces."""

LAST_WORDS_LINES_MAX: Final = 8
"""Lines of stderr kept to explain a worker's death."""

_log = structlog.get_logger()


class WorkerProcess:
    """A running worker. Made by `open_worker_process`."""

    def __init__(self, name: str, process: trio.Process, frame_max_bytes: int) -> None:
        assert process.stdio is not None, "spawned with both pipes"
        self.name = name
        self.pid = process.pid
        self.stream = FramedStream(
            process.stdio,
            frame_max_bytes=frame_max_bytes,
            frame_timeout_s=math.inf,
            write_timeout_s=math.inf,
        )
        self._process = process
        self._last_words: deque[str] = deque(maxlen=LAST_WORDS_LINES_MAX)
        self._is_stderr_drained = trio.Event()

    @asynccontextmanager
    async def explaining_end(self) -> AsyncIterator[None]:
        """Turn a broken stream into a `WorkerError` (`worker.exited`) that says how it ended."""
        try:
            yield
        except (
            trio.EndOfChannel,
            trio.BrokenResourceError,
            trio.ClosedResourceError,
            FramingError,
        ) as error:
            raise WorkerError("worker.exited", await self._explain(error)) from error

    async def forward_stderr(self) -> None:
        """Log what the worker writes to stderr, until that ends."""
        assert self._process.stderr is not None, "spawned with a pipe"
        pending = bytearray()
        async with self._process.stderr as stderr:
            async for data in stderr:
                pending += data
                while (end := pending.find(b"\n")) >= 0 or len(pending) >= STDERR_LINE_MAX_BYTES:
                    size = end if 0 <= end < STDERR_LINE_MAX_BYTES else STDERR_LINE_MAX_BYTES
                    self._log_line(pending[:size])
                    del pending[: size + (size == end)]
        if pending:
            self._log_line(pending)
        self._is_stderr_drained.set()

    async def stop(self) -> None:
        """End the worker: by closing its pipes, then by force. Not cancellable, but bounded."""
        with trio.CancelScope(shield=True):
            await self.stream.aclose()
            with trio.move_on_after(STOP_TIMEOUT_S):
                await self._process.wait()
            if self._process.returncode is None:
                _log.warning("worker_killed", worker=self.name, waited_s=STOP_TIMEOUT_S)
                self._process.kill()
                await self._process.wait()

    def _log_line(self, line: bytes | bytearray) -> None:
        text = line.decode(errors="replace").rstrip()
        self._last_words.append(text)
        _log.warning("worker_stderr", worker=self.name, line=text)

    async def _explain(self, error: Exception) -> str:
        """Wait for the process to end, which it is about to, and say how it did."""
        await self.stop()
        with trio.move_on_after(STOP_TIMEOUT_S):
            await self._is_stderr_drained.wait()
        status = self._process.returncode
        assert status is not None, "it was waited for"
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        reason = f" after {error}" if isinstance(error, FramingError) else ""
        words = f"; last words: {' | '.join(self._last_words)}" if self._last_words else ""
        return f"{self.name} (pid {self.pid}) ended with {how}{reason}{words}"


@asynccontextmanager
async def open_worker_process(
    module: str, *, name: str, frame_max_bytes: int
) -> AsyncIterator[WorkerProcess]:
    """Run `python -m module` until the context ends."""
    process = await trio.lowlevel.open_process(
        # Without -P, a file in the current directory could pose as one of our modules.
        [sys.executable, "-P", "-m", module],
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=_worker_environment(),
    )
    for stream in (process.stdin, process.stdout):
        _enlarge_pipe(stream)
    worker = WorkerProcess(name, process, frame_max_bytes)
    async with open_background() as nursery:
        nursery.start_soon(worker.forward_stderr)
        try:
            yield worker
        finally:
            await worker.stop()


@asynccontextmanager
async def open_background() -> AsyncIterator[trio.Nursery]:
    """A nursery for what serves a context's body: cancelled when the body is done.

    A single exception leaves it as itself, so that a caller of the context sees what it would see
    without the nursery; several that are all `WorkerError` are one event told from several sides,
    and leave as the first of them.
    """
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        error: BaseException = group
        if len(group.exceptions) == 1:
            error = group.exceptions[0]
        elif group.split(WorkerError)[1] is None:
            error = next(walk_leaves(group))
        raise error from error.__cause__


def _worker_environment() -> dict[str, str]:
    """Our environment, with our packages importable whether or not they are installed."""
    root = str(Path(node.__file__).resolve().parent.parent)
    inherited = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": root + (os.pathsep + inherited if inherited else "")}


def _enlarge_pipe(stream: object) -> None:
    assert isinstance(stream, trio.lowlevel.FdStream)
    try:
        fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, PIPE_SIZE_BYTES)
    except OSError as error:
        # A user with many pipes may have no more room; small pipes only cost system calls.
        _log.debug("worker_pipe_small", reason=error.strerror)
