"""`rota localnet`: run a network of sequencer nodes on this machine."""

import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import trio
import typer

from localnet.control import call_supervisor, is_supervised
from localnet.logview import follow_logs, read_logs
from localnet.monitor import describe_status, query_statuses
from localnet.network import (
    NODES_DEFAULT,
    NODES_MAX,
    NODES_MIN,
    PORT_FIRST,
    SEED_DEFAULT,
    STAKE_DEFAULT,
    validate_stakes,
)
from localnet.screen import Screen, show_network
from localnet.up import READY_TIMEOUT_S, NotReadyError, UpOptions, run_up
from node.cli.output import JsonOption, Output, command_group, current_output, table
from node.exit_codes import ExitCode, OperatorError
from node.network import Network, load_network

STATUS_TIMEOUT_S: Final = 2.0
DOWN_TIMEOUT_S: Final = 30.0
POLL_S: Final = 0.1
ROTA_COMMAND: Final = (sys.executable, "-m", "node.cli.main")
"""How `--detach` starts the supervisor's process."""

app = command_group("Run a network of sequencer nodes on this machine.")

DirOption = Annotated[
    Path,
    typer.Option("--dir", envvar="ROTA_LOCALNET", help="Folder of the localnet."),
]
DIR_DEFAULT: Final = Path(".localnet")


@app.command()
def up(
    context: typer.Context,
    nodes: Annotated[
        int | None,
        typer.Option(
            "--nodes",
            "-n",
            min=NODES_MIN,
            max=NODES_MAX,
            help=f"Number of nodes [default: what is there, else {NODES_DEFAULT}].",
            show_default=False,
        ),
    ] = None,
    stakes: Annotated[
        str | None,
        typer.Option(help="Stakes of the nodes, as in 1000,1000,500; replaces --nodes."),
    ] = None,
    directory: DirOption = DIR_DEFAULT,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once it is ready; it runs on.")
    ] = False,
    reset: Annotated[
        bool, typer.Option("--reset", help="Delete the localnet in the folder first.")
    ] = False,
    for_s: Annotated[
        float | None,
        typer.Option("--for", min=0.1, help="Stop and judge after this many seconds."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help=f"Seed of keys and demo traders [default: {SEED_DEFAULT}].", show_default=False
        ),
    ] = None,
    no_traders: Annotated[
        bool, typer.Option("--no-traders", help="Start no demo traders.")
    ] = False,
    tape: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Let the traders replay this trade tape."),
    ] = None,
    speed: Annotated[str | None, typer.Option(help="Speed of the tape: a factor, or max.")] = None,
    port_base: Annotated[
        int,
        typer.Option(min=1024, max=29_000, help="Where a new localnet looks for free ports."),
    ] = PORT_FIRST,
    json: JsonOption = False,
) -> None:
    """Start a localnet and run it until Ctrl-C.

    Resumes the localnet in the folder if there is one. Every process it starts ends with it. With
    --for it counts from readiness and ends with a verdict: exit code 20 if nodes disagreed about a
    block or a state root, 21 if there was no progress.

    \b
    Examples:
      rota localnet up
      rota localnet up -n 7 --reset
      rota localnet up --detach --json
      rota localnet up --for 30 --json --dir /tmp/net
    """
    output = current_output(context)
    if detach and for_s is not None:
        raise typer.BadParameter("--detach and --for exclude each other")
    if (tape is None) < (no_traders) or (speed is not None and tape is None):
        raise typer.BadParameter("--tape needs the traders, and --speed a tape")
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
    )
    if detach:
        _up_detached(output, options)
        return
    screen = Screen(output)
    try:
        report, code = run_up(options, screen.view())
    finally:
        screen.close()
    output.data(report, _report_table(report))
    raise typer.Exit(int(code))


def _parse_stakes(nodes: int | None, stakes: str | None) -> tuple[int, ...] | None:
    if stakes is not None:
        if nodes is not None:
            raise typer.BadParameter("--nodes and --stakes exclude each other")
        parts = stakes.split(",")
        if not all(part.isascii() and part.isdigit() for part in parts):
            raise typer.BadParameter("--stakes takes whole numbers, as in 1000,1000,500")
        numbers = tuple(int(part) for part in parts)
        validate_stakes(numbers)
        return numbers
    return None if nodes is None else (STAKE_DEFAULT,) * nodes


def _up_detached(output: Output, options: UpOptions) -> None:
    """Start the supervisor as a process of its own and wait until it is ready."""
    run_dir = options.path.absolute() / "run"
    if is_supervised(run_dir):
        raise OperatorError(
            f"the localnet in {options.path} runs already",
            advice="see `rota localnet status`; stop it with `rota localnet down`",
            code="localnet.running",
            exit_code=ExitCode.CONFIG,
        )
    run_dir.mkdir(parents=True, exist_ok=True)
    log_path = run_dir / "supervisor.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*ROTA_COMMAND, "localnet", "up", *_arguments(options)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _wait_detached(process, run_dir, log_path)
    network = load_network(options.path)
    if not output.is_json:
        show_network(output, network)
        output.note(f"running in the background (process {process.pid}); log: {log_path}")
        output.note(f"stop: rota localnet down --dir {options.path}")
    output.data(
        {
            "dir": str(network.path),
            "chain_id": network.chain_id.hex(),
            "pid": process.pid,
            "nodes": [
                {"name": node.name, "peer": node.peer, "door": node.door} for node in network.nodes
            ],
            "accounts": [
                {"name": account.name, "account": account.account.hex()}
                for account in network.accounts
            ],
        }
    )


