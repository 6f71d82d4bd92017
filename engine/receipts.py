"""What the engine answers: receipts, fills and events, with stable reason codes.

A receipt answers one instruction and is keyed by (envelope id, index in the bundle). Fills tell
both sides of a trade. Events tell what happened without an instruction of the owner's own: to
resting and waiting orders, to money (deposits, transfers, withdrawals, funding), to accounts
(sessions, liquidation) and to markets (options). All of them are leaves under the block's
receipts root. Like instructions they hold scalars only and cannot form cycles, so the
garbage collector need not know the thousands that each block makes (`gc=False`).
"""

from enum import IntEnum, StrEnum

from msgspec import Struct

from crypto.types import Digest
from engine.instructions import Side


class ReasonCode(StrEnum):
    """Why an instruction or order ended as it did. Append-only: a code never changes meaning."""

    OK = "ok"
    BUNDLE_MALFORMED = "bundle.malformed"
    BUNDLE_EMPTY = "bundle.empty"
    BUNDLE_TOO_MANY_INSTRUCTIONS = "bundle.too_many_instructions"
    ACCOUNT_UNKNOWN = "account.unknown"
    ORDER_UNKNOWN_MARKET = "order.unknown_market"
    ORDER_SIZE_NOT_POSITIVE = "order.size_not_positive"
    ORDER_SIZE_OVERFLOW = "order.size_overflow"
    ORDER_PRICE_NOT_POSITIVE = "order.price_not_positive"
    ORDER_PRICE_OVERFLOW = "order.price_overflow"
    ORDER_NOTIONAL_OVERFLOW = "order.notional_overflow"
    ORDER_POSITION_OVERFLOW = "order.position_overflow"
    ORDER_BALANCE_OVERFLOW = "order.balance_overflow"
    ORDER_PRICE_BAND = "order.price_band"
    ORDER_CLIENT_ID_INVALID = "order.client_id_invalid"
    ORDER_DUPLICATE_CLIENT_ID = "order.duplicate_client_id"
    ORDER_GOOD_TIL_INVALID = "order.good_til_invalid"
    ORDER_EXPIRED = "order.expired"
    ORDER_TOO_MANY_OPEN = "order.too_many_open"
    ORDER_MARKET_FULL = "order.market_full"
    ORDER_POST_ONLY_WOULD_CROSS = "order.post_only_would_cross"
    ORDER_FOK_UNFILLABLE = "order.fok_unfillable"
    ORDER_REDUCE_ONLY_WOULD_INCREASE = "order.reduce_only_would_increase"
    ORDER_REDUCE_ONLY_SHRUNK = "order.reduce_only_shrunk"
    ORDER_SELF_TRADE = "order.self_trade"
    ORDER_IOC_REMAINDER = "order.ioc_remainder"
    ORDER_UNKNOWN = "order.unknown"
    ORDER_REFERENCE_INVALID = "order.reference_invalid"
    ORDER_CANCELLED_BY_OWNER = "order.cancelled_by_owner"
    MARGIN_INSUFFICIENT = "margin.insufficient"
    ORACLE_NOT_A_REPORTER = "oracle.not_a_reporter"
    ORACLE_UNKNOWN_MARKET = "oracle.unknown_market"
    ORACLE_PRICE_INVALID = "oracle.price_invalid"
    ORACLE_SEQUENCE = "oracle.sequence"
    ORACLE_SOURCE_TIME = "oracle.source_time"
    ORACLE_NO_INDEX = "oracle.no_index"
    ORACLE_STALE = "oracle.stale"
    ORDER_NOT_AMENDABLE = "order.not_amendable"
    WAITING_TOO_MANY = "waiting.too_many"
    WAITING_MARKET_FULL = "waiting.market_full"
    TRIGGER_PRICE_INVALID = "trigger.price_invalid"
    TRIGGER_OFFSET_INVALID = "trigger.offset_invalid"
    TRIGGER_POST_ONLY = "trigger.post_only"
    OCO_MARKETS_DIFFER = "oco.markets_differ"
    OCO_LEGS_INVALID = "oco.legs_invalid"
    ORDER_PARTNER_ENDED = "order.partner_ended"
    DEAD_MAN_TIMEOUT_INVALID = "dead_man.timeout_invalid"
    ORDER_DEAD_MAN = "order.dead_man"
    TWAP_SCHEDULE_INVALID = "twap.schedule_invalid"
    TWAP_ENDED = "twap.ended"
    OPTION_SURFACE_INVALID = "option.surface_invalid"
    OPTION_NOT_TRADING = "option.not_trading"
    OPTION_EXPIRED = "option.expired"
    COLLATERAL_AMOUNT_INVALID = "collateral.amount_invalid"
    COLLATERAL_ORACLE_STALE = "collateral.oracle_stale"
    COLLATERAL_INSUFFICIENT = "collateral.insufficient"
    COLLATERAL_OUT_OF_RANGE = "collateral.out_of_range"
    WITHDRAW_DESTINATION_INVALID = "withdraw.destination_invalid"
    WITHDRAW_TOO_SMALL = "withdraw.too_small"
    WITHDRAW_GATED = "withdraw.gated"
    WITHDRAW_TOO_MANY = "withdraw.too_many"
    WITHDRAW_FULL = "withdraw.full"
    TRANSFER_TO_ITSELF = "transfer.to_itself"
    TRANSFER_ACCOUNT_UNKNOWN = "transfer.account_unknown"
    TRANSFER_DESTINATION_INVALID = "transfer.destination_invalid"
    SUB_ACCOUNT_NUMBER_INVALID = "sub_account.number_invalid"
    PORTFOLIO_UNAVAILABLE = "portfolio.unavailable"
    PORTFOLIO_TOO_MANY_MARKETS = "portfolio.too_many_markets"
    BUNDLE_SESSION_UNKNOWN = "bundle.session_unknown"
    SESSION_SCOPE = "session.scope"
    SESSION_SUB_ACCOUNT = "session.sub_account"
    SESSION_MARKET = "session.market"
    SESSION_SPENT = "session.spent"
    LIQUIDATION_ORDER_CANCELLED = "liquidation.order_cancelled"
    AUCTION_UNKNOWN = "auction.unknown"
    AUCTION_OWN = "auction.own"
    AUCTION_PORTION_INVALID = "auction.portion_invalid"
    AUCTION_PREMIUM_INVALID = "auction.premium_invalid"
    AUCTION_PREMIUM_TOO_HIGH = "auction.premium_too_high"
    AUCTION_SOLD = "auction.sold"
    AUCTION_UNINSURED = "auction.uninsured"
    AUCTION_TOO_MANY_BIDS = "auction.too_many_bids"
    ORDER_DISPLACED = "order.displaced"
    ORDER_TOO_MANY_MATCHES = "order.too_many_matches"


