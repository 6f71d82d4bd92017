"""A run that hangs ends, with a verdict and the place where it hangs."""

import threading
from typing import Any

import pytest
from msgspec.structs import replace

from localnet.sim import watchdog
from localnet.sim.campaign import is_same_run
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import Schedule
from localnet.verdicts import Verdict
from node.core import NodeCore

QUIET = Schedule(seed=1, views=10)


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "STUCK_CPU_S", 0.3)


def test_an_endless_loop_in_a_node_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    on_committed = NodeCore._on_committed

    def spin(self: NodeCore, *arguments: Any) -> None:
        on_committed(self, *arguments)
        is_stuck = self._me == 2 and self.statistics().consensus.committed_height >= 5
        while is_stuck:
            pass

    monkeypatch.setattr(NodeCore, "_on_committed", spin)
    first, second = run_schedule(QUIET), run_schedule(QUIET)
    violation = first.violation
    assert violation is not None
    assert (violation.oracle, violation.verdict) == (watchdog.WATCHDOG, Verdict.CRASH)
    assert "more than 0.3 s of processor time" in violation.detail
    assert "spin" in violation.detail, "it says where"
    assert is_same_run(first, second), "wherever in its loop either was"
    assert not is_same_run(first, replace(second, trace_hash=""))


def test_what_takes_long_and_goes_on_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "STUCK_CPU_S", 0.01)
    looked: list[int] = []

    def count_events() -> int:
        looked.append(len(looked))
        return len(looked)

    with watchdog.watching(count_events):
        while len(looked) < 5:
            pass


def test_a_run_outside_the_main_thread_is_run_all_the_same() -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(run_schedule(QUIET)))
    thread.start()
    thread.join()
    assert found[0].violation is None
