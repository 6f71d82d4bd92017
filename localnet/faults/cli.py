"""`rota fault`: break a running localnet on purpose, and heal it."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import trio
import typer

from localnet.control import call_supervisor
from localnet.faults.commands import AddRequest
from localnet.faults.model import (
    BANDWIDTH_MAX_BYTES_PER_S,
    BANDWIDTH_MIN_BYTES_PER_S,
    DELAY_MAX_MS,
    KINDS,
    PERMILLE,
    RESET_INTERVAL_MIN_MS,
    SKEW_MAX_MS,
    parse_duration_s,
)
from node.cli.output import JsonOption, command_group, current_output, table
from node.cli.target import DIR_DEFAULT, DirOption
from node.network import load_network

app = command_group(
    "Break a running localnet on purpose, and heal it.",
    "rota fault add partition --nodes node2 --for 10s",
    "rota fault run kill_one --report /tmp/report",
)


def _validate_kind(kind: str) -> str:
    if kind not in KINDS:
        raise typer.BadParameter(f"{kind!r} is none of {', '.join(KINDS)}")
    return kind


def _validate_duration(text: str | None) -> str | None:
    if text is not None:
        parse_duration_s(text)
    return text


KindArgument = Annotated[
    str,
    typer.Argument(metavar="KIND", callback=_validate_kind, help=f"One of {', '.join(KINDS)}."),
]


@app.command()
def add(
    context: typer.Context,
    kind: KindArgument,
    links: Annotated[
        str | None, typer.Option(help="Links, as in '0>1,0<>2,*>3'.", show_default=False)
    ] = None,
    nodes: Annotated[
        str | None, typer.Option(help="Nodes, as in node1,node2 or *.", show_default=False)
    ] = None,
    for_: Annotated[
        str | None,
        typer.Option(
            "--for",
            callback=_validate_duration,
            help="Heal by itself after this long, as in 30s; else it lasts until removed.",
            show_default=False,
        ),
    ] = None,
    ms: Annotated[
        int | None,
        typer.Option(
            min=-SKEW_MAX_MS,
            max=SKEW_MAX_MS,
            help="Of delay, clock-skew, or the most of reorder.",
            show_default=False,
        ),
    ] = None,
    jitter: Annotated[
        int | None,
        typer.Option(
            min=0, max=DELAY_MAX_MS, help="Milliseconds around a delay.", show_default=False
        ),
    ] = None,
    permille: Annotated[
        int | None,
        typer.Option(
            min=1, max=PERMILLE, help="Of loss, duplicate and reorder.", show_default=False
        ),
    ] = None,
    messages: Annotated[
        str | None,
        typer.Option(help="Only these messages, as in vote,proposal.", show_default=False),
    ] = None,
    bytes_per_s: Annotated[
        int | None,
        typer.Option(
            min=BANDWIDTH_MIN_BYTES_PER_S,
            max=BANDWIDTH_MAX_BYTES_PER_S,
            help="Of bandwidth.",
            show_default=False,
        ),
    ] = None,
    every: Annotated[
        int | None,
        typer.Option(
            min=RESET_INTERVAL_MIN_MS,
            max=DELAY_MAX_MS,
            help="Milliseconds between resets.",
            show_default=False,
        ),
    ] = None,
    directory: DirOption = DIR_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Begin a fault in a localnet that was started with --faults.

    It heals by itself after --for, whatever becomes of this command. What happens is written to
    faults.jsonl in the localnet's folder.

    \b
    Examples:
      rota fault add delay --links '0>1' --ms 200 --jitter 50 --for 30s
      rota fault add partition --nodes node2 --for 10s
      rota fault add loss --nodes node1 --permille 300 --messages vote --for 20s
      rota fault add kill --nodes node3 --for 5s
    """
    document = _without_nones(
        kind=kind,
        links=_split(links),
        nodes=_split(nodes),
        ms=ms,
        jitter_ms=jitter,
        permille=permille,
        messages=_split(messages),
        bytes_per_s=bytes_per_s,
        every_ms=every,
    )
    request = AddRequest(document, None if for_ is None else parse_duration_s(for_))
    output = current_output(context)
    entry = _ask(directory, "fault-add", request)
    output.data(entry, _fault_table([entry]))
    output.note(f"end it: rota fault remove {entry['id']}   end all: rota fault heal")


