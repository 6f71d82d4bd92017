"""`rota sim twins`: count, write and run scenarios of two hosts with one member's keys."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Annotated, Final

import typer
from msgspec.structs import replace

from localnet.sim.bounds import MEMBERS_MAX, TWIN_HOSTS_MAX, TWIN_VIEWS_MAX, VIEWS_MAX
from localnet.sim.bundle import KEEP_DEFAULT, KeepOption, writing
from localnet.sim.options import JobsOption
from localnet.sim.report import finish, read_schedule
from localnet.sim.schedule import Schedule, encode_schedule
from localnet.sim.twin_plans import generate_twins
from localnet.sim.twins import ALPHABETS, TwinSpace, choose_twins
from node.cli.output import JsonOption, Output, command_group, current_output, record
from node.exit_codes import ExitCode, OperatorError

COUNT_DEFAULT: Final = 200
VIEWS_DEFAULT: Final = 4
NODES_DEFAULT: Final = 4
COUNT_MAX: Final = 1_000_000
LETTERS_MAX: Final = 100
SPAN_MAX: Final = TWIN_VIEWS_MAX // LETTERS_MAX
"""So that the longest scenario fits into a schedule."""

app = command_group(
    "Two hosts with one member's keys, and who hears whom in each view.",
    "rota sim twins run --nodes 7 --count 500",
)


class TwinsError(OperatorError):
    """There are no such scenarios."""

    code = "sim.twins_invalid"
    exit_code = ExitCode.USAGE


NodesOption = Annotated[
    int | None, typer.Option("--nodes", "-n", min=1, max=MEMBERS_MAX, help="Members, of power 1.")
]
PowersOption = Annotated[
    str | None,
    typer.Option("--powers", help="Power of each member instead, such as 5,4,3,3."),
]
TwinsOption = Annotated[
    int | None,
    typer.Option(
        "--twins",
        min=1,
        max=MEMBERS_MAX,
        help="Members with a twin, the first ones [default: as many as stay below a third].",
        show_default=False,
    ),
]
ViewsOption = Annotated[
    int,
    typer.Option(
        "--views", min=1, max=LETTERS_MAX, help="Views under attack: letters of a scenario."
    ),
]
SpanOption = Annotated[
    int, typer.Option("--span", min=1, max=SPAN_MAX, help="Views for which each letter holds.")
]
AlphabetOption = Annotated[
    str, typer.Option("--alphabet", help=f"Who may hear whom: {', '.join(ALPHABETS)}.")
]
CountOption = Annotated[
    int, typer.Option("--count", min=1, max=COUNT_MAX, help="How many to draw.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=2**31, help="Decides which.")]
AllOption = Annotated[
    bool, typer.Option("--all", help="Every class of scenarios once, instead of a sample.")
]


@app.command()
def generate(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", help="Where to write: one schedule file each.")],
    nodes: NodesOption = None,
    powers: PowersOption = None,
    twins: TwinsOption = None,
    views: ViewsOption = VIEWS_DEFAULT,
    span: SpanOption = 1,
    alphabet: AlphabetOption = ALPHABETS[0],
    count: CountOption = COUNT_DEFAULT,
    seed: SeedOption = 1,
    every: AllOption = False,
    json: JsonOption = False,
) -> None:
    """Write scenarios as schedule files to a new or an empty folder, and say how many there are.

    Scenarios that differ in the names of members only are counted, and drawn, as one.

    \b
    Examples:
      rota sim twins generate --nodes 4 --views 4 --count 200 --seed 1 --out twins
      rota sim twins generate --nodes 4 --views 2 --alphabet halves --all --out twins
    """
    space = _make_space(_parse_powers(nodes, powers), twins, views, alphabet, span)
    _validate_empty(out)
    schedules = _draw(space, count, seed, every)
    width = len(str(len(schedules) - 1))
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for number, schedule in enumerate(schedules):
            (out / f"{number:0{width}}.json").write_bytes(encode_schedule(schedule))
    document = {
        "scenarios": space.count(),
        "classes": space.count_classes(),
        "written": len(schedules),
        "directory": str(out),
        "powers": space.powers,
        "twins": space.twins,
        "alphabet": space.alphabet,
    }
    rows = [
        ("scenarios", f"{space.count():,}"),
        ("up to names", f"{space.count_classes():,}"),
        ("written", f"{len(schedules):,} to {out}"),
    ]
    current_output(context).data(document, record(rows))


@app.command()
def run(
    context: typer.Context,
    directory: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]",
            help="Schedule files; without it scenarios are drawn.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    nodes: NodesOption = None,
    powers: PowersOption = None,
    twins: TwinsOption = None,
    views: ViewsOption = VIEWS_DEFAULT,
    span: SpanOption = 1,
    alphabet: AlphabetOption = ALPHABETS[0],
    count: CountOption = COUNT_DEFAULT,
    seed: SeedOption = 1,
    every: AllOption = False,
    run_views: Annotated[
        int, typer.Option("--run-views", min=1, max=VIEWS_MAX, help="Views of a run at least.")
    ] = 1,
    jobs: JobsOption = None,
    keep: KeepOption = KEEP_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Run scenarios from files, or draw them and run them.

    Without a folder and without `--nodes` or `--powers` they come from committees of 4, 7 and 10,
    of equal and of unequal power, in turn. An option that would decide nothing is refused. Exit
    codes as those of `rota sim run`.

    \b
    Examples:
      rota sim twins run twins
      rota sim twins run --nodes 7 --count 500 --json
      rota sim twins run --nodes 4 --twins 2 --alphabet halves --views 1 --span 8
    """
    if directory is not None:
        _refuse_unused(context, (*_OF_COMMITTEE, *_OF_SPACE, *_OF_DRAWING), "which come from files")
        schedules = _read_all(directory, current_output(context))
    elif nodes is None and powers is None:
        _refuse_unused(context, _OF_SPACE, "without --nodes or --powers")
        schedules = list(generate_twins(count, seed))
    else:
        space = _make_space(_parse_powers(nodes, powers), twins, views, alphabet, span)
        schedules = _draw(space, count, seed, every)
    schedules = [replace(each, views=max(each.views, run_views)) for each in schedules]
    kinds = Counter(_name_kind(schedule) for schedule in schedules)
    finish(context, schedules, len(schedules), jobs, keep, kinds)


