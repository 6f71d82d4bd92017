"""`rota fault run`: carries out one scenario on real processes, judges it and leaves a report.

When the cluster is stopped, what every node signed is audited, and the chain is repeated from one
node's disk.
"""

import shutil
from pathlib import Path
from typing import Any, Final

import trio

from localnet.cluster import View
from localnet.control import acquire_supervisor_lock
from localnet.faults.disks import read_disks
from localnet.faults.memory import MemorySample
from localnet.faults.report import write_report
from localnet.faults.scenario import Scenario
from localnet.faults.scenario_cluster import ScenarioCluster
from localnet.faults.table import journal_path
from localnet.faults.verdict import Seen, judge
from localnet.network import STAKE_DEFAULT, create_network, validate_ports_free
from localnet.verdicts import Verdict
from node.exit_codes import ExitCode, OperatorError
from node.network import Network

PORT_FIRST: Final = 17_000
"""Away from the ports of a localnet that may be running."""
REPORT_FILES: Final = frozenset({"report.json", "report.md", "faults.jsonl", "logs", "net"})


class ReportFolderError(OperatorError):
    """The report's folder holds something else."""

    code = "fault.report_folder"
    exit_code = ExitCode.USAGE


class InterruptedRunError(OperatorError):
    """Somebody stopped the run: there is no verdict."""

    code = "fault.interrupted"
    exit_code = ExitCode.INTERRUPTED


def run_scenario(
    scenario: Scenario, report_dir: Path, view: View, *, port_first: int = PORT_FIRST
) -> tuple[dict[str, Any], ExitCode]:
    """Carry out a scenario in `report_dir` and leave the report there. Raises `OperatorError`.

    The cluster's folder stays if the run did not pass.
    """
    network_path = _clear(report_dir) / "net"
    network = create_network(
        network_path,
        stakes=(STAKE_DEFAULT,) * scenario.nodes,
        seed=scenario.seed,
        port_first=port_first,
    )
    acquire_supervisor_lock(network.run_dir)
    validate_ports_free(network)

    async def main() -> tuple[Seen, list[MemorySample]]:
        cluster = ScenarioCluster(network, scenario, view)
        await cluster.run()
        if cluster.interrupted or cluster.stopped.is_set():
            raise InterruptedRunError(
                "the run was stopped before its end", advice=f"its folder is {network_path}"
            )
        return cluster.observe(), cluster.samples

    seen, samples = trio.run(main)
    view.note("auditing what every node signed, and repeating the chain")
    seen = read_disks(network, seen)
    verdict, findings = judge(scenario, seen)
    _collect(network, report_dir)
    document = write_report(report_dir, scenario, seen, samples, verdict, findings)
    if verdict is Verdict.PASS:
        shutil.rmtree(network_path)
    return document, verdict.exit_code


def _clear(report_dir: Path) -> Path:
    """Make room for a report; raises `ReportFolderError` if the folder holds anything else."""
    if report_dir.exists():
        if not {each.name for each in report_dir.iterdir()} <= REPORT_FILES:
            raise ReportFolderError(
                f"{report_dir} holds something else than a report",
                advice="name an empty or new folder with --report",
            )
        shutil.rmtree(report_dir)
    report_dir.mkdir(parents=True, exist_ok=True)
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
