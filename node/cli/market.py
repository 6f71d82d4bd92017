"""`rota market`: what is traded, and at which prices."""

from typing import Annotated, Any

import typer

from node.cli.amounts import format_price, format_size
from node.cli.output import JsonOption, command_group, current_output, table
from node.cli.target import (
    DIR_DEFAULT,
    DirOption,
    NodeOption,
    query_at_door,
)
from node.cli.views import (
    BookInfo,
    LevelInfo,
    MarketInfo,
    TradeInfo,
    query_market,
    query_markets,
    read_view,
)
from node.client import DoorClient

app = command_group(
    "See markets, order books and trades.",
    "rota market list",
    "rota market book BTC-PERP --depth 5",
)

MarketArgument = Annotated[str, typer.Argument(metavar="MARKET", help="Symbol, as BTC-PERP.")]


@app.command("list")
def list_markets(
    context: typer.Context,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    json: JsonOption = False,
) -> None:
    """List the markets with their index, best prices and steps.

    \b
    Example:
      rota market list --json
    """
    markets = query_at_door(directory, node, query_markets)
    rows = [
        (
            market.symbol,
            _price(market.index_price_ticks or None, market) + (" stale" * market.is_stale),
            _price(market.best_bid_ticks, market),
            _price(market.best_ask_ticks, market),
            _band(market),
            format_price(1, market),
            format_size(1, market),
            market.open_orders,
        )
        for market in markets
    ]
    columns = ["market", "index>", "bid>", "ask>", "price band>", "tick>", "lot>", "open orders>"]
    current_output(context).data(list(markets), table(columns, rows))


def _band(market: MarketInfo) -> str:
    """The prices that the engine takes at this moment."""
    if not market.band_high_ticks:
        return "-"
    return " to ".join(
        format_price(each, market) for each in (market.band_low_ticks, market.band_high_ticks)
    )


def _price(ticks: int | None, market: MarketInfo) -> str:
    return "-" if ticks is None else format_price(ticks, market)


@app.command()
def book(
    context: typer.Context,
    market: MarketArgument,
    depth: Annotated[int, typer.Option(min=1, max=1000, help="Price levels a side.")] = 10,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    json: JsonOption = False,
) -> None:
    """Show the order book of a market, best prices in the middle.

    \b
    Example:
      rota market book BTC-PERP --depth 5
    """

    async def work(client: DoorClient) -> tuple[MarketInfo, BookInfo]:
        params = await query_market(client, market)
        answer = await client.query("book", params.market, depth)
        return params, read_view(BookInfo, answer, "book")

    params, view = query_at_door(directory, node, work)

    def row(side: str, level: LevelInfo) -> tuple[object, ...]:
        return (
            side,
            format_price(level.price_ticks, params),
            format_size(level.size_lots, params),
            level.orders,
        )

    rows = [row("ask", level) for level in reversed(view.asks)]
    rows += [row("bid", level) for level in view.bids]
    document = {"symbol": params.symbol, "bids": view.bids, "asks": view.asks}
    columns = ["side", "price>", "size>", "orders>"]
    current_output(context).data(document, table(columns, rows, title=params.symbol))


@app.command()
def trades(
    context: typer.Context,
    market: MarketArgument,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 20,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    json: JsonOption = False,
) -> None:
    """Show the latest trades of a market, newest first.

    \b
    Example:
      rota market trades ETH-PERP --limit 5
    """

    async def work(client: DoorClient) -> tuple[MarketInfo, Any, list[TradeInfo]]:
        params = await query_market(client, market)
        answer = await client.query("trades", params.market, limit)
        return params, answer, read_view(list[TradeInfo], answer, "trades")

    params, answer, found = query_at_door(directory, node, work)
    rows = [
        (
            trade.taker_side,
            format_price(trade.price_ticks, params),
            format_size(trade.size_lots, params),
        )
        for trade in reversed(found)
    ]
    columns = ["taker", "price>", "size>"]
    document = [{**trade, "symbol": params.symbol} for trade in reversed(answer)]
    current_output(context).data(document, table(columns, rows, title=params.symbol))
