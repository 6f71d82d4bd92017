"""`rota localnet`: run a network of sequencer nodes on this machine."""

import time
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import trio
import typer

from localnet.ask import NodeArgument
from localnet.audit import ContradictionError, audit
from localnet.control import call_supervisor, is_supervised
from localnet.detached import up_detached
from localnet.faults.words import say_count
from localnet.logview import follow_logs, read_logs
from localnet.network import (
    NODES_DEFAULT,
    NODES_MAX,
    NODES_MIN,
    PORT_FIRST,
    SEED_DEFAULT,
    SEED_MAX,
    STAKE_DEFAULT,
    validate_stakes,
)
from localnet.screen import Screen
from localnet.status import compute_status, describe_failures, describe_roots, status_table
from localnet.tape import TapeError, read_tape
from localnet.up import UpOptions, run_up
from node.cli.hints import rota_command
from node.cli.output import JsonOption, command_group, current_output, record, show_cell, table
from node.cli.target import DIR_DEFAULT, DirOption
from node.exit_codes import ExitCode, OperatorError
from node.network import Network, is_network, load_network

DOWN_TIMEOUT_S: Final = 30.0
FOR_MAX_S: Final = 10_000_000
"""Longest run that is judged: some months."""
POLL_S: Final = 0.1
TAPE_TRADES_CHECKED: Final = 100
"""Of a tape, before anything is started; its player checks the rest as it goes."""


app = command_group(
    "Run a network of sequencer nodes on this machine.",
    "rota localnet up",
    "rota localnet status --json",
)

NodesOption = Annotated[
    int | None,
    typer.Option(
        "--nodes",
        "-n",
        min=NODES_MIN,
        max=NODES_MAX,
        help=f"Number of nodes [default: what is there, else {NODES_DEFAULT}].",
        show_default=False,
    ),
]
StakesOption = Annotated[
    str | None,
    typer.Option(help="Stakes of the nodes, as in 1000,1000,500; replaces --nodes."),
]
ForOption = Annotated[
    float | None,
    typer.Option("--for", min=0.1, max=FOR_MAX_S, help="Stop and judge after this many seconds."),
]
SeedOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=SEED_MAX,
        help=f"Seed of keys and demo traders [default: {SEED_DEFAULT}].",
        show_default=False,
    ),
]
NoTradersOption = Annotated[bool, typer.Option("--no-traders", help="Start no demo traders.")]
TapeOption = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="Let the traders replay this trade tape."),
]
SpeedOption = Annotated[str | None, typer.Option(help="Speed of the tape: a factor, or max.")]
PortBaseOption = Annotated[
    int | None,
    typer.Option(
        min=1024,
        max=29_000,
        help=f"Where a new localnet looks for free ports [default: {PORT_FIRST}].",
        show_default=False,
    ),
]
DetachOption = Annotated[
    bool, typer.Option("--detach", help="Return once it is ready; it runs on.")
]
ResetOption = Annotated[
    bool, typer.Option("--reset", help="Delete the localnet in the folder first.")
]


