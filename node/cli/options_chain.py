"""`rota market options`: calls and puts side by side, by expiry and strike."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, NamedTuple

import typer

from node.cli.amounts import format_percent, format_price, format_quote, format_size, format_time
from node.cli.output import JsonOption, WholeTable, current_output, table
from node.cli.target import DIR_DEFAULT, DirOption, NodeOption, query_at_door
from node.cli.views import (
    GreeksInfo,
    MarketInfo,
    OptionInfo,
    UnknownMarketError,
    query_markets,
)


class Series(NamedTuple):
    """One option market."""

    market: MarketInfo
    option: OptionInfo


def format_greeks(greeks: GreeksInfo) -> tuple[str, str, str, str]:
    """Delta, gamma, vega and theta as people read them: in units of the base asset, of it for a
    price higher by 1, and in quote for 1 % of volatility and for a day."""
    return (
        f"{Decimal(greeks.delta_micro) / 1_000_000:f}",
        f"{Decimal(greeks.gamma_micro) / 1_000_000:f}",
        format_quote(greeks.vega_micro),
        format_quote(greeks.theta_micro),
    )


def make_option_rows(
    market: MarketInfo, markets: Mapping[int, MarketInfo]
) -> list[tuple[str, object]]:
    """The terms of an option, its volatility and greeks; nothing for a perpetual."""
    option = market.option
    if option is None:
        return []
    delta, gamma, vega, theta = format_greeks(option.greeks)
    underlying = markets.get(option.underlying)
    strike = option.strike_ticks
    return [
        ("option", f"{'call' if option.is_call else 'put'}, European, settled in cash"),
        ("underlying", option.underlying if underlying is None else underlying.symbol),
        ("strike", f"{strike} ticks" if underlying is None else format_price(strike, underlying)),
        (
            "expiry",
            format_time(option.expiry_ms) + (", awaits its settlement" * option.is_closed),
        ),
        ("forward", format_quote(option.forward_microquote)),
        ("volatility", format_percent(option.vol_ppm)),
        ("delta, gamma", f"{delta}, {gamma}"),
        ("vega, theta", f"{vega} for 1 % of volatility, {theta} a day"),
    ]


def make_margin_rows(market: MarketInfo) -> list[tuple[str, object]]:
    """What a position in the market must hold under cross margin."""
    option = market.option
    if option is not None:
        initial, least, maintenance = (
            format_percent(each)
            for each in (
                option.short_initial_ppm,
                option.short_initial_min_ppm,
                option.short_maintenance_ppm,
            )
        )
        most = "" if option.is_call else ", at most the strike"
        return [
            (
                "initial margin",
                f"long: its mark; short: {initial} of the index less what it is out of the money, "
                f"at least {least}{most}",
            ),
            ("maintenance", f"long: its mark; short: {maintenance} of the index{most}"),
        ]
    own, now = market.initial_margin_ppm, market.scaled_margin_ppm
    grown = f", now {format_percent(now)} by open interest" if now > own else ""
    return [
        ("initial margin", format_percent(own) + grown),
        ("maintenance", format_percent(market.maintenance_margin_ppm)),
    ]


def sort_key(market: MarketInfo) -> tuple[int, ...]:
    """The order of a list: markets by id, then the options on each by expiry and strike, a call
    before its put."""
    option = market.option
    if option is None:
        return (0, market.market)
    return (1, option.underlying, option.expiry_ms, option.strike_ticks, not option.is_call)


def format_vol(option: OptionInfo) -> str:
    """A volatility in percent a year, with two places, so that columns align."""
    return f"{Decimal(option.vol_ppm) / 10_000:.2f} %"


def format_index(market: MarketInfo, markets: Mapping[int, MarketInfo]) -> str:
    """The index price that a market follows: of an option its underlying's."""
    option = market.option
    indexed = market if option is None else markets.get(option.underlying)
    if indexed is None or not indexed.index_price_ticks:
        return "-"
    return format_price(indexed.index_price_ticks, indexed) + " stale" * market.is_stale


def list_options(
    context: typer.Context,
    underlying: Annotated[
        str | None,
        typer.Argument(
            metavar="UNDERLYING",
            help="Symbol of the market that the options are on, as BTC-PERP [default: all].",
            show_default=False,
        ),
    ] = None,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    json: JsonOption = False,
) -> None:
    """Show the chain of options: calls on the left, puts on the right, a table for each expiry.

    Prices are for a whole unit of the base asset, in quote; deltas in units of it. An option's
    symbol is underlying, day, hour, strike and C or P: BTC-261127-0800-60000-C.

    \b
    Examples:
      rota market options
      rota market options BTC-PERP --json
    """
    markets = {each.market: each for each in query_at_door(directory, node, query_markets)}
    if underlying is not None:
        symbols = [each.symbol for each in markets.values() if each.option is None]
        if underlying.upper() not in symbols:
            raise UnknownMarketError(
                f"there is no market {underlying!r} with options",
                advice=f"markets: {', '.join(symbols)}",
            )
    chains: dict[tuple[int, int], dict[int, dict[bool, Series]]] = {}
    for market in markets.values():
        option = market.option
        if option is None or option.underlying not in markets:
            continue
        if underlying is None or underlying.upper() == markets[option.underlying].symbol:
            strikes = chains.setdefault((option.underlying, option.expiry_ms), {})
            strikes.setdefault(option.strike_ticks, {})[option.is_call] = Series(market, option)
    document = []
    tables: list[object] = []
    for (number, expiry_ms), strikes in sorted(chains.items()):
        rows = [(strike, strikes[strike]) for strike in sorted(strikes)]
        document.append(
            {
                "underlying": markets[number].symbol,
                "expiry_ms": expiry_ms,
                "strikes": [
                    {
                        "strike_ticks": strike,
                        "call": sides[True].market if True in sides else None,
                        "put": sides[False].market if False in sides else None,
                    }
                    for strike, sides in rows
                ],
            }
        )
        tables.append(_make_table(markets[number], expiry_ms, rows))
    current_output(context).data(document, *(tables or ["there are no options"]))


def _make_table(
    underlying: MarketInfo, expiry_ms: int, rows: Sequence[tuple[int, Mapping[bool, Series]]]
) -> WholeTable:
    first = next(iter(rows[0][1].values()))
    forward = format_quote(first.option.forward_microquote)
    title = f"{underlying.symbol} {format_time(expiry_ms)}, forward {forward}"
    title += ", awaits its settlement" if first.option.is_closed else ""
    columns = ["call bid>", "mark>", "ask>", "delta>", "open>", "strike>", "volatility>"]
    columns += ["put bid>", "mark>", "ask>", "delta>", "open>"]
    return table(
        columns,
        [
            (
                *_make_cells(sides.get(True)),
                format_price(strike, underlying),
                format_vol(next(iter(sides.values())).option),
                *_make_cells(sides.get(False)),
            )
            for strike, sides in rows
        ],
        title=title,
    )


def _make_cells(series: Series | None) -> tuple[str, ...]:
    if series is None:
        return ("-",) * 5
    market = series.market
    prices = (market.best_bid_ticks, market.mark_price_ticks or None, market.best_ask_ticks)
    return (
        *("-" if each is None else format_price(each, market) for each in prices),
        f"{Decimal(round(series.option.greeks.delta_micro, -2)) / 1_000_000:.4f}",
        format_size(market.open_interest_lots, market),
    )
