"""What an order that was refused for margin needed, and how much of it would fit: the engine's
admission (`engine.trading.placement`) computed again from a node's views, so about."""

from collections.abc import Mapping

from engine.instructions import MarketOrder, PlaceOrder, Side
from engine.limits import PPM
from node.cli.amounts import format_quote, format_size
from node.cli.views import AccountInfo, MarketInfo, PositionInfo


def describe_missing(
    order: PlaceOrder | MarketOrder, view: AccountInfo, markets: Mapping[int, MarketInfo]
) -> str:
    """In words, behind a comma; nothing where it cannot be told: under portfolio margin, which
    weighs all positions together, and without an index."""
    market = markets.get(order.market)
    if market is None or view.margin_mode != "cross" or not market.mark_price_ticks:
        return ""
    rates = _find_rates(market, markets)
    if rates is None:
        return ""
    held = next((each for each in view.positions if each.market == order.market), None)
    free = view.equity_microquote - view.initial_margin_microquote

    def compute_need(lots: int) -> int:
        return _compute_need(order, lots, market, held, rates, view)

    words = f", with this order about {format_quote(compute_need(order.size_lots))} more"
    fitting, too_large = 0, order.size_lots
    while too_large - fitting > 1:
        middle = (fitting + too_large) // 2
        if compute_need(middle) <= free:
            fitting = middle
        else:
            too_large = middle
    if fitting:
        return f"{words}; about {format_size(fitting, market)} would fit"
    return f"{words}; no size that opens would fit"


def _compute_need(
    order: PlaceOrder | MarketOrder,
    lots: int,
    market: MarketInfo,
    held: PositionInfo | None,
    rates: tuple[int, int],
    view: AccountInfo,
) -> int:
    """Micro-quote of initial margin, fee, and loss against the mark that so many lots bring."""
    position, buys, sells = (
        (0, 0, 0) if held is None else (held.size_lots, held.open_buy_lots, held.open_sell_lots)
    )
    is_buy = order.side is Side.BUY
    price = order.price_ticks if isinstance(order, PlaceOrder) else order.protective_price_ticks
    before = max((position + buys) * rates[0], (sells - position) * rates[1])
    buys, sells = (buys + lots, sells) if is_buy else (buys, sells + lots)
    after = max((position + buys) * rates[0], (sells - position) * rates[1])
    notional = price * lots * market.unit_microquote
    loss = notional - market.mark_price_ticks * lots * market.unit_microquote
    reduction = 0 if view.fee_tier is None else view.fee_tier.taker_reduction_ppm
    fee = notional * max(market.taker_fee_ppm - reduction, 0) // PPM
    return (after - before) // PPM + fee + max(loss if is_buy else -loss, 0)


def _find_rates(market: MarketInfo, markets: Mapping[int, MarketInfo]) -> tuple[int, int] | None:
    """Initial margin of a long and of a short lot, in millionths of a micro-quote; None without an
    index."""
    mark = market.mark_price_ticks * market.unit_microquote
    option = market.option
    if option is None:
        rate = mark * max(market.initial_margin_ppm, market.scaled_margin_ppm)
        return rate, rate
    underlying = markets.get(option.underlying)
    if underlying is None or not underlying.index_price_ticks:
        return None
    spot = underlying.index_price_ticks * underlying.unit_microquote
    strike = option.strike_ticks * underlying.unit_microquote
    beyond = max(strike - spot if option.is_call else spot - strike, 0)
    short = max(spot * option.short_initial_ppm - beyond * PPM, spot * option.short_initial_min_ppm)
    return mark * PPM, short if option.is_call else min(short, strike * PPM)
