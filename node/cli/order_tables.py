"""Tables of what an account has open and waiting."""

from collections.abc import Mapping
from typing import Any

from node.cli.amounts import format_price, format_size, format_time
from node.cli.output import WholeTable, table
from node.cli.views import AccountInfo, ConditionalInfo, MarketInfo, OrderInfo, TwapInfo

Markets = Mapping[int, MarketInfo]


def list_orders(answer: dict[str, Any], markets: Markets) -> list[dict[str, Any]]:
    """Everything open and waiting by id, as one list for programs: each with its symbol, and as
    `kind` limit, stop, take_profit, trailing_stop or twap."""
    entries = [{**each, "kind": "limit"} for each in answer["orders"]]
    entries += [
        {**each, "kind": "trailing_stop"} if each["offset_ticks"] else each
        for each in answer.get("conditionals", ())
    ]
    entries += [{**each, "kind": "twap"} for each in answer.get("twaps", ())]
    return [
        {**each, "symbol": markets[each["market"]].symbol}
        for each in sorted(entries, key=lambda each: each["order_id"])
    ]


def make_open_table(view: AccountInfo, markets: Markets) -> WholeTable:
    """What rests in books."""
    return table(
        ["order>", "market", "side", "size>", "price>", "tif", "reduce-only", "client id>"],
        [_make_open_row(order, markets[order.market]) for order in view.orders],
    )


def make_waiting_tables(view: AccountInfo, markets: Markets) -> list[WholeTable]:
    """What waits for a price, and what trades in slices; none where nothing does."""
    tables = []
    if view.conditionals:
        columns = ["waiting>", "market", "kind", "side", "size>", "trigger", "price>"]
        columns += ["tif", "reduce-only", "client id>", ""]
        rows = [_make_waiting_row(each, markets[each.market]) for each in view.conditionals]
        tables.append(table(columns, rows))
    if view.twaps:
        columns = ["twap>", "market", "side", "size>", "filled>", "price>", "next slice", "at"]
        columns += ["reduce-only", "client id>"]
        rows = [_make_twap_row(each, markets[each.market]) for each in view.twaps]
        tables.append(table(columns, rows))
    return tables


def _make_open_row(order: OrderInfo, market: MarketInfo) -> tuple[object, ...]:
    return (
        order.order_id,
        market.symbol,
        order.side,
        format_size(order.size_lots, market),
        format_price(order.price_ticks, market),
        order.tif,
        "yes" if order.reduce_only else "",
        order.client_id or "",
    )


def _make_waiting_row(order: ConditionalInfo, market: MarketInfo) -> tuple[object, ...]:
    # A stop guards against a worse price, a take-profit waits for a better one.
    is_from_below = (order.side == "buy") == (order.kind == "stop")
    sign = ">=" if is_from_below else "<="
    kind = order.kind.replace("_", "-")
    price = format_price(order.price_ticks, market)
    if order.offset_ticks:
        kind = "trailing"
        beyond = order.slack_ticks if order.side == "buy" else -order.slack_ticks
        price = format_price(order.trigger_ticks + beyond, market)
    notes = [f"pair of {order.partner_order_id}"] if order.partner_order_id else []
    notes += ["fired"] if order.is_fired else []
    notes += [f"until {format_time(order.good_til_ms)}"] if order.good_til_ms else []
    return (
        order.order_id,
        market.symbol,
        kind,
        order.side,
        format_size(order.size_lots, market),
        f"{_name_source(order, market)} {sign} {format_price(order.trigger_ticks, market)}",
        price,
        order.tif,
        "yes" if order.reduce_only else "",
        order.client_id or "",
        ", ".join(notes),
    )


def _name_source(order: ConditionalInfo, market: MarketInfo) -> str:
    """The price that is watched. An option has no index of its own but its mark."""
    return "mark" if market.option is not None and order.source == "index" else order.source


def _make_twap_row(order: TwapInfo, market: MarketInfo) -> tuple[object, ...]:
    return (
        order.order_id,
        market.symbol,
        order.side,
        format_size(order.size_lots, market),
        format_size(order.filled_lots, market),
        format_price(order.price_ticks, market),
        f"{order.next_slice} of {order.slices}",
        format_time(order.next_slice_ms),
        "yes" if order.reduce_only else "",
        order.client_id or "",
    )
