"""`rota sim`: whole committees in a virtual world, thousands of them."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.live import Live
from rich.text import Text

from localnet.sim import mutants_cli, twins_cli
from localnet.sim.bundle import (
    KEEP_DEFAULT,
    KeepOption,
    describe_bundles,
    keep_findings,
    write_timeline,
    writing,
)
from localnet.sim.campaign import Report, generate_all, run_campaign
from localnet.sim.options import JobsOption, choose_jobs
from localnet.sim.scenario import Outcome, run_schedule
from localnet.sim.schedule import (
    MEMBERS_MAX,
    VIEWS_MAX,
    Schedule,
    ScheduleError,
    encode_schedule,
    load_schedule,
)
from localnet.sim.shrink import RUNS_MAX, NothingToShrinkError, shrink
from localnet.verdicts import Verdict
from node.cli.output import JsonOption, Output, command_group, current_output, record, table
from node.exit_codes import ExitCode, OperatorError

SEEDS_DEFAULT: Final = "1..100"
VIEWS_DEFAULT: Final = 100

app = command_group(
    "Run whole committees in a virtual world, from seeds or from schedule files.",
    "rota sim run --seeds 1..200",
    "rota sim replay sim-failures/17/minimal.json",
)
app.add_typer(twins_cli.app, name="twins")
app.command()(mutants_cli.mutants)


class ScheduleFileError(OperatorError):
    """A file that holds no schedule that can be run."""

    code = "sim.schedule_invalid"
    exit_code = ExitCode.CONFIG


class NotFailingError(OperatorError):
    """There is nothing to shrink: no rule is broken."""

    code = "sim.no_violation"
    exit_code = ExitCode.REJECTED


SeedsOption = Annotated[
    str, typer.Option("--seeds", metavar="A..B", help="The seeds, both included, or one seed.")
]
NodesOption = Annotated[
    int | None,
    typer.Option(
        "--nodes",
        "-n",
        min=4,
        max=MEMBERS_MAX,
        help="Members of equal power [default: each seed draws a committee of 4 to 7].",
        show_default=False,
    ),
]
ViewsOption = Annotated[
    int, typer.Option("--views", min=1, max=VIEWS_MAX, help="Views under attack, each run.")
]
TimelineOption = Annotated[
    Path | None,
    typer.Option("--timeline", metavar="HTML", help="Draw the run as a page to look at."),
]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A schedule, as JSON.")]


@app.command()
def run(
    context: typer.Context,
    seeds: SeedsOption = SEEDS_DEFAULT,
    nodes: NodesOption = None,
    views: ViewsOption = VIEWS_DEFAULT,
    jobs: JobsOption = None,
    keep: KeepOption = KEEP_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Run the random schedules of a range of seeds, and hold every oracle against each.

    One seed in twenty is run twice, and both runs have to leave the same trace. Exit code 20 if a
    rule of safety was broken, 21 for liveness, 22 if a run was not repeatable, 1 if a node or the
    simulator crashed. Each failure leaves a folder below --keep with its schedule, a minimal one,
    a trace, a timeline to look at and the command that repeats it.

    \b
    Examples:
      rota sim run --seeds 1..2000 --nodes 4
      rota sim run --seeds 17 --views 30 --json
    """
    chosen = _parse_seeds(seeds)
    powers = None if nodes is None else (1,) * nodes
    finish(context, generate_all(chosen, views, powers), len(chosen), jobs, keep)


@app.command()
def replay(
    context: typer.Context,
    file: FileArgument,
    timeline: TimelineOption = None,
    json: JsonOption = False,
) -> None:
    """Run one schedule from a file: the same file gives the same trace, bit for bit.

    Exit codes as those of `rota sim run`.

    \b
    Examples:
      rota sim replay sim-failures/17/minimal.json
      rota sim replay schedule.json --timeline timeline.html
    """
    schedule = read_schedule(file)
    if timeline is None:
        outcome = run_schedule(schedule)
    else:
        with writing(timeline):
            outcome = write_timeline(timeline, schedule)
    rows = [
        ("verdict", describe_outcome(outcome)),
        ("trace", outcome.trace_hash),
        ("views", outcome.views),
        ("committed", outcome.committed_height),
        ("orders", outcome.orders),
        ("fills", outcome.fills),
        ("virtual ms", outcome.virtual_ms),
    ]
    current_output(context).data(outcome, record(rows))
    raise typer.Exit(int(_judge_outcome(outcome)))


