"""The supervisor starts, watches and stops real processes, and leaves none behind."""

import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from localnet.supervisor import (
    ProcessPlan,
    ProcessState,
    ProcessStatus,
    Supervisor,
    SupervisorError,
)

DUMMY = """
import os, signal, subprocess, sys, threading
mode = sys.argv[1]
marker = sys.argv[2]
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
if mode == "parent":
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()", marker])
    print(child.pid, flush=True)
if mode == "exit":
    sys.exit(70)
print("ready", flush=True)
while True:
    signal.pause()
"""


class Harness:
    """A supervisor over dummy processes, and what it reported."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.ended: list[ProcessStatus] = []
        self.lines: list[tuple[str, bytes]] = []
        self._changed = trio.Event()

    def plan(self, name: str, mode: str) -> ProcessPlan:
        return ProcessPlan(
            name=name,
            module="dummy_process",
            arguments=(mode, str(self.tmp_path)),
            stderr_path=self.tmp_path / f"{name}.err",
            pipe_stdout=True,
        )

    def supervisor(self, *modes: str, stop_grace_s: float = 5.0) -> Supervisor:
        return Supervisor(
            [self.plan(f"p{index}", mode) for index, mode in enumerate(modes)],
            on_end=self._on_end,
            on_output=self._on_output,
            stop_grace_s=stop_grace_s,
        )

    def _on_end(self, status: ProcessStatus) -> None:
        self.ended.append(status)
        self._signal()

    def _on_output(self, name: str, line: bytes) -> None:
        self.lines.append((name, line))
        self._signal()

    def _signal(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def wait(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(15):
            while not condition():
                await self._changed.wait()

    async def wait_ready(self, name: str) -> None:
        await self.wait(lambda: (name, b"ready") in self.lines)


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Harness:
    (tmp_path / "dummy_process.py").write_text(DUMMY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return Harness(tmp_path)


def is_alive(pid: int) -> bool:
    """Does a process of this id run? A zombie that nobody has reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_processes_start_and_stop_in_good_order(harness: Harness) -> None:
    supervisor = harness.supervisor("run", "run")
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        for name in supervisor.names():
            await supervisor.start(name)
            await harness.wait_ready(name)
            assert supervisor.status(name).state is ProcessState.RUNNING
        await supervisor.stop("p0")
        assert supervisor.status("p0")[:4] == ("p0", ProcessState.STOPPED, None, 0)
        assert supervisor.status("p1").state is ProcessState.RUNNING
        nursery.cancel_scope.cancel()
    assert supervisor.status("p1").state is ProcessState.STOPPED
    assert [status.exit_code for status in harness.ended] == [0, 0]


async def test_cancelling_stops_everything_even_what_ignores_sigterm(harness: Harness) -> None:
    supervisor = harness.supervisor("stubborn", stop_grace_s=0.1)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await supervisor.start("p0")
        await harness.wait_ready("p0")
        pid = supervisor.status("p0").pid
        nursery.cancel_scope.cancel()
    assert harness.ended[0].exit_code == -signal.SIGKILL
    assert not is_alive(pid)


async def test_a_killed_process_takes_its_children_along(harness: Harness) -> None:
    supervisor = harness.supervisor("parent")
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await supervisor.start("p0")
        await harness.wait_ready("p0")
        child = int(harness.lines[0][1])
        assert is_alive(child)
        await supervisor.kill("p0")
        assert supervisor.status("p0").state is ProcessState.KILLED
        with trio.fail_after(5):
            while is_alive(child):
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def test_an_end_that_nobody_asked_for_is_reported_and_nothing_restarts(
    harness: Harness,
) -> None:
    supervisor = harness.supervisor("exit")
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await supervisor.start("p0")
        await harness.wait(lambda: bool(harness.ended))
        status = harness.ended[0]
        assert (status.state, status.exit_code) == (ProcessState.EXITED, 70)
        assert supervisor.status("p0").starts == 1
        with pytest.raises(SupervisorError):
            await supervisor.kill("p0")
        nursery.cancel_scope.cancel()


async def test_restart_starts_what_was_killed_and_replaces_what_runs(harness: Harness) -> None:
    supervisor = harness.supervisor("run")
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await supervisor.start("p0")
        await harness.wait_ready("p0")
        first = supervisor.status("p0").pid
        with pytest.raises(SupervisorError, match="runs already"):
            await supervisor.start("p0")
        await supervisor.kill("p0")
        await supervisor.restart("p0")
        second = supervisor.status("p0").pid
        assert second != first
        await harness.wait(lambda: harness.lines.count(("p0", b"ready")) == 2)
        await supervisor.restart("p0")
        assert supervisor.status("p0").pid != second
        assert supervisor.status("p0").starts == 3
        with pytest.raises(SupervisorError, match="p9"):
            await supervisor.restart("p9")
        nursery.cancel_scope.cancel()


def test_processes_follow_a_supervisor_that_was_killed(tmp_path: Path, harness: Harness) -> None:
    script = tmp_path / "supervise.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys, trio
            from pathlib import Path
            from localnet.supervisor import ProcessPlan, Supervisor

            async def main():
                errors = Path({str(tmp_path)!r}) / "errors"
                plan = ProcessPlan("p0", "dummy_process", ("run", "x"), errors, True)
                def told(name, line):
                    print(supervisor.status("p0").pid, flush=True)
                supervisor = Supervisor([plan], on_end=lambda status: None, on_output=told)
                async with trio.open_nursery() as nursery:
                    await nursery.start(supervisor.run)
                    await supervisor.start("p0")
                    await trio.sleep_forever()

            trio.run(main)
            """
        )
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"}
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, env=environment
    ) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        assert is_alive(pid)
        waiter = os.pidfd_open(pid)
        supervisor.kill()
    try:
        # A process's descriptor becomes readable when the process ends.
        assert select.select([waiter], [], [], 10)[0]
    finally:
        os.close(waiter)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def wait_state(pid: int, states: str) -> None:
    with trio.fail_after(15):
        while state_of(pid) not in states:
            await trio.lowlevel.checkpoint()


async def test_a_paused_process_is_frozen_with_its_children_until_it_is_resumed(
    harness: Harness,
) -> None:
    supervisor = harness.supervisor("parent")
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await supervisor.start("p0")
        await harness.wait_ready("p0")
        parent = supervisor.status("p0").pid
        child = int(harness.lines[0][1])
        assert parent is not None
        supervisor.pause("p0", 600)
        for pid in (parent, child):
            await wait_state(pid, "T")
        supervisor.resume("p0")
        for pid in (parent, child):
            await wait_state(pid, "SR")
        nursery.cancel_scope.cancel()


async def test_a_pause_ends_by_itself_and_a_stop_ends_one_too(harness: Harness) -> None:
    supervisor = harness.supervisor("run", "run")
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        for name in supervisor.names():
            await supervisor.start(name)
            await harness.wait_ready(name)
        first = supervisor.status("p0").pid
        assert first is not None
        supervisor.pause("p0", 0.2)
        await wait_state(first, "T")
        await wait_state(first, "SR")
        supervisor.pause("p1", 600)
        await supervisor.stop("p1")
        assert supervisor.status("p1").state is ProcessState.STOPPED
        nursery.cancel_scope.cancel()


async def test_what_does_not_run_cannot_be_paused(harness: Harness) -> None:
    supervisor = harness.supervisor("run")
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        with pytest.raises(SupervisorError):
            supervisor.pause("p0", 1)
        nursery.cancel_scope.cancel()