class Status(IntEnum):
    """How an instruction ended."""

    REFUSED = 0
    """Nothing changed (an amend may have cancelled the order that it meant to replace)."""
    ACCEPTED = 1
    """Done; nothing rests and nothing traded (a report, an amend in place)."""
    RESTING = 2
    """Nothing traded, all of what is left rests."""
    PARTIALLY_FILLED = 3
    """Some traded; `resting_lots` tells whether the rest rests or was cancelled (`code`)."""
    FILLED = 4
    """All traded."""
    CANCELLED = 5
    """The order named (or the orders selected) are cancelled, or an order ended untraded."""
    WAITING = 6
    """It waits outside the book for a price or a time."""


class Receipt(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=1):
    """The outcome of one instruction."""

    envelope_id: Digest
    index: int
    """Position in the bundle; 0 for a bundle refused as a whole."""
    status: Status
    code: ReasonCode
    order_id: int = 0
    """The order concerned, or the withdrawal; 0 if none came to be."""
    filled_lots: int = 0
    resting_lots: int = 0
    filled_notional_microquote: int = 0
    """Exact sum of price x lots x unit: the average price is this over (lots x unit)."""
    fee_microquote: int = 0
    """What the sender paid as taker; negative for a rebate."""
    cancelled_count: int = 0
    """Orders cancelled by a cancel instruction."""


