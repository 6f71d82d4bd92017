"""`rota market liquidations` and `insurance`, `rota order bid`: who cannot pay, and who takes over.

A slice is the same part of all that an account has, and changes hands at mark; what a bidder earns
is the premium beside. Both are told in parts of the whole: premiums in percent of the account's
maintenance margin, slices in percent of what it holds.
"""

from collections.abc import Mapping
from contextlib import aclosing
from typing import Annotated, Any, Final

import typer

from engine.accounts.sub_accounts import compute_account_id
from engine.instructions import Bid
from engine.limits import SUB_ACCOUNTS_MAX
from node.cli.account_events import Reader, describe_entry
from node.cli.account_tables import describe_stage
from node.cli.amounts import (
    format_percent,
    format_quote,
    format_size,
    parse_percent,
)
from node.cli.desk import Order, open_desk
from node.cli.hints import rota_command
from node.cli.output import JsonOption, current_output, record, table
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
    account_id,
    account_names,
    explaining_sub_account,
    query_at_door,
)
from node.cli.views import (
    InsuranceInfo,
    LiquidationInfo,
    MarketInfo,
    query_account,
    query_account_and_markets,
    query_markets,
    read_view,
)
from node.client import DoorClient
from node.client_events import Cursor, read_events
from node.client_stream import DoorError

LISTED_MAX: Final = 10_000
"""Accounts under liquidation that are listed at most; nodes tell them in pages."""

PremiumOption = Annotated[
    str | None,
    typer.Option(
        metavar="PERCENT",
        help="Least premium to ask for, in percent of its maintenance margin [default: what is "
        "offered now].",
        show_default=False,
    ),
]


def list_liquidations(
    context: typer.Context,
    account: Annotated[
        str | None,
        typer.Argument(
            help="Show this one in detail: its name in the localnet, or its id.",
            show_default=False,
        ),
    ] = None,
    sub: SubOption = 0,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    json: JsonOption = False,
) -> None:
    """List the accounts under liquidation, and what their auctions offer.

    Who is below the maintenance margin is closed in the books, part by part; then slices of all
    that is left are for sale, at a premium that grows until somebody bids. `offer` is the premium
    for all of it, `for sale` the part that brings the account back above its margin.

    \b
    Examples:
      rota market liquidations
      rota market liquidations bob
    """
    output = current_output(context)
    if account is not None:
        identifier = compute_account_id(account_id(directory, account), sub)

        async def look(
            client: DoorClient,
        ) -> tuple[dict[str, Any], LiquidationInfo | None, dict[int, MarketInfo]]:
            answer, view, markets = await query_account_and_markets(client, identifier)
            return answer, view.liquidation, markets

        with explaining_sub_account(directory, sub, account):
            answer, found, markets = query_at_door(directory, node, look)
        if found is None:
            whose = f"sub-account {sub} of {account}" if sub else account
            output.data(None, f"{whose} is not under liquidation")
            return
        command = f"{rota_command(directory)}order bid {account}" + (f" --of-sub {sub}" * bool(sub))
        output.data(answer["liquidation"], *_describe(found, markets))
        if found.stage != "closing":
            output.note(f"next: {command}")
        return
    documents, views = query_at_door(directory, node, _query_all)
    names = account_names(directory)
    rows = [
        (
            names.get(each.account, each.account.hex()),
            format_quote(each.equity_microquote),
            format_quote(each.maintenance_margin_microquote),
            len(each.holdings),
            format_quote(each.offer_microquote) if each.offer_microquote else "-",
            format_percent(each.offer_ppm) if each.stage != "closing" else "-",
            format_percent(each.for_sale_ppm) if each.stage != "closing" else "-",
            describe_stage(each),
        )
        for each in views
    ]
    columns = ["account", "equity>", "maintenance>", "positions>", "offer>", "premium>"]
    columns += ["for sale>", "stage"]
    output.data(documents, table(columns, rows) if rows else "nobody is under liquidation")


async def _query_all(client: DoorClient) -> tuple[list[Any], list[LiquidationInfo]]:
    documents: list[Any] = []
    views: list[LiquidationInfo] = []
    after: bytes | None = None
    while len(views) < LISTED_MAX:
        page = await client.query("liquidations", after)
        found = read_view(list[LiquidationInfo], page, "liquidations")
        if not found:
            break
        documents += page
        views += found
        after = found[-1].account
    return documents, views


def _describe(view: LiquidationInfo, markets: dict[int, MarketInfo]) -> list[object]:
    rows: list[tuple[str, object]] = [
        ("account", view.account.hex()),
        ("stage", describe_stage(view)),
        ("equity", format_quote(view.equity_microquote)),
        ("maintenance margin", format_quote(view.maintenance_margin_microquote)),
    ]
    if view.stage != "closing":
        share = format_percent(view.offer_ppm)
        rows += [
            ("offer for all", f"{format_quote(view.offer_microquote)}, a premium of {share}"),
            ("for sale", format_percent(view.for_sale_ppm)),
        ]
    if view.insured_microquote:
        rows.append(("insurance pays", format_quote(view.insured_microquote)))
    holdings = [
        (
            markets[each.market].symbol if each.market in markets else each.market,
            format_size(each.size_lots, markets[each.market])
            if each.market in markets
            else f"{each.size_lots} lots",
            format_quote(each.value_microquote),
        )
        for each in view.holdings
    ]
    return [record(rows), table(["position", "size>", "value>"], holdings)]


