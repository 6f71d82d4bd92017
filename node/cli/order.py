"""`rota order`: place and cancel orders, and see what became of them."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from engine.instructions import (
    Cancel,
    CancelAll,
    PlaceOrder,
    Side,
    TimeInForce,
)
from engine.limits import CLIENT_ID_MAX, SEQUENCE_MAX
from node.cli.amounts import format_price, format_size, parse_price, parse_size
from node.cli.hints import rota_command
from node.cli.output import JsonOption, command_group, current_output, record, table
from node.cli.reasons import explain
from node.cli.submission import describe_outcome, submit_instruction
from node.cli.target import (
    DIR_DEFAULT,
    AccountOption,
    DirOption,
    KeyOption,
    NodeOption,
    PasswordFileOption,
    load_identity,
    query_at_door,
    run_at_door,
)
from node.cli.views import (
    EnvelopeInfo,
    query_account,
    query_market,
    query_markets,
    read_view,
)
from node.client import DoorClient

WAIT_DEFAULT_S: Final = 30.0

app = command_group(
    "Place and cancel orders, and see what became of them.",
    "rota order place BTC-PERP buy 0.1 --price 60000",
    "rota order list --account bob",
)


class SideName(StrEnum):
    """Sides on the command line."""

    BUY = "buy"
    SELL = "sell"


class TifName(StrEnum):
    """Times in force on the command line."""

    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"
    POST = "post"


_TIF: Final = {
    TifName.GTC: TimeInForce.GTC,
    TifName.IOC: TimeInForce.IOC,
    TifName.FOK: TimeInForce.FOK,
    TifName.POST: TimeInForce.POST_ONLY,
}

WaitOption = Annotated[
    float,
    typer.Option("--timeout", min=0.1, max=3600, help="Seconds to wait for the certified result."),
]


@app.command()
def place(
    context: typer.Context,
    market: Annotated[str, typer.Argument(help="Symbol, as BTC-PERP.")],
    side: Annotated[SideName, typer.Argument(help="buy or sell.")],
    size: Annotated[str, typer.Argument(help="Size in units of the base asset, as 0.25.")],
    price: Annotated[
        str, typer.Option(help="Limit price in quote per unit; it never trades at a worse one.")
    ],
    tif: Annotated[
        TifName,
        typer.Option(
            help="gtc rests until cancelled; ioc takes what it can at once; fok takes all or "
            "nothing; post only ever rests."
        ),
    ] = TifName.GTC,
    reduce_only: Annotated[
        bool, typer.Option("--reduce-only", help="Only make the position smaller.")
    ] = False,
    client_id: Annotated[
        int,
        typer.Option(min=0, max=CLIENT_ID_MAX, help="Your own number for the order; 0 for none."),
    ] = 0,
    account: AccountOption = None,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    key: KeyOption = None,
    password_file: PasswordFileOption = None,
    timeout_s: WaitOption = WAIT_DEFAULT_S,
    json: JsonOption = False,
) -> None:
    """Place a limit order and wait for its certified result.

    Prints each level that the order reaches: received (no promise yet), available (it will be
    ordered), ordered (its place is final), executed (the result is certified by a quorum).

    \b
    Examples:
      rota order place BTC-PERP buy 0.1 --price 60000
      rota order place ETH-PERP sell 2 --price 3000 --tif ioc --account bob --json
      rota order place BTC-PERP buy 1 --price 60000 --node 10.0.0.7:9101 --key trader.json
    """
    output = current_output(context)
    identity = load_identity(directory, account, key, password_file)
    follow_up = _status_command(directory, node)

    async def work(client: DoorClient) -> None:
        params = await query_market(client, market)
        order = PlaceOrder(
            market=params.market,
            side=Side.BUY if side is SideName.BUY else Side.SELL,
            price_ticks=parse_price(price, params),
            size_lots=parse_size(size, params),
            tif=_TIF[tif],
            reduce_only=reduce_only,
            client_id=client_id,
        )
        await submit_instruction(client, identity, order, [params], output, timeout_s, follow_up)

    run_at_door(directory, node, work)


def _status_command(directory: Path, node: str | None) -> str:
    """What asks the same network for an envelope whose id is put behind it."""
    where = "" if node is None else f"--node {node} "
    return f"{rota_command(directory)}order status {where}"


@app.command()
def cancel(
    context: typer.Context,
    order_id: Annotated[int, typer.Argument(min=1, max=SEQUENCE_MAX, help="The order's number.")],
    account: AccountOption = None,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    key: KeyOption = None,
    password_file: PasswordFileOption = None,
    timeout_s: WaitOption = WAIT_DEFAULT_S,
    json: JsonOption = False,
) -> None:
    """Cancel one open order.

    \b
    Example:
      rota order cancel 4611 --account alice
    """
    output = current_output(context)
    identity = load_identity(directory, account, key, password_file)
    follow_up = _status_command(directory, node)

    async def work(client: DoorClient) -> None:
        markets = await query_markets(client)
        await submit_instruction(
            client, identity, Cancel(order_id), markets, output, timeout_s, follow_up
        )

    run_at_door(directory, node, work)


@app.command("cancel-all")
def cancel_all(
    context: typer.Context,
    market: Annotated[
        str | None, typer.Option(help="Only in this market.", show_default=False)
    ] = None,
    account: AccountOption = None,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    key: KeyOption = None,
    password_file: PasswordFileOption = None,
    timeout_s: WaitOption = WAIT_DEFAULT_S,
    json: JsonOption = False,
) -> None:
    """Cancel all open orders of an account.

    \b
    Examples:
      rota order cancel-all
      rota order cancel-all --market BTC-PERP --account bob
    """
    output = current_output(context)
    identity = load_identity(directory, account, key, password_file)
    follow_up = _status_command(directory, node)

    async def work(client: DoorClient) -> None:
        markets = await query_markets(client)
        number = None if market is None else (await query_market(client, market)).market
        await submit_instruction(
            client, identity, CancelAll(number), markets, output, timeout_s, follow_up
        )

    run_at_door(directory, node, work)


@app.command()
def status(
    context: typer.Context,
    envelope: Annotated[
        str, typer.Argument(help="Envelope id, 64 hexadecimal digits, as `place` printed it.")
    ],
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    json: JsonOption = False,
) -> None:
    """Show how far an envelope has come.

    \b
    Example:
      rota order status 3b1f...e2 --json
    """
    output = current_output(context)
    try:
        envelope_id = bytes.fromhex(envelope)
    except ValueError:
        envelope_id = b""
    if len(envelope_id) != 32:
        raise typer.BadParameter("an envelope id has 64 hexadecimal digits")
    answer: Any = query_at_door(
        directory, node, lambda client: client.query("envelope", envelope_id)
    )
    view = read_view(EnvelopeInfo, answer, "envelope")
    rows: list[tuple[str, object]] = [("envelope", envelope_id.hex()), ("level", view.level)]
    rows += [("height", view.height)] if view.height else []
    rows += [("code", f"{view.code}: {explain(view.code).meaning}")] if view.code else []
    rows += [("result", describe_outcome(each, None)) for each in view.results or ()]
    output.data(answer, record(rows))


@app.command("list")
def list_orders(
    context: typer.Context,
    account: AccountOption = None,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    key: KeyOption = None,
    password_file: PasswordFileOption = None,
    json: JsonOption = False,
) -> None:
    """List an account's open orders.

    \b
    Example:
      rota order list --account bob
    """
    output = current_output(context)
    identity = load_identity(directory, account, key, password_file)

    async def work(client: DoorClient) -> None:
        markets = {market.market: market for market in await query_markets(client)}
        answer, view = await query_account(client, identity.account)
        rows = [
            (
                order.order_id,
                markets[order.market].symbol,
                order.side,
                format_size(order.size_lots, markets[order.market]),
                format_price(order.price_ticks, markets[order.market]),
                order.tif,
                "yes" if order.reduce_only else "",
            )
            for order in view.orders
        ]
        columns = ["order>", "market", "side", "size>", "price>", "tif", "reduce-only"]
        document = [
            {**each, "symbol": markets[order.market].symbol}
            for each, order in zip(answer["orders"], view.orders, strict=True)
        ]
        output.data(document, table(columns, rows))

    query_at_door(directory, node, work)