@app.command("shrink")
def shrink_file(
    context: typer.Context,
    file: FileArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where to write it [default: FILE, ending in .min.json]."),
    ] = None,
    runs: Annotated[
        int, typer.Option("--runs", min=2, max=100_000, help="How many runs it may take.")
    ] = RUNS_MAX,
    json: JsonOption = False,
) -> None:
    """Cut a failing schedule down to what its failure needs: the same oracle fails on the result.

    Exit code 5 if the schedule breaks no rule.

    \b
    Example:
      rota sim shrink sim-failures/17/schedule.json --runs 2000
    """
    output = current_output(context)
    schedule = read_schedule(file)
    target = out if out is not None else file.with_suffix(".min.json")

    def tell(smaller: Schedule, count: int) -> None:
        if not output.is_json:
            output.note(f"run {count}: {describe_size(smaller)}")

    try:
        shrunk = shrink(schedule, runs, tell)
    except NothingToShrinkError as error:
        raise NotFailingError(
            f"{file}: {error}", advice="shrink a schedule that `rota sim replay` finds failing"
        ) from error
    with writing(target):
        target.write_bytes(encode_schedule(shrunk.schedule))
    small = shrunk.schedule
    document = {
        "file": str(target),
        "oracle": shrunk.violation.oracle,
        "detail": shrunk.violation.detail,
        "runs": shrunk.runs,
        "complete": shrunk.is_complete,
        "faults": len(small.faults),
        "liars": len(small.liars),
        "twin_links": len(small.twin_links),
        "views": small.views,
        "members": len(small.powers),
    }
    rows = [
        ("was", describe_size(schedule)),
        ("is", describe_size(small)),
        ("oracle", f"{shrunk.violation.oracle}: {shrunk.violation.detail}"),
        ("runs", f"{shrunk.runs}{'' if shrunk.is_complete else ', all there were'}"),
    ]
    output.data(document, record(rows))
    output.note(f"next: rota sim replay {target}")


def describe_size(schedule: Schedule) -> str:
    """How much there is of a schedule."""
    return (
        f"{len(schedule.faults)} faults, {len(schedule.liars)} liars,"
        f" {len(schedule.twin_links)} twin links, {schedule.views} views,"
        f" {len(schedule.powers)} members"
    )


# ---- shared by the commands that run many -----------------------------------------------------


def finish(
    context: typer.Context,
    schedules: Iterable[Schedule],
    total: int,
    jobs: int | None,
    keep: Path = KEEP_DEFAULT,
) -> None:
    """Run a campaign over schedules, print what it came to, keep what failed, and exit by the
    verdict."""
    output = current_output(context)
    with _Progress(output, total) as progress:
        report = run_campaign(schedules, choose_jobs(jobs), progress.show)
    bundles = keep_findings(keep, report.findings, output.note)
    print_report(output, report, bundles)
    raise typer.Exit(int(report.verdict().exit_code))


def print_report(output: Output, report: Report, bundles: Sequence[Path] = ()) -> None:
    """The figures of a campaign."""
    output.data(
        make_document(report) | {"bundles": [str(path) for path in bundles]},
        record(
            [
                ("runs", f"{report.runs:,} ({report.repeated:,} of them twice)"),
                ("views", f"{report.views:,} (at least {report.views_least} in each run)"),
                ("speed", f"{report.views_per_s:,.0f} views/s a core"),
                ("time", f"{report.wall_s:,.0f} s, {report.cpu_s:,.0f} s of processor"),
                ("virtual time", f"{report.virtual_s:,} s"),
                ("committed", f"{report.committed:,} blocks"),
                ("executed", f"{report.orders:,} envelopes, {report.fills:,} fills"),
                ("where time goes", _describe_parts(report)),
            ]
        ),
        "",
        table(["faults that struck", "all>", "under a lock>"], _fault_rows(report.coverage)),
        "",
        table(["what happened", "times>"], _event_rows(report.coverage)),
        "",
        *_finding_lines(report),
        *describe_bundles(bundles),
    )


