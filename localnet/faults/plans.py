"""How the processes of a localnet with faults are started."""

from collections.abc import Mapping

from localnet.faults.proxy import PROXY
from localnet.supervisor import ProcessPlan
from node.network import Network


def node_plan(
    network: Network, name: str, has_faults: bool, behaviour: str | None = None
) -> ProcessPlan:
    """One node: in a world with faults, or lying, or both."""
    home = network.home(name)
    arguments = ["--home", str(home.path)]
    if has_faults:
        arguments += ["--dir", str(network.path)]
    if behaviour is not None:
        arguments += ["--behaviour", behaviour, "--seed", str(network.manifest.seed)]
    return ProcessPlan(
        name=name,
        module="localnet.faults.node_main",
        arguments=tuple(arguments),
        stderr_path=home.log_dir / "stderr.log",
    )


def add_routes(plan: ProcessPlan, routes: Mapping[str, str]) -> ProcessPlan:
    """The same node, but what it would dial as one node it dials as another."""
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
