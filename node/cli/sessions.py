"""`rota account session`: keys that may act for an account until they expire or are revoked."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from engine.limits import SESSION_MARKETS_MAX, SUB_ACCOUNTS_MAX
from mempool.keys import AuthorizeKey, KeyChange, KeyScope, RevokeKey
from mempool.ledger import KEY_ACTIVATION_DELAY_HEIGHTS
from node.cli.account_tables import make_session_table
from node.cli.amounts import parse_duration_ms, parse_quote
from node.cli.hints import rota_command
from node.cli.output import JsonOption, Output, command_group, current_output, record
from node.cli.submission import submit_keys
from node.cli.target import (
    ACCOUNT_DEFAULT,
    DIR_DEFAULT,
    WAIT_DEFAULT_S,
    AccountOption,
    DirOption,
    KeyOption,
    NodeOption,
    PasswordFileOption,
    WaitOption,
    account_id,
    account_names,
    load_identity,
    query_at_door,
    run_at_door,
)
from node.cli.views import query_account_and_markets, query_market
from node.client import DoorClient

app = command_group(
    "Authorise, list and revoke keys that may act for an account.",
    "rota account session authorise bob --account alice --market BTC-PERP --expires-in 7d",
    "rota account session list alice",
    "rota account session revoke bob --account alice",
)


class ScopeName(StrEnum):
    """Scopes on the command line."""

    CANCEL = "cancel"
    TRADE = "trade"
    FULL = "full"


_SCOPES: Final = {
    ScopeName.CANCEL: KeyScope.CANCEL,
    ScopeName.TRADE: KeyScope.TRADE,
    ScopeName.FULL: KeyScope.FULL,
}

KeyArgument = Annotated[
    str,
    typer.Argument(
        help="The other key: 64 hexadecimal digits, or the name of a localnet account that has it."
    ),
]
MarketsOption = Annotated[
    list[str] | None,
    typer.Option(
        help=f"Only in this market; may be repeated, up to {SESSION_MARKETS_MAX} times "
        "[default: all].",
        show_default=False,
    ),
]
SubsOption = Annotated[
    list[int] | None,
    typer.Option(
        min=0,
        max=SUB_ACCOUNTS_MAX,
        help="Only for this sub-account, 0 for the main account; may be repeated [default: all].",
        show_default=False,
    ),
]
SpendMaxOption = Annotated[
    str | None,
    typer.Option(
        help="Most that all its orders together may be worth, in quote; options that it sells "
        "count as what they may have to pay, orders that only reduce a position as what they may "
        "lose against the mark [default: no cap].",
        show_default=False,
    ),
]


@app.command()
def authorise(
    context: typer.Context,
    session_key: KeyArgument,
    scope: Annotated[
        ScopeName,
        typer.Option(
            help="cancel only cancels; trade places orders, too; full also moves collateral "
            "between your own accounts. No session key ever withdraws."
        ),
    ] = ScopeName.TRADE,
    expires_in: Annotated[
        str, typer.Option(metavar="DURATION", help="How long it may sign, as 12h or 7d.")
    ] = "1d",
    market: MarketsOption = None,
    sub: SubsOption = None,
    spend_max: SpendMaxOption = None,
    account: AccountOption = None,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    key: KeyOption = None,
    password_file: PasswordFileOption = None,
    timeout_s: WaitOption = WAIT_DEFAULT_S,
    json: JsonOption = False,
) -> None:
    """Let another key sign for an account: to trade without the account's own key at hand.

    Give the order commands that key with --key, and the account with --account. Each key can be
    authorised once: one that has expired or was revoked is dead for ever.

    \b
    Examples:
      rota account session authorise bob --account alice --expires-in 7d
      rota account session authorise 3b1f...e2 --scope cancel
      rota account session authorise 3b1f...e2 --market BTC-PERP --spend-max 100000
    """
    lifetime_ms = parse_duration_ms(expires_in)
    cap = None if spend_max is None else parse_quote(spend_max)
    named = account_id(directory, session_key)
    if len(market or ()) > SESSION_MARKETS_MAX:
        raise typer.BadParameter(f"at most {SESSION_MARKETS_MAX} markets")

    async def make(client: DoorClient) -> KeyChange:
        markets = [(await query_market(client, each)).market for each in market or ()]
        subs = tuple(sorted(set(sub or ())))
        confined = tuple(sorted(set(markets)))
        expires_ms = client.welcome.time_ms + lifetime_ms
        return AuthorizeKey(named, expires_ms, _SCOPES[scope], confined, subs, cap)

    _submit(
        current_output(context),
        make,
        directory=directory,
        node=node,
        account=account,
        key=key,
        password_file=password_file,
        timeout_s=timeout_s,
    )


@app.command()
def revoke(
    context: typer.Context,
    session_key: KeyArgument,
    account: AccountOption = None,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    key: KeyOption = None,
    password_file: PasswordFileOption = None,
    timeout_s: WaitOption = WAIT_DEFAULT_S,
    json: JsonOption = False,
) -> None:
    """Take a session key's right away, at once and for ever.

    \b
    Example:
      rota account session revoke bob --account alice
    """
    named = account_id(directory, session_key)

    async def make(_: DoorClient) -> KeyChange:
        return RevokeKey(named)

    _submit(
        current_output(context),
        make,
        directory=directory,
        node=node,
        account=account,
        key=key,
        password_file=password_file,
        timeout_s=timeout_s,
    )


@app.command("list")
def list_keys(
    context: typer.Context,
    account: Annotated[
        str, typer.Argument(help="Name in the localnet, or the account's id.")
    ] = ACCOUNT_DEFAULT,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    json: JsonOption = False,
) -> None:
    """List the keys that may act for an account now, and what they have spent.

    \b
    Example:
      rota account session list alice
    """
    identifier = account_id(directory, account)
    answer, view, markets = query_at_door(
        directory, node, lambda client: query_account_and_markets(client, identifier)
    )
    shown = make_session_table(view, markets) if view.sessions else "no session key may act for it"
    current_output(context).data(answer["sessions"], shown)


def _submit(
    output: Output,
    make: Callable[[DoorClient], Awaitable[KeyChange]],
    *,
    directory: Path,
    node: str | None,
    account: str | None,
    key: Path | None,
    password_file: Path | None,
    timeout_s: float,
) -> None:
    identity = load_identity(directory, account, key, password_file)

    async def work(client: DoorClient) -> None:
        change = await make(client)
        document, height = await submit_keys(client, identity, (change,), output, timeout_s)
        document["key"] = change.key
        if isinstance(change, AuthorizeKey):
            from_height = height + KEY_ACTIVATION_DELAY_HEIGHTS
            document["in_force_from_height"] = from_height
            rows: list[tuple[str, object]] = [
                ("authorised", change.key.hex()),
                ("at height", height),
                ("in force from height", from_height),
            ]
        else:
            rows = [("revoked", change.key.hex()), ("at height", height)]
        output.data(document, record([*rows, ("envelope", document["envelope_id"].hex())]))
        if isinstance(change, AuthorizeKey):
            verb = "cancel-all" if change.scope is KeyScope.CANCEL else "place ..."
            who = account_names(directory).get(identity.account, identity.account.hex())
            output.note(
                f"next: {rota_command(directory)}order {verb} --account {who} --key KEYSTORE"
            )

    run_at_door(directory, node, work)