def insurance(
    context: typer.Context,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    json: JsonOption = False,
) -> None:
    """Show the insurance fund, who is under liquidation, and the exchange's other pools.

    \b
    Example:
      rota market insurance --json
    """
    answer: Any = query_at_door(directory, node, lambda client: client.query("insurance"))
    view = read_view(InsuranceInfo, answer, "insurance")
    change = view.insurance_microquote - view.started_microquote
    words = f"{format_quote(view.insurance_microquote)}"
    if change:
        sign = "+" if change > 0 else ""
        words += f" ({sign}{format_quote(change)} since genesis)"
    below = "1 account lacks" if view.negative == 1 else f"{view.negative} accounts lack"
    gate = "closed" if view.is_gated else "open"
    if view.negative:
        gate += f": {below} {format_quote(view.debts_microquote)}"
    if view.is_gated:
        gate += ", more than fund and fees hold"
    rows: list[tuple[str, object]] = [
        ("insurance fund", words),
        ("closing", view.closing),
        ("in auction", view.auctions),
        ("insolvent", view.insolvent),
        ("withdrawals", gate),
        ("fees", format_quote(view.fees_microquote)),
        ("funding pool", format_quote(view.funding_pool_microquote)),
        ("settlement pool", format_quote(view.settlement_pool_microquote)),
    ]
    if not view.is_liquidating:
        rows = [("liquidation", "off: this exchange liquidates nobody"), *rows]
    current_output(context).data(answer, record(rows))


def bid(
    context: typer.Context,
    liquidated: Annotated[
        str,
        typer.Argument(metavar="ACCOUNT", help="Whose slice: its name in the localnet, or its id."),
    ],
    of_sub: Annotated[
        int,
        typer.Option(
            min=0, max=SUB_ACCOUNTS_MAX, help="Which of its sub-accounts; 0 for the main one."
        ),
    ] = 0,
    part: Annotated[
        str,
        typer.Option(
            metavar="PERCENT", help="The largest part of all that it has to take, as 25%."
        ),
    ] = "100%",
    premium: PremiumOption = None,
    account: AccountOption = None,
    sub: SubOption = 0,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    key: KeyOption = None,
    password_file: PasswordFileOption = None,
    timeout_s: WaitOption = WAIT_DEFAULT_S,
    json: JsonOption = False,
) -> None:
    """Bid for a slice of an account under liquidation.

    You get the same part of each of its positions at mark, long or short, and the premium. All
    bids of a block clear at one premium: those that ask for least come first. You must have the
    margin for what you take; a bid gets all that is for sale at most. What it brought is printed:
    lots and price in each market, the part of all, and the premium.

    \b
    Examples:
      rota order bid bob
      rota order bid bob --part 25% --premium 3% --account alice
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
    identifier = compute_account_id(account_id(directory, liquidated), of_sub)
    part_ppm = parse_percent(part, "the part")

    async def make(client: DoorClient) -> Order:
        premium_ppm = 0 if premium is None else parse_percent(premium, "the premium")
        if premium is None:
            view = await _query_liquidation(client, identifier)
            if view is None or view.stage == "closing":
                reason = explain("auction.unknown")
                raise RejectedError(reason.meaning, advice=reason.advice, code="auction.unknown")
            premium_ppm = view.offer_ppm
            desk.output.note(f"for a premium of {format_percent(premium_ppm)} or more")
        return Bid(identifier, part_ppm, premium_ppm), None

    async def tell(executed: Executed) -> tuple[dict[str, object], str]:
        return await _tell_taken(executed, identifier, desk.account, account_names(directory))

    desk.submit(make, tell, noun="bid")


async def _query_liquidation(client: DoorClient, account: bytes) -> LiquidationInfo | None:
    """None: it is not under liquidation, or there is no such account. Raises `DoorError`."""
    try:
        return (await query_account(client, account))[1].liquidation
    except DoorError as error:
        if error.code != "account.unknown":
            raise
        return None


async def _tell_taken(
    executed: Executed, seller: bytes, bidder: bytes, names: Mapping[bytes, str]
) -> tuple[dict[str, object], str]:
    """What a bid brought: the slice of each market, and the part of all with its premium. Raises
    `DoorError`."""
    client, height = executed.client, executed.height
    markets = {each.market: each for each in await query_markets(client)}
    reader = Reader(bidder, markets, names)
    taken, lines = [], []
    source = read_events(client, bidder, Cursor(height, 0), height)
    async with aclosing(source) as entries:
        async for entry in entries:
            if entry["height"] > height:
                break
            is_taken = entry.get("account") == seller and entry.get("bidder") == bidder
            if entry["kind"] not in ("slice", "auction") or not is_taken:
                continue
            market = markets.get(entry.get("market", 0))
            symbol = "" if market is None else market.symbol
            taken.append({**entry, "symbol": symbol or None})
            lines.append(f"{symbol}: {describe_entry(entry, reader)}".removeprefix(": "))
    return {"taken": taken}, "\n".join(lines)
