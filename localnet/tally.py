"""What the demo traders count and say: one line of JSON a second (`localnet.demo` reads it)."""

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from engine.instructions import Amend, MarketOrder, PlaceOrder
from engine.receipts import Status
from localnet.courier import Ticket

SAMPLES_MAX: Final = 10_000
"""Latency samples of one line of each kind; more are dropped."""

_ORDERS = (PlaceOrder, MarketOrder, Amend)


class TapeProgress(Struct, frozen=True):
    """How far a tape has been played. It begins when the localnet is ready."""

    trades: int
    """In the whole tape."""
    played: int = 0
    """Trades whose orders have their certified result or were refused."""
    refused: int = 0
    """Of these, refused by the engine or together with their envelope."""
    filled: int = 0
    """Of these, traded, in whole or in part."""
    done: bool = False
    """It was played to its end, and its last order has its result."""


class TradersStatistics(Struct, frozen=True):
    """One line of stdout: totals since the start, and the latencies since the last line."""

    orders: int = 0
    """Order instructions with a result."""
    fills: int = 0
    """Orders that traded on arrival."""
    rejected: int = 0
    """Orders that were refused, by the engine or together with their envelope."""
    commit_latency_ms: tuple[float, ...] = ()
    """From signing a bundle to seeing it committed."""
    receipt_latency_ms: tuple[float, ...] = ()
    """From signing a bundle to its certified result."""
    quoted: bool = False
    """All markets have had quotes on both sides."""
    tape: TapeProgress | None = None
    """None without a tape."""


class Tally:
    """Counts the outcomes of envelopes."""

    def __init__(self) -> None:
        self.orders = 0
        self.fills = 0
        self.rejected = 0
        self.quoted = False
        self.tape: TapeProgress | None = None
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

    def count_tape(self, ticket: Ticket) -> None:
        """Count an envelope of the tape's orders, beside `count`."""
        assert self.tape is not None
        refused = sum(receipt.status is Status.REFUSED for receipt in ticket.receipts)
        self.tape = replace(
            self.tape,
            played=self.tape.played + len(ticket.instructions),
            refused=self.tape.refused
            + (refused if ticket.refusal is None else len(ticket.instructions)),
            filled=self.tape.filled + sum(each.filled_lots > 0 for each in ticket.receipts),
        )

    def end_tape(self) -> None:
        """Its last order has a result."""
        assert self.tape is not None
        self.tape = replace(self.tape, done=True)

    def take(self) -> TradersStatistics:
        """The totals, and the latencies since the last call."""
        commits, self._commit_latency_ms = self._commit_latency_ms, []
        receipts, self._receipt_latency_ms = self._receipt_latency_ms, []
        return TradersStatistics(
            orders=self.orders,
            fills=self.fills,
            rejected=self.rejected,
            commit_latency_ms=tuple(commits),
            receipt_latency_ms=tuple(receipts),
            quoted=self.quoted,
            tape=self.tape,
        )


def _sample(samples_ms: list[float], sample_ms: float | None) -> None:
    if sample_ms is not None and len(samples_ms) < SAMPLES_MAX:
        samples_ms.append(sample_ms)
