"""`rota account`: balances, margin and positions."""

from typing import Annotated, Any

import typer

from engine.accounts.sub_accounts import compute_account_id
from node.cli import collateral, margin_mode, proofs, sessions, solvency, watch
from node.cli.account_tables import (
    make_account_tables,
    make_position_table,
    make_standing_rows,
)
from node.cli.amounts import format_quote, format_time
from node.cli.order_tables import make_open_table, make_waiting_tables
from node.cli.output import JsonOption, command_group, current_output, record, table
from node.cli.target import (
    ACCOUNT_DEFAULT,
    DIR_DEFAULT,
    DirOption,
    NodeOption,
    SubOption,
    account_id,
    account_names,
    explaining_sub_account,
    query_at_door,
)
from node.cli.views import (
    AccountInfo,
    MarketInfo,
    query_account,
    query_account_and_markets,
)
from node.client import DoorClient
from node.network import load_network

app = command_group(
    "See accounts, and what befalls them; move collateral, choose how to margin.",
    "rota account list",
    "rota account watch alice",
    "rota account show alice --json",
    "rota account transfer 250 --to bob",
)

app.command("transfer")(collateral.transfer)
app.command("withdraw")(collateral.withdraw)
app.add_typer(sessions.app, name="session")
app.command("margin")(margin_mode.margin)
app.command("solvency")(solvency.solvency)
app.command("watch")(watch.watch)
app.command("prove")(proofs.prove)


@app.command("list")
def list_accounts(
    context: typer.Context,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    json: JsonOption = False,
) -> None:
    """List the accounts whose keys are in the localnet's folder, with what they hold.

    \b
    Example:
      rota account list
    """
    network = load_network(directory)

    async def work(client: DoorClient) -> list[AccountInfo]:
        return [(await query_account(client, each.account))[1] for each in network.accounts]

    views = query_at_door(directory, node, work)
    document = [
        {
            "name": each.name,
            "account": each.account,
            "is_trader": each.is_trader,
            "keystore": str(network.path / "accounts" / f"{each.name}.json"),
            "equity_microquote": view.equity_microquote,
            "initial_margin_microquote": view.initial_margin_microquote,
            "positions": len(view.positions),
            "open_orders": len(view.orders),
        }
        for each, view in zip(network.accounts, views, strict=True)
    ]
    rows = [
        (
            each.name,
            each.account.hex()[:16],
            format_quote(view.equity_microquote),
            format_quote(view.initial_margin_microquote),
            sum(1 for position in view.positions if position.size_lots),
            len(view.orders),
        )
        for each, view in zip(network.accounts, views, strict=True)
    ]
    columns = ["name", "account", "equity>", "initial margin>", "positions>", "open orders>"]
    current_output(context).data(document, table(columns, rows))


@app.command()
def show(
    context: typer.Context,
    account: Annotated[
        str,
        typer.Argument(
            help="Name in the localnet, or the account's id; of one there its first digits do."
        ),
    ] = ACCOUNT_DEFAULT,
    sub: SubOption = 0,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    json: JsonOption = False,
) -> None:
    """Show one account: balance, margin, fee tier, positions, open and waiting orders,
    sub-accounts, pending withdrawals and session keys. Where there are options, positions come with
    their greeks.

    \b
    Examples:
      rota account show alice
      rota account show bob --json
      rota account show bob --sub 1
    """
    owner = account_id(directory, account)
    identifier = compute_account_id(owner, sub)

    async def work(client: DoorClient) -> tuple[Any, AccountInfo, dict[int, MarketInfo]]:
        return await query_account_and_markets(client, identifier)

    with explaining_sub_account(directory, sub, account):
        answer, view, markets = query_at_door(directory, node, work)
    name = account_names(directory).get(owner, "")
    name = f"{name} sub-account {sub}".strip() if sub else name
    deadline_ms = view.dead_man_deadline_ms
    dead_man = [("dead man's switch", format_time(deadline_ms))] if deadline_ms else []
    summary = record(
        [
            ("account", f"{name} {identifier.hex()}".strip()),
            ("balance", format_quote(view.quote_microquote)),
            ("equity", format_quote(view.equity_microquote)),
            ("initial margin", format_quote(view.initial_margin_microquote)),
            ("maintenance margin", format_quote(view.maintenance_margin_microquote)),
            ("margin mode", view.margin_mode),
            *dead_man,
            *make_standing_rows(view),
        ],
    )
    positions = make_position_table(view, markets)
    orders = [make_open_table(view, markets), *make_waiting_tables(view, markets)]
    document = {"name": name or None, **answer}
    others = make_account_tables(view, markets)
    current_output(context).data(document, summary, positions, *orders, *others)
