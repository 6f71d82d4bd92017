"""Hunting a mutant: schedule after schedule, until an oracle shows the rule that is off.

A kill counts only if it is what the mutant's entry says, and if the same schedule runs clean
without it.
"""

import time
from itertools import islice
from typing import Final, NamedTuple

from msgspec import Struct

from localnet.sim.mutants.plant import Mutant, planted
from localnet.sim.mutants.schedules import list_kinds, make_schedule
from localnet.sim.scenario import run_schedule
from localnet.sim.violation import Violation

SCENARIOS_MAX: Final = 120
"""Schedules tried on one mutant before it counts as a survivor."""


class Hunt(Struct, frozen=True):
    """What became of a mutant."""

    name: str
    rule: str
    killed: bool
    seed: int | None
    """Of the schedule that killed it."""
    scenarios: int
    """Schedules run until then."""
    schedule: str
    """The kind of the schedule that killed it."""
    number: int
    """Which of its kind that was, from 0."""
    oracle: str
    detail: str
    """Of the violation that killed it; of the last other one if it survived."""
    general: bool | None
    """Do schedules kill it that nobody chose for it? None if that was not asked."""
    cpu_s: float


def hunt(mutant: Mutant, scenarios_max: int = SCENARIOS_MAX, *, is_general: bool = False) -> Hunt:
    """Run schedules on a mutant until one shows it up; with `is_general` also without those that
    were chosen for it."""
    start_s = time.process_time()
    kill, tried, seen = _hunt(mutant, mutant.first, scenarios_max)
    killed = kill is not None
    general = None
    if is_general:
        general = killed and (not mutant.first or _hunt(mutant, (), scenarios_max)[0] is not None)
    return Hunt(
        mutant.name,
        mutant.rule,
        killed,
        kill.seed if kill is not None else None,
        tried,
        kill.kind if kill is not None else "",
        kill.number if kill is not None else 0,
        seen.oracle if seen is not None and killed else "",
        f"{seen.oracle}: {seen.detail}" if seen is not None else "",
        general,
        round(time.process_time() - start_s, 2),
    )


class _Kill(NamedTuple):
    """The schedule that showed a mutant up."""

    kind: str
    number: int
    """Of its kind."""
    seed: int


def _hunt(
    mutant: Mutant, first: tuple[str, ...], scenarios_max: int
) -> tuple[_Kill | None, int, Violation | None]:
    """The schedule that kills, how many were run, and what was seen."""
    counts: dict[str, int] = {}
    seen: Violation | None = None
    for kind in islice(list_kinds(first), scenarios_max):
        number = counts.get(kind, 0)
        counts[kind] = number + 1
        schedule = make_schedule(kind, number)
        with planted(mutant):
            violation = run_schedule(schedule).violation
        if violation is None:
            continue
        seen = violation
        if mutant.is_shown_by(violation) and run_schedule(schedule).violation is None:
            return _Kill(kind, number, schedule.seed), sum(counts.values()), violation
    return None, sum(counts.values()), seen
