"""`rota order`: place and cancel orders, and see what became of them."""

import time
from collections.abc import Sequence
from enum import StrEnum
from fractions import Fraction
from typing import Annotated, Any, Final

import trio
import typer

from engine.instructions import (
    Cancel,
    CancelAll,
    Instruction,
    PlaceOrder,
    Side,
    TimeInForce,
)
from node.cli.amounts import format_price, format_quote, format_size, parse_price, parse_size
from node.cli.output import JsonOption, Output, command_group, current_output, table
from node.cli.target import (
    DIR_DEFAULT,
    AccountOption,
    DirOption,
    Identity,
    KeyOption,
    NodeOption,
    PasswordFileOption,
    load_identity,
    run_at_door,
)
from node.cli.views import (
    AccountInfo,
    MarketInfo,
    ReceiptInfo,
    query_account,
    query_market,
    query_markets,
    read_view,
)
from node.client import (
    DoorClient,
    DoorError,
    EnvelopeFactory,
    SignedEnvelope,
    Subscription,
)
from node.exit_codes import ExitCode, OperatorError
from node.protocol import Channel, ReceiptEvent, ReceiptLevel

EXPIRY_AHEAD_HEIGHTS: Final = 500
"""An order that is not ordered within so many blocks never will be: it cannot turn up later."""

WAIT_DEFAULT_S: Final = 30.0

app = command_group("Place and cancel orders, and see what became of them.")


class RejectedError(OperatorError):
    """The protocol or the engine refused; `code` is the reason."""

    code = "order.rejected"
    exit_code = ExitCode.REJECTED


class TimedOutError(OperatorError):
    """The network did not answer in time; what becomes of the order is open."""

    code = "order.timeout"
    exit_code = ExitCode.TIMED_OUT


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


_TIF: Final = {
    TifName.GTC: TimeInForce.GTC,
    TifName.IOC: TimeInForce.IOC,
    TifName.FOK: TimeInForce.FOK,
    TifName.POST: TimeInForce.POST_ONLY,
}

WaitOption = Annotated[
    float,
    typer.Option("--timeout", min=0.1, max=3600, help="Seconds to wait for the certified result."),
]


@app.command()
def place(
    context: typer.Context,
    market: Annotated[str, typer.Argument(help="Symbol, as BTC-PERP.")],
    side: Annotated[SideName, typer.Argument(help="buy or sell.")],
    size: Annotated[str, typer.Argument(help="Size in units of the base asset, as 0.25.")],
    price: Annotated[
        str, typer.Option(help="Limit price in quote per unit; it never trades at a worse one.")
    ],
    tif: Annotated[
        TifName,
        typer.Option(
            help="gtc rests until cancelled; ioc takes what it can at once; fok takes all or "
            "nothing; post only ever rests."
        ),
    ] = TifName.GTC,
    reduce_only: Annotated[
        bool, typer.Option("--reduce-only", help="Only make the position smaller.")
    ] = False,
    client_id: Annotated[
        int, typer.Option(min=0, help="Your own number for the order; 0 for none.")
    ] = 0,
    account: AccountOption = None,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    key: KeyOption = None,
    password_file: PasswordFileOption = None,
    timeout_s: WaitOption = WAIT_DEFAULT_S,
    json: JsonOption = False,
) -> None:
    """Place a limit order and wait for its certified result.

    Prints each level that the order reaches: received (no promise yet), available (it will be
    ordered), ordered (its place is final), executed (the result is certified by a quorum).

    \b
    Examples:
      rota order place BTC-PERP buy 0.1 --price 60000
      rota order place ETH-PERP sell 2 --price 3000 --tif ioc --account bob --json
      rota order place BTC-PERP buy 1 --price 60000 --node 10.0.0.7:9101 --key trader.json
    """
    output = current_output(context)
    identity = load_identity(directory, account, key, password_file)

    async def work(client: DoorClient) -> None:
        params = await query_market(client, market)
        order = PlaceOrder(
            market=params.market,
            side=Side.BUY if side is SideName.BUY else Side.SELL,
            price_ticks=parse_price(price, params),
            size_lots=parse_size(size, params),
            tif=_TIF[tif],
            reduce_only=reduce_only,
            client_id=client_id,
        )
        await _submit(client, identity, order, [params], output, timeout_s)

    run_at_door(directory, node, work)


