"""The parts that orders that wait are made of, from what people write."""

import re
from enum import StrEnum
from typing import Final, NamedTuple, TypeVar

from msgspec.structs import replace

from engine.instructions import (
    ConditionalOrder,
    PlaceOrder,
    Side,
    TimeInForce,
    TrailingStop,
    TriggerKind,
    TriggerSource,
)
from node.cli.amounts import parse_distance, parse_price, parse_size
from node.cli.order_options import (
    FIRED_TIFS,
    SELF_TRADES,
    SIDES,
    SLIPPAGE_DEFAULT,
    FiredTifName,
    SelfTradeName,
    SideName,
    compute_worst_price,
)
from node.cli.views import MarketInfo
from node.exit_codes import ExitCode, OperatorError


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


class LegKind(StrEnum):
    """What a leg of a pair is, on the command line."""

    LIMIT = "limit"
    TAKE_PROFIT = "take-profit"
    STOP = "stop"
    TRAILING = "trailing"


class Leg(NamedTuple):
    """One leg of a pair, as people write it."""

    kind: LegKind
    price: str
    """Its limit, its trigger, or how far that trails."""
    side: SideName
    size: str
    worst_price: str | None
    slippage: str | None
    source: SourceName
    tif: FiredTifName
    reduce_only: bool


_NUMBER: Final = re.compile(r"[0-9.]+")


class LegError(OperatorError):
    """A leg that cannot be read."""

    code = "usage.leg"
    exit_code = ExitCode.USAGE


def parse_leg(text: str, base: Leg) -> Leg:
    """Read `[buy|sell] [SIZE] KIND PRICE [NAME=VALUE ...] [reduce-only]`; what it leaves out is as
    in `base`. Raises `LegError`."""
    words = text.split()
    leg = base
    if words and words[0] in list(SideName):
        leg = leg._replace(side=SideName(words.pop(0)))
    if words and _NUMBER.fullmatch(words[0]):
        leg = leg._replace(size=words.pop(0))
    if len(words) < 2 or words[0] not in list(LegKind):
        raise _leg_error(text, f"it names no kind and price; kinds are {', '.join(LegKind)}")
    leg = leg._replace(kind=LegKind(words[0]), price=words[1])
    return _read_options(text, leg, words[2:])


def _read_options(text: str, leg: Leg, words: list[str]) -> Leg:
    for word in words:
        name, _, value = word.partition("=")
        if word == "reduce-only":
            leg = leg._replace(reduce_only=True)
        elif leg.kind is LegKind.LIMIT:
            raise _leg_error(text, "a limit order rests as it is: it takes reduce-only alone")
        elif name == "price" and leg.kind is not LegKind.TRAILING:
            leg = leg._replace(worst_price=value, slippage=None)
        elif name == "slippage":
            leg = leg._replace(slippage=value, worst_price=None)
        elif name == "source" and value in list(SourceName):
            leg = leg._replace(source=SourceName(value))
        elif name == "tif" and value in list(FiredTifName):
            leg = leg._replace(tif=FiredTifName(value))
        else:
            raise _leg_error(text, f"{word!r} is nothing that a {leg.kind} leg takes")
    return leg


def _leg_error(text: str, problem: str) -> LegError:
    return LegError(
        f"the leg {text!r}: {problem}",
        advice="write it like 'sell stop 58000' or 'buy 0.2 take-profit 55000 tif=gtc reduce-only'",
    )


def make_leg(
    leg: Leg, market: MarketInfo, self_trade: SelfTradeName, client_id: int, good_til_ms: int
) -> ConditionalOrder | TrailingStop | PlaceOrder:
    """The engine's order of a leg. Raises `AmountError`."""
    side = SIDES[leg.side]
    if leg.kind is LegKind.LIMIT:
        return PlaceOrder(
            market.market,
            side,
            parse_price(leg.price, market),
            parse_size(leg.size, market),
            TimeInForce.POST_ONLY,
            leg.reduce_only,
            SELF_TRADES[self_trade],
            client_id,
            good_til_ms,
        )
    if leg.kind is LegKind.TRAILING:
        trailing = make_trailing(market, side, leg.size, leg.price, leg.slippage, leg.source)
        return finish(trailing, leg.tif, leg.reduce_only, self_trade, client_id, good_til_ms)
    kind = TriggerKind.STOP if leg.kind is LegKind.STOP else TriggerKind.TAKE_PROFIT
    order = make_conditional(
        kind, market, side, leg.size, leg.price, leg.worst_price, leg.slippage, leg.source
    )
    return finish(order, leg.tif, leg.reduce_only, self_trade, client_id, good_til_ms)


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
