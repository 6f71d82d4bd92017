"""A running localnet: start everything, wait until it is ready, watch it, stop it, judge it.

It starts what it is given plans of. Whoever wants more of it overrides the methods under "what
others add".
"""

import math
import signal
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import trio

from localnet.control import Handler, serve_control
from localnet.demo import START_SIGNAL, TRADERS, DemoTraders
from localnet.monitor import Monitor
from localnet.report import Observations, compute_report
from localnet.status import (
    STATUS_TIMEOUT_S,
    compute_committed_height,
    describe_status,
    query_statuses,
)
from localnet.supervisor import ProcessPlan, ProcessState, ProcessStatus, Supervisor
from localnet.tally import TapeProgress
from node.cli.hints import rota_command
from node.exit_codes import ExitCode, OperatorError
from node.network import Network
from node.wiping import wipe_home

READY_TIMEOUT_S: Final = 90.0
"""From the start of the first process until all nodes answer and all markets are quoted."""
TRADERS_STOP_WAIT_S: Final = 5.0
"""For nodes to certify what was in flight when the traders stopped."""
POLL_S: Final = 0.05
_EXIT_CODES: Final[dict[int, ExitCode]] = {
    signal.SIGINT: ExitCode.INTERRUPTED,
    signal.SIGTERM: ExitCode.TERMINATED,
}
STDERR_TAIL_BYTES: Final = 4_000
STDERR_TAIL_LINES: Final = 3
"""The end of a traceback; the log has the rest."""


class NotReadyError(OperatorError):
    """The localnet did not get to work."""

    code = "localnet.not_ready"
    exit_code = ExitCode.NOT_READY


class View(NamedTuple):
    """How the run shows itself; each is called on the event loop and returns at once."""

    note: Callable[[str], None]
    """Something happened."""
    ready: Callable[[Network, float], None]
    """All is up, so many seconds after the start."""
    tick: Callable[["Cluster"], None]
    """Called several times a second while running."""