@app.command()
def up(
    context: typer.Context,
    nodes: NodesOption = None,
    stakes: StakesOption = None,
    directory: DirOption = DIR_DEFAULT,
    detach: DetachOption = False,
    reset: ResetOption = False,
    for_s: ForOption = None,
    seed: SeedOption = None,
    no_traders: NoTradersOption = False,
    tape: TapeOption = None,
    speed: SpeedOption = None,
    port_base: PortBaseOption = None,
    faults: Annotated[
        bool, typer.Option("--faults", help="Take faults: `rota fault add` (docs/faults.md).")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Start a localnet and run it until Ctrl-C.

    Resumes the localnet in the folder if there is one. Every process it starts ends with it. With
    --for it counts from readiness and ends with a verdict: exit code 20 if nodes disagreed about a
    block or a state root, 1 if a process ended by itself, 21 if there was no progress. A tape
    begins at readiness, and ends a run with --for once its last order has its result; `tape.done`
    says whether it came to that.

    \b
    Examples:
      rota localnet up
      rota localnet up -n 7 --reset
      rota localnet up --detach --json
      rota localnet up --for 30 --json --dir /tmp/net
      rota localnet up --tape tape.csv --speed max --for 120
    """
    output = current_output(context)
    if detach and for_s is not None:
        raise typer.BadParameter("--detach and --for exclude each other")
    if (tape is not None and no_traders) or (speed is not None and tape is None):
        raise typer.BadParameter("--tape needs the traders, and --speed a tape")
    if tape is not None:
        _validate_tape(tape, speed)
    if port_base is not None and not reset and is_network(directory):
        output.note(f"--port-base has no effect: the localnet in {directory} keeps its ports")
    options = UpOptions(
        path=directory,
        stakes=_parse_stakes(nodes, stakes),
        seed=seed,
        port_base=port_base,
        reset=reset,
        traders=not no_traders,
        tape=tape,
        speed=speed,
        for_s=for_s,
        faults=faults,
    )
    if detach:
        up_detached(output, options)
        return
    screen = Screen(output)
    try:
        report, code = run_up(options, screen.view())
    finally:
        screen.close()
    output.data(report, _report_record(report))
    raise typer.Exit(int(code))


def _validate_tape(tape: Path, speed: str | None) -> None:
    """Refuse before anything is started what the traders' process would refuse after it."""
    if speed is not None:
        # Imported here: the other commands start faster without the traders.
        from localnet.traders import parse_speed

        try:
            parse_speed(speed)
        except ValueError as error:
            raise typer.BadParameter(
                f"{speed!r} is neither a number above zero nor max", param_hint="--speed"
            ) from error
    try:
        if not list(islice(read_tape(tape), TAPE_TRADES_CHECKED)):
            raise TapeError(f"{tape} has no trades", advice="name a CSV file of trades with --tape")
    except TapeError as error:
        error.exit_code = ExitCode.USAGE
        raise


def _parse_stakes(nodes: int | None, stakes: str | None) -> tuple[int, ...] | None:
    if stakes is not None:
        if nodes is not None:
            raise typer.BadParameter("--nodes and --stakes exclude each other")
        parts = stakes.split(",")
        if not all(part.isascii() and part.isdigit() and len(part) < 20 for part in parts):
            raise typer.BadParameter("--stakes takes whole numbers, as in 1000,1000,500")
        numbers = tuple(int(part) for part in parts)
        validate_stakes(numbers)
        return numbers
    return None if nodes is None else (STAKE_DEFAULT,) * nodes


@app.command()
def status(
    context: typer.Context, directory: DirOption = DIR_DEFAULT, json: JsonOption = False
) -> None:
    """Show every node: whether it answers, how far it is, its newest state root.

    Nodes answer at different heights, so their newest roots may differ; the last line compares the
    roots of the highest height that all of them have executed. Exit code 20 if they disagree, and
    0 otherwise: also for a localnet that is down, which `supervised` and each node's `up` tell.

    \b
    Examples:
      rota localnet status
      rota localnet status --json --dir /tmp/net
    """
    output = current_output(context)
    network = load_network(directory)
    document = trio.run(compute_status, network)
    failures = describe_failures(document)
    output.data(document, status_table(document), *failures, describe_roots(document))
    if not document["supervised"]:
        output.note(f"not running; start it: {rota_command(directory)}localnet up")
    if document["contradictions"] or document["state_roots_agree"] is False:
        raise typer.Exit(int(ExitCode.SAFETY))


@app.command()
def down(
    context: typer.Context, directory: DirOption = DIR_DEFAULT, json: JsonOption = False
) -> None:
    """Stop a localnet in good order; its data stays.

    \b
    Example:
      rota localnet down
    """
    output = current_output(context)
    network = load_network(directory)
    was_running = is_supervised(network.run_dir)
    if was_running:
        _stop_supervisor(network)
    output.data({"stopped": was_running})
    output.note(
        f"stopped; resume: {rota_command(directory)}localnet up"
        if was_running
        else "it was not running"
    )


def _stop_supervisor(network: Network) -> None:
    trio.run(call_supervisor, network.run_dir, "down")
    deadline = time.monotonic() + DOWN_TIMEOUT_S
    while is_supervised(network.run_dir):
        if time.monotonic() > deadline:
            raise OperatorError(
                f"the localnet still runs after {DOWN_TIMEOUT_S:g} s",
                advice=f"look at {network.run_dir / 'supervisor.log'}",
                code="localnet.timeout",
                exit_code=ExitCode.TIMED_OUT,
            )
        time.sleep(POLL_S)


@app.command()
def kill(
    context: typer.Context,
    node: NodeArgument,
    directory: DirOption = DIR_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Kill a node with SIGKILL, as a crash of its machine would.

    \b
    Example:
      rota localnet kill node2
    """
    next_command = f"{rota_command(directory)}localnet restart {node}"
    _call(context, directory, "kill", node, f"killed {node}; next: {next_command}")


@app.command()
def restart(
    context: typer.Context,
    node: NodeArgument,
    directory: DirOption = DIR_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Start a node again, stopping it in good order first if it runs.

    \b
    Example:
      rota localnet restart node2
    """
    next_command = f"{rota_command(directory)}localnet status"
    _call(context, directory, "restart", node, f"started {node}; watch: {next_command}")


@app.command()
def wipe(
    context: typer.Context,
    node: NodeArgument,
    directory: DirOption = DIR_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Take all data from a node but its keys, and start it: it joins by a snapshot of the others.

    A node that forgot what it signed must not sign again, so from then on it only follows
    (node.follow in its node.toml): it executes the chain, answers queries and helps others to join,
    and orders nothing. The others go on without it as without a node that is down.

    \b
    Example:
      rota localnet wipe node3
    """
    next_command = f"{rota_command(directory)}localnet status"
    _call(context, directory, "wipe", node, f"{node} joins again; watch: {next_command}")


def _call(context: typer.Context, directory: Path, command: str, node: str, note: str) -> None:
    output = current_output(context)
    network = load_network(directory)
    network.node(node)
    output.data(trio.run(call_supervisor, network.run_dir, command, node))
    output.note(note)


@app.command()
def logs(
    context: typer.Context,
    node: Annotated[
        str | None, typer.Argument(metavar="[NODE]", help="Only this node.", show_default=False)
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines.")] = False,
    lines: Annotated[int, typer.Option(min=1, help="Lines to begin with.")] = 50,
    directory: DirOption = DIR_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Show the nodes' logs, in order of time.

    With --json: one JSON array, or with --follow one JSON object a line.

    \b
    Examples:
      rota localnet logs node0 -f
      rota localnet logs --json --lines 1000
    """
    output = current_output(context)
    network = load_network(directory)
    names = [network.node(node).name] if node else [each.name for each in network.nodes]
    paths = [network.home(name).log_path for name in names]
    if follow:
        trio.run(follow_logs, paths, lines, output)
    else:
        read_logs(paths, lines, output)


@app.command("audit")
def audit_records(
    context: typer.Context, directory: DirOption = DIR_DEFAULT, json: JsonOption = False
) -> None:
    """Hold what every node signed against its own durable records; the localnet must be down.

    Votes, state votes and proposals are compared with all archived certificates and blocks. A
    node forgets records far below its newest block, so its own records cover the end of the run:
    the second table says from which view or height on. What is older is held against the archives
    of the others: nobody may stand in two certificates of one view.

    Exit code 20 if two of these records contradict each other. Whom the chain itself convicts is
    listed beside them and changes no exit code: a liar keeps no record of what it signs.

    \b
    Example:
      rota localnet down && rota localnet audit
    """
    output = current_output(context)
    report = audit(load_network(directory))
    rows = [
        (
            node.name,
            node.votes_recorded,
            node.timeouts_recorded,
            node.state_votes_recorded,
            node.proposals_recorded,
            node.certificate_votes_checked,
            node.certificate_state_votes_checked,
            node.proposals_checked,
        )
        for node in report.nodes
    ]
    columns = ["node", "votes>", "timeouts>", "state votes>", "proposals>"]
    columns += ["votes checked>", "state votes checked>", "proposals checked>"]
    covered = [
        (
            node.name,
            show_cell(node.vote_views),
            show_cell(node.timeout_views),
            show_cell(node.state_vote_heights),
            show_cell(node.proposal_views),
        )
        for node in report.nodes
    ]
    spans = ["recorded", "votes of views", "timeouts of views", "state votes of heights"]
    proofs = [(each.member, each.offence, each.height) for each in report.evidence]
    evidence = [table(["convicted", "offence", "in block>"], proofs)] if proofs else []
    output.data(
        msgspec.structs.asdict(report),
        table(columns, rows),
        table([*spans, "proposals of views"], covered),
        *evidence,
    )
    output.note(
        f"{report.blocks} blocks, {report.certificates} certificates and "
        f"{report.state_certificates} state certificates read, "
        f"{say_count(len(report.contradictions), 'contradiction')} on disk, "
        f"{say_count(len(report.evidence), 'proof')} in blocks"
    )
    if report.contradictions:
        raise ContradictionError(
            str(report.contradictions[0]),
            advice="keep all homes as they are; this proves that a key was used twice",
        )


def _report_record(report: dict[str, Any]) -> str:
    rows = [
        (key, _report_cell(value))
        for key, value in report.items()
        if key != "nodes" and value is not None
    ]
    return record(rows)


def _report_cell(value: object) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{key} {each}" for key, each in value.items())
    if isinstance(value, list):
        return "; ".join(str(each) for each in value) or "none"
    return show_cell(value)