def _arguments(options: UpOptions) -> list[str]:
    """The command line that gives these options to `localnet up`, `--detach` left out."""
    arguments = ["--dir", str(options.path.absolute()), "--port-base", str(options.port_base)]
    if options.stakes is not None:
        arguments += ["--stakes", ",".join(str(stake) for stake in options.stakes)]
    if options.seed is not None:
        arguments += ["--seed", str(options.seed)]
    if options.reset:
        arguments.append("--reset")
    if not options.traders:
        arguments.append("--no-traders")
    if options.tape is not None:
        arguments += ["--tape", str(options.tape.absolute())]
    if options.speed is not None:
        arguments += ["--speed", options.speed]
    return arguments


def _wait_detached(process: "subprocess.Popen[bytes]", run_dir: Path, log_path: Path) -> None:
    """Return once the supervisor says that it is ready; raises `NotReadyError`."""
    deadline = time.monotonic() + READY_TIMEOUT_S + STATUS_TIMEOUT_S
    while time.monotonic() < deadline:
        code = process.poll()
        if code is not None:
            tail = log_path.read_text(errors="replace").strip()
            raise NotReadyError(
                f"the localnet ended while it started:\n{tail}",
                advice=f"the whole log is {log_path}",
                exit_code=_exit_code(code),
            )
        if _is_ready(run_dir):
            return
        time.sleep(POLL_S)
    process.terminate()
    process.wait()
    raise NotReadyError(
        f"not ready after {READY_TIMEOUT_S:g} s", advice=f"the whole log is {log_path}"
    )


def _is_ready(run_dir: Path) -> bool:
    try:
        status = trio.run(partial(call_supervisor, run_dir, "status", timeout_s=STATUS_TIMEOUT_S))
    except OperatorError:
        return False  # It does not listen yet.
    return bool(status["ready"])


def _exit_code(code: int) -> ExitCode:
    return ExitCode(code) if code in list(ExitCode) and code != 0 else ExitCode.NOT_READY


@app.command()
def status(
    context: typer.Context, directory: DirOption = DIR_DEFAULT, json: JsonOption = False
) -> None:
    """Show every node: whether it answers, how far it is, its state root.

    \b
    Examples:
      rota localnet status
      rota localnet status --json --dir /tmp/net
    """
    output = current_output(context)
    network = load_network(directory)
    document = trio.run(compute_status, network)
    rows = [
        (
            node["name"],
            "up" if node["up"] else "down",
            _cell(node["pid"]),
            _cell(node["view"]),
            _cell(node["committed_height"]),
            _cell(node["executed_height"]),
            _root_cell(node),
            node["door"],
        )
        for node in document["nodes"]
    ]
    columns = ["node", "state", "pid>", "view>", "committed>", "executed>", "root @ height", "door"]
    output.data(document, table(columns, rows))
    if not document["supervised"]:
        output.note(f"not running; start it: rota localnet up --dir {directory}")


def _cell(value: object) -> str:
    return "-" if value is None else str(value)


def _root_cell(node: dict[str, Any]) -> str:
    if not node["state_root"]:
        return "-"
    return f"{node['state_root'][:16]} @ {node['state_root_height']}"


async def compute_status(network: Network) -> dict[str, Any]:
    """The document of `localnet status --json`; works whatever is up."""
    statuses = await query_statuses(network, timeout_s=STATUS_TIMEOUT_S)
    try:
        supervisor = await call_supervisor(network.run_dir, "status", timeout_s=STATUS_TIMEOUT_S)
    except OperatorError:
        supervisor = None
    processes = {each["name"]: each for each in supervisor["processes"]} if supervisor else {}
    return {
        "dir": str(network.path),
        "chain_id": network.chain_id.hex(),
        "supervised": supervisor is not None,
        "ready": bool(supervisor and supervisor["ready"]),
        "contradictions": supervisor["contradictions"] if supervisor else [],
        "nodes": [
            {
                **describe_status(node, statuses[node.name]),
                "pid": processes.get(node.name, {}).get("pid"),
                "state": processes.get(node.name, {}).get("state"),
                "exit_code": processes.get(node.name, {}).get("exit_code"),
                "log": str(network.home(node.name).log_path),
            }
            for node in network.nodes
        ],
    }


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
        f"stopped; resume: rota localnet up --dir {directory}"
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


NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="Name of the node, as node2.")]


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
    _call(context, directory, "kill", node, f"killed {node}; next: rota localnet restart {node}")


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
    _call(context, directory, "restart", node, f"started {node}; watch: rota localnet status")


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


def _report_table(report: dict[str, Any]) -> Any:
    rows = [(key, _report_cell(value)) for key, value in report.items() if key != "nodes"]
    return table(["", ""], rows)


def _report_cell(value: object) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{key} {each}" for key, each in value.items())
    if isinstance(value, list):
        return "; ".join(str(each) for each in value) or "none"
    return _cell(value)
