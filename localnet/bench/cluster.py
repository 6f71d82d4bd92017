"""Real node processes in a folder of their own, for one benchmark."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio
from msgspec import Struct

from localnet.bench.errors import BenchError
from localnet.machine import ProcessCpu, read_descendants
from localnet.markets import ACCOUNTS, AccountPlan
from localnet.monitor import Monitor
from localnet.network import STAKE_DEFAULT, create_network
from localnet.plans import node_plan
from localnet.supervisor import ProcessStatus, Supervisor
from node.exit_codes import ExitCode
from node.network import Network

READY_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.05
PORT_FIRST: Final = 15_000
"""Away from the ports of a localnet that may be running."""


class CpuUse(Struct, frozen=True):
    """CPU seconds of one kind of process during the measurement, all nodes together."""

    name: str
    processes: int
    cpu_s: float
    share: float
    """Of one core: 1.0 is one core busy all the time."""


class BenchCluster:
    """A running cluster without demo traders."""

    def __init__(self, network: Network, supervisor: Supervisor) -> None:
        self.network = network
        self._supervisor = supervisor
        self.extra_pids: dict[int, str] = {}
        """Processes of the benchmark itself, by what they do; their CPU time is told too."""

    def read_cpu(self) -> dict[int, tuple[str, ProcessCpu]]:
        """CPU times of this moment: (what it is, process) by pid."""
        seen: dict[int, tuple[str, ProcessCpu]] = {}
        for name in self._supervisor.names():
            pid = self._supervisor.status(name).pid
            if pid is None:
                continue
            for each in read_descendants([pid]).values():
                seen[each.pid] = ("node" if each.pid == pid else _kind(each.name), each)
        for pid, kind in self.extra_pids.items():
            for each in read_descendants([pid]).values():
                seen[each.pid] = (kind, each)
        return seen


def compute_cpu_use(
    before: dict[int, tuple[str, ProcessCpu]],
    after: dict[int, tuple[str, ProcessCpu]],
    elapsed_s: float,
) -> list[CpuUse]:
    """CPU time between two readings by kind of process, the busiest first."""
    totals: dict[str, tuple[int, float]] = {}
    for pid, (kind, process) in after.items():
        started = before[pid][1].cpu_s if pid in before else 0.0
        count, cpu_s = totals.get(kind, (0, 0.0))
        totals[kind] = (count + 1, cpu_s + process.cpu_s - started)
    uses = [
        CpuUse(kind, count, round(cpu_s, 2), round(cpu_s / elapsed_s, 3))
        for kind, (count, cpu_s) in totals.items()
    ]
    return sorted(uses, key=lambda use: (-use.cpu_s, use.name))


def _kind(command_line: str) -> str:
    """What a node's child process is: the module that it runs, or its last word."""
    words = command_line.split(" ")
    if "-m" in words[:-1]:
        return words[words.index("-m") + 1]
    return "worker"


@asynccontextmanager
async def open_cluster(
    *,
    nodes: int,
    note: Callable[[str], None],
    accounts: Sequence[AccountPlan] = ACCOUNTS,
    directory: Path | None = None,
    keep: bool = False,
) -> AsyncIterator[BenchCluster]:
    """Lay out a new localnet, start its nodes, and remove everything at the end.

    `directory` is where its folder is made (default: the system's for temporary files); `keep`
    leaves the folder for a look into the logs. Raises `BenchError` if the nodes do not get to work
    or one of them ends.
    """
    folder = Path(tempfile.mkdtemp(prefix="rota-bench-", dir=directory))
    network = create_network(
        folder / "net", stakes=(STAKE_DEFAULT,) * nodes, port_first=PORT_FIRST, accounts=accounts
    )
    ended: list[ProcessStatus] = []
    supervisor = Supervisor(
        [node_plan(network, node.name) for node in network.nodes], on_end=ended.append
    )
    failure: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            try:
                for node in network.nodes:
                    await supervisor.start(node.name)
                await _wait_ready(network, ended)
                note(f"{nodes} node processes in {network.path}")
                yield BenchCluster(network, supervisor)
                _validate_alive(network, ended)
            except Exception as error:
                # Raised again below, outside of the nursery, which would wrap it into a group.
                failure = error
            nursery.cancel_scope.cancel()
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    if failure is not None:
        raise failure


async def _wait_ready(network: Network, ended: list[ProcessStatus]) -> None:
    monitor = Monitor(network)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(monitor.run)
        with trio.move_on_after(READY_TIMEOUT_S) as scope:
            while not _is_ready(monitor.statuses):
                _validate_alive(network, ended)
                await trio.sleep(POLL_S)
        nursery.cancel_scope.cancel()
    if scope.cancelled_caught:
        raise BenchError(
            f"the nodes were not ready after {READY_TIMEOUT_S:g} s",
            advice="run again with --keep and look into the nodes' logs",
            exit_code=ExitCode.NOT_READY,
        )


def _is_ready(statuses: dict[str, Any]) -> bool:
    return all(status is not None and status.committed_height > 0 for status in statuses.values())


def _validate_alive(network: Network, ended: list[ProcessStatus]) -> None:
    if ended:
        log = network.home(ended[0].name).log_dir / "stderr.log"
        tail = log.read_bytes()[-2_000:].decode(errors="replace").strip() if log.exists() else ""
        raise BenchError(
            f"{ended[0].name} ended with exit code {ended[0].exit_code}\n{tail}".strip(),
            advice="run again with --keep and look into the nodes' logs",
        )
