"""`rota sim`: whole committees in a virtual world, thousands of them."""

from pathlib import Path
from typing import Annotated, Final

import typer

from localnet.fuzz import cli as fuzz_cli
from localnet.sim import mutants_cli, streams_cli, twins_cli
from localnet.sim.bounds import MEMBERS_MAX, VIEWS_MAX
from localnet.sim.bundle import (
    KEEP_DEFAULT,
    KeepOption,
    make_replay_line,
    probe_file,
    write_timeline,
    writing,
)
from localnet.sim.campaign import generate_all
from localnet.sim.crash_points import generate_crash_points
from localnet.sim.interrupts import Interruption
from localnet.sim.options import JobsOption, parse_seeds
from localnet.sim.report import describe_size, finish, print_outcome, read_schedule
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import Schedule, save_schedule
from localnet.sim.shrink import (
    RUNS_MAX,
    InterruptedEarlyError,
    NothingToShrinkError,
    Shrunk,
    shrink,
)
from node.cli.output import JsonOption, Output, command_group, current_output, record
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
app.command()(fuzz_cli.fuzz)
app.command()(streams_cli.engine)


class NotFailingError(OperatorError):
    """There is nothing to shrink: no rule is broken."""

    code = "sim.no_violation"
    exit_code = ExitCode.REJECTED


class InterruptedShrinkError(OperatorError):
    """A signal came before it was known that the schedule fails; nothing was written."""

    code = "sim.interrupted"
    exit_code = ExitCode.INTERRUPTED


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
CrashPointsOption = Annotated[
    bool,
    typer.Option(
        "--crash-points",
        help="Instead: each seed's quiet run, once for every durable write of one node, which dies"
        " just before it is durable, and once more just after; and the same for the first writes of"
        " each kind that is made in trouble only.",
    ),
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
    crash_points: CrashPointsOption = False,
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
      rota sim run --seeds 1 --views 30 --crash-points
    """
    chosen = parse_seeds(seeds)
    powers = None if nodes is None else (1,) * nodes
    if crash_points:
        points = [each for seed in chosen for each in generate_crash_points(seed, views, powers)]
        finish(context, points, len(points), jobs, keep)
    else:
        finish(context, generate_all(chosen, views, powers), len(chosen), jobs, keep)


@app.command()
def replay(
    context: typer.Context,
    file: FileArgument,
    timeline: TimelineOption = None,
    json: JsonOption = False,
) -> None:
    """Run one schedule from a file: the same file gives the same trace, bit for bit.

    A schedule may name a behaviour as FILE.py:CLASS beside it. That file is run with your rights,
    and its path is printed before: look at it first if somebody else wrote it.

    Exit codes as those of `rota sim run`.

    \b
    Examples:
      rota sim replay sim-failures/17/minimal.json
      rota sim replay schedule.json --timeline timeline.html
    """
    schedule = read_schedule(file, current_output(context))
    if timeline is None:
        outcome = run_schedule(schedule)
    else:
        probe_file(timeline)
        with writing(timeline):
            outcome = write_timeline(timeline, schedule)
    print_outcome(current_output(context), outcome, schedule, file)


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

    Files of behaviours beside the schedule are run, as by `rota sim replay`. Exit code 5 if the
    schedule breaks no rule. Ctrl-C and SIGTERM end it with the smallest one that
    was found until then, and exit code 130 or 143.

    \b
    Example:
      rota sim shrink sim-failures/17/schedule.json --runs 2000
    """
    output = current_output(context)
    schedule = read_schedule(file, output)
    target = out if out is not None else file.with_suffix(".min.json")
    probe_file(target)

    def tell(smaller: Schedule, count: int) -> None:
        if not output.is_json:
            output.note(f"run {count}: {describe_size(smaller)}")

    with Interruption() as interruption:
        try:
            shrunk = shrink(schedule, runs, tell, interruption)
        except NothingToShrinkError as error:
            raise NotFailingError(
                f"{file}: {error}", advice="shrink a schedule that `rota sim replay` finds failing"
            ) from error
        except InterruptedEarlyError as error:
            raise InterruptedShrinkError(
                f"{file}: {error}",
                advice="let it run once, which takes as long as `rota sim replay`",
                exit_code=interruption.exit_code,
            ) from error
        with writing(target):
            save_schedule(target, shrunk.schedule)
    _print_shrunk(
        output, schedule, shrunk, target, is_interrupted=interruption.received is not None
    )
    raise typer.Exit(int(interruption.exit_code or ExitCode.OK))


def _print_shrunk(
    output: Output, schedule: Schedule, shrunk: Shrunk, target: Path, *, is_interrupted: bool
) -> None:
    small = shrunk.schedule
    document = {
        "file": str(target),
        "oracle": shrunk.violation.oracle,
        "detail": shrunk.violation.detail,
        "runs": shrunk.runs,
        "complete": shrunk.is_complete,
        "interrupted": is_interrupted,
        "faults": len(small.faults),
        "liars": len(small.liars),
        "twin_links": len(small.twin_links),
        "views": small.views,
        "members": len(small.powers),
    }
    end = (
        ", interrupted"
        if is_interrupted
        else ""
        if shrunk.is_complete
        else ", no more left: --runs allows more, and may cut further"
    )
    rows = [
        ("was", describe_size(schedule)),
        ("is", describe_size(small)),
        ("oracle", f"{shrunk.violation.oracle}: {shrunk.violation.detail}"),
        ("runs", f"{shrunk.runs}{end}"),
    ]
    output.data(document, record(rows))
    output.note(f"next: {make_replay_line(target)}")
