"""A localnet in which a scenario happens: faults and liars come in time, and everything is watched.

It ends with healing everything and a window in which the honest nodes must come together.
"""

from typing import Any, Final

import msgspec
import trio

from localnet.cluster import View, describe_end
from localnet.demo import TRADERS
from localnet.faults.cluster import FaultCluster, make_plans
from localnet.faults.memory import INTERVAL_S, MemorySample, compute_growth, read_rss_bytes
from localnet.faults.model import decode_fault
from localnet.faults.orders import FollowedOrders
from localnet.faults.progress import Progress
from localnet.faults.quorum import has_quorum
from localnet.faults.scenario import Scenario
from localnet.faults.twins import with_twins
from localnet.faults.verdict import Seen
from localnet.options_crowd import OptionsCrowd
from localnet.options_day import SpreadAttempt
from localnet.plans import traders_plan
from localnet.status import NodeStatus
from localnet.supervisor import ProcessState
from node.cli.views import ConvictionInfo
from node.client import DoorClient
from node.client_stream import DoorError
from node.exit_codes import ExitCode
from node.network import Network

POLL_S: Final = 0.05
SAY_EVERY_S: Final = 20.0
"""So often a line says where the run is."""
ORDERS_WAIT_S: Final = 10.0
"""For the last orders to come to a result, once all nodes have come together."""
QUERY_TIMEOUT_S: Final = 3.0
CONVICTIONS_WAIT_S: Final = 10.0
"""For all honest nodes to say who was convicted."""


