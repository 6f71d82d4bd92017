"""`rota order amend`, `cancel`, `cancel-all` and `dead-man`: what changes orders that there are."""

from typing import Annotated

import typer

from engine.instructions import Amend, ArmDeadMan, Cancel, CancelAll
from engine.limits import CLIENT_ID_MAX, SEQUENCE_MAX
from node.cli.amounts import format_duration, parse_duration_ms, parse_price, parse_size
from node.cli.desk import Order, open_desk
from node.cli.output import JsonOption
from node.cli.reasons import explain
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
from node.cli.views import (
    AccountInfo,
    ConditionalInfo,
    OrderInfo,
    TwapInfo,
    query_account_and_markets,
    query_market,
)
from node.client import DoorClient

OrderIdArgument = Annotated[
    int | None,
    typer.Argument(
        min=1, max=SEQUENCE_MAX, help="The order's number, or else --client-id.", show_default=False
    ),
]
NamedByOption = Annotated[
    int | None,
    typer.Option(
        min=1, max=CLIENT_ID_MAX, help="Your own number for the order.", show_default=False
    ),
]


def amend(
    context: typer.Context,
    order_id: OrderIdArgument = None,
    client_id: NamedByOption = None,
    price: Annotated[
        str | None,
        typer.Option(help="New limit price [default: as it is].", show_default=False),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="What shall be open afterwards [default: as it is].", show_default=False),
    ] = None,
    account: AccountOption = None,
    sub: SubOption = 0,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    key: KeyOption = None,
    password_file: PasswordFileOption = None,
    timeout_s: WaitOption = WAIT_DEFAULT_S,
    json: JsonOption = False,
) -> None:
    """Change price or size of an open order.

    The same price and a smaller size keep its number and its place in the queue. Anything else
    cancels it and places a new one, with the same client id, flags and end; if that is refused,
    the old one stays cancelled.

    \b
    Examples:
      rota order amend 4611 --size 0.05
      rota order amend --client-id 7 --price 59900
    """
    _require_one_name(order_id, client_id)
    if price is None and size is None:
        raise typer.BadParameter("give --price, --size or both")
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
        _, view, markets = await query_account_and_markets(client, desk.account)
        order = _find_order(view, order_id, client_id)
        params = markets[order.market]
        return Amend(
            order_id or 0,
            client_id or 0,
            order.price_ticks if price is None else parse_price(price, params),
            order.size_lots if size is None else parse_size(size, params),
        ), params

    desk.submit(make)


def _require_one_name(order_id: int | None, client_id: int | None) -> None:
    if (order_id is None) == (client_id is None):
        raise typer.BadParameter("name the order by its number or by --client-id, one of the two")


def _find_order(
    view: AccountInfo, order_id: int | None, client_id: int | None
) -> OrderInfo | ConditionalInfo | TwapInfo:
    """The order of that name; raises `RejectedError`, as the engine would refuse it."""
    orders: tuple[OrderInfo | ConditionalInfo | TwapInfo, ...]
    orders = (*view.orders, *view.conditionals, *view.twaps)
    for each in orders:
        if order_id == each.order_id or (client_id is not None and client_id == each.client_id):
            return each
    reason = explain("order.unknown")
    raise RejectedError(reason.meaning, advice=reason.advice, code="order.unknown")


def cancel(
    context: typer.Context,
    order_id: OrderIdArgument = None,
    client_id: NamedByOption = None,
    account: AccountOption = None,
    sub: SubOption = 0,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    key: KeyOption = None,
    password_file: PasswordFileOption = None,
    timeout_s: WaitOption = WAIT_DEFAULT_S,
    json: JsonOption = False,
) -> None:
    """Cancel one open or waiting order. The other one of a pair goes with it.

    \b
    Examples:
      rota order cancel 4611 --account alice
      rota order cancel --client-id 7
    """
    _require_one_name(order_id, client_id)
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
        return Cancel(order_id or 0, client_id or 0), None

    desk.submit(make)


def cancel_all(
    context: typer.Context,
    market: Annotated[
        str | None, typer.Option(help="Only in this market.", show_default=False)
    ] = None,
    account: AccountOption = None,
    sub: SubOption = 0,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    key: KeyOption = None,
    password_file: PasswordFileOption = None,
    timeout_s: WaitOption = WAIT_DEFAULT_S,
    json: JsonOption = False,
) -> None:
    """Cancel all open and waiting orders of an account.

    \b
    Examples:
      rota order cancel-all
      rota order cancel-all --market BTC-PERP --account bob
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
        return CancelAll(
            None if market is None else (await query_market(client, market)).market
        ), None

    desk.submit(make)


def dead_man(
    context: typer.Context,
    timeout: Annotated[
        str,
        typer.Argument(
            metavar="DURATION", help="How long until everything is cancelled, as 60s; or off."
        ),
    ],
    account: AccountOption = None,
    sub: SubOption = 0,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    key: KeyOption = None,
    password_file: PasswordFileOption = None,
    timeout_s: WaitOption = WAIT_DEFAULT_S,
    json: JsonOption = False,
) -> None:
    """Cancel everything unless you say in time that you are there.

    A dead man's switch. Once the time is over, all that the account has open or waiting is
    cancelled. Run it again before, at intervals, to begin anew; `off` takes the deadline away. It
    holds for the whole account; `rota account show` tells the deadline.

    \b
    Examples:
      rota order dead-man 60s
      rota order dead-man off --account bob
    """
    timeout_ms = 0 if timeout == "off" else parse_duration_ms(timeout)
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
        return ArmDeadMan(timeout_ms), None

    async def tell(_: Executed) -> tuple[dict[str, object], str]:
        left = format_duration(timeout_ms)
        words = f"in {left} all that is open or waiting is cancelled, unless you set it again"
        return {"timeout_ms": timeout_ms}, words if timeout_ms else "it is off"

    desk.submit(make, tell)
