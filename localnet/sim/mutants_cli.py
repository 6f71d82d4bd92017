"""`rota sim mutants`: does the campaign notice a rule that is switched off?"""

import time
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from msgspec.structs import replace

import rota_build
from localnet.sim.bundle import probe_keep, write_bundle, writing
from localnet.sim.campaign import Finding
from localnet.sim.interrupts import Interruption
from localnet.sim.mutants.hunt import SCENARIOS_MAX, Hunt, hunt
from localnet.sim.mutants.plant import Mutant, planted
from localnet.sim.mutants.schedules import make_schedule
from localnet.sim.mutants.table import MUTANTS
from localnet.sim.options import JobsOption, choose_jobs
from localnet.sim.scenario import run_schedule
from localnet.sim.workers import run_all
from node.cli.output import JsonOption, Output, current_output, record, table
from node.exit_codes import ExitCode, OperatorError

Task = tuple[str, int, bool]
"""The name of a mutant, the schedules at most, and whether those that nobody chose are asked."""

GENERAL: Final = {None: "not asked", True: "true", False: "false"}


class UnknownMutantError(OperatorError):
    """No mutant has this name."""

    code = "sim.mutant_unknown"
    exit_code = ExitCode.USAGE


def mutants(
    context: typer.Context,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="This mutant; may be given again."),
    ] = None,
    is_listed: Annotated[
        bool, typer.Option("--list", help="Only name them: no schedule is run.")
    ] = False,
    general: Annotated[
        bool,
        typer.Option(
            "--general",
            help="Ask besides whether schedules kill it that nobody chose for it; takes longer.",
        ),
    ] = False,
    scenarios: Annotated[
        int,
        typer.Option(
            "--scenarios", min=1, max=100_000, help="Schedules run before a mutant is a survivor."
        ),
    ] = SCENARIOS_MAX,
    keep: Annotated[
        Path | None,
        typer.Option(
            "--keep", metavar="DIR", help="Leave a folder there for each mutant that was killed."
        ),
    ] = None,
    jobs: JobsOption = None,
    json: JsonOption = False,
) -> None:
    """Switch off one rule after the other, and see that the campaign's schedules show it.

    Nothing that is shipped is changed: functions get other code in memory. Exit code 23 if a
    mutant survives. Ctrl-C and SIGTERM end it with the report of those that were hunted until then,
    and exit code 130 or 143 if none of them survived.

    \b
    Examples:
      rota sim mutants
      rota sim mutants --list
      rota sim mutants --only fast_hotstuff --keep DIR
    """
    chosen = choose_mutants(only)
    output = current_output(context)
    if is_listed:
        listed = [(each.name, each.rule, " ".join(each.first) or None) for each in chosen]
        document = [{"name": each.name, "rule": each.rule} for each in chosen]
        output.data({"mutants": document}, table(["mutant", "rule", "schedules first"], listed))
        return
    if keep is not None:
        probe_keep(keep)
    rota_build.require_pure()
    start_s = time.monotonic()
    tasks = [(each.name, scenarios, general) for each in chosen]
    with Interruption() as interruption:
        found = _hunt_all(output, tasks, choose_jobs(jobs), interruption)
        folders = list(interruption.until(keep_kills(keep, found))) if keep is not None else []
    is_interrupted = interruption.received is not None
    wall_s = time.monotonic() - start_s
    killed = sum(each.killed for each in found)
    rows = [
        (
            each.name,
            each.rule,
            "killed" if each.killed else "SURVIVED",
            each.scenarios,
            each.schedule or None,
            each.oracle or None,
            GENERAL[each.general],
        )
        for each in found
    ]
    hunted = f"{killed} of {len(found)}"
    if is_interrupted:
        hunted += f", interrupted: of {len(tasks)}"
    sums = [("killed", hunted), ("time", f"{wall_s:,.0f} s")]
    if general:
        sums.insert(1, ("without choice", f"{sum(bool(each.general) for each in found)}"))
    output.data(
        make_document(found, wall_s)
        | {"interrupted": is_interrupted, "bundles": [str(each) for each in folders]},
        table(
            ["mutant", "rule that is off", "fate", "scenarios>", "schedule", "oracle", "general"],
            rows,
        ),
        "",
        record(sums),
        *(f"look: {folder / 'timeline.html'}" for folder in folders),
    )
    if killed < len(found):
        raise typer.Exit(int(ExitCode.EXPECTATION))
    raise typer.Exit(int(interruption.exit_code or ExitCode.OK))


def choose_mutants(only: list[str] | None) -> list[Mutant]:
    """The mutants of these names, or all. Raises `UnknownMutantError`."""
    names = [mutant.name for mutant in MUTANTS]
    for name in only or ():
        if name not in names:
            near = ", ".join(get_close_matches(name, names, cutoff=0.4))
            advice = f"did you mean {near}?" if near else "`rota sim mutants --list` names them"
            raise UnknownMutantError(f"no mutant {name!r}", advice=advice)
    return [mutant for mutant in MUTANTS if not only or mutant.name in only]


def keep_kills(directory: Path, found: list[Hunt]) -> Iterator[Path]:
    """Leave a bundle for each mutant that was killed: what the rule is for, to look at. Raises
    `KeepError`."""
    for each in found:
        if not each.killed:
            continue
        (mutant,) = choose_mutants([each.name])
        schedule = replace(make_schedule(each.schedule, each.number), name=each.name)
        with planted(mutant), writing(directory):
            outcome = run_schedule(schedule)
            assert outcome.violation is not None, "who killed it kills it again"
            finding = Finding(schedule, outcome.violation, outcome.trace_hash)
            folder = write_bundle(directory, finding, 0, mutant.name).folder
        yield folder


def make_document(found: list[Hunt], wall_s: float) -> dict[str, Any]:
    """The result for programs."""
    return {
        "mutants": [
            {
                "name": each.name,
                "rule": each.rule,
                "killed": each.killed,
                "seed": each.seed,
                "scenarios": each.scenarios,
                "schedule": each.schedule,
                "oracle": each.oracle,
                "detail": each.detail,
                "general": GENERAL[each.general],
                "cpu_s": each.cpu_s,
            }
            for each in found
        ],
        "killed": sum(each.killed for each in found),
        "general": sum(bool(each.general) for each in found),
        "survived": [each.name for each in found if not each.killed],
        "wall_s": round(wall_s, 1),
    }


def hunt_by_name(task: Task) -> Hunt:
    """What a worker does."""
    name, scenarios, is_general = task
    mutant = next(each for each in MUTANTS if each.name == name)
    return hunt(mutant, scenarios, is_general=is_general)


def _hunt_all(
    output: Output, tasks: list[Task], jobs: int, interruption: Interruption
) -> list[Hunt]:
    """What became of the mutants in the order of the tasks: of those that were hunted to the end,
    if it is interrupted."""
    is_told = output.err.is_terminal and not output.is_json
    found: dict[str, Hunt] = {}
    hunts = run_all(hunt_by_name, tasks, jobs, lambda task: f"mutant {task[0]}")
    for each in interruption.until(hunts):
        found[each.name] = each
        if is_told:
            verdict = "killed" if each.killed else "SURVIVED"
            output.note(f"{len(found)}/{len(tasks)}  {each.name}: {verdict}")
    return [found[name] for name, _, _ in tasks if name in found]
