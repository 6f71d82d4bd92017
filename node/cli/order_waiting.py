"""`rota order stop`, `take-profit`, `trailing`, `oco` and `twap`: orders that wait."""

from collections.abc import Iterable
from typing import Annotated

import typer

from engine.instructions import (
    OneCancelsOther,
    TriggerKind,
    TwapOrder,
)
from engine.limits import TWAP_DURATION_MAX_MS, TWAP_INTERVAL_MAX_MS, TWAP_INTERVAL_MIN_MS
from engine.receipts import ReasonCode
from node.cli.amounts import (
    format_duration,
    format_size,
    parse_duration_ms,
    parse_price,
    parse_size,
)
from node.cli.desk import Order, open_desk
from node.cli.order_legs import (
    Leg,
    LegKind,
    SourceName,
    finish,
    make_conditional,
    make_leg,
    make_trailing,
    parse_leg,
)
from node.cli.order_options import (
    SELF_TRADES,
    SIDES,
    SLIPPAGE_DEFAULT,
    ClientIdOption,
    FiredTifName,
    GoodForOption,
    MarketArgument,
    ReduceOnlyOption,
    SelfTradeName,
    SelfTradeOption,
    SideArgument,
    SizeArgument,
    WorstPriceOption,
    compute_good_til_ms,
)
from node.cli.output import JsonOption
from node.cli.submission import Executed, RejectedError
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
)
from node.cli.views import MarketInfo, query_market
from node.client import DoorClient

SourceOption = Annotated[
    SourceName,
    typer.Option(
        help="Which price it watches: the index, that of the last trade, or the mark price."
    ),
]
TriggerOption = Annotated[
    str, typer.Option(help="Price in quote per unit at which it fires, as 58000.")
]
SlippageOption = Annotated[
    str | None,
    typer.Option(
        metavar="DISTANCE",
        help="How much worse than its trigger it may trade, in quote or in percent "
        f"[default: {SLIPPAGE_DEFAULT}].",
        show_default=False,
    ),
]
FiredTifOption = Annotated[
    FiredTifName,
    typer.Option(
        help="When it fires: ioc takes what it can at once; gtc rests what is left; fok takes all "
        "or nothing."
    ),
]
LimitOption = Annotated[
    str | None,
    typer.Option(help="Price of a limit order, which only rests (post-only).", show_default=False),
]
TakeProfitOption = Annotated[
    str | None, typer.Option(help="Trigger price of a take-profit order.", show_default=False)
]
StopOption = Annotated[
    str | None, typer.Option(help="Trigger price of a stop order.", show_default=False)
]
TrailOption = Annotated[
    str | None,
    typer.Option(
        metavar="DISTANCE",
        help="Offset of a trailing stop, as 500 or 1%.",
        show_default=False,
    ),
]
LegOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LEG",
        help="A leg with a side, size or terms of its own, in quotes: [buy|sell] [SIZE] KIND "
        "PRICE [price=P] [slippage=D] [source=S] [tif=T] [reduce-only]. KIND is limit, "
        "take-profit, stop or trailing; may be given twice.",
        show_default=False,
    ),
]


