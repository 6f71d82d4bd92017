"""A campaign: many schedules, one verdict, and the figures that show what it was worth.

One schedule in `REPEAT_EVERY` is run twice, by two processes with two hash seeds, and has to leave
the same trace. A few are run once more under a profiler to tell where the time goes.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any, Final

from msgspec import Struct

from localnet.sim.generator import generate
from localnet.sim.interrupts import Interruption
from localnet.sim.scenario import Outcome
from localnet.sim.schedule import Schedule
from localnet.sim.violation import Violation
from localnet.sim.watchdog import WATCHDOG
from localnet.sim.workers import Ran, Task, run_tasks
from localnet.verdicts import Verdict, find_gravest
from node.exit_codes import ExitCode

REPEAT_EVERY: Final = 20
"""Of schedules, so many to one that is run twice."""
PROFILE_EVERY: Final = 200
"""Of schedules, so many to one that is run once more under a profiler."""
PROFILED_MAX: Final = 10
"""Runs under a profiler, which are slow, of one campaign."""
FINDINGS_MAX: Final = 20
"""A campaign that found so much ends: the next seeds would tell nothing new."""

DETERMINISM: Final = "determinism"
"""The rule that a schedule run twice leaves one trace; what breaks it cannot be shrunk."""


class Finding(Struct, frozen=True):
    """A schedule whose run broke a rule."""

    schedule: Schedule
    violation: Violation
    trace_hash: str


class Report(Struct, kw_only=True):
    """What a campaign came to."""

    runs: int = 0
    repeated: int = 0
    """Schedules run twice, and compared."""
    seed_least: int | None = None
    seed_most: int | None = None
    views: int = 0
    views_least: int | None = None
    """Views of the run that had fewest."""
    cpu_s: float = 0.0
    wall_s: float = 0.0
    committed: int = 0
    orders: int = 0
    fills: int = 0
    virtual_ms: int = 0
    parts: dict[str, float] = {}
    """Seconds by part, of the runs that were profiled."""
    coverage: dict[str, int] = {}
    findings: list[Finding] = []
    interrupted: ExitCode | None = None
    """What a signal that ended it early asks to exit with."""

    def describe_seeds(self) -> str:
        """The first and the last seed that were run."""
        if self.seed_least is None or self.seed_least == self.seed_most:
            return "none" if self.seed_least is None else str(self.seed_least)
        return f"{self.seed_least}..{self.seed_most}"

    @property
    def views_per_s(self) -> float:
        """A core, by the workers' own processor time."""
        return self.views / self.cpu_s if self.cpu_s else 0.0

    def verdict(self) -> Verdict:
        """That of the gravest finding."""
        return find_gravest(finding.violation.verdict for finding in self.findings)

    def exit_code(self) -> ExitCode:
        """That of the verdict; if nothing was found, that of the signal that ended it."""
        verdict = self.verdict()
        if verdict is Verdict.PASS and self.interrupted is not None:
            return self.interrupted
        return verdict.exit_code

    def describe_violations(self) -> list[dict[str, Any]]:
        """The findings as `--json` tells them."""
        return [
            {
                "seed": finding.schedule.seed,
                "name": finding.schedule.name,
                "verdict": finding.violation.verdict,
                "oracle": finding.violation.oracle,
                "detail": finding.violation.detail,
                "phase": finding.violation.phase,
                "at_ms": finding.violation.at_ms,
                "trace_hash": finding.trace_hash,
            }
            for finding in self.findings
        ]


def generate_all(
    seeds: Iterable[int], views: int, powers: tuple[int, ...] | None = None
) -> Iterator[Schedule]:
    """The random schedules of some seeds; with committees of several sizes unless `powers` says
    which one."""
    for seed in seeds:
        yield generate(seed, views, powers)


def run_campaign(
    schedules: Iterable[Schedule],
    jobs: int = 1,
    on_progress: Callable[[Report], Any] = lambda report: None,
    interruption: Interruption | None = None,
) -> Report:
    """Run all schedules, from whichever generator they come, and sum up: what there is, if it is
    interrupted.

    Raises `WorkerDiedError`, and `ScheduleError` for a schedule that cannot be run."""
    campaign = _Campaign(schedules)
    start_s = time.monotonic()
    results = run_tasks(campaign.tasks(), jobs)
    for ran in results if interruption is None else interruption.until(results):
        campaign.add(ran)
        campaign.report.wall_s = time.monotonic() - start_s
        on_progress(campaign.report)
    if interruption is not None:
        campaign.report.interrupted = interruption.exit_code
    campaign.report.coverage = dict(sorted(campaign.coverage.items()))
    return campaign.report


class _Campaign:
    def __init__(self, schedules: Iterable[Schedule]) -> None:
        self._schedules = iter(schedules)
        self._twice: dict[int, Outcome] = {}
        """By number: what the first of two runs came to."""
        self.report = Report()
        self.coverage: Counter[str] = Counter()

    def tasks(self) -> Iterator[Task]:
        """Repetitions follow their first runs at once; another worker takes them."""
        for number in count():
            schedule = next(self._schedules, None)
            if schedule is None or len(self.report.findings) >= FINDINGS_MAX:
                return
            yield Task(number, schedule)
            if number % REPEAT_EVERY == 0:
                yield Task(number, schedule, is_repetition=True)
            if number % PROFILE_EVERY == 0 and number < PROFILE_EVERY * PROFILED_MAX:
                yield Task(number, schedule, is_profiled=True)

    def add(self, ran: Ran) -> None:
        """Count one run."""
        report, outcome, task = self.report, ran.outcome, ran.task
        if task.is_profiled:
            for part, seconds in ran.parts.items():
                report.parts[part] = report.parts.get(part, 0.0) + seconds
            return
        assert outcome is not None, "of all but profiled runs"
        report.cpu_s += ran.cpu_s
        report.views += outcome.views
        if task.number % REPEAT_EVERY == 0:
            other = self._twice.pop(task.number, None)
            if other is None:
                self._twice[task.number] = outcome
            else:
                report.repeated += 1
                self._compare(task.schedule, outcome, other)
        if task.is_repetition:
            return
        report.runs += 1
        seed = task.schedule.seed
        report.seed_least = seed if report.seed_least is None else min(report.seed_least, seed)
        report.seed_most = max(report.seed_most or 0, seed)
        least = report.views_least
        report.views_least = outcome.views if least is None else min(outcome.views, least)
        report.committed += outcome.committed_height
        report.orders += outcome.orders
        report.fills += outcome.fills
        report.virtual_ms += outcome.virtual_ms
        self.coverage.update(outcome.coverage)
        if outcome.violation is not None:
            report.findings.append(Finding(task.schedule, outcome.violation, outcome.trace_hash))

    def _compare(self, schedule: Schedule, outcome: Outcome, other: Outcome) -> None:
        if is_same_run(outcome, other):
            return
        detail = f"two runs, two traces: {outcome.trace_hash} and {other.trace_hash}"
        violation = Violation(
            DETERMINISM, detail, outcome.virtual_ms, "repetition", Verdict.NONDETERMINISM
        )
        self.report.findings.append(Finding(schedule, violation, outcome.trace_hash))


def is_same_run(one: Outcome, other: Outcome) -> bool:
    """Did two runs of a schedule come to the same? One that hangs is ended at any line of its
    loop."""
    if one.violation is None or other.violation is None:
        return one == other
    if one.violation.oracle != WATCHDOG or other.violation.oracle != WATCHDOG:
        return one == other
    return one.trace_hash == other.trace_hash
