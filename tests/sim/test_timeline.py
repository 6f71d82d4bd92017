"""The page of a failure shows the failure: where, what and who did it."""

import re
from pathlib import Path

import pytest

from localnet.sim.bundle import record_run
from localnet.sim.faults import (
    CrashAtPersistFault,
    CrashFault,
    LossFault,
    PartitionFault,
    TornWriteFault,
)
from localnet.sim.mutants.plant import planted
from localnet.sim.mutants.table import MUTANTS
from localnet.sim.recorder import write_trace
from localnet.sim.schedule import Network, Schedule, load_schedule
from localnet.sim.timeline import describe_masks, render_timeline
from localnet.sim.timeline_style import STYLE
from localnet.sim.twins import TwinSpace

FAST_HOTSTUFF = Path(__file__).parents[1] / "regressions" / "schedules" / "fast_hotstuff.json"


@pytest.fixture(scope="module")
def fork():
    """(schedule, outcome, recorder) of the flaw of Fast-HotStuff."""
    schedule = load_schedule(FAST_HOTSTUFF)
    with planted(next(mutant for mutant in MUTANTS if mutant.name == "fast_hotstuff")):
        return schedule, *record_run(schedule)


def test_the_act_that_is_forbidden_is_drawn_where_it_happened(fork) -> None:
    schedule, outcome, recorder = fork
    page = render_timeline(schedule, outcome, recorder, is_minimal=True)
    (row,) = re.findall(r'<tr><th class="lane">node0</th>.*?</tr>', page)
    (cell,) = re.findall(r'<td class="act end">.*?</td>', row)
    assert re.search(r'class="chip final failed".*?>h1</span>', cell)
    assert "nobody can have certified a child in view 2" in cell
    assert page.count('class="act') == 1
    assert '<th class="end" id="failure"><b>1</b>' in page
    assert 'getElementById("failure")' in page
    assert ", cut down to what the failure needs</h1>" in page
    assert "cut down" not in render_timeline(schedule, outcome, recorder)
    assert "when node0 takes height 1 for final" in page


def test_the_trace_ends_with_the_violation(fork) -> None:
    _, outcome, recorder = fork
    *_, act, last = write_trace(recorder, outcome).splitlines()
    assert re.search(r"node0 +view +1  takes height 1 for final, block [0-9a-f]{8} of view 1$", act)
    assert re.search(r"\d+ ms  node0 +view +1  safety: Finality \(attack\): AssertionError", last)


def test_every_letter_of_twins_has_a_row_with_its_groups(fork) -> None:
    page = render_timeline(*fork)
    names = re.findall(r">(view \d): who hears whom<", page)
    assert names == [f"view {view}" for view in range(2, 7)]
    assert ">0 | 1 + 2 3</div>" in page


def test_two_blocks_of_one_view_have_letters_and_far_colours() -> None:
    space = TwinSpace((1, 1, 1, 1), (0,), 1, "halves", span=3)
    word = next(each for each in space.enumerate() if each[0].leader == 0)
    schedule = space.make_schedule(word, 1)
    page = render_timeline(schedule, *record_run(schedule))
    hues = dict(
        re.findall(r'class="chip proposal" style="background:hsl\(([\d.]+) .*?>(P\w?)', page)
    )
    assert {"Pa", "Pb"} <= set(hues.values())
    assert ">views 1 to 3: who hears whom<" in page


def test_phases_network_parents_and_single_views_are_told() -> None:
    schedule = Schedule(seed=3, views=3, network=Network(drop_permille=15, delay_most_ms=9))
    outcome, recorder = record_run(schedule)
    assert list(outcome.phases) == ["heal", "rest"]
    page = render_timeline(schedule, outcome, recorder)
    assert "every link takes 1 to 9 ms, drops 1.5 % and doubles 0 %" in page
    assert "<script" not in page
    assert re.search(r'<th class="phase"><b>\d+</b>.*?<span class="tag">heal [\d,]+ ms', page)
    assert re.search(r">P←[1-9]", page)
    one = Schedule(views=1)
    outcome, recorder = record_run(one)
    head = render_timeline(one, outcome, recorder).split("</p>")[0]
    assert ("1 views" in head, "1 heights" in head) == (False, False)


def test_a_bar_ends_when_its_fault_stops_acting_and_says_when_it_never_struck() -> None:
    faults = (
        LossFault(at_ms=0, permille=1),
        CrashFault(at_ms=80_000_000, duration_ms=5, host=2),
        PartitionFault(at_ms=0, duration_ms=30, side=(0, 1)),
    )
    schedule = Schedule(seed=8, views=12, faults=faults)
    outcome, recorder = record_run(schedule)
    page = render_timeline(schedule, outcome, recorder)
    rows = re.findall(
        r'<span class="small">(\w+)</span></th>.*?<td class="bars" colspan="(\d+)">'
        r'<div class="bar (\w+)"',
        page,
    )
    kinds = {kind: (int(columns), look) for kind, columns, look in rows}
    entered = {
        moment.view
        for moment in recorder.moments
        if moment.kind == "enter" and moment.at_ms <= outcome.phases["heal"]
    }
    assert kinds["loss"] == (max(entered), "fault")
    assert kinds["crash"][1] == "never"
    assert ">(never struck) host=2<" in page
    assert ">side=0,1<" in page
    assert kinds["partition"][0] < max(entered)


@pytest.mark.parametrize("kind", [CrashAtPersistFault, TornWriteFault])
def test_what_waits_for_a_write_is_one_moment_however_long_its_host_is_down(kind) -> None:
    fault = kind(at_ms=60, duration_ms=400, host=2, table="vote")
    schedule = Schedule(seed=8, views=12, faults=(fault,))
    page = render_timeline(schedule, *record_run(schedule))
    (columns,) = re.findall(r'colspan="(\d+)"><div class="bar fault"', page)
    assert columns == "1"


def test_a_label_of_a_fault_ends_with_its_bar_and_a_legend_does_not_wrap_below_its_key() -> None:
    assert ".bar { " in STYLE
    assert "text-overflow: ellipsis" in STYLE
    visible = re.findall(r"^(\S.*?) \{[^}]*overflow: visible", STYLE, re.M)
    assert visible == [".bar.letter"], "who hears whom is told in full"
    assert re.search(r"\.legend li \{[^}]*display: flex", STYLE)


def test_what_a_page_shows_is_in_its_legend() -> None:
    page = render_timeline(Schedule(views=1), *record_run(Schedule(views=1)))
    legend = page[page.index('<ul class="legend">') :]
    for sign in ("P&larr;5", "V", "h7", "T", "qc", "tc", "✝", "▶", "HALT", "!3", "heal", "loss"):
        assert f">{sign}<" in legend or f"<b>{sign}<" in legend
    for look in ("end", "down", "phase", "fault", "never", "letter", "failed"):
        assert re.search(rf'class="[\w ]*\b{look}\b', legend)


def test_masks_that_are_no_groups_are_told_sender_by_sender() -> None:
    assert describe_masks((0b111,) * 3, 3, ()) == "everybody hears everybody"
    assert describe_masks((0b011, 0b011, 0b100), 3, ()) == "0 1 | 2"
    assert describe_masks((0b0111, 0b1111, 0b0111, 0b1010), 3, (0,)) == "0 2 | 0′ + 1"
    assert describe_masks((0b001, 0b011, 0b100), 3, ()) == "0 → nobody; 1 → 0; 2 → nobody"