class Fill(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=2):
    """One trade between a resting (maker) and an incoming (taker) order."""

    market: int
    price_ticks: int
    size_lots: int
    taker_side: Side
    maker_order_id: int
    taker_order_id: int
    maker: Digest
    taker: Digest
    maker_fee_microquote: int
    """What the maker paid; negative for a rebate."""
    taker_fee_microquote: int
    """Its share of the fee on all that the taker's order traded."""
    maker_resting_lots: int
    """What is left of the maker's order."""


class OrderEvent(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=3):
    """A resting order shrank or ended, or a waiting one ended, without an instruction of its owner
    and without a trade."""

    market: int
    order_id: int
    client_id: int
    owner: Digest
    code: ReasonCode
    removed_lots: int
    """What of it is gone without a trade."""
    resting_lots: int
    """What is left; 0 means that the order is gone."""


class DepositEvent(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=4
):
    """A deposit that was credited, or held back because all deposits together hit their bound."""

    account: Digest
    amount_microquote: int
    source_id: Digest
    """The message that brought it."""
    credited: bool
    """No: held back."""


class FundingEvent(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=5
):
    """An interval of funding ended."""

    market: int
    rate_ppb: int
    """For eight hours; positive: longs pay."""
    index_price_ticks: int
    """One long lot owes rate x interval / 8 h of its value at this price."""


class FundingPaidEvent(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=6
):
    """An account's funding was booked, of all markets and all intervals since it was last: at the
    first touch after a payment, not when that was due."""

    account: Digest
    amount_microquote: int
    """What was added to the balance; negative for what it paid."""


class WakeEvent(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=20):
    """A waiting order acted: a trigger fired or a slice ran. This is the receipt of what it did."""

    market: int
    order_id: int
    """The order that waited."""
    client_id: int
    owner: Digest
    status: Status
    code: ReasonCode
    placed_order_id: int
    """The limit order that it became; 0 if that was refused."""
    filled_lots: int
    resting_lots: int
    filled_notional_microquote: int
    fee_microquote: int
    waiting_lots: int
    """What is left for further slices."""


class DeadManEvent(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=21
):
    """A deadline passed: everything that the account had open or waiting was cancelled."""

    account: Digest
    deadline_ms: int
    """The deadline that passed."""
    cancelled_count: int


class LiquidationStage(IntEnum):
    """How far the liquidation of an account has come. Append-only."""

    CLOSING = 1
    """Its positions are closed in the books, part by part."""
    AUCTION = 2
    """Slices of all that it has are sold at a growing discount."""
    INSOLVENT = 3
    """It has no equity: the insurance fund pays who takes slices of what is left."""


class LiquidationStep(IntEnum):
    """What happened to an account under liquidation. Append-only."""

    BEGUN = 0
    """It was found below its maintenance margin."""
    CLOSED = 1
    """A part of a position was closed in the book (the fills stand beside)."""
    AUCTIONED = 2
    """Slices of all that it has are for sale from now on."""
    INSOLVENT = 3
    """It has no equity: the insurance fund offers what it lacks."""
    COVERED = 4
    """Without positions and below zero: its debt was paid for it, in part or whole."""
    ENDED = 5
    """It covers its maintenance margin again."""


class LiquidationEvent(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=40
):
    """A step of an account's liquidation; equity and margin are those after it."""

    account: Digest
    step: LiquidationStep
    """What was done."""
    equity_microquote: int
    maintenance_margin_microquote: int
    """What the equity must cover."""
    market: int = 0
    """Where a position was closed; 0 where none was."""
    lots: int = 0
    """How the position changed: negative where a long was closed."""
    notional_microquote: int = 0
    """What that was worth at the prices of the trades."""
    insurance_microquote: int = 0
    """What the insurance fund received; negative for what it paid."""


