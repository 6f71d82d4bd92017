"""What is drawn takes effect: faults strike, and lies are told."""

from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import count

import pytest
from msgspec.structs import replace

from localnet.byzantine import Need, behaviours
from localnet.sim.faults import (
    FOREVER_MS,
    BitFlipFault,
    CrashFault,
    Fault,
    HostFault,
    LinkFault,
    WipeFault,
    kind_of,
)
from localnet.sim.generator import generate
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import Schedule

KINDS = {kind_of(kind): kind for kind in (*LinkFault.__args__, *HostFault.__args__)}
VIEWS = 20
OF_EACH = 3
"""Faults of a kind that are looked at, those of one schedule together."""
STRUCK_PERMILLE = 660
"""Of the faults of each kind. Traps wait for a write that may never come."""


@cache
def draw(seed: int, views: int = VIEWS) -> Schedule:
    return generate(seed, views)


def find_schedules(kind: type[Fault]) -> Iterator[Schedule]:
    """Drawn schedules with a kind of fault, reduced to it."""
    for schedule in map(draw, count(1)):
        faults = tuple(each for each in schedule.faults if isinstance(each, kind))
        if faults:
            yield replace(schedule, faults=faults, liars=())


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_faults_of_every_kind_strike_while_the_attack_lasts(kind: type[Fault]) -> None:
    drawn = struck = 0
    for schedule in find_schedules(kind):
        coverage = Counter(run_schedule(schedule).coverage)
        assert coverage[f"fault_drawn.{kind_of(kind)}"] == len(schedule.faults)
        drawn += len(schedule.faults)
        struck += coverage[f"fault.{kind_of(kind)}"]
        if drawn >= OF_EACH:
            break
    assert struck * 1_000 >= drawn * STRUCK_PERMILLE


def test_every_part_of_a_disk_is_damaged_in_some_schedule() -> None:
    found = set()
    for schedule in find_schedules(BitFlipFault):
        found.update(each.of for each in schedule.faults if isinstance(each, BitFlipFault))
        if len(found) == 3:
            break
    assert found == {"records", "batches", "snapshots"}


def test_what_a_lie_needs_is_brought_about_with_it_whatever_it_is_called(monkeypatch) -> None:
    def find() -> Schedule:
        return next(each for each in map(generate, count(1)) if _names(each) == ["silent"])

    before = find()
    monkeypatch.setattr(behaviours()["silent"], "needs", Need.LONG_ABSENCE)
    (absence,) = set(find().faults) - set(before.faults)
    assert isinstance(absence, CrashFault)
    assert absence.duration_ms == FOREVER_MS
    assert absence.host == (before.liars[0].member - 1) % len(before.powers)


def test_who_lies_to_joining_members_meets_one_that_asks_it_first() -> None:
    schedule = next(each for each in map(generate, count(1)) if _names(each) == ["misfit_offer"])
    (wipe,) = (each for each in schedule.faults if isinstance(each, WipeFault))
    assert wipe.is_joining
    assert len(schedule.powers) == 7
    assert (wipe.host + 2) % 7 == schedule.liars[0].member


def _names(schedule: Schedule) -> list[str]:
    return [liar.behaviour for liar in schedule.liars]


LONG_VIEWS = {"hollow_proof": 60, "false_pieces": 45}
"""For lies to those who are far behind, and to those who join when there is a snapshot."""
RUNS_MAX = 6
"""Schedules with a lie, of which one at least tells it."""


@pytest.mark.parametrize("name", behaviours())
def test_every_lie_that_is_drawn_is_told(name: str) -> None:
    runs = 0
    views = LONG_VIEWS.get(name, VIEWS)
    for schedule in (draw(seed, views) for seed in count(1)):
        if name not in {liar.behaviour for liar in schedule.liars}:
            continue
        outcome = run_schedule(schedule)
        assert outcome.violation is None
        if outcome.coverage.get(f"lie.{name}"):
            return
        runs += 1
        assert runs < RUNS_MAX, "never told"