def stop(
    context: typer.Context,
    market: MarketArgument,
    side: SideArgument,
    size: SizeArgument,
    trigger: TriggerOption,
    price: WorstPriceOption = None,
    slippage: SlippageOption = None,
    source: SourceOption = SourceName.INDEX,
    tif: FiredTifOption = FiredTifName.IOC,
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
    """Place a stop order: it trades once the price has gone against you.

    A sell fires when the price falls to the trigger, a buy when it rises to it. Until then it
    waits outside the book and needs no margin; then it is an order like any other. A trigger that
    is reached already fires in the next block.

    \b
    Examples:
      rota order stop BTC-PERP sell 0.1 --trigger 58000 --reduce-only
      rota order stop BTC-PERP buy 0.1 --trigger 62000 --price 62100 --tif gtc
      rota order stop ETH-PERP sell 2 --trigger 2900 --source last --slippage 0.5%
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
        order = make_conditional(
            TriggerKind.STOP, params, SIDES[side], size, trigger, price, slippage, source
        )
        good_til_ms = compute_good_til_ms(client, good_for)
        return finish(order, tif, reduce_only, self_trade, client_id, good_til_ms), params

    desk.submit(make)


def take_profit(
    context: typer.Context,
    market: MarketArgument,
    side: SideArgument,
    size: SizeArgument,
    trigger: TriggerOption,
    price: WorstPriceOption = None,
    slippage: SlippageOption = None,
    source: SourceOption = SourceName.INDEX,
    tif: FiredTifOption = FiredTifName.IOC,
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
    """Place a take-profit order: it trades once the price has gone your way.

    A sell fires when the price rises to the trigger, a buy when it falls to it. Until then it
    waits outside the book and needs no margin; then it is an order like any other.

    \b
    Examples:
      rota order take-profit BTC-PERP sell 0.1 --trigger 65000 --reduce-only
      rota order take-profit BTC-PERP buy 0.1 --trigger 55000 --price 55000 --tif gtc
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
        order = make_conditional(
            TriggerKind.TAKE_PROFIT, params, SIDES[side], size, trigger, price, slippage, source
        )
        good_til_ms = compute_good_til_ms(client, good_for)
        return finish(order, tif, reduce_only, self_trade, client_id, good_til_ms), params

    desk.submit(make)


def trailing(
    context: typer.Context,
    market: MarketArgument,
    side: SideArgument,
    size: SizeArgument,
    offset: Annotated[
        str,
        typer.Option(
            metavar="DISTANCE",
            help="How far the trigger stays behind the best price so far, in quote as 500, or in "
            "percent of the index as 1%.",
        ),
    ],
    slippage: SlippageOption = None,
    source: SourceOption = SourceName.INDEX,
    tif: FiredTifOption = FiredTifName.IOC,
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
    """Place a trailing stop: a stop order whose trigger follows the price.

    It follows at a distance, and never goes back: the trigger of a sell is the offset below the
    highest price since it was placed, that of a buy above the lowest. `rota order list` shows where
    it stands.

    \b
    Examples:
      rota order trailing BTC-PERP sell 0.1 --offset 500 --reduce-only
      rota order trailing ETH-PERP buy 2 --offset 1.5% --source last
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
        order = make_trailing(params, SIDES[side], size, offset, slippage, source)
        good_til_ms = compute_good_til_ms(client, good_for)
        return finish(order, tif, reduce_only, self_trade, client_id, good_til_ms), params

    desk.submit(make)


def oco(
    context: typer.Context,
    market: MarketArgument,
    side: SideArgument,
    size: SizeArgument,
    limit: LimitOption = None,
    take_profit: TakeProfitOption = None,
    stop: StopOption = None,
    trail: TrailOption = None,
    leg: LegOption = None,
    slippage: SlippageOption = None,
    source: SourceOption = SourceName.INDEX,
    tif: FiredTifOption = FiredTifName.IOC,
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
    """Place two orders of which one cancels the other.

    Give two of --limit, --take-profit, --stop, --trail and --leg. Any trade of one, however small,
    ends the other, and so does its end. Legs may be of any side and kind, but one at most is a
    limit order. With --client-id the first of them, in that order, has this number and the other
    one the next.

    \b
    Examples:
      rota order oco BTC-PERP sell 0.1 --limit 65000 --stop 58000 --reduce-only
      rota order oco BTC-PERP sell 0.1 --take-profit 65000 --trail 1%
      rota order oco BTC-PERP buy 0.1 --limit 58000 --stop 62000
      rota order oco BTC-PERP buy 0.1 --stop 62000 --leg "sell stop 58000"
      rota order oco BTC-PERP sell 0.1 --leg "limit 65000" --leg "0.05 stop 58000 tif=gtc"
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
    base = Leg(LegKind.LIMIT, "", side, size, None, slippage, source, tif, reduce_only)
    short = {
        LegKind.LIMIT: limit,
        LegKind.TAKE_PROFIT: take_profit,
        LegKind.STOP: stop,
        LegKind.TRAILING: trail,
    }
    legs = _choose_legs(base, short, leg or ())

    async def make(client: DoorClient) -> Order:
        params = await query_market(client, market)
        good_til_ms = compute_good_til_ms(client, good_for)
        first, second = (
            make_leg(each, params, self_trade, client_id + place if client_id else 0, good_til_ms)
            for place, each in enumerate(legs)
        )
        return OneCancelsOther(first, second), params

    desk.submit(make, _tell_pair)


def twap(
    context: typer.Context,
    market: MarketArgument,
    side: SideArgument,
    size: SizeArgument,
    price: Annotated[str, typer.Option(help="Worst price of every slice in quote per unit.")],
    duration: Annotated[
        str, typer.Option(metavar="DURATION", help="How long it takes in all, as 10m or 2h.")
    ],
    interval: Annotated[
        str,
        typer.Option(metavar="DURATION", help="From one slice to the next; divides the duration."),
    ] = "30s",
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
    """Place a large order that trades in equal parts, one at each interval.

    Each part takes what it can at the price or better; what it could not is caught up by later
    ones, up to three shares at a time. With the last one the order ends, filled or not.

    \b
    Examples:
      rota order twap BTC-PERP buy 2 --price 61000 --duration 10m
      rota order twap ETH-PERP sell 50 --price 2950 --duration 1h --interval 1m --reduce-only
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
    duration_ms, interval_ms = parse_duration_ms(duration), parse_duration_ms(interval)
    asked: list[tuple[TwapOrder, MarketInfo]] = []

    async def make(client: DoorClient) -> Order:
        params = await query_market(client, market)
        order = TwapOrder(
            params.market,
            SIDES[side],
            parse_price(price, params),
            parse_size(size, params),
            duration_ms,
            interval_ms,
            reduce_only,
            SELF_TRADES[self_trade],
            client_id,
        )
        asked.append((order, params))
        return order, params

    async def tell(_: Executed) -> tuple[dict[str, object], str]:
        slices = duration_ms // interval_ms
        words = f"{slices} slices, one every {format_duration(interval_ms)}"
        return {"slices": slices}, words

    try:
        desk.submit(make, tell)
    except RejectedError as error:
        if error.code == ReasonCode.TWAP_SCHEDULE_INVALID:
            (slices,) = asked
            error.advice = f"nothing was changed; {_advise_schedule(*slices)}"
        raise


def _advise_schedule(order: TwapOrder, market: MarketInfo) -> str:
    """What to change in a schedule that the engine refuses (`engine.waiting.slices`)."""
    duration_ms, interval_ms = order.duration_ms, order.interval_ms
    low, high, longest, told = map(
        format_duration,
        (TWAP_INTERVAL_MIN_MS, TWAP_INTERVAL_MAX_MS, TWAP_DURATION_MAX_MS, interval_ms),
    )
    if not TWAP_INTERVAL_MIN_MS <= interval_ms <= TWAP_INTERVAL_MAX_MS:
        return f"choose an --interval from {low} to {high}"
    if not interval_ms <= duration_ms <= TWAP_DURATION_MAX_MS:
        return f"choose a --duration from {told}, the interval, to {longest}"
    below = duration_ms // interval_ms * interval_ms
    if below != duration_ms:
        near = f"{format_duration(below)} or {format_duration(below + interval_ms)}"
        return f"choose a --duration that is a multiple of the interval, {told}, as {near}"
    least = format_size(duration_ms // interval_ms, market)
    return f"every slice needs a lot: order at least {least}, or choose a longer --interval"


async def _tell_pair(executed: Executed) -> tuple[dict[str, object], str]:
    """The receipt names the leg of the lower number; the other one's is the next."""
    receipt = executed.receipt
    if receipt.status not in ("resting", "waiting"):
        return {}, ""
    other = receipt.order_id + 1
    return {"other_order_id": other}, f"order {other} is the other one of the pair"


def _choose_legs(base: Leg, short: dict[LegKind, str | None], long: Iterable[str]) -> list[Leg]:
    """The two legs that the options name, on the `base`'s terms unless they have others: a price
    for each kind, or a `parse_leg`. Raises a usage error."""
    legs = [
        base._replace(kind=kind, price=each) for kind, each in short.items() if each is not None
    ]
    legs += [parse_leg(each, base) for each in long]
    if len(legs) != 2:
        raise typer.BadParameter("give two of --limit, --take-profit, --stop, --trail and --leg")
    if all(each.kind is LegKind.LIMIT for each in legs):
        raise typer.BadParameter("one leg at most is a limit order; the other one has to wait")
    return legs
