"""A localnet that can be broken: the cluster with a desk for faults and liars, and the proxy.

Every `rota localnet up` runs this. Without bad parts it has no proxy, and only processes can be
hit: killed, frozen, or started as liars.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import trio

from localnet.cluster import (
    POLL_S,
    READY_TIMEOUT_S,
    Cluster,
    NotReadyError,
    View,
    describe_end,
)
from localnet.control import Handler
from localnet.faults.commands import fault_handlers
from localnet.faults.desk import FaultDesk
from localnet.faults.proxy import links_path
from localnet.plans import PROXY, node_plan, proxy_plan
from localnet.supervisor import ProcessPlan, ProcessState, ProcessStatus, SupervisorError
from node.cli.hints import rota_command
from node.exit_codes import OperatorError
from node.network import Network


def make_plans(
    network: Network, traders: ProcessPlan | None, *, has_bad_parts: bool
) -> list[ProcessPlan]:
    """How to start everything."""
    plans = [node_plan(network, node.name, has_bad_parts=has_bad_parts) for node in network.nodes]
    if has_bad_parts:
        plans.append(proxy_plan(network))
    return plans if traders is None else [*plans, traders]


ANSWER_MAX_S: Final = 15.0
"""So long a command waits for a node that was started anew as a liar. A command waits half a minute
for the supervisor, and to stop the node may have taken ten seconds of that."""


class FaultCluster(Cluster):
    """A running localnet with a desk for faults."""

    def __init__(
        self,
        network: Network,
        plans: Sequence[ProcessPlan],
        view: View,
        *,
        has_bad_parts: bool,
        for_s: float | None = None,
        has_tape: bool = False,
    ) -> None:
        """The plans are those of `make_plans`, perhaps with more nodes."""
        super().__init__(network, plans, view, for_s=for_s, has_tape=has_tape)
        self._has_bad_parts = has_bad_parts
        self.faults = FaultDesk(
            network,
            self.supervisor,
            partial(node_plan, network, has_bad_parts=has_bad_parts),
            has_bad_parts=has_bad_parts,
        )
        self.failures: list[OperatorError] = []
        """All that ended liars, where their own behaviours did."""

    async def before_start(self) -> None:
        """The links between the nodes come first."""
        if self._has_bad_parts:
            await self._start_proxy()

    async def attend(self) -> None:
        """Heal what is due."""
        await self.faults.run()

    def note_end(self, status: ProcessStatus) -> None:
        """A liar's own behaviour may have ended it, also while it was being stopped."""
        # Imported here: every command of a localnet starts faster without the consensus.
        from localnet.byzantine.guard import BehaviourFailedError, find_failure

        if status.exit_code == BehaviourFailedError.exit_code:
            failure = find_failure(self._stderr_tail(status.name))
            if failure is not None:
                self.failures.append(failure)
                if status.state is ProcessState.EXITED:
                    self.faults.failures[status.name] = failure

    def heed_end(self, status: ProcessStatus) -> bool:
        """True if it was a fault's doing."""
        return self.faults.heed_end(status)

    def handlers(self) -> dict[str, Handler]:
        """As any localnet's, and `rota fault` and `rota byz`."""
        plain = super().handlers()

        async def restart(name: str) -> object:
            self.faults.validate_free(name)
            return await plain["restart"](name)

        return plain | {"restart": restart} | fault_handlers(self.faults, self._wait_answer)

    def describe(self) -> dict[str, Any]:
        """As any localnet's, and what ended a liar."""
        document = super().describe()
        for process in document["processes"]:
            failure = self.faults.failures.get(process["name"])
            is_down = process["state"] != ProcessState.RUNNING
            process["failure"] = failure.message if failure is not None and is_down else None
        return document

    async def _wait_answer(self, name: str) -> None:
        """A node was started anew: wait until it answers. Raises what ended it; a slow one comes
        later."""
        self.monitor.statuses[name] = None
        with trio.move_on_after(ANSWER_MAX_S):
            while self.monitor.statuses[name] is None:
                if name in self.faults.failures:
                    raise self.faults.failures[name]
                status = self.supervisor.status(name)
                if status.state is ProcessState.EXITED:
                    rota = rota_command(self.network.path, from_anywhere=True)
                    raise SupervisorError(
                        describe_end(status), advice=f"`{rota}localnet logs {name}` shows more"
                    )
                if status.state is not ProcessState.RUNNING:
                    return
                await trio.sleep(POLL_S)

    async def _start_proxy(self) -> None:
        """Return when the links between the nodes are there."""
        self.faults.publish()
        links = links_path(self.network.run_dir)
        links.unlink(missing_ok=True)
        await self.supervisor.start(PROXY)
        with trio.move_on_after(READY_TIMEOUT_S):
            while not links.exists():
                self.validate_starting()
                await trio.sleep(POLL_S)
            return
        raise NotReadyError(
            f"the proxy was not ready after {READY_TIMEOUT_S:g} s",
            advice=f"look at {self.network.run_dir / 'proxy.log'}",
        )
