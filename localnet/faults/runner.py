"""`rota fault run`: carries out one scenario on real processes, judges it and leaves a report.

When the cluster is stopped, what every node signed is audited, and the chain is repeated from one
node's disk.
"""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from localnet.cluster import View
from localnet.control import acquire_supervisor_lock
from localnet.faults.disks import read_disks
from localnet.faults.market_chart import CHART_NAME, write_chart
from localnet.faults.market_record import record_crash
from localnet.faults.memory import MemorySample
from localnet.faults.options_chart import OPTIONS_CHART_NAME, write_options_chart
from localnet.faults.options_record import record_options
from localnet.faults.report import write_failure, write_report
from localnet.faults.scenario import Scenario
from localnet.faults.scenario_cluster import ScenarioCluster
from localnet.faults.table import journal_path
from localnet.faults.verdict import Seen, judge
from localnet.markets import ACCOUNTS, LIQUIDATION, MARKETS
from localnet.network import STAKE_DEFAULT, create_network, validate_ports_free
from localnet.options_day import SpreadAttempt
from localnet.verdicts import Verdict
from node.exit_codes import ExitCode, OperatorError
from node.groups import walk_leaves
from node.network import Network

PORT_FIRST: Final = 17_000
"""Away from the ports of a localnet that may be running."""
_UNWRITABLE: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EIO}
)
REPORT_FILES: Final = frozenset(
    {"report.json", "report.md", "faults.jsonl", "logs", "net", CHART_NAME, OPTIONS_CHART_NAME}
)


FREE_MIN_BYTES: Final = 64 << 20
"""Room that a short run needs for the disks of its nodes and their logs."""


class ReportFolderError(OperatorError):
    """The report's folder holds something else."""

    code = "fault.report_folder"
    exit_code = ExitCode.USAGE


class ReportUnwritableError(OperatorError):
    """The report's folder cannot be made or written to, or its disk is full."""

    code = "fault.report_unwritable"
    exit_code = ExitCode.STORAGE


class InterruptedRunError(OperatorError):
    """Somebody stopped the run: there is no verdict."""

    code = "fault.interrupted"
    exit_code = ExitCode.INTERRUPTED


def run_scenario(
    scenario: Scenario,
    report_dir: Path,
    view: View,
    *,
    port_first: int = PORT_FIRST,
    again: str,
) -> tuple[dict[str, Any], ExitCode]:
    """Carry out a scenario in `report_dir` and leave the report there. Raises `OperatorError`.

    The cluster's folder stays if the run did not pass. `again` is the command that repeats it.
    """
    try:
        with _writing(report_dir):
            return _run(scenario, report_dir, view, port_first)
    except KeyboardInterrupt:
        stop: ExitCode = ExitCode.INTERRUPTED
    except _StoppedError as error:
        stop = error.exit_code
    raise InterruptedRunError(
        "the run was stopped before its end, so there is no verdict",
        advice=f"run it again: {again}",
        exit_code=stop,
    )


