"""What a crash did to a market, out of one node's disk: the chain is repeated, and after each block
the books of the exchange are added up and its events counted.
"""

from collections import deque
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from msgspec import Struct

from engine.block import BlockOutput
from engine.margin import compute_equity
from engine.receipts import (
    AuctionEvent,
    DeleverageEvent,
    Event,
    LiquidationEvent,
    LiquidationStep,
)
from engine.state import EngineState
from localnet.crash import Crash, find_market
from localnet.faults.conservation import Conservation
from node.network import Network
from node.replay import replay

FALL_WINDOW_MS: Final = 60_000
"""Within so much block time a fall is measured."""

LIQUIDATION: Final = "liquidation"
CLOSING: Final = "closing in book"
SLICE: Final = "auction slice"
INSURANCE: Final = "fund payment"
DELEVERAGING: Final = "deleveraging"
KINDS: Final = (LIQUIDATION, CLOSING, SLICE, INSURANCE, DELEVERAGING)
"""Of what is counted."""


class MarketSeen(Struct, frozen=True, kw_only=True):
    """What the verdict and the report need."""

    heights: int
    conservation_problem: str | None
    """The first, if money or positions did not add up after some block."""
    liquidations: int
    accounts_liquidated: int
    """An account may be liquidated several times."""
    closings: int
    auction_slices: int
    insurance_payments: int
    """With which auctions and debts were paid."""
    insurance_start_microquote: int
    insurance_fees_microquote: int
    """What the fund received for closing positions in the book."""
    insurance_paid_microquote: int
    insurance_end_microquote: int
    deleveragings: int
    index_fall: float
    """Percent, the most within a minute of block time."""


class MarketSample(NamedTuple):
    """The market after one block."""

    time_ms: int
    index_microquote: int
    """For one whole unit of the base asset."""
    equity_microquote: int
    """Of all leveraged accounts."""
    insurance_microquote: int
    lack_microquote: int
    """What all insolvent accounts lacked together, at most in the block. More than the fund has is
    a reason to deleverage."""
    open_interest_microquote: int
    """At mark."""


class MarketRecord:
    """Sees one block after the other."""

    def __init__(
        self, market: int, tick_size_microquote: int, leveraged: Collection[bytes]
    ) -> None:
        self._market = market
        self._tick_size = tick_size_microquote
        self._leveraged = sorted(leveraged)
        self.samples: list[MarketSample] = []
        """Since the first index."""
        self.events: list[tuple[int, str]] = []
        """Block time and kind."""
        self._conservation = Conservation()
        self._paid = 0
        self._fees = 0
        self._debts: dict[bytes, int] = {}
        """Of accounts under liquidation, after the last block."""
        self._insurance = 0
        """After the last block."""
        self._liquidated: set[bytes] = set()
        self._peaks: deque[tuple[int, int]] = deque()
        """Time and index of the last minute; falling, so that the first is the highest."""
        self._fall = 0.0

    def note_block(self, state: EngineState, output: BlockOutput) -> None:
        """Take in a block."""
        self._conservation.note_block(state)
        for event in output.events:
            self._note_event(state.time_ms, event)
        self._insurance = state.insurance
        lack = self._note_lack(state, output.events)
        market = state.markets[self._market]
        if market.index_price == 0:
            return
        accounts = [state.accounts[each] for each in self._leveraged]
        self.samples.append(
            MarketSample(
                state.time_ms,
                market.index_price * self._tick_size,
                sum(compute_equity(state, each) for each in accounts),
                state.insurance,
                lack,
                market.open_interest * market.mark_value,
            )
        )
        self._note_index(state.time_ms, market.index_price)

    def _note_event(self, time_ms: int, event: Event) -> None:
        insured = 0
        if isinstance(event, AuctionEvent):
            self.events.append((time_ms, SLICE))
            insured = event.insurance_microquote
        elif isinstance(event, DeleverageEvent):
            self.events.append((time_ms, DELEVERAGING))
        elif isinstance(event, LiquidationEvent):
            if event.step is LiquidationStep.BEGUN:
                self.events.append((time_ms, LIQUIDATION))
                self._liquidated.add(event.account)
            elif event.step is LiquidationStep.CLOSED:
                self.events.append((time_ms, CLOSING))
                self._fees += event.insurance_microquote
            elif event.step is LiquidationStep.COVERED:
                insured = -event.insurance_microquote
        if insured > 0:
            self.events.append((time_ms, INSURANCE))
            self._paid += insured

    def _note_lack(self, state: EngineState, events: Iterable[Event]) -> int:
        """What the engine had before it when it chose who is deleveraged: an account that was found
        and rid of its debt in one block owes nothing after it."""
        found = dict(self._debts)
        for event in events:
            if isinstance(event, LiquidationEvent) and event.equity_microquote < 0:
                before = found.get(event.account, 0)
                found[event.account] = max(before, -event.equity_microquote)
        records = {} if state.liquidations is None else state.liquidations.records
        self._debts = {account: each.debt for account, each in records.items()}
        return max(sum(found.values()), sum(self._debts.values()))

    def _note_index(self, time_ms: int, price: int) -> None:
        peaks = self._peaks
        while peaks and peaks[-1][1] <= price:
            peaks.pop()
        peaks.append((time_ms, price))
        while peaks[0][0] < time_ms - FALL_WINDOW_MS:
            peaks.popleft()
        highest = peaks[0][1]
        self._fall = max(self._fall, 100 * (highest - price) / highest)

    @property
    def seen(self) -> MarketSeen:
        """What it comes to."""
        counts = {kind: sum(each == kind for _, each in self.events) for kind in KINDS}
        return MarketSeen(
            heights=self._conservation.heights,
            conservation_problem=self._conservation.problem,
            liquidations=counts[LIQUIDATION],
            accounts_liquidated=len(self._liquidated),
            closings=counts[CLOSING],
            auction_slices=counts[SLICE],
            insurance_payments=counts[INSURANCE],
            insurance_start_microquote=self._insurance - self._fees + self._paid,
            insurance_fees_microquote=self._fees,
            insurance_paid_microquote=self._paid,
            insurance_end_microquote=self._insurance,
            deleveragings=counts[DELEVERAGING],
            index_fall=round(self._fall, 2),
        )


def record_crash(network: Network, liars: Collection[str], crash: Crash) -> MarketRecord:
    """Repeat the chain of an honest node that has been stopped. Raises `OperatorError`."""
    honest = next(node.name for node in network.nodes if node.name not in liars)
    params = find_market(network.genesis().engine.markets, crash.market)
    leveraged = [network.account(name).account for name in crash.leveraged_names()]
    record = MarketRecord(params.market, params.tick_size_microquote, leveraged)
    replay(network.home(honest), on_block=record.note_block)
    return record
