"""What the commands that talk to a running localnet have in common."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import trio
import typer

from localnet.control import call_supervisor
from node.network import load_network

NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="Name of the node, as node2.")]


def ask_localnet(directory: Path, command: str, argument: object = None) -> Any:
    """Send a command with an argument that JSON can hold to the supervisor of the localnet in a
    folder. Raises `NetworkError` or `ControlError`."""
    network = load_network(directory)
    text = "" if argument is None else msgspec.json.encode(argument).decode()
    return trio.run(call_supervisor, network.run_dir, command, text)
