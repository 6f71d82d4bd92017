"""`rota byz`: the ways to lie, and members that do: of a running localnet, or by themselves."""

from pathlib import Path
from typing import Annotated

import typer

from localnet.ask import NodeArgument, ask_localnet
from localnet.byzantine.registry import behaviours, lie_of
from localnet.faults.commands import LiarRequest
from localnet.faults.node_main import start_bad_node
from node.cli.homes import SetOption
from node.cli.output import JsonOption, command_group, current_output, table
from node.cli.target import DIR_DEFAULT, DirOption, PasswordFileOption

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
    start_bad_node(home, settings, password_file, behaviour=behaviour, seed=seed)


@app.command("set")
def set_liar(
    context: typer.Context,
    node: NodeArgument,
    behaviour: Annotated[str, typer.Argument(help="One of `rota byz list`, or FILE.py:CLASS.")],
    directory: DirOption = DIR_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Restart a node of a running localnet as a liar, and wait until it answers.

    A behaviour of your own that fails by then is told with its line; one that fails later is shown
    by `rota byz active`.

    \b
    Example:
      rota byz set node3 equivocating_leader
    """
    output = current_output(context)
    path, separator, class_name = behaviour.rpartition(".py:")
    if separator:
        # The supervisor may stand in another folder.
        behaviour = f"{Path(path).absolute()}{separator}{class_name}"
    answer = ask_localnet(directory, "byz-set", LiarRequest(node, behaviour))
    output.data(answer)
    lies = "lies" if answer["started"] else "does not run, and lies once it is started"
    output.note(f"{node} {lies}; honest again: rota byz clear {node}")


@app.command("clear")
def clear_liar(
    context: typer.Context,
    node: NodeArgument,
    directory: DirOption = DIR_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Restart a node of a running localnet as an honest one.

    What it did may have convicted it; a conviction stays. In the view in which it lied last, an
    honest vote may convict it yet: clear it while the other nodes go on without it.

    \b
    Example:
      rota byz clear node3
    """
    output = current_output(context)
    answer = ask_localnet(directory, "byz-set", LiarRequest(node))
    output.data(answer)
    honest = "is honest" if answer["started"] else "does not run, and is honest once it is started"
    output.note(f"{node} {honest}; its first honest vote may convict it, if the view is the same")


@app.command("active")
def list_liars(
    context: typer.Context, directory: DirOption = DIR_DEFAULT, json: JsonOption = False
) -> None:
    """Show which nodes of a running localnet lie now.

    \b
    Example:
      rota byz active
    """
    document = ask_localnet(directory, "byz-active")
    rows = [
        (
            each["node"],
            each["behaviour"],
            "lies" if each["failure"] is None else f"failed: {each['failure']}",
        )
        for each in document["liars"]
    ]
    output = current_output(context)
    output.data(document, table(["node", "behaviour", "state"], rows))
    if not rows:
        output.note("nobody lies")
