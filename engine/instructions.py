"""What a bundle may contain: the instructions of the exchange, as they travel.

Numbers are plain 64-bit integers here, on purpose: a size of zero or a price out of range earns a
receipt with its own code for that one instruction, while bytes that are no bundle at all are
refused as a whole. Tags are small integers, append-only: a number is never reused.
"""

from enum import IntEnum

from msgspec import Struct


class Side(IntEnum):
    """The sign of the position change: a buy adds lots, a sell takes them away."""

    BUY = 1
    SELL = -1


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
    """Cancel one open order of the sender, named by either id; the other is 0."""

    order_id: int = 0
    client_id: int = 0


class CancelAll(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, tag=4):
    """Cancel all open orders of the sender, in one market or in all."""

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

    Valid only from a reporter's own key. `sequence` must exceed that of the same reporter's last
    accepted report for the market.
    """

    market: int
    price_ticks: int
    sequence: int
    source_time_ms: int


Instruction = PlaceOrder | MarketOrder | Cancel | CancelAll | Amend | OracleReport


class Bundle(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The body of an envelope: 1 to `limits.INSTRUCTIONS_PER_BUNDLE_MAX` instructions, not
    atomic: each has its own receipt and runs in its own phase."""

    instructions: tuple[Instruction, ...]
