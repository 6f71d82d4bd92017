"""`rota config`: what a node is configured to do, and why."""

from typing import Annotated, Final

import typer

from node.cli.homes import HOME_DEFAULT, HomeOption, SetOption, open_home, parse_overrides
from node.cli.output import JsonOption, command_group, current_output, table
from node.config_file import describe_keys

VALUE_DIGITS_MAX: Final = 48
"""Of a value in the table; certificates are longer, and whole only in JSON."""

app = command_group(
    "See and check a node's configuration.",
    "rota config show --home ~/.rota --origin",
    "rota config keys",
)


@app.command()
def show(
    context: typer.Context,
    origin: Annotated[
        bool, typer.Option("--origin", help="Also show where each value comes from.")
    ] = False,
    home: HomeOption = HOME_DEFAULT,
    settings: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Show every key with the value that a start would use.

    Precedence, weakest first: default, node.toml, environment ROTA__SECTION__KEY, --set.

    \b
    Examples:
      rota config show --home .localnet/node0 --origin
      ROTA__LOG__LEVEL=debug rota config show --json
    """
    found = list(open_home(home).load_config(parse_overrides(settings)).settings())
    document = [
        {"key": each.key, "value": each.value} | ({"origin": each.origin} if origin else {})
        for each in found
    ]
    rows = [tuple(_shorten(str(value)) for value in each.values()) for each in document]
    columns = ["key", "value", "origin"] if origin else ["key", "value"]
    current_output(context).data(document, table(columns, rows))


def _shorten(text: str) -> str:
    return text if len(text) <= VALUE_DIGITS_MAX else text[: VALUE_DIGITS_MAX - 1] + "…"


@app.command()
def check(
    context: typer.Context,
    home: HomeOption = HOME_DEFAULT,
    settings: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Check node.toml, genesis.json and keystores as a start would, without starting.

    \b
    Example:
      rota config check --home ~/north
    """
    target = open_home(home)
    config = target.load_config(parse_overrides(settings)).config
    genesis = target.load_genesis()
    index = target.validate_member(config, genesis)
    chain = genesis.chain_id().hex()
    missing = [
        member.name
        for member in genesis.members
        if member.name != config.node.name and member.name not in config.peers
    ]
    output = current_output(context)
    document = {
        "ok": True,
        "node": config.node.name,
        "member": index,
        "chain_id": chain,
        "members_without_address": missing,
    }
    output.data(document, f"{config.node.name} is member {index} of chain {chain[:16]}")
    if missing:
        output.note(f"no [peers.NAME] for {', '.join(missing)}: only they can dial this node")


@app.command()
def keys(context: typer.Context, json: JsonOption = False) -> None:
    """List every key of node.toml with type, bounds, default and meaning.

    \b
    Example:
      rota config keys
    """
    found = list(describe_keys())
    rows = [
        (each.key, each.type, "" if each.default is None else each.default, each.description)
        for each in found
    ]
    document = [each._asdict() for each in found]
    current_output(context).data(document, table(["key", "type", "default", "meaning"], rows))
