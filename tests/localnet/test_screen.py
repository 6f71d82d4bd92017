"""The moving line of `localnet up`."""

from types import SimpleNamespace
from typing import Any

import pytest

from localnet.screen import describe_moment
from localnet.status import NodeStatus
from localnet.tally import TapeProgress, TradersStatistics


def make_cluster(
    now: float, *, contradictions: tuple[str, ...] = (), tape: TapeProgress | None = None
) -> Any:
    """A cluster with long numbers, as the line reads it."""
    return SimpleNamespace(
        measured_from=now - 86_000,
        network=SimpleNamespace(nodes=range(16)),
        options=SimpleNamespace(traders=True),
        demo=SimpleNamespace(
            orders_per_s=12_345,
            last=TradersStatistics(tape=tape),
            recent_commit_latency=SimpleNamespace(median_ms=lambda: 1_234.0),
        ),
        monitor=SimpleNamespace(
            newest=lambda: NodeStatus(committed_height=12_345_678, view=9, leader="node12"),
            rates=lambda: (123.4, 12_345.0),
            up=lambda: range(15),
            agreement=SimpleNamespace(contradictions=contradictions),
        ),
    )


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr("trio.current_time", lambda: 100_000.0)
    return 100_000.0


def test_the_line_fits_a_terminal_of_80_columns_and_says_first_who_is_up(now: float) -> None:
    line = describe_moment(make_cluster(now))
    assert len(line) < 80
    assert line.startswith("23:53:20  15/16 up  height 12345678  12345 fills/s  12345 orders/s")
    assert describe_moment(make_cluster(now), width=120).endswith("123.4 blocks/s  leader node12")


def test_the_line_tells_how_far_the_tape_is(now: float) -> None:
    tape = TapeProgress(trades=50_000, played=1_200)
    assert "tape 1200/50000" in describe_moment(make_cluster(now, tape=tape), width=120)


def test_a_broken_promise_stands_in_front(now: float) -> None:
    line = describe_moment(make_cluster(now, contradictions=("two roots at height 5",)))
    assert line == "23:53:20  SAFETY VIOLATED: two roots at height 5"
