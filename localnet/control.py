"""How other commands talk to a running localnet: JSON lines over a unix socket in its folder.

One request a connection: `{"command": "kill", "argument": "node2"}`, one answer:
`{"result": ...}` or `{"error": {...}}`. Only the owner of the folder can connect.
"""

import fcntl
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Final

import msgspec
import trio
from msgspec import Struct

from node.cli.hints import rota_command
from node.exit_codes import ExitCode, OperatorError
from node.home import make_private_dir

REQUEST_SIZE_MAX_BYTES: Final = 64 << 10
ANSWER_SIZE_MAX_BYTES: Final = 4 << 20
REQUEST_TIMEOUT_S: Final = 5.0
"""For a client to say what it wants."""
SOCKET_PATH_MAX_BYTES: Final = 100
"""Below what every Unix can bind (104 on macOS, 108 on Linux)."""

Handler = Callable[[str], Awaitable[object]]
"""Takes the command's argument, returns what JSON can hold; `OperatorError` goes to the caller."""


class ControlError(OperatorError):
    """No supervisor, or one that refuses."""

    code = "localnet.not_running"
    exit_code = ExitCode.UNREACHABLE


class FolderError(OperatorError):
    """The localnet's folder cannot be made or written to."""

    code = "localnet.unwritable"
    exit_code = ExitCode.CONFIG


class _Request(Struct, forbid_unknown_fields=True):
    command: str
    argument: str = ""


class _Problem(Struct):
    message: str
    advice: str
    code: str
    exit_code: int


class _Answer(Struct, omit_defaults=True):
    result: Any = None
    error: _Problem | None = None


def socket_path(run_dir: Path) -> Path:
    """Where the supervisor of a localnet listens.

    A folder too deep for the operating system's limit gets a socket in the temporary folder, under
    a name that follows from the folder's.
    """
    path = run_dir / "supervisor.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_MAX_BYTES:
        return path
    name = sha256(os.fsencode(run_dir)).hexdigest()[:16]
    return Path(gettempdir()) / f"rota-{os.getuid()}" / f"{name}.sock"


def make_run_dir(run_dir: Path) -> None:
    """Make the folder of the supervisor's files, and the localnet's around it. Raises
    `FolderError`."""
    try:
        make_private_dir(run_dir)
    except OSError as error:
        raise _folder_error(run_dir, error) from error


def _folder_error(run_dir: Path, error: OSError) -> FolderError:
    return FolderError(
        f"cannot keep a localnet in {run_dir.parent}: {error.strerror or error}",
        advice="choose another --dir",
    )


def acquire_supervisor_lock(run_dir: Path) -> int:
    """Become the one supervisor of this localnet; raises `ControlError` if there is one, and
    `FolderError`.

    Returns the descriptor that holds the lock. Left open, it lasts until the process has ended,
    so that whoever waits for the lock finds nothing of the supervisor any more.
    """
    make_run_dir(run_dir)
    try:
        descriptor = os.open(run_dir / "supervisor.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _folder_error(run_dir, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise running_error(run_dir) from error
    return descriptor


def running_error(run_dir: Path) -> ControlError:
    """What whoever wants to start a localnet that runs is told."""
    rota = rota_command(run_dir.parent)
    return ControlError(
        f"the localnet in {run_dir.parent} runs already",
        advice=f"see `{rota}localnet status`; stop it with `{rota}localnet down`",
        code="localnet.running",
        exit_code=ExitCode.CONFIG,
    )


def is_supervised(run_dir: Path) -> bool:
    """Does a supervisor run for this localnet?"""
    if not run_dir.is_dir():
        return False
    try:
        os.close(acquire_supervisor_lock(run_dir))
    except ControlError:
        return True
    return False


async def serve_control(
    run_dir: Path,
    handlers: Mapping[str, Handler],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer commands until cancelled. The caller holds the supervisor's lock."""
    path = socket_path(run_dir)
    make_private_dir(path.parent)
    _validate_own(path.parent)
    # Left over from a supervisor that was killed; the lock says that it is gone.
    path.unlink(missing_ok=True)
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        await listener.bind(os.fspath(path))
        path.chmod(0o600)
        listener.listen(16)
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    connection, _ = await listener.accept()
                    nursery.start_soon(_serve_one, trio.SocketStream(connection), handlers)
        finally:
            path.unlink(missing_ok=True)


def _validate_own(directory: Path) -> None:
    if directory.stat().st_uid != os.getuid():
        raise ControlError(
            f"{directory} belongs to another user",
            advice="choose a shorter --dir, or another TMPDIR",
            code="localnet.socket",
            exit_code=ExitCode.CONFIG,
        )


async def _serve_one(stream: trio.SocketStream, handlers: Mapping[str, Handler]) -> None:
    try:
        async with stream:
            with trio.fail_after(REQUEST_TIMEOUT_S):
                line = await _receive_line(stream, REQUEST_SIZE_MAX_BYTES)
            answer = await _answer(line, handlers)
            await stream.send_all(msgspec.json.encode(answer) + b"\n")
    except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
        return  # The client went away or never spoke: its loss alone.


async def _answer(line: bytes, handlers: Mapping[str, Handler]) -> _Answer:
    try:
        request = msgspec.json.decode(line, type=_Request)
        handler = handlers[request.command]
    except (msgspec.MsgspecError, KeyError) as error:
        return _Answer(
            error=_Problem(
                f"the supervisor does not know this command: {error}",
                "use the same version of rota for both",
                "localnet.command_unknown",
                int(ExitCode.USAGE),
            )
        )
    try:
        return _Answer(result=await handler(request.argument))
    except OperatorError as error:
        return _Answer(
            error=_Problem(error.message, error.advice, error.code, int(error.exit_code))
        )


async def _receive_line(stream: trio.SocketStream, size_max_bytes: int) -> bytes:
    data = bytearray()
    while not data.endswith(b"\n"):
        chunk = await stream.receive_some(64 << 10)
        if not chunk or len(data) + len(chunk) > size_max_bytes:
            raise trio.BrokenResourceError
        data += chunk
    return bytes(data)


async def call_supervisor(
    run_dir: Path, command: str, argument: str = "", *, timeout_s: float = 30.0
) -> Any:
    """Send one command and return its result.

    Raises `ControlError` if nobody answers, or the error that the supervisor sent.
    """
    try:
        with trio.fail_after(timeout_s):
            stream = await trio.open_unix_socket(os.fspath(socket_path(run_dir)))
            async with stream:
                await stream.send_all(msgspec.json.encode(_Request(command, argument)) + b"\n")
                line = await _receive_line(stream, ANSWER_SIZE_MAX_BYTES)
    except (OSError, trio.BrokenResourceError) as error:
        raise ControlError(
            f"no localnet runs in {run_dir.parent}",
            advice=f"start it with `{rota_command(run_dir.parent)}localnet up`",
        ) from error
    except trio.TooSlowError as error:
        raise ControlError(
            f"the supervisor did not answer within {timeout_s:g} s",
            advice="look at its log in the localnet's run/ folder",
            code="localnet.timeout",
            exit_code=ExitCode.TIMED_OUT,
        ) from error
    answer = msgspec.json.decode(line, type=_Answer)
    if answer.error is not None:
        problem = answer.error
        raise ControlError(
            problem.message,
            advice=problem.advice,
            code=problem.code,
            exit_code=ExitCode(problem.exit_code),
        )
    return answer.result
