"""The supervisor's socket: one command, one answer, errors with their codes."""

import os
from pathlib import Path

import pytest
import trio

from localnet.control import (
    ControlError,
    acquire_supervisor_lock,
    call_supervisor,
    is_supervised,
    serve_control,
    socket_path,
)
from node.exit_codes import ExitCode, OperatorError


async def greet(argument: str) -> object:
    return {"hello": argument}


async def refuse(argument: str) -> object:
    raise OperatorError(
        f"no {argument}", advice="try another", code="test.refused", exit_code=ExitCode.REJECTED
    )


HANDLERS = {"greet": greet, "refuse": refuse}


async def test_a_command_gets_its_answer_and_an_error_keeps_its_code(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, run_dir, HANDLERS)
        assert socket_path(run_dir).stat().st_mode & 0o077 == 0
        assert await call_supervisor(run_dir, "greet", "you") == {"hello": "you"}
        with pytest.raises(ControlError) as caught:
            await call_supervisor(run_dir, "refuse", "luck")
        assert (caught.value.code, caught.value.exit_code) == ("test.refused", ExitCode.REJECTED)
        assert caught.value.advice == "try another"
        with pytest.raises(ControlError) as caught:
            await call_supervisor(run_dir, "unheard")
        assert caught.value.code == "localnet.command_unknown"
        nursery.cancel_scope.cancel()
    assert not socket_path(run_dir).exists()


@pytest.mark.parametrize("data", [b"", b"not json\n", b"{}\n", b"x" * 100_000, b'{"command":1}\n'])
async def test_garbage_ends_only_its_own_connection(tmp_path: Path, data: bytes) -> None:
    run_dir = tmp_path / "run"
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, run_dir, HANDLERS)
        stream = await trio.open_unix_socket(os.fspath(socket_path(run_dir)))
        async with stream:
            try:
                await stream.send_all(data)
                await stream.send_eof()
                while await stream.receive_some():
                    pass
            except trio.BrokenResourceError:
                pass  # The supervisor may hang up before it has read everything.
        assert await call_supervisor(run_dir, "greet", "still there") == {"hello": "still there"}
        nursery.cancel_scope.cancel()


async def test_without_a_supervisor_the_error_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(ControlError) as caught:
        await call_supervisor(tmp_path / "run", "status")
    assert caught.value.exit_code == ExitCode.UNREACHABLE
    assert "rota localnet up" in caught.value.advice


async def test_a_socket_left_by_a_killed_supervisor_is_replaced(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    socket_path(run_dir).touch()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, run_dir, HANDLERS)
        assert await call_supervisor(run_dir, "greet", "x") == {"hello": "x"}
        nursery.cancel_scope.cancel()


async def test_a_folder_too_deep_for_a_socket_still_works(tmp_path: Path) -> None:
    run_dir = tmp_path / ("deep" * 40) / "run"
    path = socket_path(run_dir)
    assert len(os.fsencode(path)) < 100
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, run_dir, HANDLERS)
        assert await call_supervisor(run_dir, "greet", "x") == {"hello": "x"}
        nursery.cancel_scope.cancel()


def test_there_is_one_supervisor_at_a_time(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    assert not is_supervised(run_dir)
    descriptor = acquire_supervisor_lock(run_dir)
    assert is_supervised(run_dir)
    with pytest.raises(ControlError) as caught:
        acquire_supervisor_lock(run_dir)
    assert caught.value.code == "localnet.running"
    os.close(descriptor)
    assert not is_supervised(run_dir)