@app.command()
def cancel(
    context: typer.Context,
    order_id: Annotated[int, typer.Argument(min=1, help="The order's number.")],
    account: AccountOption = None,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    key: KeyOption = None,
    password_file: PasswordFileOption = None,
    timeout_s: WaitOption = WAIT_DEFAULT_S,
    json: JsonOption = False,
) -> None:
    """Cancel one open order.

    \b
    Example:
      rota order cancel 4611 --account alice
    """
    output = current_output(context)
    identity = load_identity(directory, account, key, password_file)

    async def work(client: DoorClient) -> None:
        markets = await query_markets(client)
        await _submit(client, identity, Cancel(order_id), markets, output, timeout_s)

    run_at_door(directory, node, work)


@app.command("cancel-all")
def cancel_all(
    context: typer.Context,
    market: Annotated[
        str | None, typer.Option(help="Only in this market.", show_default=False)
    ] = None,
    account: AccountOption = None,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    key: KeyOption = None,
    password_file: PasswordFileOption = None,
    timeout_s: WaitOption = WAIT_DEFAULT_S,
    json: JsonOption = False,
) -> None:
    """Cancel all open orders of an account.

    \b
    Examples:
      rota order cancel-all
      rota order cancel-all --market BTC-PERP --account bob
    """
    output = current_output(context)
    identity = load_identity(directory, account, key, password_file)

    async def work(client: DoorClient) -> None:
        markets = await query_markets(client)
        number = None if market is None else (await query_market(client, market)).market
        await _submit(client, identity, CancelAll(number), markets, output, timeout_s)

    run_at_door(directory, node, work)


@app.command()
def status(
    context: typer.Context,
    envelope: Annotated[
        str, typer.Argument(help="Envelope id, 64 hexadecimal digits, as `place` printed it.")
    ],
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    json: JsonOption = False,
) -> None:
    """Show how far an envelope has come.

    \b
    Example:
      rota order status 3b1f...e2 --json
    """
    output = current_output(context)
    try:
        envelope_id = bytes.fromhex(envelope)
    except ValueError:
        envelope_id = b""
    if len(envelope_id) != 32:
        raise typer.BadParameter("an envelope id has 64 hexadecimal digits")
    answer: Any = run_at_door(directory, node, lambda client: client.query("envelope", envelope_id))
    if answer is None:
        raise RejectedError(
            "this node does not know the envelope",
            advice="it was never received, or so long ago that the node has forgotten it",
            code="envelope.unknown",
        )
    output.data(answer, table(["", ""], [(key, _plain(value)) for key, value in answer.items()]))


@app.command("list")
def list_orders(
    context: typer.Context,
    account: AccountOption = None,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    key: KeyOption = None,
    password_file: PasswordFileOption = None,
    json: JsonOption = False,
) -> None:
    """List an account's open orders.

    \b
    Example:
      rota order list --account bob
    """
    output = current_output(context)
    identity = load_identity(directory, account, key, password_file)

    async def work(client: DoorClient) -> None:
        markets = {market.market: market for market in await query_markets(client)}
        answer = await query_account(client, identity.account)
        orders = () if answer is None else read_view(AccountInfo, answer, "account").orders
        rows = [
            (
                order.order_id,
                markets[order.market].symbol,
                order.side,
                format_size(order.size_lots, markets[order.market]),
                format_price(order.price_ticks, markets[order.market]),
                order.tif,
                "yes" if order.reduce_only else "",
            )
            for order in orders
        ]
        columns = ["order>", "market", "side", "size>", "price>", "tif", "reduce-only"]
        output.data([] if answer is None else answer["orders"], table(columns, rows))

    run_at_door(directory, node, work)


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


# ---- submitting and following ------------------------------------------------------------------


