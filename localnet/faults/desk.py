"""The supervisor's side of faults: takes them in, carries out those of processes, heals them.

What proxy and nodes do themselves stands in the table that this desk writes. Killing, pausing and
starting again is done here. A paused node is also woken by a small process of its own, because a
supervisor that is killed could not do it any more.
"""

import math
import signal
from collections.abc import Iterable
from typing import Any, Final, Protocol

import msgspec
import trio

from localnet.faults.model import (
    DURATION_MAX_S,
    EndingFault,
    Fault,
    FaultError,
    Kill,
    OnNodes,
    Pause,
    decode_fault,
    kind_of,
    parse_link,
    shorten_links,
)
from localnet.faults.table import (
    FAULTS_MAX,
    ActiveFault,
    Journal,
    journal_path,
    table_path,
    wall_ms,
    write_table,
)
from localnet.supervisor import ProcessPlan, ProcessState, ProcessStatus, Supervisor
from node.cli.hints import rota_command
from node.exit_codes import ExitCode, OperatorError
from node.network import Network

SUPERVISOR: Final = "supervisor"

AFTERMATH_S: Final = 20.0
"""A node whose disk was bad may need this long to notice and end, also once the disk is good."""


class PlanNode(Protocol):
    """How a node is started, with a behaviour as a liar."""

    def __call__(self, name: str, *, behaviour: str | None) -> ProcessPlan: ...