class AuctionEvent(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=41
):
    """A bidder took a slice of an account (a `SliceEvent` for each market stands before)."""

    account: Digest
    bidder: Digest
    part_ppm: int
    """Of what the account had before the first bid of the block."""
    premium_microquote: int
    """What the bidder received beside the lots at mark."""
    insurance_microquote: int
    """What the insurance fund paid for the account."""
    equity_microquote: int
    """What the account has left."""
    maintenance_margin_microquote: int
    """What that must cover."""


class SliceEvent(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=42
):
    """Lots changed hands at mark, in an auction."""

    market: int
    account: Digest
    bidder: Digest
    size_lots: int
    """What the bidder's position gained: negative where a short was taken over."""
    paid_microquote: int
    """By the bidder to the account: size x mark value, of the same sign."""


class DeleverageEvent(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=43
):
    """A position was closed against another account's, at mark, beside what that has to bear of the
    debt because neither insurance fund nor fees could pay it."""

    market: int
    account: Digest
    """Whose liquidation it was."""
    counterparty: Digest
    """Whose position was taken, too."""
    size_lots: int
    """What the counterparty's position gained, and the account's lost."""
    paid_microquote: int
    """By the counterparty to the account, of the same sign."""
    equity_microquote: int
    """What the account has left."""


class SeriesListedEvent(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=50
):
    """An option was listed: from now on it is a market."""

    market: int
    underlying: int
    """The market on whose index it is."""
    expiry_ms: int
    """Block time of its end."""
    strike_ticks: int
    """In ticks of the underlying."""
    is_call: bool
    """Otherwise it is a put."""
    symbol: str
    """For example BTC-261127-0800-60000-C."""


class ExpiryEvent(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=51
):
    """The options of one expiry were settled and are gone."""

    underlying: int
    """The market on whose index they were."""
    expiry_ms: int
    """Which expiry."""
    price_sum_ticks: int
    """The settlement price is this, over the number of samples, in ticks of the underlying."""
    price_samples: int
    """How many samples of the index there were."""


class SettlementEvent(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=52
):
    """What a position in an option came to when it expired."""

    account: Digest
    market: int
    """The option, which is no market any more."""
    size_lots: int
    """The position; negative for a short."""
    amount_microquote: int
    """What was added to the balance; negative for a short that paid."""


class WithdrawalState(IntEnum):
    """Where a withdrawal stands."""

    PENDING = 0
    """It has left the balance; L1 has not settled it."""
    PAID = 1
    """L1 has paid it."""
    REFUNDED = 2
    """L1 rejected it; the amount is back."""
    UNKNOWN = 3
    """L1 settled a number that is not pending; nothing changed."""


class WithdrawalEvent(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=30
):
    """A withdrawal came to be or came to its end."""

    withdrawal_id: int
    """The withdrawal's number."""
    account: Digest
    destination: bytes
    """The address on L1."""
    amount_microquote: int
    """How much; 0 for an unknown number."""
    state: WithdrawalState
    """Where it stands now."""


class SessionState(IntEnum):
    """What became of a session key."""

    AUTHORISED = 0
    """It may sign, from the height on that the header ledger says."""
    REVOKED = 1
    """Its account took its right away."""
    EXPIRED = 2
    """Its time is over; told in the first block of that time."""


class SessionEvent(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=32
):
    """A session key came or went."""

    account: Digest
    key: Digest
    """The session key."""
    state: SessionState
    """What became of it."""


class TransferEvent(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=31
):
    """Collateral went from one account to another."""

    source: Digest
    """The account that gave."""
    target: Digest
    """The account that received."""
    amount_microquote: int
    """How much."""


Event = (
    OrderEvent
    | DepositEvent
    | FundingEvent
    | FundingPaidEvent
    | WakeEvent
    | DeadManEvent
    | SeriesListedEvent
    | ExpiryEvent
    | SettlementEvent
    | WithdrawalEvent
    | TransferEvent
    | SessionEvent
    | LiquidationEvent
    | AuctionEvent
    | SliceEvent
    | DeleverageEvent
)