def make_document(report: Report) -> dict[str, Any]:
    """The report for programs."""
    total = sum(report.parts.values()) or 1.0
    return {
        "verdict": report.verdict(),
        "exit_code": int(report.verdict().exit_code),
        "runs": report.runs,
        "repeated": report.repeated,
        "views": report.views,
        "views_least": report.views_least,
        "views_per_s": round(report.views_per_s, 1),
        "cpu_s": round(report.cpu_s, 1),
        "wall_s": round(report.wall_s, 1),
        "committed": report.committed,
        "orders": report.orders,
        "fills": report.fills,
        "virtual_s": report.virtual_s,
        "time_permille": {
            part: round(1_000 * seconds / total)
            for part, seconds in sorted(report.parts.items(), key=lambda item: -item[1])
        },
        "coverage": report.coverage,
        "violations": report.describe_violations(),
    }


def read_schedule(path: Path) -> Schedule:
    """A schedule file. Raises `ScheduleFileError`."""
    try:
        return load_schedule(path)
    except (OSError, ScheduleError) as error:
        raise ScheduleFileError(
            f"{path}: {error}", advice="write it as docs/simulator.md describes"
        ) from error


def describe_outcome(outcome: Outcome) -> str:
    """One run's verdict in words."""
    violation = outcome.violation
    if violation is None:
        return "no violation"
    return (
        f"{violation.verdict}: {violation.oracle} at {violation.at_ms} ms"
        f" ({violation.phase}): {violation.detail}"
    )


def _judge_outcome(outcome: Outcome) -> ExitCode:
    verdict = Verdict.PASS if outcome.violation is None else outcome.violation.verdict
    return verdict.exit_code


def _parse_seeds(text: str) -> range:
    found = re.fullmatch(r"(\d{1,18})(?:\.\.(\d{1,18}))?", text, re.ASCII)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no range such as 1..2000", param_hint="--seeds")
    first = int(found[1])
    last = int(found[2]) if found[2] is not None else first
    if last < first:
        raise typer.BadParameter(f"{text!r} ends before it begins", param_hint="--seeds")
    return range(first, last + 1)


def _describe_parts(report: Report) -> str:
    total = sum(report.parts.values())
    if not total:
        return "not measured"
    parts = sorted(report.parts.items(), key=lambda item: -item[1])
    return ", ".join(f"{part} {100 * seconds / total:.0f} %" for part, seconds in parts)


def _fault_rows(coverage: dict[str, int]) -> list[tuple[str, int, int]]:
    return [
        (name.removeprefix("fault."), count, coverage.get(f"fault_under_lock.{name[6:]}", 0))
        for name, count in coverage.items()
        if name.startswith("fault.")
    ]


def _event_rows(coverage: dict[str, int]) -> list[tuple[str, int]]:
    return [
        (name, count)
        for name, count in coverage.items()
        if not name.startswith(("fault.", "fault_under_lock."))
    ]


def _finding_lines(report: Report) -> list[str]:
    if not report.findings:
        return ["no violation"]
    return [
        f"VIOLATION  seed {finding.schedule.seed}  {finding.violation.oracle}"
        f" ({finding.violation.phase}, {finding.violation.at_ms} ms): {finding.violation.detail}"
        for finding in report.findings
    ]


class _Progress:
    """A line that moves, on a terminal only."""

    def __init__(self, output: Output, total: int) -> None:
        self._total = total
        is_shown = output.err.is_terminal and not output.is_json
        self._live = Live(console=output.err, refresh_per_second=4, transient=True)
        self._is_shown = is_shown

    def __enter__(self) -> "_Progress":
        if self._is_shown:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_shown:
            self._live.stop()

    def show(self, report: Report) -> None:
        """Say how far it is."""
        if not self._is_shown:
            return
        rate = report.runs / report.wall_s if report.wall_s else 0.0
        left_s = (self._total - report.runs) / rate if rate else 0.0
        line = (
            f"{report.runs:,}/{self._total:,} runs  {report.views:,} views  "
            f"{report.views_per_s:,.0f} views/s a core  {len(report.findings)} violations  "
            f"{left_s:,.0f} s left"
        )
        self._live.update(Text(line, no_wrap=True, overflow="ellipsis"))
