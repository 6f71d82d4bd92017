"""`rota market`: what is traded, and at which prices."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from engine.margin import compute_portfolio_margin
from node.cli import liquidations, options_chain
from node.cli.amounts import format_percent, format_price, format_size
from node.cli.options_chain import (
    format_index,
    format_vol,
    make_margin_rows,
    make_option_rows,
    sort_key,
)
from node.cli.output import JsonOption, command_group, current_output, record, table
from node.cli.portfolio import describe_margin, read_portfolio
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
    "See markets, books, trades and liquidations, and what a portfolio must hold.",
    "rota market list",
    "rota market book BTC-PERP --depth 5",
    "rota market options BTC-PERP",
    "rota market margin --portfolio portfolio.json",
)

app.command("options")(options_chain.list_options)
app.command("liquidations")(liquidations.list_liquidations)
app.command("insurance")(liquidations.insurance)

MarketArgument = Annotated[str, typer.Argument(metavar="MARKET", help="Symbol, as BTC-PERP.")]


@app.command("list")
def list_markets(
    context: typer.Context,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    json: JsonOption = False,
) -> None:
    """List the markets with their index, mark, best prices, steps and open interest.

    \b
    Example:
      rota market list --json
    """
    markets = query_at_door(directory, node, query_markets)
    by_id = {each.market: each for each in markets}
    rows = [
        (
            market.symbol,
            format_index(market, by_id),
            _price(market.mark_price_ticks or None, market),
            _price(market.best_bid_ticks, market),
            _price(market.best_ask_ticks, market),
            _band(market),
            format_price(1, market),
            format_size(1, market),
            format_size(market.open_interest_lots, market),
            _funding(market),
            _volatility(market),
            market.open_orders,
            market.matching,
        )
        for market in sorted(markets, key=sort_key)
    ]
    columns = [
        "market",
        "index>",
        "mark>",
        "bid>",
        "ask>",
        "price band>",
        "tick>",
        "lot>",
        "open interest>",
        "funding 8h>",
        "volatility>",
        "orders>",
        "matching",
    ]
    current_output(context).data(list(markets), table(columns, rows))


@app.command()
def show(
    context: typer.Context,
    market: MarketArgument,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    json: JsonOption = False,
) -> None:
    """Show one market: how it matches, its prices, steps, margin and fees; of an option its terms
    and greeks. `rota genesis show` has every parameter of all of them.

    \b
    Examples:
      rota market show BTC-PERP
      rota market show BTC-261127-0800-60000-C
    """

    async def work(client: DoorClient) -> tuple[MarketInfo, dict[int, MarketInfo]]:
        found = await query_market(client, market)
        return found, {each.market: each for each in await query_markets(client)}

    found, markets = query_at_door(directory, node, work)
    rows = [
        ("market", found.symbol),
        ("matching", _MATCHING[found.matching]),
        ("index", format_index(found, markets)),
        ("mark", _price(found.mark_price_ticks or None, found)),
        ("bid", _price(found.best_bid_ticks, found)),
        ("ask", _price(found.best_ask_ticks, found)),
        ("price band", _band(found)),
        ("tick", format_price(1, found)),
        ("lot", format_size(1, found)),
        *make_margin_rows(found),
        ("maker fee", format_percent(found.maker_fee_ppm)),
        ("taker fee", format_percent(found.taker_fee_ppm)),
        ("funding 8h", _funding(found)),
        ("open interest", format_size(found.open_interest_lots, found)),
        ("open orders", found.open_orders),
        *make_option_rows(found, markets),
    ]
    current_output(context).data(found, record(rows))


_MATCHING: Final = {
    "continuous": "continuous: takers of a block trade in turns, in an order that its seed gives",
    "auction": "auction: all takers of a block trade at one price",
}


def _band(market: MarketInfo) -> str:
    """The prices that the engine takes at this moment."""
    if not market.band_high_ticks:
        return "-"
    return " to ".join(
        format_price(each, market) for each in (market.band_low_ticks, market.band_high_ticks)
    )


def _funding(market: MarketInfo) -> str:
    """The last funding rate in percent for eight hours, once there is one."""
    rate = market.funding_rate_ppb
    return "-" if rate is None else f"{Decimal(rate) / 10_000_000:.4f} %"


def _volatility(market: MarketInfo) -> str:
    """That of an option, in percent a year."""
    option = market.option
    return "-" if option is None else format_vol(option)


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


PortfolioOption = Annotated[
    Path,
    typer.Option(
        "--portfolio", metavar="FILE", help="A JSON file of the form above; - reads standard input."
    ),
]


@app.command()
def margin(
    context: typer.Context,
    portfolio: PortfolioOption,
    json: JsonOption = False,
) -> None:
    """Compute the portfolio margin of what a file holds; no node is asked.

    Margins are excess: a portfolio passes unless they are negative. Numbers are decimal strings
    or JSON numbers, read exactly. Kinds are call, put, perp and base; the forward of a perp is
    its mark price. Scenarios have a vol_shock of up, none or down. Parameters that are left out
    have their published values. docs/reference/portfolio.md has every field.

    \b
    The file:
      {"parameters": {"im_factor": "1.25",
                      "scenarios": [{"spot_shock": "1.2", "vol_shock": "up"}]},
       "markets": {"C": {"kind": "call", "expiry_s": 604800, "strike": "1500",
                         "forward": "1502.5", "spot": "1500", "vol": "0.8",
                         "rate": "0.03", "confidence": "1"},
                   "P": {"kind": "perp", "forward": "1501", "spot": "1500"}},
       "stable_price": "1", "cash": "1000", "positions": {"C": "-2", "P": "0.5"}}

    \b
    Example:
      rota market margin --portfolio portfolio.json --json
    """
    holdings, market_data, parameters = read_portfolio(portfolio)
    result = compute_portfolio_margin(holdings, market_data, parameters)
    document = describe_margin(result, parameters)
    parts = document.pop("parts")
    scenarios = document.pop("scenarios")
    worst = parts["worst_scenario"]
    rows = [
        (
            each["spot_shock"],
            each["vol_shock"],
            each["change"],
            "worst" if place == worst else "",
        )
        for place, each in enumerate(scenarios)
    ]
    current_output(context).data(
        {**document, "parts": parts, "scenarios": scenarios},
        record(document.items()),
        "",
        record((name, value) for name, value in parts.items() if name != "worst_scenario"),
        "",
        table(["spot", "vol", "change>", ""], rows, title="scenarios"),
    )