_OF_COMMITTEE: Final = ("nodes", "powers")
_OF_SPACE: Final = ("twins", "views", "span", "alphabet", "every")
_OF_DRAWING: Final = ("count", "seed")
"""Parameters by what they decide."""

_FLAGS: Final = {"every": "--all"}


def _refuse_unused(context: typer.Context, names: Sequence[str], why: str) -> None:
    """What would change nothing is not taken in silence."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            flag = _FLAGS.get(name, f"--{name}")
            raise TwinsError(
                f"{flag} decides nothing about scenarios {why}",
                advice="leave it out, or see `rota sim twins run --help`",
            )


def _validate_empty(directory: Path) -> None:
    """Scenarios of two spaces in one folder would be run as one."""
    if directory.is_dir() and any(directory.iterdir()):
        raise TwinsError(f"{directory} is not empty", advice="name a new folder, or empty this one")


def _parse_powers(nodes: int | None, text: str | None) -> tuple[int, ...]:
    if text is None:
        return (1,) * (nodes or NODES_DEFAULT)
    if nodes is not None:
        raise TwinsError(
            "--nodes and --powers both say who the members are",
            advice="give one of them: --powers 5,4,3,3 is a committee of four",
        )
    try:
        powers = tuple(int(part) for part in text.split(","))
    except ValueError:
        powers = ()
    if not powers or min(powers) < 1 or len(powers) > MEMBERS_MAX:
        raise TwinsError(f"{text!r} are no powers", advice="write them as 5,4,3,3")
    return powers


def _make_space(
    powers: tuple[int, ...], twins: int | None, views: int, alphabet: str, span: int
) -> TwinSpace:
    try:
        chosen = choose_twins(powers, twins)
        if len(powers) + len(chosen) > TWIN_HOSTS_MAX:
            raise ValueError(f"more than {TWIN_HOSTS_MAX} hosts, twins included")
        return TwinSpace(powers, chosen, views, alphabet, span)
    except ValueError as error:
        raise TwinsError(str(error), advice="see `rota sim twins generate --help`") from error


def _draw(space: TwinSpace, count: int, seed: int, every: bool) -> list[Schedule]:
    if every:
        try:
            words = list(space.enumerate())
        except ValueError as error:
            raise TwinsError(str(error), advice="leave --all out, or ask for fewer views") from (
                error
            )
    else:
        random = Random(f"twins {seed}")
        words = [space.sample(random) for _ in range(count)]
    return [space.make_schedule(word, seed + number) for number, word in enumerate(words)]


def _read_all(directory: Path, output: Output) -> list[Schedule]:
    found = [read_schedule(path, output) for path in sorted(directory.glob("*.json"))]
    if not found:
        raise TwinsError(f"{directory} holds no *.json", advice="run `rota sim twins generate`")
    return found


def _name_kind(schedule: Schedule) -> str:
    views = len(schedule.twin_links)
    return f"{schedule.name}, {views} views, powers {schedule.powers}"
