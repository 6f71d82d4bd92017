"""A node's views as the commands read them: the fields that they show; nodes may send more."""

from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from node.client import DoorClient
from node.client_stream import DoorError
from node.exit_codes import ExitCode, OperatorError

T = TypeVar("T")


class GreeksInfo(Struct, frozen=True):
    """How the value of a position, or of a whole unit of an option, changes, in millionths."""

    delta_micro: int
    gamma_micro: int
    vega_micro: int
    theta_micro: int


class OptionInfo(Struct, frozen=True):
    """What a market is an option on."""

    underlying: int
    is_call: bool
    expiry_ms: int
    strike_ticks: int
    forward_microquote: int
    vol_ppm: int
    is_closed: bool
    greeks: GreeksInfo
    short_initial_ppm: int
    """Of the underlying's index, like the other two."""
    short_initial_min_ppm: int
    short_maintenance_ppm: int


class MarketInfo(Struct, frozen=True):
    """One market."""

    market: int
    symbol: str
    tick_size_microquote: int
    lots_per_base: int
    unit_microquote: int
    index_price_ticks: int
    """0 before the first index. Of an option its mark: the index is that of its underlying."""
    is_stale: bool
    band_low_ticks: int
    """Orders below are refused; likewise above the other."""
    band_high_ticks: int
    best_bid_ticks: int | None
    best_ask_ticks: int | None
    open_orders: int
    initial_margin_ppm: int = 0
    maintenance_margin_ppm: int = 0
    maker_fee_ppm: int = 0
    taker_fee_ppm: int = 0
    funding_rate_ppb: int | None = None
    """The last rate, for eight hours; None: no funding, or no interval has ended yet."""
    funding_due_ms: int = 0
    """Block time of the next payment; 0: not known yet."""
    mark_price_ticks: int = 0
    """What positions are valued at; 0 before the first index."""
    matching: str = "continuous"
    """How takers trade: one after the other, or in one `auction` a block."""
    open_interest_lots: int = 0
    """All long positions."""
    scaled_margin_ppm: int = 0
    """The initial margin in force."""
    option: OptionInfo | None = None
    """None: a perpetual."""


class LevelInfo(Struct, frozen=True):
    """All orders at one price."""

    price_ticks: int
    size_lots: int
    orders: int


class BookInfo(Struct, frozen=True):
    """The best levels of a market, best first."""

    bids: tuple[LevelInfo, ...]
    asks: tuple[LevelInfo, ...]


class PositionInfo(Struct, frozen=True):
    """An account's exposure in one market."""

    market: int
    size_lots: int
    value_microquote: int
    open_buy_lots: int
    open_sell_lots: int
    greeks: GreeksInfo | None = None


class OrderInfo(Struct, frozen=True):
    """One open order."""

    order_id: int
    market: int
    side: str
    price_ticks: int
    size_lots: int
    tif: str
    reduce_only: bool
    client_id: int = 0


class ConditionalInfo(Struct, frozen=True):
    """One order that waits for a price."""

    order_id: int
    market: int
    side: str
    kind: str
    """`stop` or `take_profit`."""
    source: str
    trigger_ticks: int
    offset_ticks: int
    """0 unless its trigger trails."""
    price_ticks: int
    slack_ticks: int
    size_lots: int
    client_id: int
    tif: str
    reduce_only: bool
    good_til_ms: int
    partner_order_id: int
    is_fired: bool


class TwapInfo(Struct, frozen=True):
    """One order that trades in slices."""

    order_id: int
    market: int
    side: str
    price_ticks: int
    size_lots: int
    filled_lots: int
    client_id: int
    reduce_only: bool
    slices: int
    next_slice: int
    next_slice_ms: int


class WithdrawalInfo(Struct, frozen=True):
    """One withdrawal that L1 has not settled."""

    withdrawal_id: int
    destination: bytes
    amount_microquote: int
    height: int


class SubAccountInfo(Struct, frozen=True):
    """One sub-account, in short."""

    sub: int
    account: bytes
    equity_microquote: int


class SessionInfo(Struct, frozen=True):
    """One session key."""

    key: bytes
    scope: str
    expires_ms: int
    markets: tuple[int, ...]
    subs: tuple[int, ...]
    spend_max_microquote: int | None
    spent_microquote: int


class FeeTierInfo(Struct, frozen=True):
    """Where an account stands in the fee schedule."""

    tier: int
    volume_microquote: int
    taker_reduction_ppm: int
    maker_reduction_ppm: int
    next_volume_microquote: int | None
    epoch_volume_microquote: int
    """Of the present epoch, which does not count yet."""
    epoch_ends_ms: int
    """From then on it does."""


class HoldingInfo(Struct, frozen=True):
    """One position of an account under liquidation."""

    market: int
    size_lots: int
    value_microquote: int


class LiquidationInfo(Struct, frozen=True):
    """The liquidation of one account; prices are those for all that it has."""

    account: bytes
    stage: str
    """`closing`, `auction` or `insolvent`."""
    equity_microquote: int
    maintenance_margin_microquote: int
    next_stage_ms: int
    """Block time at which this stage is over; 0 while it waits."""
    is_waiting: bool
    """For a fresh index."""
    offer_microquote: int
    offer_ppm: int
    """Of the maintenance margin."""
    for_sale_ppm: int
    insured_microquote: int
    holdings: tuple[HoldingInfo, ...]


