"""The trace of a run tells apart whatever a machine does differently."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from consensus.effects import Persist, Put, Store
from localnet.sim.nodes import NodeCluster
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import Schedule
from node.core import NodeCore
from node.events import ReceiptUpdate
from node.recovery import REFUSED_TABLE

SCHEDULE = Schedule(seed=5, views=6)


class Notice(Struct, frozen=True):
    """An effect that nobody acts on."""

    text: str


def shuffle_receipts(effects: list[Any]) -> list[Any]:
    receipts = [each for each in effects if isinstance(each, ReceiptUpdate)]
    return [receipts.pop() if isinstance(each, ReceiptUpdate) else each for each in effects]


def make_noise() -> Callable[[list[Any]], list[Any]]:
    numbers = count(1)

    def add_noise(effects: list[Any]) -> list[Any]:
        def bend(effect: Any) -> Any:
            if isinstance(effect, Persist) and effect.store is Store.ARCHIVE:
                noise = Put(REFUSED_TABLE, b"noise", next(numbers).to_bytes(8, "big"))
                return replace(effect, puts=(*effect.puts, noise))
            return effect

        return [bend(each) for each in effects]

    return add_noise


def run_with(change: Callable[[list[Any]], list[Any]], monkeypatch: pytest.MonkeyPatch) -> str:
    step = NodeCore.step
    with monkeypatch.context() as patch:
        patch.setattr(
            NodeCore, "step", lambda self, now_ms, event: change(step(self, now_ms, event))
        )
        outcome = run_schedule(SCHEDULE)
    assert outcome.violation is None
    return outcome.trace_hash


def test_receipts_in_another_order_leave_another_trace(monkeypatch) -> None:
    assert run_with(list, monkeypatch) == run_schedule(SCHEDULE).trace_hash
    assert run_with(shuffle_receipts, monkeypatch) != run_with(list, monkeypatch)


@pytest.mark.one_run
def test_other_bytes_on_disk_leave_another_trace(monkeypatch) -> None:
    add_noise = make_noise()
    first = run_with(add_noise, monkeypatch)
    assert run_with(make_noise(), monkeypatch) == first
    assert run_with(add_noise, monkeypatch) != first


def test_what_a_start_asks_for_is_in_the_trace(monkeypatch) -> None:
    plain = run_schedule(SCHEDULE).trace_hash
    start = NodeCore.start

    def start_with_a_notice(self: NodeCore, now_ms: int) -> list[Any]:
        return [*start(self, now_ms), Notice("only the trace hears of it")]

    with monkeypatch.context() as patch:
        patch.setattr(NodeCore, "start", start_with_a_notice)
        assert run_schedule(SCHEDULE).trace_hash != plain


def test_what_a_poke_asks_for_is_in_the_trace() -> None:
    def poke(text: str) -> str:
        def prepare(cluster: NodeCluster) -> None:
            cluster.world.after(50, cluster.world.poke, 0, lambda core: [Notice(text)])

        return run_schedule(SCHEDULE, prepare).trace_hash

    assert poke("one") == poke("one")
    assert poke("one") != poke("other")
