"""`rota byz set`, `clear` and `active`: members of a running localnet begin to lie, and stop."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import trio
import typer

from localnet.control import call_supervisor
from localnet.faults.commands import LiarRequest
from node.cli.output import JsonOption, current_output, table
from node.cli.target import DIR_DEFAULT, DirOption
from node.network import load_network

NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="Name of the node, as node2.")]


def register(app: typer.Typer) -> None:
    """Add these commands to `rota byz`."""
    app.command("set")(set_liar)
    app.command("clear")(clear_liar)
    app.command("active")(list_liars)


def set_liar(
    context: typer.Context,
    node: NodeArgument,
    behaviour: Annotated[str, typer.Argument(help="One of `rota byz list`, or FILE.py:CLASS.")],
    directory: DirOption = DIR_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Restart a node of a running localnet as a liar.

    \b
    Example:
      rota byz set node3 equivocating_leader
    """
    output = current_output(context)
    path, separator, class_name = behaviour.rpartition(".py:")
    if separator:
        # The supervisor may stand in another folder.
        behaviour = f"{Path(path).absolute()}{separator}{class_name}"
    output.data(_ask(directory, "byz-set", LiarRequest(node, behaviour)))
    output.note(f"{node} lies; honest again: rota byz clear {node}")


def clear_liar(
    context: typer.Context,
    node: NodeArgument,
    directory: DirOption = DIR_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Restart a node of a running localnet as an honest one.

    What it did may have convicted it; a conviction stays.

    \b
    Example:
      rota byz clear node3
    """
    output = current_output(context)
    output.data(_ask(directory, "byz-set", LiarRequest(node)))
    output.note(f"{node} is honest")


def list_liars(
    context: typer.Context, directory: DirOption = DIR_DEFAULT, json: JsonOption = False
) -> None:
    """Show which nodes of a running localnet lie now.

    \b
    Example:
      rota byz active
    """
    liars = _ask(directory, "byz-list")
    current_output(context).data(liars, table(["node", "behaviour"], list(liars.items())))


def _ask(directory: Path, command: str, argument: object = None) -> Any:
    network = load_network(directory)
    text = "" if argument is None else msgspec.json.encode(argument).decode()
    return trio.run(call_supervisor, network.run_dir, command, text)