class ScenarioCluster(FaultCluster):
    """A localnet in which a scenario happens."""

    def __init__(self, network: Network, scenario: Scenario, view: View) -> None:
        traders = traders_plan(network, crash=scenario.crash) if scenario.traders else None
        plans = with_twins(
            network, make_plans(network, traders, has_bad_parts=True), scenario.twins
        )
        super().__init__(
            network,
            plans,
            view,
            has_bad_parts=True,
            for_s=scenario.run_for_s,
            # Like a tape, a crash begins when it is told to.
            has_tape=scenario.crash is not None,
        )
        self._scenario = scenario
        self._liars = {liar.node for liar in scenario.liars} | {
            twin.node for twin in scenario.twins
        }
        self._is_hopeless = not _has_quorum_at_start(network, scenario)
        self._honest = [node.name for node in network.nodes if node.name not in self._liars]
        self._orders = FollowedOrders(network, self._honest, self._count_starts)
        self._options = (
            None if scenario.options is None else OptionsCrowd(network, scenario.options, self.note)
        )
        self._progress = Progress()
        self._samples: list[MemorySample] = []
        self._convictions: set[tuple[str, str]] = set()
        self._not_asked = set(self._honest)
        self._ended_s = 0.0
        self.not_converged: str | None = "the run did not come to its end"

    async def before_start(self) -> None:
        """Who lies from the beginning is started as a liar, and into what is wrong from then on."""
        for fault in self._scenario.faults:
            if fault.is_there_from_the_start:
                await self.faults.add(fault.document, fault.for_s)
        for liar in self._scenario.liars:
            if liar.at_s == 0:
                await self.faults.set_liar(liar.node, liar.behaviour)
        await super().before_start()

    def nodes_ready(self) -> bool:
        """Where too much is wrong from the start, no block has to come: all that there is to wait
        for is that all answer."""
        statuses = self.monitor.statuses.values()
        return super().nodes_ready() or (
            self._is_hopeless and all(status is not None for status in statuses)
        )

    async def watch(self) -> None:
        """Let the scenario happen, heal everything, and wait until the nodes come together."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sample_memory)
            nursery.start_soon(self._orders.run)
            async with trio.open_nursery() as looking:
                looking.start_soon(self._look)
                with trio.move_on_after(self._scenario.run_for_s):
                    async with trio.open_nursery() as acting:
                        acting.start_soon(self._cause_faults)
                        acting.start_soon(self._turn_liars)
                        if self._options is not None:
                            acting.start_soon(self._options.run)
                        await self.stopped.wait()
                        acting.cancel_scope.cancel()
                await self.faults.heal()
                self._orders.stop_sending()
                if not self.stopped.is_set():
                    await self._converge()
                looking.cancel_scope.cancel()
            nursery.cancel_scope.cancel()
        self._ended_s = self._now_s()
        self._progress.end(self._ended_s)

    async def conclude(self) -> tuple[dict[str, Any], ExitCode]:
        """The judge comes later, when all is stopped. Raises `BehaviourFailedError`."""
        self._validate_liars()
        if self.has_traders:
            await self.supervisor.stop(TRADERS)
        return {}, ExitCode.OK

    def validate_starting(self) -> None:
        """Raise `BehaviourFailedError` or `NotReadyError` if a process has ended already."""
        self._validate_liars()
        super().validate_starting()

    def _validate_liars(self) -> None:
        """With a liar that its own behaviour ended, the run says nothing about the others."""
        for failure in self.failures:
            raise failure

    def observe(self) -> Seen:
        """What was seen; the disks are yet to be read."""
        honest = set(self._honest)
        strangers = self._liars | {twin.name for twin in self._scenario.twins}
        exits = [each for each in self.unexpected_exits if each.name not in strangers]
        liar_exits = [each for each in self.unexpected_exits if each.name in strangers]
        return Seen(
            liars=tuple(sorted(self._liars)),
            committed_height=self._progress.height,
            fills=self.monitor.fills,
            longest_pause_s=round(self._progress.longest_pause_s, 3),
            heals=tuple(self._progress.heals),
            contradictions=tuple(
                each
                for each in self.monitor.agreement.contradictions
                if each.node in honest and each.other_node in honest
            ),
            halts=tuple(describe_end(each) for each in exits if each.exit_code == ExitCode.HALTED),
            unexpected_exits=tuple(
                describe_end(each) for each in exits if each.exit_code != ExitCode.HALTED
            ),
            not_converged=self.not_converged,
            orders=self._orders.seen(),
            convictions=tuple(sorted(self._convictions)),
            not_asked=tuple(sorted(self._not_asked)),
            liar_exits=tuple(describe_end(each) for each in liar_exits),
            view_changes=self._progress.view_changes,
            memory=tuple(
                each for each in compute_growth(self._samples, self._ended_s) if each.node in honest
            ),
        )

    @property
    def samples(self) -> list[MemorySample]:
        """Memory over the run."""
        return self._samples

    @property
    def spread_attempts(self) -> list[SpreadAttempt]:
        """Of a day of options."""
        return [] if self._options is None else self._options.attempts

    def _count_starts(self, name: str) -> int:
        return self.supervisor.status(name).starts

    # ---- what happens ------------------------------------------------------------------------

    def _now_s(self) -> float:
        return trio.current_time() - self.measured_from

    async def _sleep_until(self, at_s: float) -> None:
        await trio.sleep_until(self.measured_from + at_s)

    async def _cause_faults(self) -> None:
        for fault in self._scenario.faults:
            if fault.is_there_from_the_start:
                continue
            await self._sleep_until(fault.at_s)
            entry = await self.faults.add(fault.document, fault.for_s)
            self.note(f"{self._now_s():6.1f} s  fault {entry.id}: {_describe(fault.document)}")

    async def _turn_liars(self) -> None:
        for liar in self._scenario.liars:
            if liar.at_s > 0 or liar.behaviour is None:
                await self._sleep_until(liar.at_s)
                with trio.CancelScope(shield=True):
                    # Not to be left between its end and its start.
                    await self.faults.set_liar(liar.node, liar.behaviour)
                self.note(f"{self._now_s():6.1f} s  {liar.node}: {liar.behaviour or 'honest'}")

    async def _look(self) -> None:
        nodes = [node.name for node in self.network.nodes]
        twins = {twin.node for twin in self._scenario.twins}
        last_heal_s = self.faults.last_heal_s
        said_s = 0.0
        while True:
            healed_s, entries = self.faults.last_heal_s, self.faults.entries
            faults = [entry.fault for entry in entries]
            self._progress.look(
                self._now_s(),
                self._height(),
                is_whole=has_quorum(faults, nodes, twins | set(self.faults.liars)),
                is_healed=healed_s != last_heal_s and not entries,
            )
            for status in self._answers():
                self._progress.note_view(status.view, status.committed_height)
            last_heal_s = healed_s
            self.tick()
            if self._now_s() - said_s >= SAY_EVERY_S:
                said_s = self._now_s()
                self.note(self._describe_progress(said_s))
            await trio.sleep(POLL_S)

    def _describe_progress(self, now_s: float) -> str:
        """Where the run is: there may be nothing else to see for minutes."""
        run_for_s, orders = self._scenario.run_for_s, self._orders.seen()
        end = f"of {run_for_s:g} s" if now_s < run_for_s else "waiting for the nodes to converge"
        return (
            f"{now_s:6.1f} s  {end}: height {self._progress.height}, {self.monitor.fills} fills, "
            f"{orders.executed} of {orders.sent} orders executed"
        )

    def _answers(self) -> list[NodeStatus]:
        """Of the honest nodes that answer."""
        statuses = (self.monitor.statuses[name] for name in self._honest)
        return [each for each in statuses if each is not None]

    def _height(self) -> int:
        """The highest that an honest node has committed, of those that answer."""
        return max((each.committed_height for each in self._answers()), default=0)

    async def _sample_memory(self) -> None:
        while True:
            for node in self.network.nodes:
                status = self.supervisor.status(node.name)
                if status.pid is not None:
                    size_bytes = await trio.to_thread.run_sync(read_rss_bytes, status.pid)
                    self._samples.append(
                        MemorySample(self._now_s(), node.name, status.starts, size_bytes)
                    )
            await trio.sleep(INTERVAL_S)

    # ---- coming together ---------------------------------------------------------------------

    async def _converge(self) -> None:
        """Wait until every honest node has executed what had been committed when all was healed."""
        goal = self._progress.height
        with trio.move_on_after(self._scenario.converge_within_s) as scope:
            while (missing := self._find_missing(goal)) is not None:
                self.not_converged = missing
                await trio.sleep(POLL_S)
            self.not_converged = None
        if not scope.cancelled_caught:
            with trio.move_on_after(ORDERS_WAIT_S):
                while True:
                    if await self._orders.settle():
                        break
                    await trio.sleep(POLL_S)
        await self._ask_convictions()

    def _find_missing(self, goal: int) -> str | None:
        for name in self._honest:
            status = self.monitor.statuses[name]
            if self.supervisor.status(name).state is not ProcessState.RUNNING:
                return f"{name} does not run"
            if status is None:
                return f"{name} does not answer"
            if status.executed_height < goal:
                return f"{name} has executed {status.executed_height} of {goal} heights"
        if self._height() <= goal:
            return f"no height came after {goal}"
        common = self.monitor.agreement.highest_common("state_root", self._honest)
        if common is None or common[0] < goal:
            return f"no common root at or above height {goal}"
        return None

    async def _ask_convictions(self) -> None:
        """Ask every honest node; one that does not answer is asked again until the time is over."""
        with trio.move_on_after(CONVICTIONS_WAIT_S):
            while self._not_asked:
                for name in sorted(self._not_asked):
                    await self._ask_node(name)
                await trio.sleep(POLL_S)

    async def _ask_node(self, name: str) -> None:
        endpoint = self.network.node(name).door_endpoint()
        try:
            async with DoorClient.connect(
                endpoint.host, endpoint.port, timeout_s=QUERY_TIMEOUT_S
            ) as client:
                answer = await client.query("status")
        except DoorError:
            return  # It stays among those that were not asked.
        for each in msgspec.convert(answer["convictions"], tuple[ConvictionInfo, ...]):
            self._convictions.add((each.member, each.offence))
        self._not_asked.discard(name)


def _has_quorum_at_start(network: Network, scenario: Scenario) -> bool:
    nodes = [node.name for node in network.nodes]
    faults = [
        decode_fault(each.document, nodes)
        for each in scenario.faults
        if each.is_there_from_the_start
    ]
    faulty = {twin.node for twin in scenario.twins}
    return has_quorum(
        faults, nodes, faulty | {liar.node for liar in scenario.liars if liar.at_s == 0}
    )


def _describe(document: dict[str, Any]) -> str:
    return " ".join(
        f"{value}" if key == "kind" else f"{key}={value}" for key, value in document.items()
    )