async def _submit(
    client: DoorClient,
    identity: Identity,
    instruction: Instruction,
    markets: Sequence[MarketInfo],
    output: Output,
    timeout_s: float,
) -> None:
    """Sign, submit, follow to the certified result and print it.

    Raises `RejectedError`, or `TimedOutError` when the result does not come in time.
    """
    welcome = client.welcome
    factory = EnvelopeFactory(identity.secret, welcome.chain_id)
    envelope = factory.sign([instruction], welcome.committed_height + EXPIRY_AHEAD_HEIGHTS)
    events = await client.subscribe(Channel.RECEIPTS, identity.account)
    levels: list[dict[str, Any]] = []
    with trio.move_on_after(timeout_s):
        answer = await _follow(client, events, envelope, levels, output)
        receipt = read_view(ReceiptInfo, answer, "receipt")
        document = {
            "envelope_id": envelope.envelope_id,
            "account": identity.account,
            "node": welcome.node,
            "levels": levels,
            "receipt": answer,
        }
        if receipt.status == "refused":
            raise RejectedError(
                f"the engine refused it: {receipt.code}",
                advice="nothing was changed; correct it and try again",
                code=receipt.code,
            )
        output.data(document, describe_outcome(receipt, instruction, markets))
        return
    raise TimedOutError(
        f"no certified result within {timeout_s:g} s",
        advice=f"it may still come: rota order status {envelope.envelope_id.hex()}",
    )


async def _follow(
    client: DoorClient,
    events: Subscription,
    envelope: SignedEnvelope,
    levels: list[dict[str, Any]],
    output: Output,
) -> dict[str, Any]:
    """Submit one envelope of one instruction and return its receipt; note levels on the way."""
    sent_at = time.perf_counter()

    def note(level: ReceiptLevel, height: int) -> None:
        latency_ms = round((time.perf_counter() - sent_at) * 1000, 1)
        levels.append({"level": level.value, "height": height, "latency_ms": latency_ms})
        place = f"at height {height}" if height else ""
        output.note(f"{level.value:10} {latency_ms:8.1f} ms  {place}".rstrip())

    (answer,) = await client.submit([envelope.data])
    if answer.code is not None:
        raise RejectedError(
            f"the node refused the envelope: {answer.code}",
            advice="nothing was sent on; correct it and try again",
            code=answer.code,
        )
    note(ReceiptLevel.RECEIVED, 0)
    while True:
        event = await events.receive()
        assert isinstance(event, ReceiptEvent)
        if event.envelope_id != envelope.envelope_id or event.level is ReceiptLevel.RECEIVED:
            continue
        note(event.level, event.height)
        if event.level is ReceiptLevel.REFUSED:
            raise RejectedError(
                f"refused when it was ordered: {event.code}",
                advice="nothing was executed; correct it and try again",
                code=event.code or "envelope.refused",
            )
        if event.level is ReceiptLevel.EXECUTED:
            receipts = read_view(list[dict[str, Any]], event.results, "receipts")
            if len(receipts) != 1:
                raise DoorError("door.malformed", f"{len(receipts)} receipts for one instruction")
            return receipts[0]


def describe_outcome(
    receipt: ReceiptInfo, instruction: Instruction, markets: Sequence[MarketInfo]
) -> str:
    """A receipt in words."""
    words = [receipt.status.replace("_", " ")]
    if isinstance(instruction, PlaceOrder):
        market = next(each for each in markets if each.market == instruction.market)
        words.append(f"order {receipt.order_id}")
        if receipt.filled_lots:
            notional = receipt.filled_notional_microquote
            average = Fraction(notional, receipt.filled_lots * market.unit_microquote)
            price = format_price(round(average), market)
            words.append(f"filled {format_size(receipt.filled_lots, market)} at about {price}")
            words.append(f"fee {format_quote(receipt.fee_microquote)}")
        if receipt.resting_lots:
            words.append(f"resting {format_size(receipt.resting_lots, market)}")
    elif receipt.cancelled_count:
        words.append(f"{receipt.cancelled_count} orders")
    if receipt.code != "ok":
        words.append(receipt.code)
    return ", ".join(words)
