"""`rota localnet up`: resume or make a localnet, and run it."""

from pathlib import Path
from typing import Any, NamedTuple

import trio

from localnet.cluster import View
from localnet.control import acquire_supervisor_lock
from localnet.faults.cluster import FaultCluster, make_plans
from localnet.folder import remove_network, validate_folder
from localnet.network import PORT_FIRST, open_network, validate_ports_free
from localnet.plans import traders_plan
from node.exit_codes import ExitCode
from node.network import Network


class UpOptions(NamedTuple):
    """What `localnet up` was asked for."""

    path: Path
    stakes: tuple[int, ...] | None
    """One node each; None takes what is there, or the default."""
    seed: int | None
    port_base: int | None
    """Where a new localnet looks for ports; None is the default."""
    reset: bool
    traders: bool
    tape: Path | None
    speed: str | None
    for_s: float | None
    """Length of the run from readiness, unless a tape ends before; None runs until told to stop."""
    faults: bool = False
    """Connect the nodes through a proxy, with parts that can be made bad (`localnet.faults`)."""


def prepare_network(options: UpOptions) -> Network:
    """Resume the localnet in the folder, or make a new one. Raises `NetworkError`.

    The caller holds the supervisor's lock.
    """
    if options.reset:
        remove_network(options.path)
    return open_network(
        options.path,
        stakes=options.stakes,
        seed=options.seed,
        port_first=PORT_FIRST if options.port_base is None else options.port_base,
    )


def run_up(options: UpOptions, view: View) -> tuple[dict[str, Any], ExitCode]:
    """Run a localnet in this process to its end (`localnet.cluster.Cluster.run`).

    The process keeps the supervisor's lock until it ends itself.
    """
    validate_folder(options.path)
    acquire_supervisor_lock(options.path.absolute() / "run")
    network = prepare_network(options)
    validate_ports_free(network)

    traders = None
    if options.traders:
        traders = traders_plan(network, tape=options.tape, speed=options.speed)

    async def main() -> tuple[dict[str, Any], ExitCode]:
        cluster = FaultCluster(
            network,
            make_plans(network, traders, has_bad_parts=options.faults),
            view,
            has_bad_parts=options.faults,
            for_s=options.for_s,
            has_tape=options.tape is not None,
        )
        return await cluster.run()

    return trio.run(main)