class Cluster:
    """A running localnet."""

    def __init__(
        self,
        network: Network,
        plans: Sequence[ProcessPlan],
        view: View,
        *,
        for_s: float | None = None,
        has_tape: bool = False,
    ) -> None:
        """`for_s` counts from readiness, unless a tape ends before; None runs until it is told to
        stop."""
        self.network = network
        self.monitor = Monitor(network)
        self.demo = DemoTraders()
        self.has_traders = any(plan.name == TRADERS for plan in plans)
        self.ready = False
        self.started_at = trio.current_time()
        self.measured_from = self.started_at
        self.unexpected_exits: list[ProcessStatus] = []
        self._for_s = for_s
        self._has_tape = has_tape
        self._view = view
        self.stopped = trio.Event()
        """Set when somebody asks for the end."""
        self.interruption: ExitCode | None = None
        """How to exit if it was asked for by a signal."""
        self.supervisor = Supervisor(
            plans,
            on_end=self._process_ended,
            on_output=self._process_said,
            # Its errors are read wherever another command was typed.
            rota=rota_command(network.path, from_anywhere=True),
        )

    async def run(self) -> tuple[dict[str, Any], ExitCode]:
        """Start, watch until the end, stop; return the report and the exit code.

        Raises `NotReadyError`. Whatever happens, no process is left.
        """
        failure: OperatorError | None = None
        async with trio.open_nursery() as nursery:
            await nursery.start(self.supervisor.run)
            await nursery.start(serve_control, self.network.run_dir, self.handlers())
            await nursery.start(self._heed_signals)
            nursery.start_soon(self.monitor.run)
            nursery.start_soon(self.attend)
            try:
                result = await self._run_to_end()
            except OperatorError as error:
                # Raised outside of the nursery, which would wrap it into a group.
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return result

    async def _run_to_end(self) -> tuple[dict[str, Any], ExitCode]:
        await self.before_start()
        for name in self.supervisor.names():
            if name != TRADERS and self.supervisor.status(name).state is ProcessState.STOPPED:
                await self.supervisor.start(name)
        await self._wait_ready()
        if self.stopped.is_set():
            return {"verdict": "interrupted"}, self.interruption or ExitCode.INTERRUPTED
        self.ready = True
        self._begin_measuring()
        if self._has_tape:
            self.supervisor.send_signal(TRADERS, START_SIGNAL)
        self._view.ready(self.network, trio.current_time() - self.started_at)
        await self.watch()
        return await self.conclude()

    async def watch(self) -> None:
        """Return when the run is over."""
        deadline = math.inf if self._for_s is None else self._for_s
        with trio.move_on_after(deadline):
            while not self.stopped.is_set() and not self._is_over():
                self.tick()
                await trio.sleep(POLL_S)

    def tick(self) -> None:
        """Show where the run is."""
        self._view.tick(self)

    def note(self, text: str) -> None:
        """Say that something happened."""
        self._view.note(text)

    def _is_over(self) -> bool:
        """Has a run that is to be judged played its tape to the end before its time?"""
        tape = self.demo.last.tape
        return self._for_s is not None and tape is not None and tape.done

    # ---- what others add -------------------------------------------------------------------

    async def before_start(self) -> None:
        """Called once the supervisor runs, before any process does. What it starts is not started
        again."""

    async def attend(self) -> None:
        """Runs beside everything else, to the end."""

    def nodes_ready(self) -> bool:
        """Do all nodes answer, and have they begun to commit?"""
        statuses = self.monitor.statuses.values()
        return all(status is not None and status.committed_height > 0 for status in statuses)

    def note_end(self, status: ProcessStatus) -> None:
        """A process ended, whoever ended it."""

    def heed_end(self, status: ProcessStatus) -> bool:
        """A process ended by itself; True if that was to be, and is seen to."""
        del status
        return False

    # ---- getting ready ---------------------------------------------------------------------

    async def _wait_ready(self) -> None:
        with trio.move_on_after(READY_TIMEOUT_S):
            while not self.stopped.is_set() and not self.nodes_ready():
                self.validate_starting()
                await trio.sleep(POLL_S)
            if self.has_traders and not self.stopped.is_set():
                await self.supervisor.start(TRADERS)
                while not self.stopped.is_set() and not self.demo.last.quoted:
                    self.validate_starting()
                    await trio.sleep(POLL_S)
            return
        raise NotReadyError(
            f"not ready after {READY_TIMEOUT_S:g} s: {self._missing()}",
            advice=f"`{rota_command(self.network.path)}localnet logs` shows what the nodes did",
        )

    def _missing(self) -> str:
        silent = [name for name, status in self.monitor.statuses.items() if status is None]
        if silent:
            return f"{', '.join(silent)} did not answer"
        if not self.nodes_ready():
            return "the nodes answer but have committed no block"
        return "the demo traders have not quoted all markets"

    def validate_starting(self) -> None:
        """Raise `NotReadyError` at once if a process has ended already."""
        for name in self.supervisor.names():
            status = self.supervisor.status(name)
            if status.state is ProcessState.EXITED:
                raise NotReadyError(
                    f"{describe_end(status)}\n{self._stderr_tail(name)}".strip(),
                    advice=f"`{rota_command(self.network.path)}localnet logs {name}` shows more",
                )

    def _stderr_tail(self, name: str) -> str:
        path = self.supervisor.plan(name).stderr_path
        try:
            tail = path.read_bytes()[-STDERR_TAIL_BYTES:].decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(tail.strip().splitlines()[-STDERR_TAIL_LINES:])

    # ---- while it runs ---------------------------------------------------------------------

    def _process_ended(self, status: ProcessStatus) -> None:
        self.note_end(status)
        if status.state is ProcessState.EXITED and not self.heed_end(status):
            self.unexpected_exits.append(status)
            if self.ready:
                self.note(describe_end(status))

    def _process_said(self, name: str, line: bytes) -> None:
        assert name == TRADERS, "only the traders' stdout is read"
        self.demo.read_line(line)

    async def _heed_signals(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                self.interruption = self.interruption or _EXIT_CODES[number]
                self.stopped.set()

    def handlers(self) -> dict[str, Handler]:
        """What other commands can ask for."""

        async def status(_argument: str) -> object:
            return self.describe()

        async def kill(name: str) -> object:
            await self.supervisor.kill(name)
            rota = rota_command(self.network.path)
            self.note(f"{name} was killed; bring it back: {rota}localnet restart {name}")
            return self._describe_process(name)

        async def restart(name: str) -> object:
            await self.supervisor.restart(name)
            self.note(f"{name} was restarted")
            return self._describe_process(name)

        async def wipe(name: str) -> object:
            await self.supervisor.stop(name)
            home = self.network.home(name)
            await trio.to_thread.run_sync(wipe_home, home)
            await self.supervisor.start(name)
            self.note(f"{name} lost its data and joins again, following")
            return self._describe_process(name)

        async def down(_argument: str) -> object:
            self.stopped.set()
            return {"stopping": self.supervisor.names()}

        return {"status": status, "kill": kill, "restart": restart, "wipe": wipe, "down": down}

    def _describe_process(self, name: str) -> dict[str, Any]:
        status = self.supervisor.status(name)
        return {
            "name": name,
            "state": status.state.value,
            "pid": status.pid,
            "exit_code": status.exit_code,
            "starts": status.starts,
            "uptime_s": status.uptime_s,
        }

    def describe(self) -> dict[str, Any]:
        """What the supervisor knows, for other commands."""
        return {
            "ready": self.ready,
            "chain_id": self.network.chain_id.hex(),
            "processes": [self._describe_process(name) for name in self.supervisor.names()],
            "contradictions": [str(each) for each in self.monitor.agreement.contradictions],
        }

    # ---- the end ---------------------------------------------------------------------------

    def _begin_measuring(self) -> None:
        self.measured_from = trio.current_time()
        self.demo.begin_measuring()
        self.monitor.begin_measuring()

    async def conclude(self) -> tuple[dict[str, Any], ExitCode]:
        """Judge the run, while all still runs but the traders."""
        elapsed_s = trio.current_time() - self.measured_from
        stalled_s = trio.current_time() - self.monitor.last_progress_at
        blocks = self.monitor.blocks
        if self.has_traders:
            await self.supervisor.stop(TRADERS)
        # What was in flight belongs to the run, so it is counted when it has arrived.
        await self._wait_common_root()
        demo = self.demo if self.has_traders else None
        answers = await query_statuses(self.network, timeout_s=STATUS_TIMEOUT_S)
        report, code = compute_report(
            Observations(
                elapsed_s=elapsed_s,
                nodes=tuple(
                    describe_status(node, answers[node.name].status) for node in self.network.nodes
                ),
                committed_height=compute_committed_height(answers) or 0,
                blocks=blocks,
                instructions=self.monitor.instructions,
                fills=self.monitor.fills,
                envelopes_refused=self.monitor.refused,
                stalled_s=stalled_s,
                contradictions=tuple(self.monitor.agreement.contradictions),
                common_root=self._common_root(),
                unexpected_exits=tuple(describe_end(each) for each in self.unexpected_exits),
                halted=any(each.exit_code == ExitCode.HALTED for each in self.unexpected_exits),
                orders=demo.orders if demo else None,
                orders_rejected=demo.rejected if demo else None,
                commit_latency_ms=demo.commit_latency.summary() if demo else None,
                receipt_latency_ms=demo.receipt_latency.summary() if demo else None,
                tape=demo.last.tape if demo else None,
            )
        )
        if demo and demo.last.tape:
            self.note(describe_tape(demo.last.tape))
        if self._for_s is None:
            # Stopped by whoever started it, whenever they liked: only safety is judged.
            return report, code if code is ExitCode.SAFETY else ExitCode.OK
        if self.interruption is not None and code is ExitCode.OK:
            return report, self.interruption
        return report, code

    def _common_root(self) -> tuple[int, bytes] | None:
        return self.monitor.agreement.highest_common("state_root", self.monitor.up())

    async def _wait_common_root(self) -> None:
        """Let the nodes certify what was committed when the run ended, so that roots compare."""
        newest = self.monitor.newest()
        goal = newest.state_root_height if newest else 0
        with trio.move_on_after(TRADERS_STOP_WAIT_S):
            while True:
                common = self._common_root()
                if common is not None and common[0] >= goal:
                    return
                await trio.sleep(POLL_S)


def describe_tape(tape: TapeProgress) -> str:
    """How far a tape came, in words."""
    outcome = f"{tape.filled} filled, {tape.refused} refused"
    if tape.done:
        return f"the tape was played to its end: {tape.trades} trades, {outcome}"
    return f"the tape is unfinished: {tape.played} of {tape.trades} trades played, {outcome}"


def describe_end(status: ProcessStatus) -> str:
    """How a process ended, in words."""
    code = status.exit_code
    if code is None:
        return f"{status.name} has not ended"
    if code < 0:
        return f"{status.name} was ended by {signal.Signals(-code).name}"
    try:
        return f"{status.name} ended with exit code {code}: {ExitCode(code).meaning}"
    except ValueError:
        return f"{status.name} ended with exit code {code}"
