"""`rota account watch`: what befalls an account, as it comes or as it came."""

import re
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import trio
import typer

from engine.accounts.sub_accounts import compute_account_id, compute_sub_account_id
from engine.limits import SEQUENCE_MAX, SUB_ACCOUNTS_MAX
from node.cli.account_events import Reader, describe_entry
from node.cli.amounts import parse_duration_ms
from node.cli.hints import rota_command
from node.cli.output import JsonOption, Output, current_output
from node.cli.reasons import explain
from node.cli.target import (
    ACCOUNT_DEFAULT,
    DIR_DEFAULT,
    DirOption,
    DoorFailure,
    NodeOption,
    SubOption,
    account_id,
    account_names,
    advise_to_open,
    query_at_door,
)
from node.cli.views import MarketInfo, query_account, query_markets
from node.client import DoorClient
from node.client_events import Cursor, query_certified_height, read_events, watch_account
from node.client_stream import DoorError

RECONNECT_PAUSE_S: Final = 1.0
"""After every node has ended the connection, before the first is tried again."""

_PLACE: Final = re.compile(r"([0-9]{1,18})(?::([0-9]{1,18}))?")

_COLUMNS: Final = "{:>9}  {:<11}  {:<24}  {}"
"""Height, kind, market, words."""

FromOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="HEIGHT[:LEAF]",
        help="Begin at this height, with what has happened since [default: from now on].",
        show_default=False,
    ),
]


def watch(
    context: typer.Context,
    account: Annotated[
        str, typer.Argument(help="Name in the localnet, or the account's id.")
    ] = ACCOUNT_DEFAULT,
    sub: SubOption = 0,
    start: FromOption = None,
    past: Annotated[
        bool, typer.Option("--past", help="End with what is certified by now.")
    ] = False,
    count: Annotated[
        int | None,
        typer.Option(min=1, max=SEQUENCE_MAX, help="End after so many.", show_default=False),
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option(
            "--for", metavar="DURATION", help="End after this long, as 10m.", show_default=False
        ),
    ] = None,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    json: JsonOption = False,
) -> None:
    """Show what befalls an account: trades, and what happens to its orders and its collateral.

    Orders that others trade with, that expire, wake, shrink or are cancelled, slices, funding,
    settlements, transfers, withdrawals, session keys that come and go, and every step of a
    liquidation; not the answers to its own instructions. With --json one document a line, with
    `height` and `leaf`, its place under the height's receipts root. Only what a quorum has
    certified is told, each entry once; if a node goes away, the next one goes on where it was.
    Amounts are told in the markets' units, --json has them as the engine does.

    \b
    Examples:
      rota account watch alice
      rota account watch alice --from 1 --past
      rota account watch bob --from 812 --count 10 --json
    """
    output = current_output(context)
    owner = account_id(directory, account)
    identifier = compute_account_id(owner, sub)
    place = None if start is None else _parse_place(start)
    if past and place is None:
        place = Cursor(1, 0)
    names = account_names(directory)
    for number in range(1, SUB_ACCOUNTS_MAX + 1):
        names[compute_sub_account_id(owner, number)] = f"sub-account {number}"
    advice = advise_to_open(directory, sub, account) if sub else explain("account.unknown").advice
    session = _Watch(output, identifier, names, place, count, past, advice)
    seconds = float("inf") if duration is None else parse_duration_ms(duration) / 1_000
    options = f" --sub {sub}" if sub else ""
    with session.telling_where(f"{rota_command(directory)}account watch {account}{options}"):
        _follow(session, directory, node, seconds)


def _follow(session: "_Watch", directory: Path, node: str | None, seconds: float) -> None:
    ends = time.monotonic() + seconds

    async def work(client: DoorClient) -> None:
        session.is_connected = True
        with trio.move_on_after(max(0.0, ends - time.monotonic())) as scope:
            await session.follow(client)
        session.is_over = session.is_over or scope.cancelled_caught

    while not session.is_over:
        session.is_connected = False
        try:
            query_at_door(directory, node, work)
        except DoorFailure:
            # Nodes come and go; one that had told something is worth another try.
            if not session.is_connected:
                raise
            session.output.note("every node has ended the connection; trying again")
            trio.run(trio.sleep, RECONNECT_PAUSE_S)


class _Watch:
    """One run of the command, over as many connections as it takes."""

    def __init__(
        self,
        output: Output,
        account: bytes,
        names: dict[bytes, str],
        cursor: Cursor | None,
        count: int | None,
        is_past: bool,
        advice: str,
    ) -> None:
        self.output = output
        self._advice = advice
        """What to do if there is no such account."""
        self.is_connected = False
        self.is_over = False
        self._account = account
        self._names = names
        self._cursor = cursor
        self._left = count
        self._is_past = is_past
        self._markets: dict[int, MarketInfo] = {}
        self._asked: set[int] = set()
        self._has_header = False
        self._is_known = False

    @contextmanager
    def telling_where(self, command: str) -> Iterator[None]:
        """At the end, however it comes, say how to go on."""
        try:
            yield
        finally:
            if self._cursor is not None:
                place = f"{self._cursor.height}:{self._cursor.leaf}"
                self.output.note(f"go on: {command} --from {place}")

    async def follow(self, client: DoorClient) -> None:
        """Tell what comes over one connection."""
        if self._cursor is None:
            self._cursor = Cursor(await query_certified_height(client) + 1, 0)
        await self._look_whether_known(client)
        source = read_events if self._is_past else watch_account
        async with aclosing(source(client, self._account, self._cursor)) as entries:
            async for entry in entries:
                await self._tell(client, entry)
                self._cursor = Cursor(entry["height"], entry["leaf"] + 1)
                if self._left is not None:
                    self._left -= 1
                    if self._left == 0:
                        break
        self.is_over = True

    async def _look_whether_known(self, client: DoorClient) -> None:
        """Say of an account that nobody has heard of that there is nothing to tell yet."""
        if self._is_known:
            return
        try:
            await query_account(client, self._account)
        except DoorError as error:
            if error.code != "account.unknown":
                raise
            self.output.note(f"there is no such account yet; {self._advice}")
        self._is_known = True

    async def _tell(self, client: DoorClient, entry: dict[str, Any]) -> None:
        number = entry.get("market")
        market = await self._find_market(client, number) if isinstance(number, int) else None
        symbol = "" if market is None else market.symbol
        words = describe_entry(entry, Reader(self._account, self._markets, self._names))
        if not self._has_header and not self.output.is_json:
            self.output.data(None, _COLUMNS.format("height", "what", "market", "").rstrip())
            self._has_header = True
        kind = entry["kind"].replace("_", "-")
        line = _COLUMNS.format(entry["height"], kind, symbol, words)
        self.output.data({**entry, "symbol": symbol or None}, line)

    async def _find_market(self, client: DoorClient, number: int) -> MarketInfo | None:
        """None: it is gone, or 0, which is none. Asked for once."""
        if number and number not in self._asked:
            self._asked.add(number)
            if number not in self._markets:
                self._markets |= {each.market: each for each in await query_markets(client)}
        return self._markets.get(number)


def _parse_place(text: str) -> Cursor:
    match = _PLACE.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise typer.BadParameter("a place is a height above 0, or HEIGHT:LEAF", param_hint="--from")
    return Cursor(int(match[1]), int(match[2] or 0))
