"""What a campaign says while it runs and when it ends: the same for every command that runs one."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import typer
from rich.live import Live
from rich.text import Text

from localnet.byzantine import find_behaviour
from localnet.sim.bundle import (
    BUNDLE_SHRINK_RUNS_MAX,
    Bundle,
    KeepError,
    keep_findings,
    make_replay_line,
    make_shrink_line,
    probe_keep,
)
from localnet.sim.campaign import Report, run_campaign
from localnet.sim.faults import kind_of
from localnet.sim.interrupts import Interruption
from localnet.sim.options import choose_jobs
from localnet.sim.recorder import describe_not_asked, describe_views
from localnet.sim.scenario import Outcome
from localnet.sim.schedule import Schedule, ScheduleError, load_schedule
from localnet.verdicts import Verdict
from node.cli.output import Output, current_output, record, table
from node.exit_codes import ExitCode, OperatorError

REFRESH_PER_S: Final = 4
WHOLE_SECONDS_MIN_S: Final = 10
"""Of less, tenths are told."""
TENTHS_MIN_S: Final = 0.1
"""Less is no more than that: no run took no time."""


class ScheduleFileError(OperatorError):
    """A file that holds no schedule that can be run."""

    code = "sim.schedule_invalid"
    exit_code = ExitCode.CONFIG


def read_schedule(path: Path, output: Output) -> Schedule:
    """A schedule file; says which other files it makes Rota run, before. Raises
    `ScheduleFileError`."""
    try:
        return load_schedule(path, lambda file: output.note(f"runs {file}, which {path} names"))
    except OSError as error:
        raise ScheduleFileError(
            f"{path}: {error.strerror or error}", advice="name a schedule file that you may read"
        ) from error
    except ScheduleError as error:
        raise ScheduleFileError(
            f"{path}: {error}", advice=error.advice or "write it as docs/simulator.md describes"
        ) from error


def finish(
    context: typer.Context,
    schedules: Iterable[Schedule],
    total: int,
    jobs: int | None,
    keep: Path,
    kinds: Mapping[str, int] | None = None,
) -> None:
    """Run a campaign over schedules, print what it came to, keep what failed, and exit by the
    verdict. `kinds` counts the schedules by what they have in common."""
    output = current_output(context)
    probe_keep(keep)
    with Interruption() as interruption:
        with _Progress(output, total) as progress:
            report = run_campaign(schedules, choose_jobs(jobs), progress.show, interruption)
        bundles = _keep(output, report, keep, interruption)
    print_report(output, report, total, bundles, kinds)
    raise typer.Exit(int(report.exit_code()))


def _keep(output: Output, report: Report, keep: Path, interruption: Interruption) -> list[Bundle]:
    """Leave the bundles that can be left: a finding is told whatever becomes of its folder. Who
    interrupted is not kept waiting by the shrinking."""
    runs_max = 0 if report.interrupted else BUNDLE_SHRINK_RUNS_MAX
    bundles: list[Bundle] = []
    try:
        bundles.extend(
            interruption.until(keep_findings(keep, report.findings, output.note, runs_max))
        )
    except KeepError as error:
        output.note(f"warning: {error.message}: the findings are in the report only")
    report.interrupted = interruption.exit_code
    return bundles


def print_report(
    output: Output,
    report: Report,
    total: int,
    bundles: Sequence[Bundle] = (),
    kinds: Mapping[str, int] | None = None,
) -> None:
    """The figures of a campaign of so many schedules, then its failures."""
    document = make_document(report) | {"bundles": [str(each.folder) for each in bundles]}
    tables: list[object] = []
    if kinds is not None:
        document["kinds"] = dict(sorted(kinds.items()))
        tables += [table(["kind", "runs>"], sorted(kinds.items())), ""]
    output.data(
        document,
        record(
            [
                ("runs", _describe_runs(report, total)),
                ("seeds", report.describe_seeds()),
                ("views", f"{report.views:,} (at least {report.views_least or 0} in each run)"),
                ("speed", f"{report.views_per_s:,.0f} views/s a core"),
                ("time", describe_times(report.wall_s, report.cpu_s)),
                ("virtual time", _describe_s(report.virtual_ms / 1_000)),
                ("committed", f"{report.committed:,} blocks"),
                ("executed", f"{report.orders:,} envelopes, {report.fills:,} fills"),
                ("where time goes", _describe_parts(report)),
            ]
        ),
        "",
        *tables,
        table(["fault", "drawn>", "struck>", "under a lock>"], _fault_rows(report.coverage)),
        "",
        table(["what happened", "times>"], _event_rows(report.coverage)),
        "",
        *_describe_findings(report, bundles),
    )


def make_document(report: Report) -> dict[str, Any]:
    """The report for programs."""
    total = sum(report.parts.values()) or 1.0
    verdict = report.verdict()
    return {
        "verdict": verdict,
        "exit_code": int(report.exit_code()),
        "interrupted": report.interrupted is not None,
        "runs": report.runs,
        "seeds": report.describe_seeds(),
        "repeated": report.repeated,
        "views": report.views,
        "views_least": report.views_least,
        "views_per_s": round(report.views_per_s, 1),
        "cpu_s": round(report.cpu_s, 1),
        "wall_s": round(report.wall_s, 1),
        "committed": report.committed,
        "orders": report.orders,
        "fills": report.fills,
        "virtual_s": report.virtual_ms // 1_000,
        "time_permille": {
            part: round(1_000 * seconds / total)
            for part, seconds in sorted(report.parts.items(), key=lambda item: -item[1])
        },
        "coverage": report.coverage,
        "violations": report.describe_violations(),
    }


def print_outcome(output: Output, outcome: Outcome, schedule: Schedule, file: Path) -> None:
    """What one run of a file came to; its exit code is that of its verdict."""
    violation = outcome.violation
    verdict = Verdict.PASS if violation is None else violation.verdict
    words = "no violation"
    if violation is not None:
        words = (
            f"{verdict}: {violation.oracle} at {violation.at_ms} ms ({violation.phase}):"
            f" {violation.detail}"
        )
    rows = [
        ("verdict", words),
        ("trace", outcome.trace_hash),
        ("views", describe_views(outcome, schedule)),
        ("committed", outcome.committed_height),
        ("orders", outcome.orders),
        ("fills", outcome.fills),
        ("virtual ms", outcome.virtual_ms),
        ("faults that struck", _describe_struck(outcome, schedule)),
    ]
    if schedule.liars:
        rows.append(("lies told", _describe_lies(outcome, schedule)))
    if outcome.not_asked:
        rows.insert(1, ("not asked", describe_not_asked(outcome)))
    struck = count_struck(outcome)
    document = {
        "verdict": verdict,
        "exit_code": int(verdict.exit_code),
        "faults": len(schedule.faults),
        "faults_struck": struck.total(),
        "views_asked": schedule.views,
    }
    output.data(document | msgspec.structs.asdict(outcome), record(rows))
    if violation is not None:
        output.note(
            f"next: {make_replay_line(file)} --timeline run.html draws it,"
            f" {make_shrink_line(file)} cuts it down"
        )
    raise typer.Exit(int(verdict.exit_code))


def count_struck(outcome: Outcome) -> Counter[str]:
    """Faults that struck in a run, by kind."""
    prefix = "fault."
    return Counter(
        {
            name.removeprefix(prefix): count
            for name, count in outcome.coverage.items()
            if name.startswith(prefix)
        }
    )


def _describe_struck(outcome: Outcome, schedule: Schedule) -> str:
    struck = count_struck(outcome)
    words = f"{struck.total()} of {len(schedule.faults)}"
    missed = Counter(map(kind_of, schedule.faults)) - struck
    return words + (f"; never: {', '.join(sorted(missed))}" if missed else "")


def _describe_lies(outcome: Outcome, schedule: Schedule) -> str:
    """How often each way of lying was told, and by whom: those of one kind are counted together."""
    liars: dict[str, list[str]] = {}
    for liar in schedule.liars:
        name = find_behaviour(liar.behaviour).name
        liars.setdefault(name, []).append(f"node{liar.member}")
    return ", ".join(
        f"{name} {outcome.coverage.get(f'lie.{name}', 0):,} ({', '.join(members)})"
        for name, members in liars.items()
    )


def describe_times(wall_s: float, cpu_s: float) -> str:
    """How long a campaign took; of short ones tenths are told."""
    return f"{_describe_s(wall_s)}, {_describe_s(cpu_s)} of processor"


def _describe_s(seconds: float) -> str:
    if seconds >= WHOLE_SECONDS_MIN_S:
        return f"{seconds:,.0f} s"
    return f"{seconds:.1f} s" if seconds >= TENTHS_MIN_S else f"under {TENTHS_MIN_S} s"


def describe_size(schedule: Schedule) -> str:
    """How much there is of a schedule."""
    return (
        f"{len(schedule.faults)} faults, {len(schedule.liars)} liars,"
        f" {len(schedule.twin_links)} twin links, {schedule.views} views,"
        f" {len(schedule.powers)} members"
    )


def _describe_runs(report: Report, total: int) -> str:
    words = f"{report.runs:,} ({report.repeated:,} of them twice)"
    return words if report.interrupted is None else f"{words}, interrupted: of {total:,}"


def _describe_parts(report: Report) -> str:
    total = sum(report.parts.values())
    if not total:
        return "not measured"
    parts = sorted(report.parts.items(), key=lambda item: -item[1])
    return ", ".join(f"{part} {100 * seconds / total:.0f} %" for part, seconds in parts)


def _fault_rows(coverage: dict[str, int]) -> list[tuple[str, int, int, int]]:
    prefix = "fault_drawn."
    kinds = [name.removeprefix(prefix) for name in coverage if name.startswith(prefix)]
    return [
        (
            kind,
            coverage[f"{prefix}{kind}"],
            coverage.get(f"fault.{kind}", 0),
            coverage.get(f"fault_under_lock.{kind}", 0),
        )
        for kind in kinds
    ]


def _event_rows(coverage: dict[str, int]) -> list[tuple[str, int]]:
    return [
        (name, count)
        for name, count in coverage.items()
        if not name.startswith(("fault.", "fault_drawn.", "fault_under_lock."))
    ]


def _describe_findings(report: Report, bundles: Sequence[Bundle]) -> list[str]:
    """Each failure, and for the first ones what to look at and the line that repeats it."""
    findings = report.findings
    if not findings:
        words = "no violation" if report.interrupted is None else "interrupted: no violation so far"
        return [words + _count_not_asked(report.coverage)]
    lines: list[str] = []
    for number, finding in enumerate(findings):
        schedule, violation = finding.schedule, finding.violation
        name = f" ({schedule.name})" if schedule.name else ""
        lines.append(
            f"VIOLATION  seed {schedule.seed}{name}  {violation.oracle}"
            f" ({violation.phase}, {violation.at_ms} ms): {violation.detail}"
        )
        if number < len(bundles):
            bundle = bundles[number]
            lines += [f"look: {bundle.folder / 'timeline.html'}", bundle.replay_line]
    return lines


def _count_not_asked(coverage: dict[str, int]) -> str:
    """What some runs were not held to: their share of `no violation` says less."""
    prefix = "not_asked."
    found = [
        f"{name.removeprefix(prefix)} not asked in {count:,} runs"
        for name, count in coverage.items()
        if name.startswith(prefix)
    ]
    return f" ({', '.join(found)}: see `rota sim replay` of one)" if found else ""


class _Progress:
    """A line that moves, on a terminal only."""

    def __init__(self, output: Output, total: int) -> None:
        self._total = total
        self._is_shown = output.err.is_terminal and not output.is_json
        self._live = Live(console=output.err, refresh_per_second=REFRESH_PER_S, transient=True)

    def __enter__(self) -> "_Progress":
        if self._is_shown:
            self._live.start()
            self.show(Report())
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_shown:
            self._live.stop()

    def show(self, report: Report) -> None:
        """Say how far it is."""
        if not self._is_shown:
            return
        rate = report.runs / report.wall_s if report.wall_s else 0.0
        left = f"{(self._total - report.runs) / rate:,.0f} s left" if rate else "starting"
        line = (
            f"{report.runs:,}/{self._total:,} runs  {report.views:,} views  "
            f"{report.views_per_s:,.0f} views/s a core  {len(report.findings)} violations  {left}"
        )
        self._live.update(Text(line, no_wrap=True, overflow="ellipsis"))