class InsuranceInfo(Struct, frozen=True):
    """The insurance fund, who needs it, and the other pools."""

    insurance_microquote: int
    started_microquote: int
    fees_microquote: int
    funding_pool_microquote: int
    settlement_pool_microquote: int
    is_liquidating: bool
    closing: int
    auctions: int
    insolvent: int
    negative: int
    debts_microquote: int
    is_gated: bool


class AccountInfo(Struct, frozen=True):
    """One account."""

    quote_microquote: int
    equity_microquote: int
    initial_margin_microquote: int
    maintenance_margin_microquote: int
    positions: tuple[PositionInfo, ...]
    orders: tuple[OrderInfo, ...]
    conditionals: tuple[ConditionalInfo, ...] = ()
    twaps: tuple[TwapInfo, ...] = ()
    dead_man_deadline_ms: int = 0
    """Block time at which everything open and waiting is cancelled; 0: never."""
    withdrawals: tuple[WithdrawalInfo, ...] = ()
    owner: bytes | None = None
    sub: int = 0
    sub_accounts: tuple[SubAccountInfo, ...] = ()
    sessions: tuple[SessionInfo, ...] = ()
    fee_tier: FeeTierInfo | None = None
    margin_mode: str = "cross"
    """Or `portfolio`: options and their underlying together."""
    liquidation: LiquidationInfo | None = None
    """None: it is not under liquidation."""


class TradeInfo(Struct, frozen=True):
    """One trade."""

    price_ticks: int
    size_lots: int
    taker_side: str


class ReceiptInfo(Struct, frozen=True):
    """The engine's answer to one instruction."""

    status: str
    code: str
    order_id: int
    filled_lots: int
    resting_lots: int
    filled_notional_microquote: int
    fee_microquote: int
    cancelled_count: int


class EnvelopeInfo(Struct, frozen=True):
    """How far an envelope has come."""

    level: str
    height: int
    """0 before it is ordered."""
    code: str | None
    """Why it was refused."""
    results: tuple[ReceiptInfo, ...] | None
    """One an instruction, once executed; None too where the node keeps them no longer."""


class ConvictionInfo(Struct, frozen=True):
    """A member that proved guilty."""

    member: str
    offence: str


class CryptoWorkersInfo(Struct, frozen=True):
    """The processes that verify signatures."""

    processes: int
    queued: int
    restarts: int
    pids: tuple[int, ...]


class EngineWorkerInfo(Struct, frozen=True):
    """The process that executes."""

    height: int
    commands_waiting: int


class WorkersInfo(Struct, frozen=True):
    """A node's other processes."""

    crypto: CryptoWorkersInfo
    engine: EngineWorkerInfo


class StatusInfo(Struct, frozen=True):
    """What a node says of itself that needs more than one line."""

    peers_connected: tuple[str, ...]
    workers: WorkersInfo
    convictions: tuple[ConvictionInfo, ...]
    misbehaviours: dict[str, int]
    alarms: dict[str, str]


PAIRED_QUERIES_MAX: Final = 3
"""How often an account and the markets are asked for until they fit each other."""


class UnknownMarketError(OperatorError):
    """No market has this symbol."""

    code = "market.unknown"
    exit_code = ExitCode.USAGE


def read_view(type_: type[T], answer: object, name: str) -> T:
    """Check an answer's form. Raises `DoorError`."""
    try:
        return msgspec.convert(answer, type_)
    except msgspec.ValidationError as error:
        raise DoorError("door.malformed", f"answer to {name}: {error}") from error


async def query_markets(client: DoorClient) -> tuple[MarketInfo, ...]:
    """All markets."""
    return read_view(tuple[MarketInfo, ...], await client.query("markets"), "markets")


async def query_market(client: DoorClient, symbol: str) -> MarketInfo:
    """The market of that symbol; raises `UnknownMarketError` with those that there are."""
    markets = await query_markets(client)
    for market in markets:
        if market.symbol == symbol.upper():
            return market
    perpetuals = [market.symbol for market in markets if market.option is None]
    has_options = len(perpetuals) < len(markets)
    raise UnknownMarketError(
        f"there is no market {symbol!r}",
        advice=f"markets: {', '.join(perpetuals)}" + "; options: rota market options" * has_options,
    )


async def query_account(client: DoorClient, account: bytes) -> tuple[dict[str, Any], AccountInfo]:
    """An account as the node describes it, whole and as far as it is shown. Raises `DoorError`
    (`account.unknown` if the engine has none of that id)."""
    answer = await client.query("account", account)
    return answer, read_view(AccountInfo, answer, "account")


async def query_status(client: DoorClient) -> tuple[dict[str, Any], StatusInfo]:
    """A node's status, whole and as far as it is put into words. Raises `DoorError`."""
    answer = await client.query("status")
    return answer, read_view(StatusInfo, answer, "status")


async def query_account_and_markets(
    client: DoorClient, account: bytes
) -> tuple[dict[str, Any], AccountInfo, dict[int, MarketInfo]]:
    """`query_account`, and all markets by number: among them every one that the account names.

    Series of options come and go between two answers, so the pair is asked for again until it
    fits. Raises `DoorError` like `query_account`, and with `door.malformed` if it never does.
    """
    for _ in range(PAIRED_QUERIES_MAX):
        answer, view = await query_account(client, account)
        markets = {market.market: market for market in await query_markets(client)}
        named = {
            *(each.market for each in view.positions),
            *(each.market for each in view.orders),
            *(each.market for each in view.conditionals),
            *(each.market for each in view.twaps),
        }
        if named <= markets.keys():
            return answer, view, markets
    raise DoorError("door.malformed", "the account names a market that is not listed")
