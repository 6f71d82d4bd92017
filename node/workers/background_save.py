"""Saving the state while the engine goes on: a copy of the process writes what was at the fork.

Packing 10,000 accounts takes 55 ms of CPU and a disk adds its fsyncs; on the execution path every
node of a committee would pause for it at the same height. `fork` gives a second process the state
as it is between two blocks, in a few milliseconds and sharing its memory; it packs, writes, syncs,
renames and ends. The engine's own state and its roots take no part. The process that forks has a
single thread, as it must.

Stating the solvency walks over all accounts, so a save may be the first to find that the books do
not balance. That is no failure of the disk: the engine is told so, and halts the node.

A crash of either process leaves what `node.workers.snapshots` says: the snapshot whole or not at
all. One save at a time: the next one first waits for the one before. The second process only
writes: it may outlive the engine's own, and older snapshots are that one's to remove.
"""

import os
import sys
import traceback
from collections.abc import Callable
from typing import NamedTuple, Protocol

from crypto.codec import decode, encode
from engine.errors import InvariantViolation
from engine.state import EngineState
from node.storage.errors import StorageError
from node.workers.errors import INVARIANT_CODE

_DONE = 0
_FAILED = 1
_BROKEN = 2


class SavedStates(Protocol):
    """Where states are saved (`node.workers.state_files.StateFiles`)."""

    def write(self, state: EngineState) -> object:
        """Make durable all that is kept of a state. Raises `StorageError`, and
        `InvariantViolation` if the books do not balance."""
        ...

    def remove_obsolete(self, height: int) -> None:
        """Remove what the state of this height, just saved, makes obsolete. Raises
        `StorageError`."""
        ...


class _Running(NamedTuple):
    height: int
    pid: int
    report: int
    """Where the process says why it failed."""


class BackgroundSave:
    """The saves of one engine process."""

    def __init__(self, store: SavedStates, detach: Callable[[], None]) -> None:
        """`detach` closes, in the new process, what would keep the node from seeing that the
        engine's process has ended."""
        self._store = store
        self._detach = detach
        self._running: _Running | None = None

    def begin(self, state: EngineState) -> None:
        """Begin to save the state, which may change afterwards. Without room for another process
        it is saved on return. Raises `StorageError` if the save before has failed, or this one, and
        `InvariantViolation` if it found that the books do not balance."""
        self.finish()
        report, write_end = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            pid = os.fork()
        except OSError as error:
            os.close(report)
            os.close(write_end)
            # A machine that is short of processes or memory for a moment costs a pause, not a node.
            print(f"cannot save beside the engine, which waits instead: {error}", file=sys.stderr)  # noqa: T201 - a log
            self._store.write(state)
            self._store.remove_obsolete(state.height)
            return
        if pid == 0:
            exit_code = _BROKEN
            try:
                exit_code = self._save(state, write_end)
            except BaseException:
                # The copy must end here, whatever happens: its caller's stack is the engine's.
                # The exit code tells the engine that the save failed.
                traceback.print_exc()
            finally:
                # By no other way may the copy leave: the engine's own loop goes on above this.
                os._exit(exit_code)
        os.close(write_end)
        self._running = _Running(state.height, pid, report)

    def finish(self) -> None:
        """Wait for the save under way, if there is one. Raises `StorageError` if it has failed, and
        `InvariantViolation` if it found that the books do not balance."""
        if self._running is None:
            return
        (height, pid, report), self._running = self._running, None
        with os.fdopen(report, "rb") as pipe:
            said = pipe.read()
        exit_code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if said:
            code, detail = decode(tuple[str, str], said)
            if code == INVARIANT_CODE:
                raise InvariantViolation(detail)
            raise StorageError(code, detail)
        if exit_code != _DONE:
            raise StorageError("storage.failed", f"the saving process ended with {exit_code}")
        self._store.remove_obsolete(height)

    def _save(self, state: EngineState, report: int) -> int:
        """In the new process: save, and return the exit code."""
        self._detach()
        try:
            self._store.write(state)
        except StorageError as error:
            os.write(report, encode((error.code, error.message)))
            return _FAILED
        except InvariantViolation as error:
            os.write(report, encode((INVARIANT_CODE, str(error))))
            return _FAILED
        return _DONE
