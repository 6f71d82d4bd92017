"""What a bundle may contain: the instructions of the exchange, as they travel.

Numbers are plain 64-bit integers here, on purpose: a size of zero or a price out of range earns a
receipt with its own code for that one instruction, while bytes that are no bundle at all are
refused as a whole. Tags are small integers, append-only: a number is never reused.
What waits for a price or a time has the numbers from 20 on, what moves collateral those from 30
on, what liquidations offer those from 40 on, options those from 50 on.
"""

from enum import IntEnum

from msgspec import Struct

from crypto.types import Digest


class Side(IntEnum):
    """The sign of the position change."""

    BUY = 1
    """Adds lots."""
    SELL = -1
    """Takes them away."""


class TimeInForce(IntEnum):
    """How long a limit order may wait."""

    GTC = 0
    """Takes what crosses, then rests until cancelled or until `good_til_ms`."""
    IOC = 1
    """Takes what crosses; the rest is cancelled."""
    FOK = 2
    """Takes its whole size or nothing."""
    POST_ONLY = 3
    """Only ever rests; refused if it would trade with somebody else."""


class SelfTradeMode(IntEnum):
    """What the incoming order does when it meets a resting order of the same account."""

    CANCEL_MAKER = 0
    """The resting order is cancelled, the incoming one goes on."""
    CANCEL_TAKER = 1
    """What is left of the incoming order is cancelled."""
    CANCEL_BOTH = 2
    """Both are cancelled."""
    DECREMENT = 3
    """Both shrink by the smaller size, without a trade."""


class PlaceOrder(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=1):
    """A limit order."""

    market: int
    side: Side
    price_ticks: int
    size_lots: int
    tif: TimeInForce = TimeInForce.GTC
    reduce_only: bool = False
    self_trade: SelfTradeMode = SelfTradeMode.CANCEL_MAKER
    client_id: int = 0
    """The owner's own name for the order, unique among its open orders; 0 means none."""
    good_til_ms: int = 0
    """A resting order expires at the first block whose time reaches this; 0 means never."""


class MarketOrder(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=2
):
    """An order that takes at once or not at all, never beyond its protective price."""

    market: int
    side: Side
    protective_price_ticks: int
    """The worst acceptable price. Mandatory: no order trades at any price."""
    size_lots: int
    reduce_only: bool = False
    self_trade: SelfTradeMode = SelfTradeMode.CANCEL_MAKER
    client_id: int = 0


class Cancel(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=3):
    """Cancel one open or waiting order of the sender, named by either id; the other is 0."""

    order_id: int = 0
    client_id: int = 0


class CancelAll(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=4):
    """Cancel all open and waiting orders of the sender, in one market or in all."""

    market: int | None = None


class Amend(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=5):
    """Change price or size of one open order, named by either id; the other is 0.

    The same price and a smaller size keeps id and place in the queue. Anything else cancels the
    order in the cancel phase and places a new one (same client id, flags and expiry) in its phase;
    if the new one is refused, the old one stays cancelled.
    """

    order_id: int
    client_id: int
    price_ticks: int
    size_lots: int
    """What shall be open afterwards."""


class OracleReport(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=6
):
    """One committee member's observation of a market's index price.

    Valid only from a reporter's own key.
    """

    market: int
    price_ticks: int
    """What the market's asset was worth."""
    sequence: int
    """Above that of the reporter's last accepted report for the market."""
    source_time_ms: int
    """When that was."""


class TriggerSource(IntEnum):
    """The price that a waiting order watches. Append-only, like the tags."""

    INDEX = 0
    """The market's index; of an option its mark. While it is stale nothing fires by it."""
    LAST = 1
    """The market's trades. Anybody who trades one lot moves it: the index is the safer choice."""
    MARK = 2
    """The price that margin goes by: the index, or somewhat beside it. Waits while it is stale."""


class TriggerKind(IntEnum):
    """On which side of its trigger price an order fires."""

    STOP = 0
    """A buy fires at or above its trigger price, a sell at or below it."""
    TAKE_PROFIT = 1
    """A buy fires at or below its trigger price, a sell at or above it."""


class ConditionalOrder(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=20
):
    """A stop or take-profit order: it waits outside the book until a price reaches its trigger.

    Then it is a new limit order (with an id of its own) among the takers of that block and passes
    every check of one; until then it reserves no margin. With `tif` IOC it is a stop-market order,
    with GTC a stop-limit order, whose rest rests.
    """

    market: int
    side: Side
    kind: TriggerKind
    source: TriggerSource
    trigger_ticks: int
    """It fires when the source reaches this."""
    price_ticks: int
    """The worst acceptable price. Mandatory: no order trades at any price."""
    size_lots: int
    tif: TimeInForce = TimeInForce.IOC
    """Anything but POST_ONLY: an order that fires is there to take."""
    reduce_only: bool = False
    self_trade: SelfTradeMode = SelfTradeMode.CANCEL_MAKER
    client_id: int = 0
    """Shares one name space with the owner's open orders; the order that it becomes keeps it."""
    good_til_ms: int = 0
    """When it stops waiting, and a rest of it resting; 0 means never."""


