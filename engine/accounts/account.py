"""An account: a quote balance and, for each market it touches, an exposure.

Nothing derived is state. A trade of `q` lots at price `p` does `quote -= p*q*unit; position += q`
(the representation of dYdX v4), so there is no average entry price and closing a part of a
position rounds nothing. Equity and initial margin are *caches* for one margin epoch;
`engine.margin` keeps them and they never enter the state root.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.commitment.records import OrderRecords

if TYPE_CHECKING:
    from engine.accounts.fees import Volume
    from engine.accounts.sessions import Session
    from engine.accounts.withdrawals import Withdrawal
    from engine.liquidation.distress import Distress
    from engine.portfolio.margin import PortfolioCache
    from engine.trading.book import Order
    from engine.trading.market import Market
    from engine.waiting.orders import Waiting


class Exposure:
    """An account's position and open orders in one market."""

    __slots__ = (
        "account",
        "checked_lots",
        "cost",
        "funding_index",
        "im",
        "lots",
        "market",
        "open_buy",
        "open_sell",
        "order_count",
        "reduce_only_lots",
        "reduce_orders",
    )

    def __init__(self, account: Account, market: Market) -> None:
        self.account = account
        self.market = market
        self.funding_index = 0 if market.funding is None else market.funding.index
        """The market's funding index when the position was last settled."""
        self.lots = 0
        """The position: positive long, negative short."""
        self.open_buy = 0
        """Lots of all resting buys, reduce-only ones included."""
        self.open_sell = 0
        self.order_count = 0
        self.reduce_orders: dict[int, Order] = {}
        """Resting reduce-only orders by id; all on the closing side."""
        self.reduce_only_lots = 0
        """Their sum, never above the size of the position once a step is over."""
        self.im = 0
        """Cache: this market's part of `Account.im`."""
        self.checked_lots = 0
        """The position at the last conservation check."""
        self.cost = 0
        """Micro-quote paid (less received) for the position since it was last flat: it decides who
        is deleveraged first. Kept always, committed where there is liquidation."""

    def trade(self, lots: int, paid: int) -> None:
        """Change the position by signed `lots` for signed `paid`.

        A trade that turns the position begins a new cost, with its share of `paid` rounded down.
        """
        before = self.lots
        after = before + lots
        self.lots = after
        if (before > 0 and after > 0) or (before < 0 and after < 0):
            self.cost += paid
        else:
            self.cost = paid * abs(after) // abs(lots)


class Account:
    """One margin account."""

    __slots__ = (
        "account_id",
        "checked_quote",
        "clients",
        "deadline_ms",
        "dirty",
        "distress",
        "equity",
        "exposures",
        "im",
        "margin_epoch",
        "order_records",
        "orders",
        "owner",
        "portfolio",
        "position_record",
        "quote",
        "sessions",
        "sub",
        "subs",
        "tier",
        "tier_epoch",
        "volume",
        "waiting",
        "withdrawals",
    )

    def __init__(self, account_id: bytes) -> None:
        self.account_id = account_id
        self.owner = self
        """Whose sub-account it is; itself for all others."""
        self.sub = 0
        """Its number among the owner's; 0 for a main account."""
        self.subs: dict[int, Account] = {}
        """Its sub-accounts by number."""
        self.sessions: dict[bytes, Session] = {}
        """What its session keys may do, by key."""
        self.volume: Volume | None = None
        """What it and its sub-accounts have traded lately; None: nothing, or nobody counts."""
        self.tier = 0
        """Cache: its step of the fee schedule; a sub-account has its owner's."""
        self.tier_epoch = 0
        """The epoch for which the tier holds."""
        self.quote = 0
        """Micro-quote; negative for a leveraged long."""
        self.exposures: dict[int, Exposure] = {}
        """By market id."""
        self.orders: dict[int, Order] = {}
        """Open orders by id, which is also the order of insertion."""
        self.order_records = OrderRecords()
        """Their committed form, kept up to date with them (`engine.trading.resting`)."""
        self.waiting: dict[int, Waiting] = {}
        """Conditional and TWAP orders by id, which is also the order of insertion."""
        self.clients: dict[int, Order | Waiting] = {}
        """Open and waiting orders that have a client id."""
        self.withdrawals: dict[int, Withdrawal] = {}
        """Those that L1 has not settled, by number."""
        self.deadline_ms = 0
        """When its dead man's switch cancels everything; 0 while it is off."""
        self.portfolio: PortfolioCache | None = None
        """There if the account has chosen portfolio margin (`engine.portfolio.margin`)."""
        self.distress: Distress | None = None
        """Its liquidation, while that is under way."""
        self.equity = 0
        """Cache: quote plus positions at mark."""
        self.im = 0
        """Cache: initial margin of positions and open orders."""
        self.margin_epoch = -1
        """The margin epoch for which the caches hold."""
        self.dirty = False
        """Whether the account is on the state's list of changed accounts."""
        self.checked_quote = 0
        """The quote balance at the last conservation check."""
        self.position_record: bytes | None = None
        """Cached committed form of the positions; None when it must be computed anew."""

    def exposure(self, market: Market) -> Exposure:
        """The exposure in a market, created at first use."""
        exposure = self.exposures.get(market.market_id)
        if exposure is None:
            exposure = self.exposures[market.market_id] = Exposure(self, market)
        return exposure

    def forget_exposure(self, exposure: Exposure) -> None:
        """Drop an exposure that stands for nothing, so that no order that came to nothing leaves
        anything to be held and read in every block."""
        if not (exposure.lots or exposure.order_count or exposure.checked_lots):
            del self.exposures[exposure.market.market_id]


def pack_cost(cost: int) -> bytes:
    """`Exposure.cost` as 16 bytes, in the state root and in snapshots: profits of many years in one
    market and losses in another may take it out of 64 bits."""
    return cost.to_bytes(16, "big", signed=True)


def unpack_cost(packed: bytes) -> int:
    """The cost in its 16 bytes."""
    return int.from_bytes(packed, "big", signed=True)
