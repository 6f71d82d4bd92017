"""`rota fault`: break a running localnet on purpose, and heal it."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from localnet.ask import ask_localnet
from localnet.faults.commands import AddRequest
from localnet.faults.model import (
    BANDWIDTH_MAX_BYTES_PER_S,
    BANDWIDTH_MIN_BYTES_PER_S,
    DELAY_MAX_MS,
    KINDS,
    NEED_RUNNING,
    PERMILLE,
    RESET_INTERVAL_MIN_MS,
    SKEW_MAX_MS,
    is_on_links,
    parameters_of,
    parse_duration_s,
    read_fault,
    validate_kind,
)
from localnet.faults.words import as_option, say_count
from node.cli.output import JsonOption, command_group, current_output, table
from node.cli.target import DIR_DEFAULT, DirOption

app = command_group(
    "Break a running localnet on purpose, and heal it.",
    "rota fault add partition --nodes node2 --for 10s",
    "rota fault run kill_one --report /tmp/report",
)


def _validate_kind(kind: str) -> str:
    return validate_kind(kind)


def _validate_duration(text: str | None) -> str | None:
    if text is not None:
        parse_duration_s(text)
    return text


KindArgument = Annotated[
    str,
    typer.Argument(metavar="KIND", callback=_validate_kind, help=f"One of {', '.join(KINDS)}."),
]
LinksOption = Annotated[
    str | None, typer.Option(help="Links, as in '0>1,0<>2,*>3'.", show_default=False)
]
NodesOption = Annotated[
    str | None, typer.Option(help="Nodes, as in node1,node2 or *.", show_default=False)
]
DurationOption = Annotated[
    str | None,
    typer.Option(
        "--for",
        callback=_validate_duration,
        help="Heal by itself after this long, as in 30s; else it lasts until removed.",
        show_default=False,
    ),
]
MessagesOption = Annotated[
    str | None,
    typer.Option(
        help="Of loss, duplicate, reorder: only these, as in vote,proposal.", show_default=False
    ),
]


def _number(least: int, most: int, text: str) -> Any:
    return typer.Option(min=least, max=most, help=text, show_default=False)


DelayOption = Annotated[int | None, _number(0, DELAY_MAX_MS, "Of delay: so much longer.")]
JitterOption = Annotated[int | None, _number(0, DELAY_MAX_MS, "Of delay: give or take so much.")]
HoldOption = Annotated[int | None, _number(1, DELAY_MAX_MS, "Of reorder: held back up to this.")]
IntervalOption = Annotated[
    int | None, _number(RESET_INTERVAL_MIN_MS, DELAY_MAX_MS, "Of reset: from one to the next.")
]
OffsetOption = Annotated[
    int | None, _number(-SKEW_MAX_MS, SKEW_MAX_MS, "Of clock-skew: ahead; negative: behind.")
]
RateOption = Annotated[
    int | None,
    _number(BANDWIDTH_MIN_BYTES_PER_S, BANDWIDTH_MAX_BYTES_PER_S, "Of bandwidth: the most."),
]
PermilleOption = Annotated[
    int | None, _number(1, PERMILLE, "Of loss, duplicate, reorder: this part of the messages.")
]


def _describe_kinds() -> str:
    """A line for each kind, as help that is not flowed into one paragraph."""
    lines = []
    for kind in KINDS:
        needed, others = parameters_of(kind)
        words = ["--links|--nodes" if is_on_links(kind) else "--nodes"]
        words += [as_option(each) for each in needed]
        words += [f"[{as_option(each)}]" for each in others]
        lines.append(f"  {kind:{max(map(len, KINDS))}}  {' '.join(words)}")
    return "\n".join(["\b", "What each kind needs, and [may have]; all take [--for]:", *lines])


@app.command(epilog=_describe_kinds())
def add(
    context: typer.Context,
    kind: KindArgument,
    links: LinksOption = None,
    nodes: NodesOption = None,
    for_: DurationOption = None,
    delay_ms: DelayOption = None,
    jitter_ms: JitterOption = None,
    hold_max_ms: HoldOption = None,
    interval_ms: IntervalOption = None,
    offset_ms: OffsetOption = None,
    bytes_per_s: RateOption = None,
    permille: PermilleOption = None,
    messages: MessagesOption = None,
    directory: DirOption = DIR_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Begin a fault in a localnet that was started with --faults.

    It heals by itself after --for, whatever becomes of this command. What happens is written to
    faults.jsonl in the localnet's folder.

    \b
    Examples:
      rota fault add delay --links '0>1' --delay-ms 200 --jitter-ms 50 --for 30s
      rota fault add partition --nodes node2 --for 10s
      rota fault add loss --nodes node1 --permille 300 --messages vote --for 20s
      rota fault add kill --nodes node3 --for 5s
    """
    given = {
        "kind": kind,
        "links": _split(links),
        "nodes": _split(nodes),
        "delay_ms": delay_ms,
        "jitter_ms": jitter_ms,
        "hold_max_ms": hold_max_ms,
        "interval_ms": interval_ms,
        "offset_ms": offset_ms,
        "bytes_per_s": bytes_per_s,
        "permille": permille,
        "messages": _split(messages),
    }
    document = {key: value for key, value in given.items() if value is not None}
    read_fault(document, as_option)
    request = AddRequest(document, None if for_ is None else parse_duration_s(for_))
    output = current_output(context)
    entry = ask_localnet(directory, "fault-add", request)
    output.data(entry, _fault_table([entry]))
    for name in entry["down"]:
        is_missed = kind in NEED_RUNNING
        output.note(
            f"did not strike {name}, which does not run"
            if is_missed
            else f"{name} does not run: {kind} strikes it when it starts"
        )
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
    document = ask_localnet(directory, "fault-list")
    output = current_output(context)
    output.data(document, _fault_table(document["faults"]))
    if not document["faults"]:
        output.note("no fault is in force")


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
    entry = ask_localnet(directory, "fault-remove", number)
    output.data(entry)
    down = ", ".join(entry["down"]) if entry["kind"] in NEED_RUNNING else ""
    output.note(f"{entry['kind']} has ended" + (f"; it did not strike {down}" if down else ""))


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
    answer = ask_localnet(directory, "fault-heal")
    output.data(answer)
    output.note(f"ended: {say_count(len(answer['healed']), 'fault')}")


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

    Exit code 0 if all was judged and held; 20 safety, 22 non-determinism, 1 crash, 21 liveness, 23
    an expectation of the scenario, or something that could not be judged; 30 if the nodes were not
    ready in time, and 3 if a behaviour of one's own failed: then there is no verdict. A scenario
    that goes too far on purpose ends with the code of what it broke.
    The report folder gets report.json, report.md, the journal of the faults and all logs.

    \b
    Examples:
      rota fault run partition_one --report /tmp/report
      rota fault run my.toml --report /tmp/report --json
    """
    # Imported here: the other commands start faster without it.
    from localnet.cluster import View
    from localnet.faults.report import describe_broken, render
    from localnet.faults.runner import PORT_FIRST, run_scenario
    from localnet.faults.scenario import find_scenario, load_scenario

    output = current_output(context)
    scenario = load_scenario(find_scenario(file))
    output.note(f"{scenario.name}: {scenario.shows}" if scenario.shows else scenario.name)
    view = View(
        note=output.note,
        ready=lambda _network, seconds: output.note(f"ready in {seconds:.1f} s"),
        tick=lambda _cluster: None,
    )
    words = ["rota", "fault", "run", file, "--report", str(report)]
    if port_base is not None:
        words += ["--port-base", str(port_base)]
    document, code = run_scenario(
        scenario,
        report.absolute(),
        view,
        port_first=port_base or PORT_FIRST,
        again=shlex.join(words),
    )
    output.data(document, render(document))
    if not document["as_expected"]:
        output.note(f"expected: {scenario.verdict}")
    for line in describe_broken(document, report):
        output.note(line)
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
    current_output(context).data(
        {"scenarios": document}, table(["scenario", "runs for>", "shows"], rows)
    )


def _split(text: str | None) -> list[str] | None:
    return None if text is None else [each.strip() for each in text.split(",")]


_PLACE = ("id", "kind", "links", "nodes", "where", "since_ms", "left_ms", "down")


def _fault_table(entries: list[dict[str, Any]]) -> object:
    rows = []
    for entry in entries:
        where = ", ".join(entry["where"])
        parameters = {key: each for key, each in entry.items() if key not in _PLACE and each != []}
        what = " ".join(f"{key}={each}" for key, each in parameters.items())
        left = "until removed" if entry["left_ms"] is None else f"{entry['left_ms'] / 1_000:.1f} s"
        rows.append((entry["id"], entry["kind"], where, what, left))
    return table(["id>", "fault", "where", "parameters", "left>"], rows)