class TrailingStop(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=21
):
    """A stop order whose trigger price follows the source at a distance, and never back.

    A sell's trigger is `offset_ticks` below the highest price seen since it was placed, a buy's
    above the lowest. It starts from the index, or from the mark if it follows that.
    """

    market: int
    side: Side
    source: TriggerSource
    offset_ticks: int
    """How far the trigger stays behind the source."""
    slack_ticks: int
    """How much worse than its trigger price it may trade: its limit price when it fires."""
    size_lots: int
    tif: TimeInForce = TimeInForce.IOC
    reduce_only: bool = False
    self_trade: SelfTradeMode = SelfTradeMode.CANCEL_MAKER
    client_id: int = 0
    good_til_ms: int = 0


class OneCancelsOther(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=22):
    """Two orders of one market, of which the first to fire, trade or end cancels the other.

    Two that wait for a trigger, or one of these and one post-only limit order (which must not take
    when it is placed). Any trade of the limit order, however small, cancels the other. They have
    two ids in a row; the limit order, or else the first, has the lower one, which the receipt
    names.
    """

    first: ConditionalOrder | TrailingStop | PlaceOrder
    second: ConditionalOrder | TrailingStop | PlaceOrder


class TwapOrder(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=23):
    """A large order in equal parts, one at each interval: immediate-or-cancel limit orders.

    Of `n = duration / interval` slices the k-th is due k intervals after the order was placed and
    takes what is missing to `floor(size * k / n)` lots, but at most
    `limits.TWAP_CATCH_UP_FACTOR` times a slice's share: what one slice could not trade is spread
    over those that follow. With the last one the order ends, filled or not.
    """

    market: int
    side: Side
    price_ticks: int
    """The worst acceptable price of every slice."""
    size_lots: int
    duration_ms: int
    """A multiple of the interval."""
    interval_ms: int
    """From one slice to the next."""
    reduce_only: bool = False
    self_trade: SelfTradeMode = SelfTradeMode.CANCEL_MAKER
    client_id: int = 0


class ArmDeadMan(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=24
):
    """Cancel everything that the sender has open or waiting, unless it says so again in time.

    The first block whose time reaches this block's time plus `timeout_ms` cancels; each
    instruction of the kind replaces the deadline of the one before, and 0 takes it away.
    """

    timeout_ms: int
    """From the block's time to the deadline; 0 takes the deadline away."""


class Bid(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=40):
    """Take a slice of what an account under liquidation has (`engine.liquidation.bidding`).

    The lots come at mark, with a premium beside: all bids of a block for one account receive the
    same, the highest that one of them asks for which still gets something. The sender has to cover
    its initial margin with the slice.
    """

    account: Digest
    """Whose positions."""
    portion_ppm: int
    """The largest part of them that is taken; it weighs no less than one lot of any of them."""
    premium_ppm: int
    """The least premium, in parts of the maintenance margin of the slice."""


class VolatilityReport(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=50
):
    """One committee member's observation of an underlying's volatility surface.

    Valid only from a reporter's own key, with a sequence of its own for each underlying.
    """

    market: int
    """The underlying."""
    vols_ppm: tuple[int, ...]
    """One for each knot: by time to expiry, and for each of these by strike over forward."""
    sequence: int
    """Must exceed that of the reporter's last accepted surface of the underlying."""
    source_time_ms: int
    """When it was observed."""


class Withdraw(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=30):
    """Take collateral out, to an address on L1.

    It runs at the end of the block and leaves the balance at once; from then on it is pending
    until L1 has paid or rejected it.
    """

    amount_microquote: int
    """At least the chain's smallest withdrawal."""
    destination: bytes
    """The address on L1."""


class Transfer(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=31):
    """Give collateral to another account, which must exist, or move it between one's own."""

    amount_microquote: int
    """How much."""
    account: bytes = b""
    """The id of the account that receives; empty: one of the sender's own."""
    sub: int = 0
    """Which of them: 0 for the main account, or the number of a sub-account, which is opened if
    there is none. 0 if `account` is given."""


class MarginMode(IntEnum):
    """How an account is margined."""

    CROSS = 0
    """Each market by itself, all out of one balance."""
    PORTFOLIO = 1
    """The options on an underlying and its perpetual together, by scenarios."""


class SetMarginMode(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=51
):
    """Choose how the sender's account is margined; it must have the margin for it."""

    mode: MarginMode
    """From now on."""


AccountInstruction = (
    PlaceOrder
    | MarketOrder
    | Cancel
    | CancelAll
    | Amend
    | ConditionalOrder
    | TrailingStop
    | OneCancelsOther
    | TwapOrder
    | ArmDeadMan
    | Withdraw
    | Transfer
    | Bid
    | SetMarginMode
)
"""What may be asked for an account."""


class OnBehalf(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=32):
    """Ask something for a sub-account of the sender (`engine.accounts.sub_accounts`)."""

    sub: int
    """Its number."""
    instruction: AccountInstruction
    """What is asked: anything but a report and another of this kind."""


Instruction = AccountInstruction | OracleReport | VolatilityReport | OnBehalf


class Bundle(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The body of an envelope: 1 to `limits.INSTRUCTIONS_PER_BUNDLE_MAX` instructions, not
    atomic: each has its own receipt and runs in its own phase."""

    instructions: tuple[Instruction, ...]
