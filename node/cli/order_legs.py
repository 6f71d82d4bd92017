"""The parts that orders that wait are made of, from what people write."""

from enum import StrEnum
from typing import Final, TypeVar

from msgspec.structs import replace

from engine.instructions import ConditionalOrder, Side, TrailingStop, TriggerKind, TriggerSource
from node.cli.amounts import parse_distance, parse_price, parse_size
from node.cli.order_options import (
    FIRED_TIFS,
    SELF_TRADES,
    SLIPPAGE_DEFAULT,
    FiredTifName,
    SelfTradeName,
    compute_worst_price,
)
from node.cli.views import MarketInfo


class SourceName(StrEnum):
    """What a waiting order watches, on the command line."""

    INDEX = "index"
    LAST = "last"
    MARK = "mark"


SOURCES: Final = {
    SourceName.INDEX: TriggerSource.INDEX,
    SourceName.LAST: TriggerSource.LAST,
    SourceName.MARK: TriggerSource.MARK,
}

L = TypeVar("L", ConditionalOrder, TrailingStop)


def make_conditional(
    kind: TriggerKind,
    market: MarketInfo,
    side: Side,
    size: str,
    trigger: str,
    price: str | None,
    slippage: str | None,
    source: SourceName,
) -> ConditionalOrder:
    """A stop or take-profit order; its worst price is said, or follows from its trigger."""
    trigger_ticks = parse_price(trigger, market)
    worst_ticks = compute_worst_price(side, trigger_ticks, price, slippage, market)
    return ConditionalOrder(
        market.market,
        side,
        kind,
        SOURCES[source],
        trigger_ticks,
        worst_ticks,
        parse_size(size, market),
    )


def make_trailing(
    market: MarketInfo,
    side: Side,
    size: str,
    offset: str,
    slippage: str | None,
    source: SourceName,
) -> TrailingStop:
    """A trailing stop; what is said in percent is of the index as it is now."""
    index = market.index_price_ticks
    return TrailingStop(
        market.market,
        side,
        SOURCES[source],
        parse_distance(offset, market, index),
        parse_distance(slippage or SLIPPAGE_DEFAULT, market, index),
        parse_size(size, market),
    )


def finish(
    order: L,
    tif: FiredTifName,
    reduce_only: bool,
    self_trade: SelfTradeName,
    client_id: int,
    good_til_ms: int,
) -> L:
    """The order with what all of them have."""
    return replace(
        order,
        tif=FIRED_TIFS[tif],
        reduce_only=reduce_only,
        self_trade=SELF_TRADES[self_trade],
        client_id=client_id,
        good_til_ms=good_til_ms,
    )
