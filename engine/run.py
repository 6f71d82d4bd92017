"""What a block collects while it runs."""

from engine.book import Order
from engine.receipts import Event, Fill, OrderEvent, ReasonCode
from engine.state import EngineState


class BlockRun:
    """The state that a block works on and the output that it gathers."""

    __slots__ = ("events", "fills", "fok_reads", "state", "time_ms")

    def __init__(self, state: EngineState, time_ms: int) -> None:
        self.state = state
        self.time_ms = time_ms
        self.fills: list[Fill] = []
        self.events: list[Event] = []
        self.fok_reads: dict[bytes, int] = {}
        """What each sender's fill-or-kill checks have read, in order of execution."""

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
