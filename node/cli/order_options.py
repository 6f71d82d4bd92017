"""What the commands that place, change and cancel orders share: their options."""

from enum import StrEnum
from typing import Annotated, Final

import typer

from engine.instructions import SelfTradeMode, Side, TimeInForce
from engine.limits import CLIENT_ID_MAX
from node.cli.amounts import parse_distance, parse_duration_ms, parse_price
from node.cli.views import MarketInfo
from node.client import DoorClient

SLIPPAGE_DEFAULT: Final = "1%"
"""How much worse than its reference a price may be, unless it is said otherwise."""


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


class FiredTifName(StrEnum):
    """Times in force of an order that fires: it is there to take."""

    IOC = "ioc"
    GTC = "gtc"
    FOK = "fok"


class SelfTradeName(StrEnum):
    """Modes of self-trade prevention on the command line."""

    MAKER = "cancel-maker"
    TAKER = "cancel-taker"
    BOTH = "cancel-both"
    DECREMENT = "decrement"


SIDES: Final = {SideName.BUY: Side.BUY, SideName.SELL: Side.SELL}
TIFS: Final = {
    TifName.GTC: TimeInForce.GTC,
    TifName.IOC: TimeInForce.IOC,
    TifName.FOK: TimeInForce.FOK,
    TifName.POST: TimeInForce.POST_ONLY,
}
FIRED_TIFS: Final = {
    FiredTifName.IOC: TimeInForce.IOC,
    FiredTifName.GTC: TimeInForce.GTC,
    FiredTifName.FOK: TimeInForce.FOK,
}
SELF_TRADES: Final = {
    SelfTradeName.MAKER: SelfTradeMode.CANCEL_MAKER,
    SelfTradeName.TAKER: SelfTradeMode.CANCEL_TAKER,
    SelfTradeName.BOTH: SelfTradeMode.CANCEL_BOTH,
    SelfTradeName.DECREMENT: SelfTradeMode.DECREMENT,
}

MarketArgument = Annotated[str, typer.Argument(help="Symbol, as BTC-PERP.")]
SideArgument = Annotated[SideName, typer.Argument(help="buy or sell.")]
SizeArgument = Annotated[str, typer.Argument(help="Size in units of the base asset, as 0.25.")]
ReduceOnlyOption = Annotated[
    bool, typer.Option("--reduce-only", help="Only make the position smaller.")
]
ClientIdOption = Annotated[
    int,
    typer.Option(min=0, max=CLIENT_ID_MAX, help="Your own number for the order; 0 for none."),
]
SelfTradeOption = Annotated[
    SelfTradeName,
    typer.Option(
        help="When it meets your own order: cancel that one (the maker), this one (the taker) or "
        "both, or take the smaller size off both."
    ),
]
GoodForOption = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="End it after this long if it is still there, as 90s, 15m or 2h [default: never].",
        show_default=False,
    ),
]
WorstPriceOption = Annotated[
    str | None,
    typer.Option(
        help="Worst price in quote per unit that it may trade at; instead of --slippage.",
        show_default=False,
    ),
]


def compute_good_til_ms(client: DoorClient, good_for: str | None) -> int:
    """When an order ends that may last for so long; 0 for never. Raises `AmountError`."""
    return 0 if good_for is None else client.welcome.time_ms + parse_duration_ms(good_for)


def compute_worst_price(
    side: Side, reference_ticks: int, price: str | None, slippage: str | None, market: MarketInfo
) -> int:
    """The worst price in ticks: `price` itself, or the reference and as much as it may slip.

    Raises `AmountError`, or a usage error if both are given.
    """
    if price is not None:
        if slippage is not None:
            raise typer.BadParameter("--price and --slippage exclude each other")
        return parse_price(price, market)
    slip = parse_distance(slippage or SLIPPAGE_DEFAULT, market, reference_ticks)
    return max(reference_ticks + side * slip, 1)
