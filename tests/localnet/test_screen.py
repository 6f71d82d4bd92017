"""The moving line of `localnet up`."""

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from rich.live import Live

from localnet.screen import Screen, describe_moment
from localnet.status import NodeStatus
from localnet.tally import TapeProgress, TradersStatistics
from node.cli.output import Output


def make_cluster(
    now: float,
    *,
    contradictions: tuple[str, ...] = (),
    tape: TapeProgress | None = None,
    nodes: int = 16,
    height: int = 12_345_678,
    latency_ms: float = 1_234.0,
    orders_per_s: int = 12_345,
    fills_per_s: float = 12_345.0,
) -> Any:
    """A cluster, of long numbers unless told otherwise, as the line reads it."""
    return SimpleNamespace(
        measured_from=now - 86_000,
        network=SimpleNamespace(nodes=range(nodes)),
        has_traders=True,
        demo=SimpleNamespace(
            orders_per_s=orders_per_s,
            last=TradersStatistics(tape=tape),
            recent_commit_latency=SimpleNamespace(median_ms=lambda: latency_ms),
        ),
        monitor=SimpleNamespace(
            newest=lambda: NodeStatus(
                committed_height=height, view=height + 1, leader=f"node{nodes - 4}"
            ),
            rates=lambda: (123.4, fills_per_s),
            up=lambda: range(nodes - 1),
            agreement=SimpleNamespace(contradictions=contradictions),
        ),
    )


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr("trio.current_time", lambda: 100_000.0)
    return 100_000.0


WATCHED = ("15/16 up", "12345678", "12345679", "node12", "1234 ms", "12345 ord", "12345 fills/s")


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_the_line_fits_the_terminal_and_says_all_that_people_watch_for(
    now: float, width: int
) -> None:
    line = describe_moment(make_cluster(now), width)
    assert len(line) < width
    assert [each for each in WATCHED if each not in line] == []
    assert sorted(WATCHED, key=line.index) == list(WATCHED)


def test_the_line_has_short_words_only_where_the_terminal_is_narrow(now: float) -> None:
    assert "h 12345678  v 12345679  node12  1234 ms" in describe_moment(make_cluster(now), 80)
    assert describe_moment(make_cluster(now), 120) == (
        "23:53:20  15/16 up  height 12345678  view 12345679  leader node12  commit 1234 ms  "
        "12345 orders/s  12345 fills/s"
    )
    assert describe_moment(make_cluster(now), 140).endswith("12345 fills/s  123.4 blocks/s")


def test_the_numbers_of_a_young_localnet_leave_80_columns_room_for_whole_words(now: float) -> None:
    cluster = make_cluster(
        now, nodes=4, height=1234, latency_ms=58.6, orders_per_s=47, fills_per_s=13.0
    )
    assert describe_moment(cluster, 80) == (
        "3/4 up  height 1234  view 1235  leader node0  59 ms  47 ord/s  13 fills/s"
    )


def test_the_screen_asks_the_terminal_how_wide_it_is(
    now: float,
) -> None:
    output = Output()
    stream = io.StringIO()
    output.err = Console(file=stream, force_terminal=True, width=120)
    screen = Screen(output)
    screen._live = Live(console=output.err, auto_refresh=False, transient=True)
    screen._live.start()
    screen.view().tick(make_cluster(now))
    screen.close()
    assert "view 12345679  leader node12" in stream.getvalue()


def test_the_line_tells_how_far_the_tape_is(now: float) -> None:
    tape = TapeProgress(trades=50_000, played=1_200)
    assert "tape 1200/50000" in describe_moment(make_cluster(now, tape=tape), width=160)


def test_a_broken_promise_stands_in_front(now: float) -> None:
    line = describe_moment(make_cluster(now, contradictions=("two roots at height 5",)), 80)
    assert line == "23:53:20  SAFETY VIOLATED: two roots at height 5"
