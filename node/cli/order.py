"""`rota order`: place, change and cancel orders, and see what became of them."""

from typing import Annotated, Any

import typer

from engine.accounts.sub_accounts import compute_account_id
from engine.instructions import MarketOrder, PlaceOrder
from node.cli import liquidations, order_changes, order_waiting
from node.cli.amounts import (
    format_price,
    parse_price,
    parse_size,
)
from node.cli.desk import Order, open_desk
from node.cli.order_options import (
    SELF_TRADES,
    SIDES,
    SLIPPAGE_DEFAULT,
    TIFS,
    ClientIdOption,
    GoodForOption,
    MarketArgument,
    ReduceOnlyOption,
    SelfTradeName,
    SelfTradeOption,
    SideArgument,
    SideName,
    SizeArgument,
    TifName,
    WorstPriceOption,
    compute_good_til_ms,
    compute_worst_price,
)
from node.cli.order_tables import list_orders, make_open_table, make_waiting_tables
from node.cli.output import JsonOption, command_group, current_output, record
from node.cli.reasons import explain
from node.cli.submission import describe_outcome
from node.cli.target import (
    DIR_DEFAULT,
    WAIT_DEFAULT_S,
    AccountOption,
    DirOption,
    KeyOption,
    NodeOption,
    PasswordFileOption,
    SubOption,
    WaitOption,
    explaining_sub_account,
    load_identity,
    query_at_door,
)
from node.cli.views import (
    AccountInfo,
    EnvelopeInfo,
    MarketInfo,
    query_account_and_markets,
    query_market,
    read_view,
)
from node.client import DoorClient

app = command_group(
    "Place, change and cancel orders, and see what became of them.",
    "rota order place BTC-PERP buy 0.1 --price 60000",
    "rota order stop BTC-PERP sell 0.1 --trigger 58000 --reduce-only",
    "rota order cancel --client-id 7",
    "rota order list --account bob",
)


@app.command()
def place(
    context: typer.Context,
    market: MarketArgument,
    side: SideArgument,
    size: SizeArgument,
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
    reduce_only: ReduceOnlyOption = False,
    client_id: ClientIdOption = 0,
    good_for: GoodForOption = None,
    self_trade: SelfTradeOption = SelfTradeName.MAKER,
    account: AccountOption = None,
    sub: SubOption = 0,
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
      rota order place BTC-PERP buy 1 --price 60000 --client-id 7 --good-for 15m
      rota order place BTC-PERP buy 1 --price 60000 --node 10.0.0.7:9101 --key trader.json
    """
    desk = open_desk(
        context,
        account=account,
        sub=sub,
        directory=directory,
        node=node,
        key=key,
        password_file=password_file,
        timeout_s=timeout_s,
    )

    async def make(client: DoorClient) -> Order:
        params = await query_market(client, market)
        return PlaceOrder(
            params.market,
            SIDES[side],
            parse_price(price, params),
            parse_size(size, params),
            TIFS[tif],
            reduce_only,
            SELF_TRADES[self_trade],
            client_id,
            compute_good_til_ms(client, good_for),
        ), params

    desk.submit(make)


@app.command("market")
def place_market(
    context: typer.Context,
    market: MarketArgument,
    side: SideArgument,
    size: SizeArgument,
    price: WorstPriceOption = None,
    slippage: Annotated[
        str | None,
        typer.Option(
            metavar="DISTANCE",
            help="How much worse than the best price of the book it may trade, in quote or in "
            f"percent [default: {SLIPPAGE_DEFAULT}].",
            show_default=False,
        ),
    ] = None,
    reduce_only: ReduceOnlyOption = False,
    client_id: ClientIdOption = 0,
    self_trade: SelfTradeOption = SelfTradeName.MAKER,
    account: AccountOption = None,
    sub: SubOption = 0,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    key: KeyOption = None,
    password_file: PasswordFileOption = None,
    timeout_s: WaitOption = WAIT_DEFAULT_S,
    json: JsonOption = False,
) -> None:
    """Trade at once at the best prices there are, but never beyond a worst one.

    What cannot trade at that price or better is cancelled: no order trades at any price. With an
    empty book the worst price is counted from the index.

    \b
    Examples:
      rota order market BTC-PERP buy 0.1
      rota order market BTC-PERP sell 0.1 --slippage 0.25% --reduce-only
      rota order market ETH-PERP buy 2 --price 3050
    """
    desk = open_desk(
        context,
        account=account,
        sub=sub,
        directory=directory,
        node=node,
        key=key,
        password_file=password_file,
        timeout_s=timeout_s,
    )

    async def make(client: DoorClient) -> Order:
        params = await query_market(client, market)
        best = params.best_ask_ticks if side is SideName.BUY else params.best_bid_ticks
        reference = params.index_price_ticks if best is None else best
        worst = compute_worst_price(SIDES[side], reference, price, slippage, params)
        if price is None:
            # Where the band is narrower than the slippage, the band is what is meant.
            worst = min(max(worst, params.band_low_ticks), params.band_high_ticks)
            desk.output.note(f"at {format_price(worst, params)} or better")
        return MarketOrder(
            params.market,
            SIDES[side],
            max(worst, 1),
            parse_size(size, params),
            reduce_only,
            SELF_TRADES[self_trade],
            client_id,
        ), params

    desk.submit(make)


app.command("stop")(order_waiting.stop)
app.command("take-profit")(order_waiting.take_profit)
app.command("trailing")(order_waiting.trailing)
app.command("oco")(order_waiting.oco)
app.command("twap")(order_waiting.twap)


app.command("bid")(liquidations.bid)
app.command("amend")(order_changes.amend)
app.command("cancel")(order_changes.cancel)
app.command("cancel-all")(order_changes.cancel_all)
app.command("dead-man")(order_changes.dead_man)


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
def show_orders(
    context: typer.Context,
    account: AccountOption = None,
    sub: SubOption = 0,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    key: KeyOption = None,
    password_file: PasswordFileOption = None,
    json: JsonOption = False,
) -> None:
    """List an account's open and waiting orders.

    With --json all of them are one list; `kind` tells limit, stop, take_profit, trailing_stop and
    twap apart.

    \b
    Example:
      rota order list --account bob
    """
    output = current_output(context)
    identity = load_identity(directory, account, key, password_file)

    async def work(client: DoorClient) -> tuple[dict[str, Any], AccountInfo, dict[int, MarketInfo]]:
        return await query_account_and_markets(client, compute_account_id(identity.account, sub))

    with explaining_sub_account(directory, sub, account):
        answer, view, markets = query_at_door(directory, node, work)
    tables = [make_open_table(view, markets), *make_waiting_tables(view, markets)]
    output.data(list_orders(answer, markets), *tables)
