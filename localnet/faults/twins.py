"""Twins: a member that runs two honest nodes with one key, each for one half of the others.

More than f of these are the plainest way to break safety: each half sees a quorum and commits
without the other. (Bano et al., "Twins: BFT Systems Made Robust", OPODIS 2021.)
"""

import shutil
from collections.abc import Sequence

from localnet.faults.scenario import Twin
from localnet.network import HOST, PORTS_PER_NODE, choose_port_bases
from localnet.plans import PROXY, add_routes, node_plan, proxy_plan
from localnet.supervisor import ProcessPlan
from node.network import Network


def with_twins(
    network: Network, plans: Sequence[ProcessPlan], twins: Sequence[Twin]
) -> list[ProcessPlan]:
    """The plans of a localnet, with a second home and process for each twin.

    Those beside the twins, and the second ones among themselves, dial the second ones.
    """
    if not twins:
        return list(plans)
    routes = {twin.node: twin.name for twin in twins}
    beside = {name for twin in twins for name in twin.beside}
    first = max(node.peer_endpoint().port for node in network.nodes) + PORTS_PER_NODE
    targets, seconds = {}, []
    for twin, base in zip(twins, choose_port_bases(len(twins), first), strict=True):
        shutil.copytree(network.path / twin.node, network.path / twin.name)
        targets[twin.name] = f"{HOST}:{base}"
        listening = (f"peer.listen={HOST}:{base}", f"door.listen={HOST}:{base + 1}")
        plan = node_plan(network, twin.name, has_bad_parts=True, settings=listening)
        seconds.append(add_routes(plan, routes))
    changed = [add_routes(plan, routes) if plan.name in beside else plan for plan in plans]
    proxied = [proxy_plan(network, targets) if plan.name == PROXY else plan for plan in changed]
    return [*proxied, *seconds]
