"""The command lines of a localnet's processes: all of them stand here, and none anywhere else."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from localnet.crash import Crash
from localnet.demo import TRADERS
from localnet.supervisor import ProcessPlan
from node.home import NodeHome
from node.network import Network

PROXY: Final = "proxy"
"""Name of the process between the nodes, beside the nodes' names."""


def node_plan(
    network: Network,
    name: str,
    *,
    behaviour: str | None = None,
    has_bad_parts: bool = False,
    settings: Sequence[str] = (),
) -> ProcessPlan:
    """How to start one node.

    An honest one is what `rota node start` runs. With a behaviour it lies; with bad parts it is
    connected through the proxy, and network, clock and disk obey the table of faults. `settings`
    override those of its home, as `section.key=value`.
    """
    home = NodeHome(network.path / name)
    arguments = ["--home", str(home.path)]
    # The log file has it all; stderr is kept for what happens outside the log.
    for each in ("log.format=none", *settings):
        arguments += ["--set", each]
    if has_bad_parts:
        arguments += ["--dir", str(network.path)]
    if behaviour is not None:
        arguments += ["--behaviour", behaviour, "--seed", str(network.manifest.seed)]
    if has_bad_parts or behaviour is not None:
        module = "localnet.faults.node_main"
    else:
        module, arguments = "node.cli.main", ["node", "start", *arguments]
    return ProcessPlan(name, module, tuple(arguments), home.log_dir / "stderr.log")


def add_routes(plan: ProcessPlan, routes: Mapping[str, str]) -> ProcessPlan:
    """The same node with bad parts, but what it would dial as one node it dials as another."""
    arguments = [word for pair in routes.items() for word in ("--route", "=".join(pair))]
    return plan._replace(arguments=(*plan.arguments, *arguments))


def proxy_plan(network: Network, others: Mapping[str, str] | None = None) -> ProcessPlan:
    """The proxy between the nodes, and further ones, of which it is told where they listen."""
    targets = [word for pair in (others or {}).items() for word in ("--target", "=".join(pair))]
    return ProcessPlan(
        name=PROXY,
        module="localnet.faults.proxy",
        arguments=("--dir", str(network.path), *targets),
        stderr_path=network.run_dir / "proxy.log",
    )


def traders_plan(
    network: Network,
    *,
    tape: Path | None = None,
    speed: str | None = None,
    crash: Crash | None = None,
) -> ProcessPlan:
    """The demo traders, or those that play a tape or live through a crash."""
    arguments = ["--dir", str(network.path), "--seed", str(network.manifest.seed)]
    if tape is not None:
        arguments += ["--tape", str(tape.absolute()), "--await-start"]
    if crash is not None:
        arguments += ["--crash", msgspec.json.encode(crash).decode(), "--await-start"]
    if speed is not None:
        arguments += ["--speed", speed]
    return ProcessPlan(
        name=TRADERS,
        module="localnet.traders",
        arguments=tuple(arguments),
        stderr_path=network.run_dir / "traders.log",
        pipe_stdout=True,
    )
