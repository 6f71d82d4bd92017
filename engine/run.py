"""What a block collects while it runs."""

from engine.limits import EVENT_AMOUNT_MAX_MICROQUOTE
from engine.receipts import Event, Fill, FundingPaidEvent, OrderEvent, ReasonCode
from engine.state import EngineState
from engine.trading.book import Order
from engine.waiting.orders import Waiting


class BlockRun:
    """The state that a block works on and the output that it gathers."""

    __slots__ = (
        "events",
        "fills",
        "fok_reads",
        "has_overdue",
        "matches",
        "settled_events",
        "settled_fills",
        "state",
        "time_ms",
    )

    def __init__(self, state: EngineState, time_ms: int) -> None:
        self.state = state
        self.time_ms = time_ms
        self.fills: list[Fill] = []
        self.events: list[Event] = []
        self.fok_reads: dict[bytes, int] = {}
        """What each sender's fill-or-kill checks have read, in order of execution."""
        self.has_overdue = False
        """May there be orders in the books whose time is over (`EXPIRIES_PER_BLOCK_MAX`)?"""
        self.matches: dict[bytes, int] = {}
        """What each sender's orders have met (`MATCHES_PER_SENDER_MAX`), likewise."""
        self.settled_fills = 0
        """So many fills and events have been looked at for pairs (`engine.waiting.waitlist`)."""
        self.settled_events = 0

    def report(self, order: Order, code: ReasonCode, removed_lots: int, resting_lots: int) -> None:
        """Tell an owner that a resting order shrank or ended."""
        exposure = order.exposure
        self.events.append(
            OrderEvent(
                exposure.market.market_id,
                order.order_id,
                order.client_id,
                exposure.account.account_id,
                code,
                removed_lots,
                resting_lots,
            )
        )

    def is_overdue(self, order: Order) -> bool:
        """Is the time of a resting order over? Then it trades no more."""
        return self.has_overdue and 0 < order.good_til_ms <= self.time_ms

    def report_waiting(self, order: Waiting, code: ReasonCode) -> None:
        """Tell an owner that an order waits no more, with what of it never came to trade."""
        self.events.append(
            OrderEvent(
                order.market.market_id,
                order.order_id,
                order.client_id,
                order.account.account_id,
                code,
                order.lots,
                0,
            )
        )

    def report_funding(self) -> None:
        """Tell which accounts have settled funding in this block."""
        paid = self.state.funding_paid
        for account_id, change in paid:
            self.events.append(FundingPaidEvent(account_id, bound_amount(change)))
        paid.clear()


def bound_amount(amount: int) -> int:
    """An amount as an event may tell it: nothing that prices do may keep an event from being
    encoded, for that would halt every node."""
    return max(-EVENT_AMOUNT_MAX_MICROQUOTE, min(amount, EVENT_AMOUNT_MAX_MICROQUOTE))