@app.command("list")
def list_faults(
    context: typer.Context, directory: DirOption = DIR_DEFAULT, json: JsonOption = False
) -> None:
    """Show the faults in force.

    \b
    Example:
      rota fault list
    """
    entries = _ask(directory, "fault-list")
    current_output(context).data(entries, _fault_table(entries))


@app.command()
def remove(
    context: typer.Context,
    number: Annotated[int, typer.Argument(metavar="ID", min=1, help="As `fault list` shows it.")],
    directory: DirOption = DIR_DEFAULT,
    json: JsonOption = False,
) -> None:
    """End one fault before its time.

    \b
    Example:
      rota fault remove 3
    """
    output = current_output(context)
    entry = _ask(directory, "fault-remove", number)
    output.data(entry)
    output.note(f"{entry['kind']} has ended")


@app.command()
def heal(
    context: typer.Context, directory: DirOption = DIR_DEFAULT, json: JsonOption = False
) -> None:
    """End all faults, and start or wake the nodes that they hit.

    \b
    Example:
      rota fault heal
    """
    output = current_output(context)
    answer = _ask(directory, "fault-heal")
    output.data(answer)
    output.note(f"{len(answer['healed'])} faults have ended")


@app.command()
def run(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="SCENARIO", help="A TOML file, or a name of `scenarios`.")
    ],
    report: Annotated[Path, typer.Option(help="Folder for the report; made anew.")],
    port_base: Annotated[
        int | None,
        typer.Option(
            min=1024, max=29_000, help="Where to look for free ports.", show_default=False
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Run a scenario on a localnet of its own, heal everything, and judge.

    Exit code 0 if all held; 20 safety, 22 non-determinism, 1 crash, 21 liveness, 23 an expectation
    of the scenario. A scenario that goes too far on purpose ends with the code of what it broke.
    The report folder gets report.json, report.md, the journal of the faults and all logs.

    \b
    Examples:
      rota fault run partition_one --report /tmp/report
      rota fault run my.toml --report /tmp/report --json
    """
    # Imported here: the other commands start faster without it.
    from localnet.faults.report import render
    from localnet.faults.runner import PORT_FIRST, run_scenario
    from localnet.faults.scenario import find_scenario, load_scenario
    from localnet.up import View

    output = current_output(context)
    scenario = load_scenario(find_scenario(file))
    output.note(f"{scenario.name}: {scenario.shows}")
    view = View(
        note=output.note,
        ready=lambda _network, seconds: output.note(f"ready in {seconds:.1f} s"),
        tick=lambda _cluster: None,
    )
    document, code = run_scenario(
        scenario, report.absolute(), view, port_first=port_base or PORT_FIRST
    )
    output.data(document, render(document))
    if not document["as_expected"]:
        output.note(f"expected: {scenario.verdict}")
    raise typer.Exit(int(code))


@app.command()
def scenarios(context: typer.Context, json: JsonOption = False) -> None:
    """List the scenarios that come with the program, and what each shows.

    \b
    Example:
      rota fault scenarios
    """
    from localnet.faults.scenario import SCENARIOS_DIR, load_scenario

    found = [load_scenario(path) for path in sorted(SCENARIOS_DIR.glob("*.toml"))]
    document = [
        {"name": each.name, "shows": each.shows, "run_for_s": each.run_for_s} for each in found
    ]
    rows = [(each.name, f"{each.run_for_s:g} s", each.shows) for each in found]
    current_output(context).data(document, table(["scenario", "runs for>", "shows"], rows))


def _ask(directory: Path, command: str, argument: object = None) -> Any:
    network = load_network(directory)
    text = "" if argument is None else msgspec.json.encode(argument).decode()
    return trio.run(call_supervisor, network.run_dir, command, text)


def _split(text: str | None) -> list[str] | None:
    return None if text is None else [each.strip() for each in text.split(",")]


def _without_nones(**values: object) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


_PLACE = ("id", "kind", "links", "nodes", "since_ms", "left_ms")


def _fault_table(entries: list[dict[str, Any]]) -> object:
    rows = []
    for entry in entries:
        where = ", ".join(entry.get("nodes") or entry.get("links", ()))
        parameters = {key: each for key, each in entry.items() if key not in _PLACE and each != []}
        what = " ".join(f"{key}={each}" for key, each in parameters.items())
        left = "until removed" if entry["left_ms"] is None else f"{entry['left_ms'] / 1_000:.1f} s"
        rows.append((entry["id"], entry["kind"], where, what, left))
    return table(["id>", "fault", "where", "parameters", "left>"], rows)
