"""Each fault does what it says, on every path on which it has power."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

import consensus.effects as consensus
import node.events as events
from consensus.effects import Persist, Store, StoreBatch
from localnet.sim.faults import CrashFault, Fault, SlowDiskFault, SlowWorkFault
from localnet.sim.nodes import NodeCluster
from localnet.sim.oracles.watchers import Watcher
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import Schedule
from node.core import NodeCore

HOST = 2
SLOW_MS = 60


class Waits(Watcher):
    """How long each kind of work and each kind of write takes on one host."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waits_ms: defaultdict[str, list[int]] = defaultdict(list)
        self._asked: dict[Any, tuple[str, int]] = {}
        self._cluster: NodeCluster
        step = NodeCore.step

        def watch(node: NodeCore, now_ms: int, event: Any) -> Any:
            if self._cluster.world.hosts[HOST].machine is node:
                key = event.height if isinstance(event, events.Executed) else event
                self._note(getattr(event, "token", key if isinstance(key, int) else None))
            return step(node, now_ms, event)

        monkeypatch.setattr(NodeCore, "step", watch)

    def __call__(self, cluster: NodeCluster) -> None:
        self._cluster = cluster
        cluster.world.observers.append(self)

    def on_crash(self, index: int) -> None:
        if index == HOST:
            self._asked.clear()

    def on_effect(self, index: int, effect: Any) -> None:
        if index != HOST:
            return
        key = (
            effect.height if isinstance(effect, events.Execute) else getattr(effect, "token", None)
        )
        if key is not None:
            name = effect.store.value if isinstance(effect, Persist) else type(effect).__name__
            self._asked[key] = (name, self._cluster.world.now_ms)

    def on_durable(self, index: int, persist: Persist) -> None:
        if index == HOST and self._cluster.world.is_running(HOST):
            self._note(persist.token)

    def _note(self, key: Any) -> None:
        name, asked_ms = self._asked.pop(key, ("", 0))
        if name:
            self.waits_ms[name].append(self._cluster.world.now_ms - asked_ms)


def measure(monkeypatch: pytest.MonkeyPatch, *faults: Fault) -> dict[str, list[int]]:
    waits = Waits(monkeypatch)
    # Batches of an earlier life are opened again.
    crashes = [CrashFault(at_ms=at_ms, duration_ms=100, host=HOST) for at_ms in (700, 1_200, 1_700)]
    schedule = Schedule(seed=1, views=24, faults=(*faults, *crashes))
    assert run_schedule(schedule, waits).violation is None
    return waits.waits_ms


WORK = {
    consensus.Sign,
    consensus.SignIdentity,
    consensus.Verify,
    consensus.Aggregate,
    consensus.CheckBatch,
    events.VerifyEnvelopes,
    events.Execute,
    events.OpenBatches,
}


@pytest.fixture
def only_attack(monkeypatch) -> Iterator[None]:
    """A run that ends with its attack: what is healed works at its usual pace again."""
    monkeypatch.setattr("localnet.sim.scenario._Run._heal", lambda self: None)
    monkeypatch.setattr("localnet.sim.scenario._Run._rest", lambda self: None)
    return


def test_slow_workers_are_late_with_everything_that_they_do(monkeypatch, only_attack) -> None:
    fault = SlowWorkFault(at_ms=0, host=HOST, least_ms=SLOW_MS, most_ms=SLOW_MS)
    waits_ms = measure(monkeypatch, fault)
    assert {each.__name__ for each in WORK} <= set(waits_ms)
    for each in WORK:
        # What was asked for at the start came before the fault.
        later_ms = waits_ms[each.__name__][2:]
        assert later_ms, each
        assert min(later_ms) >= SLOW_MS, each


@pytest.mark.parametrize(
    ("of", "slow"),
    [("records", {"safety", "archive"}), ("batches", {"StoreBatch"})],
)
def test_a_slow_disk_is_late_with_what_it_is_slow_of_and_with_nothing_else(
    of: Any, slow: set[str], monkeypatch, only_attack
) -> None:
    fault = SlowDiskFault(at_ms=0, host=HOST, of=of, least_ms=SLOW_MS, most_ms=SLOW_MS)
    waits_ms = measure(monkeypatch, fault)
    kinds = {*(store.value for store in Store), StoreBatch.__name__}
    assert kinds <= set(waits_ms)
    for kind in kinds:
        later_ms = waits_ms[kind][2:]
        assert later_ms
        assert (min(later_ms) >= SLOW_MS) == (kind in slow), kind
