"""`rota genesis`: what all nodes of a chain must agree on."""

from pathlib import Path
from typing import Annotated

import typer

from node.cli.amounts import format_quote
from node.cli.genesis_tables import make_exchange_tables, make_market_table
from node.cli.output import JsonOption, command_group, current_output, table
from node.cli.target import DIR_DEFAULT, DirOption
from node.genesis import Genesis
from node.home import NodeHome, read_genesis

app = command_group(
    "Look at a genesis file.",
    "rota genesis show",
    "rota genesis hash",
)

FileArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[FILE]",
        help="A genesis.json [default: the localnet's].",
        exists=True,
        dir_okay=False,
        show_default=False,
    ),
]


def _load(file: Path | None, directory: Path) -> Genesis:
    return read_genesis(NodeHome(directory).genesis_path if file is None else file)


@app.command()
def show(
    context: typer.Context,
    file: FileArgument = None,
    directory: DirOption = DIR_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Show chain id, members, every parameter of the markets and of the exchange, and balances.

    Parameters have the names of the file without their units, and are shown in percent, as
    durations and in quote; docs/engine.md explains each.

    \b
    Examples:
      rota genesis show
      rota genesis show ~/north/genesis.json --json
    """
    genesis = _load(file, directory)
    members = table(
        ["member", "power>", "consensus key", "identity key"],
        [
            (each.name, each.power, each.consensus_key.hex()[:16], each.identity_key.hex()[:16])
            for each in genesis.members
        ],
    )
    deposits = sum(each.amount_microquote for each in genesis.engine.deposits)
    current_output(context).data(
        {"chain_id": genesis.chain_id(), "genesis": genesis},
        f"chain {genesis.chain_name}, id {genesis.chain_id().hex()}",
        members,
        make_market_table(genesis.engine),
        *make_exchange_tables(genesis.engine),
        f"{len(genesis.engine.deposits)} accounts with {format_quote(deposits)} in all",
    )


@app.command("hash")
def show_hash(
    context: typer.Context,
    file: FileArgument = None,
    directory: DirOption = DIR_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Print the chain id: the digest of everything in the file.

    \b
    Example:
      rota genesis hash ~/north/genesis.json
    """
    chain_id = _load(file, directory).chain_id().hex()
    current_output(context).data({"chain_id": chain_id}, chain_id)
