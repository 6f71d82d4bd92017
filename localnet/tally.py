"""What the demo traders count and say: one line of JSON a second (`localnet.demo` reads it)."""

from typing import Final

from msgspec import Struct

from engine.instructions import Amend, MarketOrder, PlaceOrder
from engine.receipts import Status
from localnet.courier import Ticket

SAMPLES_MAX: Final = 10_000
"""Latency samples of one line of each kind; more are dropped."""

_ORDERS = (PlaceOrder, MarketOrder, Amend)


class TradersStatistics(Struct, frozen=True):
    """One line of stdout: totals since the start, and the latencies since the last line."""

    orders: int
    """Order instructions with a result."""
    fills: int
    """Orders that traded on arrival."""
    rejected: int
    """Orders that were refused, by the engine or together with their envelope."""
    commit_latency_ms: list[float]
    """From signing a bundle to seeing it committed."""
    receipt_latency_ms: list[float]
    """From signing a bundle to its certified result."""
    quoted: bool
    """All markets have had quotes on both sides."""
    tape_done: bool
    """The tape has been replayed to its end and all its orders have results."""
    tape_trades: int
    """Trades of the tape whose orders have results."""


class Tally:
    """Counts the outcomes of envelopes."""

    def __init__(self) -> None:
        self.orders = 0
        self.fills = 0
        self.rejected = 0
        self.tape_trades = 0
        self.quoted = False
        self.tape_done = False
        self._commit_latency_ms: list[float] = []
        self._receipt_latency_ms: list[float] = []

    def count(self, ticket: Ticket) -> None:
        """Count an envelope that is done."""
        assert ticket.done.is_set()
        if ticket.refusal is not None:
            self.rejected += sum(isinstance(each, _ORDERS) for each in ticket.instructions)
        for receipt in ticket.receipts:
            if isinstance(ticket.instructions[receipt.index], _ORDERS):
                self.orders += 1
                self.rejected += receipt.status is Status.REFUSED
                self.fills += receipt.filled_lots > 0
        _sample(self._commit_latency_ms, ticket.ordered_after_ms)
        _sample(self._receipt_latency_ms, ticket.executed_after_ms)

    def take(self) -> TradersStatistics:
        """The totals, and the latencies since the last call."""
        commits, self._commit_latency_ms = self._commit_latency_ms, []
        receipts, self._receipt_latency_ms = self._receipt_latency_ms, []
        return TradersStatistics(
            orders=self.orders,
            fills=self.fills,
            rejected=self.rejected,
            commit_latency_ms=commits,
            receipt_latency_ms=receipts,
            quoted=self.quoted,
            tape_done=self.tape_done,
            tape_trades=self.tape_trades,
        )


def _sample(samples_ms: list[float], sample_ms: float | None) -> None:
    if sample_ms is not None and len(samples_ms) < SAMPLES_MAX:
        samples_ms.append(sample_ms)
