"""`rota localnet up --detach`: the supervisor as a process of its own."""

import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Final

import trio

from localnet.cluster import READY_TIMEOUT_S, NotReadyError
from localnet.control import call_supervisor, is_supervised, make_run_dir, running_error
from localnet.folder import validate_folder
from localnet.screen import show_network
from localnet.status import STATUS_TIMEOUT_S
from localnet.up import UpOptions
from node.cli.hints import rota_command, short_path
from node.cli.output import Output
from node.exit_codes import ExitCode, OperatorError
from node.network import load_network

ROTA_COMMAND: Final = (sys.executable, "-m", "node.cli.main")
"""How the supervisor's process is started."""
POLL_S: Final = 0.1


def up_detached(output: Output, options: UpOptions) -> None:
    """Start the supervisor as a process of its own and wait until it is ready."""
    validate_folder(options.path)
    run_dir = options.path.absolute() / "run"
    if is_supervised(run_dir):
        raise running_error(run_dir)
    make_run_dir(run_dir)
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
        output.note(
            f"running in the background (process {process.pid}); log: {short_path(log_path)}"
        )
        output.note(f"stop: {rota_command(network.path)}localnet down")
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
    arguments = ["--dir", str(options.path.absolute())]
    if options.port_base is not None:
        arguments += ["--port-base", str(options.port_base)]
    if options.stakes is not None:
        arguments += ["--stakes", ",".join(str(stake) for stake in options.stakes)]
    if options.seed is not None:
        arguments += ["--seed", str(options.seed)]
    if options.reset:
        arguments.append("--reset")
    if not options.traders:
        arguments.append("--no-traders")
    if options.faults:
        arguments.append("--faults")
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