class FaultDesk:
    """The faults and the liars of one running localnet. Use `run` as a task."""

    def __init__(
        self, network: Network, supervisor: Supervisor, plan_node: PlanNode, *, has_bad_parts: bool
    ) -> None:
        """Without bad parts around the nodes only processes can be hit."""
        self._network = network
        self._supervisor = supervisor
        self._plan_node = plan_node
        self._has_bad_parts = has_bad_parts
        self._nodes = tuple(node.name for node in network.nodes)
        self._entries: dict[int, ActiveFault] = {}
        self._down: dict[int, list[str]] = {}
        """Nodes that did not run when a fault of theirs began, by fault."""
        self._last_id = 0
        self._lock = trio.Lock()
        self._changed = trio.Event()
        self._journal = Journal(journal_path(network.path), SUPERVISOR)
        self.liars: dict[str, str] = {}
        """Behaviours by node."""
        self.failures: dict[str, OperatorError] = {}
        """What ended a liar, if its own behaviour did, until it is started again."""
        self.last_heal_s = -math.inf
        """When the last fault in force ended, by trio's clock."""
        self._aftermath_until_s: dict[str, float] = {}
        """Nodes that ran on when the fault that should have ended them was over."""
        self._fallen: set[str] = set()
        """Of these, those that ended after all and wait to be started again."""

    async def run(self) -> None:
        """Heal what is due, until cancelled."""
        while True:
            await self._raise_fallen()
            now_ms = wall_ms()
            due = [each.id for each in self._entries.values() if each.is_over(now_ms)]
            if due:
                await self._end(due, "expired")
                continue
            ends = [each.until_ms for each in self._entries.values() if each.until_ms is not None]
            wait_s = (min(ends) - now_ms) / 1_000 if ends else math.inf
            with trio.move_on_after(wait_s):
                await self._changed.wait()

    @property
    def entries(self) -> tuple[ActiveFault, ...]:
        """In force now."""
        return tuple(self._entries.values())

    async def add(self, document: dict[str, Any], for_s: float | None) -> ActiveFault:
        """Begin a fault. Raises `FaultError`."""
        fault = decode_fault(document, self._nodes)
        if not self._has_bad_parts and not isinstance(fault, Kill | Pause):
            raise FaultError(
                f"this localnet knows no {kind_of(fault)}",
                advice="start it with `rota localnet up --faults`",
                code="fault.unavailable",
                exit_code=ExitCode.CONFIG,
            )
        if for_s is not None and not 0 < for_s <= DURATION_MAX_S:
            raise FaultError(f"{for_s:g} s is no duration", advice="as in --for 30s")
        async with self._lock:
            if len(self._entries) >= FAULTS_MAX:
                raise FaultError(
                    f"{FAULTS_MAX} faults are in force", advice="`rota fault heal` ends them all"
                )
            self._last_id += 1
            since_ms = wall_ms()
            until_ms = None if for_s is None else since_ms + max(1, int(for_s * 1_000))
            entry = ActiveFault(self._last_id, fault, since_ms, until_ms)
            self._entries[entry.id] = entry
            self._journal.note("added", id=entry.id, until_ms=until_ms, fault=fault)
            self.publish()
            if isinstance(fault, OnNodes) and not all(map(self._runs, fault.nodes)):
                self._down[entry.id] = [each for each in fault.nodes if not self._runs(each)]
            if isinstance(fault, Kill | Pause):
                await self._strike(entry.id, fault, for_s)
        return entry

    async def remove(self, number: int) -> ActiveFault:
        """End one fault. Raises `FaultError` if it is not in force."""
        entry = self._entries.get(number)
        if entry is None:
            raise FaultError(
                f"no fault {number} is in force",
                advice="`rota fault list` shows them",
                code="fault.unknown",
            )
        await self._end([number], "removed")
        return entry

    async def heal(self) -> list[int]:
        """End all faults; returns their numbers."""
        numbers = list(self._entries)
        await self._end(numbers, "healed")
        return numbers

    def describe(self, entry: ActiveFault) -> dict[str, Any]:
        """One fault, for commands; also one that has just ended."""
        left_ms = None if entry.until_ms is None else max(0, entry.until_ms - wall_ms())
        fault = entry.fault
        document: dict[str, Any] = msgspec.to_builtins(fault)
        if isinstance(fault, OnNodes):
            where = list(fault.nodes)
        else:
            where = shorten_links(map(parse_link, fault.links), self._nodes)
        return {
            "id": entry.id,
            **document,
            "where": where,
            "since_ms": entry.since_ms,
            "left_ms": left_ms,
            "down": self._down.get(entry.id, []),
        }

    def validate_free(self, name: str) -> None:
        """Raise `FaultError` if a kill holds this node down. After a bad disk it may be started: it
        meets that disk again."""
        if self._runs(name):
            return
        for entry in self._entries.values():
            if isinstance(entry.fault, Kill) and name in entry.fault.nodes:
                rota = rota_command(self._network.path, from_anywhere=True)
                raise FaultError(
                    f"fault {entry.id}, {kind_of(entry.fault)}, holds {name} down",
                    advice=f"end it, which starts {name}: {rota}fault remove {entry.id}",
                    code="fault.holds",
                    exit_code=ExitCode.CONFIG,
                )

    def heed_end(self, status: ProcessStatus) -> bool:
        """A process ended by itself: was it a fault's doing? Then it is started again in time."""
        name = status.name
        if status.exit_code not in (ExitCode.STORAGE, -signal.SIGKILL):
            return False
        if self._on(name, EndingFault):
            return True
        if trio.current_time() > self._aftermath_until_s.pop(name, -math.inf):
            return False
        self._fallen.add(name)
        self._wake()
        return True

    # ---- liars -------------------------------------------------------------------------------

    async def set_liar(self, name: str, behaviour: str | None) -> bool:
        """Restart a node as a liar, or as an honest one; one that was killed stays down, unless its
        behaviour did it. Returns whether it was started. Raises `NetworkError` or
        `UnknownBehaviourError`."""
        # Imported here: every command of a localnet starts faster without the consensus.
        from localnet.byzantine import find_behaviour

        self._network.node(name)
        if behaviour is not None:
            find_behaviour(behaviour)
        async with self._lock:
            if behaviour is None:
                self.liars.pop(name, None)
            else:
                self.liars[name] = behaviour
            self._supervisor.set_plan(name, self._plan_node(name, behaviour=behaviour))
            self._journal.note("liar", node=name, behaviour=behaviour)
            was_ended_by_itself = self.failures.pop(name, None) is not None
            is_started = self._runs(name) or was_ended_by_itself
            if is_started:
                await self._supervisor.restart(name)
            return is_started

    # ---- carrying out ------------------------------------------------------------------------

    def publish(self) -> None:
        """Write the table, for proxy and nodes to read."""
        write_table(table_path(self._network.run_dir), self.entries)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _raise_fallen(self) -> None:
        while self._fallen:
            name = self._fallen.pop()
            async with self._lock:
                if not self._runs(name):
                    await self._supervisor.start(name)
                    self._journal.note("started", node=name)

    async def _strike(self, number: int, fault: Kill | Pause, for_s: float | None) -> None:
        for name in fault.nodes:
            if not self._runs(name):
                self._journal.note("missed", id=number, kind=kind_of(fault), node=name)
                continue
            if isinstance(fault, Kill):
                await self._supervisor.kill(name)
            else:
                self._supervisor.pause(name, DURATION_MAX_S if for_s is None else for_s)
            self._journal.note("began", id=number, kind=kind_of(fault), node=name)

    async def _end(self, numbers: Iterable[int], event: str) -> None:
        async with self._lock:
            ended = [self._entries.pop(each) for each in numbers if each in self._entries]
            # What is in force any more is known before the nodes that it hit start again.
            self.publish()
            for entry in ended:
                self._journal.note(event, id=entry.id, kind=kind_of(entry.fault))
                if isinstance(entry.fault, OnNodes):
                    await self._recover(entry)
            if ended:
                self.last_heal_s = trio.current_time()

    async def _recover(self, entry: ActiveFault) -> None:
        """Wake or start the nodes of a fault that is over, unless another one holds them."""
        for name in entry.fault.nodes:
            if isinstance(entry.fault, Pause) and not self._on(name, Pause):
                self._supervisor.resume(name)
            elif isinstance(entry.fault, EndingFault) and not self._on(name, EndingFault):
                if self._runs(name):
                    self._aftermath_until_s[name] = trio.current_time() + AFTERMATH_S
                    continue
                await self._supervisor.start(name)
            else:
                continue
            self._journal.note("ended", id=entry.id, kind=kind_of(entry.fault), node=name)

    def _runs(self, name: str) -> bool:
        return self._supervisor.status(name).state is ProcessState.RUNNING

    def _on(self, name: str, kind: Any) -> list[Fault]:
        faults = (entry.fault for entry in self._entries.values())
        return [each for each in faults if isinstance(each, kind) and name in each.nodes]
