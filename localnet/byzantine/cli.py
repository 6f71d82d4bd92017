"""`rota byz`: the ways to lie, and a node's process that lies in one of them."""

from pathlib import Path
from typing import Annotated

import typer

from localnet.byzantine.process import choose_liar
from localnet.byzantine.registry import behaviours, find_behaviour, lie_of
from localnet.faults.liars_cli import register
from node.cli.homes import SetOption
from node.cli.node import start_node
from node.cli.output import JsonOption, command_group, current_output, table
from node.cli.target import PasswordFileOption

app = command_group(
    "Let a member of a test network lie, and see what the others make of it.",
    "rota byz list",
)


@app.command("list")
def list_behaviours(context: typer.Context, json: JsonOption = False) -> None:
    """Print every behaviour and the lie that it tells.

    \b
    Example:
      rota byz list
    """
    rows = [(name, lie_of(kind)) for name, kind in behaviours().items()]
    document = {"behaviours": [{"name": name, "lie": lie} for name, lie in rows]}
    current_output(context).data(document, table(("behaviour", "lie"), rows))


@app.command()
def run(
    context: typer.Context,
    home: Annotated[Path, typer.Argument(metavar="HOME", help="The home of the node that lies.")],
    behaviour: Annotated[
        str,
        typer.Option(
            "--behaviour",
            "-b",
            metavar="NAME",
            help="One of `rota byz list`, or FILE.py:CLASS for one of your own.",
        ),
    ],
    seed: Annotated[int, typer.Option(min=0, help="Decides what the behaviour leaves open.")] = 0,
    settings: SetOption = None,
    password_file: PasswordFileOption = None,
    json: JsonOption = False,
) -> None:
    """Run a node as `rota node start` does, but let it lie with the keys of its home.

    For test networks: a node that lies in earnest is convicted, and pays for it.

    \b
    Examples:
      rota localnet kill node1
      rota byz run .localnet/node1 --behaviour equivocating_leader
      rota byz run .localnet/node1 --behaviour my_lie.py:Mumbling
    """
    kind = find_behaviour(behaviour)
    start_node(home, settings, password_file, choose_core=choose_liar(kind, seed))


register(app)