class _StoppedError(Exception):
    """The cluster was stopped before its time."""

    def __init__(self, exit_code: ExitCode) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def _run(
    scenario: Scenario, report_dir: Path, view: View, port_first: int
) -> tuple[dict[str, Any], ExitCode]:
    network_path = _clear(report_dir) / "net"
    crash, options = scenario.crash, scenario.options
    day = crash or options
    network = create_network(
        network_path,
        stakes=(STAKE_DEFAULT,) * scenario.nodes,
        seed=scenario.seed,
        port_first=port_first,
        accounts=(*ACCOUNTS, *(day.accounts() if day is not None else ())),
        liquidation=LIQUIDATION if crash is None else crash.liquidation(),
        markets=MARKETS if options is None else options.markets(MARKETS),
    )
    acquire_supervisor_lock(network.run_dir)
    validate_ports_free(network)

    async def main() -> tuple[Seen, list[MemorySample], list[SpreadAttempt]]:
        cluster = ScenarioCluster(network, scenario, view)
        await cluster.run()
        if cluster.stopped.is_set():
            raise _StoppedError(cluster.interruption or ExitCode.INTERRUPTED)
        return cluster.observe(), cluster.samples, cluster.spread_attempts

    try:
        seen, samples, attempts = trio.run(main)
    except OperatorError as error:
        _collect(network, report_dir)
        write_failure(report_dir, scenario, error)
        raise
    view.note("auditing what every node signed, and repeating the chain")
    seen = read_disks(network, seen)
    if seen.replay_problem is None and seen.not_replayed is None:
        if crash is not None:
            record = record_crash(network, seen.liars, crash)
            seen = msgspec.structs.replace(seen, market=record.seen)
            write_chart(report_dir, record, crash)
        if options is not None:
            traded = record_options(network, seen.liars, options, attempts)
            seen = msgspec.structs.replace(seen, options=traded.seen)
            write_options_chart(report_dir, traded)
    verdict, findings = judge(scenario, seen)
    _collect(network, report_dir)
    document = write_report(report_dir, scenario, seen, samples, verdict, findings)
    if verdict is Verdict.PASS:
        shutil.rmtree(network_path)
    return document, verdict.exit_code


@contextmanager
def _writing(report_dir: Path) -> Iterator[None]:
    """Name the report's folder where it was not to be written to, also where a full disk only
    showed in what the nodes did. Raises `ReportUnwritableError`."""
    try:
        yield
    except OperatorError as error:
        if isinstance(error, ReportFolderError | ReportUnwritableError):
            raise
        if _free_bytes(report_dir) < FREE_MIN_BYTES:
            raise _full_error(report_dir) from error
        raise
    except (OSError, BaseExceptionGroup) as group:
        for leaf in walk_leaves(group):
            if isinstance(leaf, OSError) and leaf.errno in _UNWRITABLE:
                raise _unwritable_error(report_dir, leaf) from group
        raise


def _free_bytes(path: Path) -> int:
    """On the disk of a folder that may not be there yet."""
    there = next(each for each in (path, *path.parents) if each.exists())
    return shutil.disk_usage(there).free


def _unwritable_error(report_dir: Path, error: OSError) -> ReportUnwritableError:
    return ReportUnwritableError(
        f"cannot write to {report_dir}: {error.strerror}",
        advice="name a folder that can be written to, on a disk with room",
    )


def _full_error(report_dir: Path) -> ReportUnwritableError:
    return ReportUnwritableError(
        f"the disk of {report_dir} is full: {_free_bytes(report_dir) >> 20} MiB are free, "
        f"and a run needs {FREE_MIN_BYTES >> 20}",
        advice="make room, or name a folder on another disk with --report",
    )


def _clear(report_dir: Path) -> Path:
    """Make room for a report; raises `ReportFolderError` if the folder holds anything else, and
    `ReportUnwritableError` if it is none, cannot be made or its disk is full."""
    try:
        if report_dir.exists() and not report_dir.is_dir():
            raise ReportUnwritableError(
                f"{report_dir} is a file", advice="name a folder with --report"
            )
        if report_dir.exists():
            if not {each.name for each in report_dir.iterdir()} <= REPORT_FILES:
                raise ReportFolderError(
                    f"{report_dir} holds something else than a report",
                    advice="name an empty or new folder with --report",
                )
            shutil.rmtree(report_dir)
        report_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable_error(report_dir, error) from error
    if _free_bytes(report_dir) < FREE_MIN_BYTES:
        raise _full_error(report_dir)
    return report_dir


def _collect(network: Network, report_dir: Path) -> None:
    """Copy logs and journal to where they outlive the cluster."""
    logs = report_dir / "logs"
    logs.mkdir(exist_ok=True)
    for path in sorted(network.path.glob("node*/log/*")):
        shutil.copy(path, logs / f"{path.parent.parent.name}-{path.name}")
    for path in sorted(network.run_dir.glob("*.log")):
        shutil.copy(path, logs / path.name)
    journal = journal_path(network.path)
    if journal.exists():
        shutil.copy(journal, report_dir / journal.name)
