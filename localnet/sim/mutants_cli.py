"""`rota sim mutants`: does the campaign notice a rule that is switched off?"""

import time
from typing import Annotated, Any

import typer

from localnet.sim.mutant_table import MUTANTS
from localnet.sim.mutants import SCENARIOS_MAX, Hunt, hunt
from localnet.sim.options import JobsOption, choose_jobs
from localnet.sim.workers import run_all
from node.cli.output import JsonOption, Output, current_output, record, table
from node.exit_codes import ExitCode, OperatorError


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
    scenarios: Annotated[
        int,
        typer.Option(
            "--scenarios", min=1, max=100_000, help="Schedules run before a mutant is a survivor."
        ),
    ] = SCENARIOS_MAX,
    jobs: JobsOption = None,
    json: JsonOption = False,
) -> None:
    """Switch off one rule after the other, and see that the campaign's schedules show it.

    Nothing that is shipped is changed: functions get other code in memory. Exit code 23 if a
    mutant survives.

    \b
    Examples:
      rota sim mutants
      rota sim mutants --only fast_hotstuff --json
    """
    names = {mutant.name for mutant in MUTANTS}
    for name in only or ():
        if name not in names:
            raise UnknownMutantError(f"no mutant {name!r}", advice=f"there are: {sorted(names)}")
    chosen = [mutant.name for mutant in MUTANTS if not only or mutant.name in only]
    output = current_output(context)
    start_s = time.monotonic()
    found = _hunt_all(output, chosen, scenarios, choose_jobs(jobs))
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
        )
        for each in found
    ]
    output.data(
        make_document(found, wall_s),
        table(["mutant", "rule that is off", "", "scenarios>", "schedule", "oracle"], rows),
        "",
        record([("killed", f"{killed} of {len(found)}"), ("time", f"{wall_s:,.0f} s")]),
    )
    raise typer.Exit(int(ExitCode.OK if killed == len(found) else ExitCode.EXPECTATION))


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
                "cpu_s": each.cpu_s,
            }
            for each in found
        ],
        "killed": sum(each.killed for each in found),
        "survived": [each.name for each in found if not each.killed],
        "wall_s": round(wall_s, 1),
    }


def hunt_by_name(task: tuple[str, int]) -> Hunt:
    """What a worker does: hunt the mutant of a name with so many schedules at most."""
    name, scenarios = task
    return hunt(next(each for each in MUTANTS if each.name == name), scenarios)


def _hunt_all(output: Output, names: list[str], scenarios: int, jobs: int) -> list[Hunt]:
    tasks = [(name, scenarios) for name in names]
    is_told = output.err.is_terminal and not output.is_json
    found: dict[str, Hunt] = {}
    for each in run_all(hunt_by_name, tasks, jobs, lambda task: f"mutant {task[0]}"):
        found[each.name] = each
        if is_told:
            verdict = "killed" if each.killed else "SURVIVED"
            output.note(f"{len(found)}/{len(names)}  {each.name}: {verdict}")
    return [found[name] for name in names]
