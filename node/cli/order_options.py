"""What the commands that place, change and cancel orders share: their options, and who asks."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer

from engine.accounts.sub_accounts import compute_sub_account_id
from engine.instructions import AccountInstruction, OnBehalf, SelfTradeMode, Side, TimeInForce
from engine.limits import CLIENT_ID_MAX, SUB_ACCOUNTS_MAX
from node.cli.amounts import parse_distance, parse_duration_ms, parse_price
from node.cli.hints import rota_command
from node.cli.output import Output, current_output
from node.cli.submission import Teller, submit_instruction
from node.cli.target import Identity, account_names, load_identity, run_at_door
from node.cli.views import MarketInfo
from node.client import DoorClient

WAIT_DEFAULT_S: Final = 30.0
SLIPPAGE_DEFAULT: Final = "1%"
"""How much worse than its reference a price may be, unless it is said otherwise."""


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


class FiredTifName(StrEnum):
    """Times in force of an order that fires: it is there to take."""

    IOC = "ioc"
    GTC = "gtc"
    FOK = "fok"


class SelfTradeName(StrEnum):
    """Modes of self-trade prevention on the command line."""

    MAKER = "cancel-maker"
    TAKER = "cancel-taker"
    BOTH = "cancel-both"
    DECREMENT = "decrement"


SIDES: Final = {SideName.BUY: Side.BUY, SideName.SELL: Side.SELL}
TIFS: Final = {
    TifName.GTC: TimeInForce.GTC,
    TifName.IOC: TimeInForce.IOC,
    TifName.FOK: TimeInForce.FOK,
    TifName.POST: TimeInForce.POST_ONLY,
}
FIRED_TIFS: Final = {
    FiredTifName.IOC: TimeInForce.IOC,
    FiredTifName.GTC: TimeInForce.GTC,
    FiredTifName.FOK: TimeInForce.FOK,
}
SELF_TRADES: Final = {
    SelfTradeName.MAKER: SelfTradeMode.CANCEL_MAKER,
    SelfTradeName.TAKER: SelfTradeMode.CANCEL_TAKER,
    SelfTradeName.BOTH: SelfTradeMode.CANCEL_BOTH,
    SelfTradeName.DECREMENT: SelfTradeMode.DECREMENT,
}

MarketArgument = Annotated[str, typer.Argument(help="Symbol, as BTC-PERP.")]
SideArgument = Annotated[SideName, typer.Argument(help="buy or sell.")]
SizeArgument = Annotated[str, typer.Argument(help="Size in units of the base asset, as 0.25.")]
ReduceOnlyOption = Annotated[
    bool, typer.Option("--reduce-only", help="Only make the position smaller.")
]
ClientIdOption = Annotated[
    int,
    typer.Option(min=0, max=CLIENT_ID_MAX, help="Your own number for the order; 0 for none."),
]
SelfTradeOption = Annotated[
    SelfTradeName,
    typer.Option(
        help="When it meets your own order: cancel that one (the maker), this one (the taker) or "
        "both, or take the smaller size off both."
    ),
]
GoodForOption = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="End it after this long if it is still there, as 90s, 15m or 2h [default: never].",
        show_default=False,
    ),
]
SubOption = Annotated[
    int,
    typer.Option(
        min=0,
        max=SUB_ACCOUNTS_MAX,
        help="Number of the sub-account to act for; 0 is the main account.",
    ),
]
WorstPriceOption = Annotated[
    str | None,
    typer.Option(
        help="Worst price in quote per unit that it may trade at; instead of --slippage.",
        show_default=False,
    ),
]
WaitOption = Annotated[
    float,
    typer.Option("--timeout", min=0.1, max=3600, help="Seconds to wait for the certified result."),
]

Order = tuple[AccountInstruction, MarketInfo | None]
"""What is handed in, and the market in whose units its outcome is told."""


def make_status_command(directory: Path, node: str | None) -> str:
    """What asks the same network for an envelope whose id is put behind it."""
    where = "" if node is None else f"--node {node} "
    return f"{rota_command(directory)}order status {where}"


class Desk(NamedTuple):
    """Whom a command acts for, and where."""

    output: Output
    identity: Identity
    sub: int
    """Which of the accounts of the identity; 0 for the main one."""
    directory: Path
    node: str | None
    timeout_s: float

    @property
    def account(self) -> bytes:
        """The id of the account that it acts for."""
        return compute_account(self.identity, self.sub)

    @property
    def account_words(self) -> str:
        """The account as other commands take it: its name in the localnet, or its id."""
        owner = self.identity.account
        name = account_names(self.directory).get(owner, owner.hex())
        return f"{name} --sub {self.sub}" if self.sub else name

    def submit(
        self,
        make: Callable[[DoorClient], Awaitable[Order]],
        tell: Teller | None = None,
        noun: str = "order",
    ) -> int:
        """Make an instruction, hand it in, and print its certified result; `tell` adds to it.
        Return the result's height.

        Raises what `run_at_door` and `submit_instruction` do.
        """
        follow_up = make_status_command(self.directory, self.node)

        async def work(client: DoorClient) -> int:
            instruction, market = await make(client)
            return await submit_instruction(
                client,
                self.identity,
                OnBehalf(self.sub, instruction) if self.sub else instruction,
                market,
                self.output,
                self.timeout_s,
                follow_up,
                tell,
                noun,
            )

        return run_at_door(self.directory, self.node, work)


def open_desk(
    context: typer.Context,
    account: str | None,
    sub: int,
    directory: Path,
    node: str | None,
    key: Path | None,
    password_file: Path | None,
    timeout_s: float,
) -> Desk:
    """The desk of a command with these options. Raises what `load_identity` does."""
    identity = load_identity(directory, account, key, password_file)
    return Desk(current_output(context), identity, sub, directory, node, timeout_s)


def compute_account(identity: Identity, sub: int) -> bytes:
    """The id of one of the accounts that somebody signs for."""
    return compute_sub_account_id(identity.account, sub) if sub else identity.account


def compute_good_til_ms(client: DoorClient, good_for: str | None) -> int:
    """When an order ends that may last for so long; 0 for never. Raises `AmountError`."""
    return 0 if good_for is None else client.welcome.time_ms + parse_duration_ms(good_for)


def compute_worst_price(
    side: Side, reference_ticks: int, price: str | None, slippage: str | None, market: MarketInfo
) -> int:
    """The worst price in ticks: `price` itself, or the reference and as much as it may slip.

    Raises `AmountError`, or a usage error if both are given.
    """
    if price is not None:
        if slippage is not None:
            raise typer.BadParameter("--price and --slippage exclude each other")
        return parse_price(price, market)
    slip = parse_distance(slippage or SLIPPAGE_DEFAULT, market, reference_ticks)
    return max(reference_ticks + side * slip, 1)
