"""The engine's process: `python -m node.workers.engine_main`, started by `node.workers.engine`.

It owns the market state and carries out one request after the other. It opens the batches itself,
so that no work for single envelopes is left to the node's event loop.

Memory: what a block leaves behind is freed by reference counts alone (the engine cuts its links
when an order goes), so the cyclic collector would only walk the whole state again and again: with
10,000 accounts and 14,000 open orders the slowest of 60 blocks takes 122 ms with it and 35 ms
without, and a full collection finds nothing to free. It is switched off, and run over the young
objects after each block (0.5 ms) as a safety net.
"""

import gc
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

from crypto.codec import decode_lenient, encode
from engine.apply import apply_block
from engine.errors import InvariantViolation
from engine.genesis import GenesisError
from engine.state import EngineState
from node.engine_input import OrderedBatch, make_block_input
from node.storage.errors import StorageError
from node.workers.background_save import BackgroundSave
from node.workers.child import ParentGoneError, ParentPipe
from node.workers.engine_messages import (
    Answered,
    Ask,
    Broken,
    Execute,
    ExecuteResult,
    Open,
    Opened,
    Refused,
    Reply,
    Request,
    Save,
    Saved,
    SaveNow,
    Saving,
    StorageFailed,
)
from node.workers.errors import INVARIANT_CODE, WorkerQueryError
from node.workers.state_files import StateFiles
from node.workers.views import Views

YOUNG_GENERATION: Final = 0
"""What was made since the last collection: its cost does not grow with the state."""


class EngineServer:
    """The state and what may be asked of it."""

    def __init__(self, files: StateFiles, detach: Callable[[], None]) -> None:
        """`detach` is for `BackgroundSave`. Raises what `SnapshotStore.load_newest` raises."""
        self._files = files
        self._saves = BackgroundSave(files, detach)
        self.state: EngineState = files.load_newest()
        self._views = Views(self.state)

    def execute(self, request: Execute, bodies: list[bytes]) -> ExecuteResult:
        """Run one height. Raises `InvariantViolation` and `AssertionError`, after which the state
        must not be used any more."""
        block = make_block_input(
            height=request.height,
            time_ms=request.time_ms,
            seed=request.seed,
            batches=map(OrderedBatch, bodies, request.refused),
            reporters=request.reporters,
        )
        output = apply_block(self.state, block)
        return ExecuteResult(
            output.height,
            output.state_root,
            output.receipts_root,
            output.stats.instructions,
            output.stats.fills,
            output.is_empty,
            encode(output),
        )

    def ask(self, request: Ask) -> Reply:
        """Answer a query; no query can end the process."""
        try:
            return Answered(self._views.answer(request.name, request.arguments))
        except WorkerQueryError as error:
            return Refused(error.code, error.detail)
        except Exception:
            # Views only read, so the state is as good as before; the log shows what broke.
            traceback.print_exc()
            return Refused("query.failed", f"the view {request.name!r} broke")

    def save(self, request: Save | SaveNow) -> Reply:
        """Save the state, which must be at the height asked for. Raises `InvariantViolation` if
        the books do not balance, after which the state must not be used any more."""
        assert request.height == self.state.height, "a save names the height that was just executed"
        try:
            if isinstance(request, Save):
                self._saves.begin(self.state)
                return Saving()
            self._saves.finish()
            self._files.save_snapshot(self.state)
            return Saved()
        except StorageError as error:
            return StorageFailed(error.code, error.message)


def serve(pipe: ParentPipe) -> None:
    """Load the state and answer requests. Raises `ParentGoneError` at the end."""
    opening = _receive(pipe)
    assert isinstance(opening, Open), "the first request"
    try:
        server = EngineServer(
            StateFiles(Path(opening.directory), opening.chain_id, opening.genesis), pipe.close
        )
    except StorageError as error:
        pipe.send(encode(StorageFailed(error.code, error.message)))
        return
    except GenesisError as error:
        pipe.send(encode(Broken(error.code, str(error))))
        return
    del opening
    gc.collect()
    gc.freeze()
    gc.disable()
    pipe.send(encode(Opened(server.state.height)))
    while True:
        request = _receive(pipe)
        match request:
            case Execute():
                bodies = [pipe.receive() for _ in request.refused]
                try:
                    result = server.execute(request, bodies)
                except (InvariantViolation, AssertionError) as error:
                    _tell_broken(pipe, request.height, error)
                    return
                pipe.send(encode(result))
                del request, bodies, result
                gc.collect(YOUNG_GENERATION)
            case Ask():
                pipe.send(encode(server.ask(request)))
            case Save() | SaveNow():
                try:
                    reply = server.save(request)
                except InvariantViolation as error:
                    _tell_broken(pipe, request.height, error)
                    return
                pipe.send(encode(reply))
            case Open():
                raise AssertionError("opened once")


def _tell_broken(pipe: ParentPipe, height: int, error: Exception) -> None:
    """The engine found itself wrong: the last answer."""
    traceback.print_exception(error)
    pipe.send(encode(Broken(INVARIANT_CODE, f"height {height}: {error}")))


def _receive(pipe: ParentPipe) -> Request:
    request: Request = decode_lenient(Request, pipe.receive())  # type: ignore[arg-type]  # a union
    return request


def main() -> int:
    """Serve until the node is gone; 1 if the engine broke."""
    try:
        serve(ParentPipe())
    except ParentGoneError:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
