"""Starts, watches and stops the processes of one localnet. It restarts nothing by itself.

Each process leads a process group of its own, so that Ctrl-C in a terminal reaches only the
supervisor and a killed node takes its workers with it. Each holds a lifeline to the supervisor
(`localnet.lifeline`): if the supervisor dies, they follow.

An orderly stop is SIGTERM, a grace, then SIGKILL for the group.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

import trio

from node.exit_codes import ExitCode, OperatorError

STOP_GRACE_S: Final = 10.0
"""From SIGTERM to SIGKILL."""


class SupervisorError(OperatorError):
    """A process is not in the state that the command needs."""

    code = "localnet.process_state"
    exit_code = ExitCode.CONFIG


class ProcessState(StrEnum):
    """What the supervisor knows about a process."""

    STOPPED = "stopped"
    """Never started, or stopped in good order on request."""
    RUNNING = "running"
    KILLED = "killed"
    """Killed on request."""
    EXITED = "exited"
    """Ended although nobody asked it to."""


class ProcessPlan(NamedTuple):
    """How to start one process."""

    name: str
    module: str
    """Python module that is run, under the lifeline."""
    arguments: tuple[str, ...]
    stderr_path: Path
    """Appended to; holds what does not go through the log, such as tracebacks."""
    pipe_stdout: bool = False
    """Hand stdout to `on_output` line by line instead of appending it to `stderr_path`."""


class ProcessStatus(NamedTuple):
    """A process at one moment."""

    name: str
    state: ProcessState
    pid: int | None
    exit_code: int | None
    """Of the last run; negative for a signal."""
    starts: int
    """How often it was started."""
    uptime_s: float


class _Managed:
    """One process slot."""

    def __init__(self, plan: ProcessPlan) -> None:
        self.plan = plan
        self.state = ProcessState.STOPPED
        self.process: trio.Process | None = None
        self.ended = trio.Event()
        self.ended.set()
        self.exit_code: int | None = None
        self.starts = 0
        self.started_at = 0.0
        self.ending: ProcessState | None = None
        """The state to enter when the process ends, if somebody asked it to end."""
        self.thaw: subprocess.Popen[bytes] | None = None
        """Ends a pause."""

    def end_thaw(self) -> None:
        """A pause is over."""
        if self.thaw is not None:
            _kill_group(self.thaw.pid)
            self.thaw.wait()
            self.thaw = None


class Supervisor:
    """All processes of one localnet. Use `run` as a task; the other methods from any task."""

    def __init__(
        self,
        plans: Iterable[ProcessPlan],
        *,
        on_end: Callable[[ProcessStatus], None],
        on_output: Callable[[str, bytes], None] | None = None,
        stop_grace_s: float = STOP_GRACE_S,
        rota: str = "rota ",
    ) -> None:
        """`on_end` hears of every process that ends; `on_output(name, line)` of its stdout; hints
        name commands after `rota` (`node.cli.hints.rota_command`)."""
        self._processes = {plan.name: _Managed(plan) for plan in plans}
        self._on_end = on_end
        self._on_output = on_output
        self._stop_grace_s = stop_grace_s
        self._rota = rota
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look after the processes until cancelled; then stop them all and return."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                # Each wait inside has a deadline of its own, so this ends.
                with trio.CancelScope(shield=True):
                    await self.stop_all()

    def names(self) -> list[str]:
        """The names of all processes."""
        return list(self._processes)

    def status(self, name: str) -> ProcessStatus:
        """One process; raises `SupervisorError` for an unknown name."""
        managed = self._find(name)
        running = managed.state is ProcessState.RUNNING
        return ProcessStatus(
            name=name,
            state=managed.state,
            pid=managed.process.pid if running and managed.process else None,
            exit_code=managed.exit_code,
            starts=managed.starts,
            uptime_s=round(time.monotonic() - managed.started_at, 3) if running else 0.0,
        )

    async def start(self, name: str) -> None:
        """Start a process; raises `SupervisorError` if it runs already."""
        managed = self._find(name)
        if managed.state is ProcessState.RUNNING:
            raise SupervisorError(
                f"{name} runs already",
                advice=f"`{self._rota}localnet restart {name}` stops it first",
            )
        assert self._nursery is not None, "start needs run"
        plan = managed.plan
        command = [sys.executable, "-m", "localnet.lifeline", plan.module, *plan.arguments]
        with plan.stderr_path.open("ab") as errors:
            process = await trio.lowlevel.open_process(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if plan.pipe_stdout else errors.fileno(),
                stderr=errors.fileno(),
                start_new_session=True,
            )
        managed.process = process
        managed.state = ProcessState.RUNNING
        managed.ending = None
        managed.exit_code = None
        managed.ended = trio.Event()
        managed.starts += 1
        managed.started_at = time.monotonic()
        self._nursery.start_soon(self._watch, managed, process, name=f"watch {name}")

    async def stop(self, name: str) -> None:
        """SIGTERM, a grace, SIGKILL; returns when the process has ended."""
        managed = self._find(name)
        process = managed.process
        if managed.state is not ProcessState.RUNNING or process is None:
            return
        managed.ending = ProcessState.STOPPED
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        self.resume(name)
        with trio.move_on_after(self._stop_grace_s):
            await managed.ended.wait()
            return
        _kill_group(process.pid)
        await managed.ended.wait()

    def send_signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the process alone, if it runs."""
        managed = self._find(name)
        if managed.state is ProcessState.RUNNING and managed.process is not None:
            with suppress(ProcessLookupError):
                managed.process.send_signal(number)

    async def kill(self, name: str) -> None:
        """SIGKILL for the process and all that it started, as a crash of its machine would."""
        managed, process = self._find_running(name)
        managed.ending = ProcessState.KILLED
        _kill_group(process.pid)
        await managed.ended.wait()

    def pause(self, name: str, for_s: float) -> None:
        """Freeze the process and all that it started, for this long at most.

        A process of its own thaws them, so that none stays frozen if this one is killed. Raises
        `SupervisorError`.
        """
        managed, process = self._find_running(name)
        pid = process.pid
        managed.thaw = subprocess.Popen(
            [
                "/bin/sh",
                "-c",
                'sleep "$1"; kill -s CONT -- "-$2"',
                "thaw",
                f"{for_s:.3f}",
                str(pid),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        _signal_group(pid, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Thaw a process, if it runs."""
        managed = self._find(name)
        if managed.process is not None and managed.state is ProcessState.RUNNING:
            _signal_group(managed.process.pid, signal.SIGCONT)
        managed.end_thaw()

    def plan(self, name: str) -> ProcessPlan:
        """How a process is started; raises `SupervisorError` for an unknown name."""
        return self._find(name).plan

    def set_plan(self, name: str, plan: ProcessPlan) -> None:
        """From its next start on, start a process like this."""
        self._find(name).plan = plan

    async def restart(self, name: str) -> None:
        """Stop it if it runs, then start it."""
        await self.stop(name)
        await self.start(name)

    async def stop_all(self, names: Sequence[str] | None = None) -> None:
        """Stop processes at the same time; all unless `names` says which."""
        async with trio.open_nursery() as nursery:
            for name in self.names() if names is None else names:
                nursery.start_soon(self.stop, name)

    def _find(self, name: str) -> _Managed:
        managed = self._processes.get(name)
        if managed is None:
            raise SupervisorError(
                f"there is no process {name!r}", advice=f"processes: {', '.join(self.names())}"
            )
        return managed

    def _find_running(self, name: str) -> tuple[_Managed, trio.Process]:
        managed = self._find(name)
        if managed.state is not ProcessState.RUNNING or managed.process is None:
            raise SupervisorError(
                f"{name} does not run",
                advice=f"start it with `{self._rota}localnet restart {name}`",
            )
        return managed, managed.process

    async def _watch(self, managed: _Managed, process: trio.Process) -> None:
        """Wait for the end of one run, whatever ends it."""
        # Shielded: when the supervisor is cancelled, its `stop_all` needs these tasks to the end.
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                if process.stdout is not None:
                    nursery.start_soon(self._forward_output, managed.plan.name, process.stdout)
                managed.exit_code = await process.wait()
                # Whatever the process started goes with it, and closes its end of stdout.
                _kill_group(process.pid)
            if process.stdin is not None:
                await process.stdin.aclose()
        managed.end_thaw()
        managed.state = managed.ending or ProcessState.EXITED
        managed.ended.set()
        self._on_end(self.status(managed.plan.name))

    async def _forward_output(self, name: str, stream: trio.abc.ReceiveStream) -> None:
        rest = b""
        async with stream:
            async for chunk in stream:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if self._on_output is not None:
                        self._on_output(name, line)


def _kill_group(pid: int) -> None:
    _signal_group(pid, signal.SIGKILL)


def _signal_group(pid: int, number: signal.Signals) -> None:
    # Gone already when its last member is; a zombie's group answers with PermissionError on macOS.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
