"""Worker processes end with the node, however it ends, and say why when they end alone."""

import os
import select
import signal
import subprocess
import sys

import pytest
import structlog
import trio

from node.workers.errors import WorkerError
from node.workers.process import STDERR_LINE_MAX_BYTES, open_background, open_worker_process

MODULES = ("node.workers.engine_main", "node.workers.crypto_main")

DEADLINE_MS = 30_000
"""For a process to end; a failing test waits this long."""

ORPHANING_NODE = """
import sys, trio
from node.workers.process import open_worker_process

async def main():
    async with open_worker_process(sys.argv[1], name="w", frame_max_bytes=1024) as worker:
        print(worker.pid, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@pytest.mark.parametrize("module", MODULES)
def test_a_worker_ends_in_good_order_when_its_stdin_does(module):
    done = subprocess.run(
        [sys.executable, "-m", module], input=b"", capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("module", MODULES)
def test_a_worker_does_not_outlive_a_node_that_is_killed(module):
    with subprocess.Popen(
        [sys.executable, "-c", ORPHANING_NODE, module], stdout=subprocess.PIPE
    ) as node:
        assert node.stdout is not None
        worker = os.pidfd_open(int(node.stdout.readline()))
        node.kill()
    poll = select.poll()
    poll.register(worker, select.POLLIN)
    assert poll.poll(DEADLINE_MS), "the worker ends by itself"
    os.close(worker)


async def explain(module: str, *, send: bytes | None = None, kill: bool = False) -> WorkerError:
    """How the end of a worker is told that was sent a frame, or killed, or ends by itself."""

    async def run() -> None:
        async with open_worker_process(module, name="w", frame_max_bytes=1024) as worker:
            if kill:
                os.kill(worker.pid, signal.SIGKILL)
            async with worker.explaining_end():
                if send is not None:
                    await worker.stream.send_frame(send)
                await worker.stream.receive_frame()

    with pytest.raises(WorkerError) as caught:
        await run()
    assert caught.value.code == "worker.exited"
    return caught.value


async def test_a_worker_that_fails_is_explained_with_its_last_words():
    with structlog.testing.capture_logs() as logs:
        error = await explain(MODULES[1], send=b"no request")
    assert "exit status 1" in error.detail
    assert "DecodeError" in error.detail
    lines = [log["line"] for log in logs if log["event"] == "worker_stderr"]
    assert lines[0].startswith("Traceback")


async def test_a_module_that_does_not_exist_is_explained():
    assert "No module named node.workers.nothing" in str(await explain("node.workers.nothing"))


async def test_a_killed_worker_is_explained_by_the_signal():
    assert "SIGKILL" in str(await explain(MODULES[1], kill=True))


async def test_a_worker_that_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr("node.workers.process.STOP_TIMEOUT_S", 0.01)
    with structlog.testing.capture_logs() as logs:
        async with open_worker_process(MODULES[1], name="w", frame_max_bytes=1024) as worker:
            os.kill(worker.pid, signal.SIGSTOP)
    assert "worker_killed" in [log["event"] for log in logs]
    with pytest.raises(ProcessLookupError):
        os.kill(worker.pid, 0)


async def test_long_lines_of_stderr_are_logged_in_pieces(tmp_path, monkeypatch):
    text = "x" * (2 * STDERR_LINE_MAX_BYTES + 1)
    (tmp_path / "talkative.py").write_text(
        f"import sys; sys.stderr.write({text!r} + '\\nshort\\n' + 'no end of line')"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with structlog.testing.capture_logs() as logs:
        error = await explain("talkative")
    lines = [log["line"] for log in logs]
    assert [len(line) for line in lines[:3]] == [STDERR_LINE_MAX_BYTES, STDERR_LINE_MAX_BYTES, 1]
    assert lines[3:] == ["short", "no end of line"]
    assert error.detail.endswith("short | no end of line")


async def test_several_exceptions_leave_a_background_as_a_group_unless_all_tell_one_event():
    async def fail(error):
        raise error

    async def run(*errors):
        async with open_background() as nursery:
            for error in errors:
                nursery.start_soon(fail, error)
            await trio.sleep_forever()

    with pytest.raises(WorkerError, match="one"):
        await run(WorkerError("one", ""), WorkerError("one", ""))
    with pytest.raises(ExceptionGroup):
        await run(WorkerError("one", ""), KeyError())
    with pytest.raises(KeyError):
        await run(KeyError())
