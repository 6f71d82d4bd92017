"""What a day of options came to, out of one node's disk: the chain is repeated, what it says of the
options is noted block by block, and in the end every settlement is held against what an independent
calculation makes of the same index and the same trades (`localnet.faults.settlement_audit`).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from msgspec import Struct

from engine.block import BlockOutput
from engine.genesis import MarketParams
from engine.instructions import Side
from engine.receipts import (
    Event,
    ExpiryEvent,
    Fill,
    ReasonCode,
    Receipt,
    SeriesListedEvent,
    SettlementEvent,
)
from engine.state import EngineState
from localnet.crash import find_market
from localnet.faults.conservation import Conservation
from localnet.faults.settlement_audit import (
    IndexPoint,
    Listing,
    Settlement,
    Terms,
    Trade,
    compute_balance,
    compute_settlement,
    find_difference,
)
from localnet.options_day import PORTFOLIO_SPREADER, OptionsDay, SpreadAttempt
from node.network import Network
from node.replay import replay


class ExpirySeen(Struct, frozen=True):
    """One expiry that was settled."""

    expiry_ms: int
    samples: int
    price_ticks: str
    """The exact mean, as a fraction."""
    price_microquote: int
    """The same for a unit of the base asset, to the nearest."""
    series: int
    positions: int
    paid_microquote: int
    """To all who were paid."""


class SpreadSeen(Struct, frozen=True):
    """What became of one account's attempt at a spread."""

    account: str
    bought: str
    sold: str
    lots: int
    """Bought, and to be sold against it."""
    code: str
    """Of the order that sells; empty if it is in no block."""
    filled_lots: int


class OptionsSeen(Struct, frozen=True, kw_only=True):
    """What the verdict and the report need."""

    heights: int
    conservation_problem: str | None
    """The first, if money or positions did not add up after some block."""
    settlement_problems: tuple[str, ...]
    """Where the engine and the independent calculation differ."""
    series_listed: int
    series_quoted: int
    """Of these, with a bid and an ask at the end of some block."""
    option_trades: int
    premium_microquote: int
    """Of all trades."""
    expiries: tuple[ExpirySeen, ...]
    expiries_settled: int
    positions_settled: int
    accounts_settled: int
    balances_compared: int
    """Accounts that traded options alone, and whose last balance was computed anew."""
    paid_microquote: int
    """To all who were paid; those who paid, paid it and `pool_microquote`."""
    pool_microquote: int
    """What rounding left."""
    payouts: tuple[tuple[str, int], ...]
    """What each account received or paid in all settlements together."""
    spreads: tuple[SpreadSeen, ...]
    spreads_accepted: int
    """Under portfolio margin."""
    spreads_refused: int
    """Under cross margin, for want of margin."""


class SeriesSample(NamedTuple):
    """A series after one block; prices in its ticks."""

    mark_ticks: int
    vol_ppm: int
    bid_ticks: int | None
    ask_ticks: int | None


class OptionsSample(NamedTuple):
    """The market after one block."""

    time_ms: int
    index_ticks: int
    series: dict[int, SeriesSample]
    """Those that take orders."""


class OptionsRecord:
    """Sees one block after the other."""

    def __init__(
        self,
        market: MarketParams,
        accounts: Mapping[bytes, tuple[str, int]],
        attempts: Sequence[SpreadAttempt] = (),
    ) -> None:
        """`accounts` are names and deposits of those who trade nothing but options."""
        options = market.options
        assert options is not None, "somebody has checked"
        self.market = market
        self.terms = Terms(
            options.window_ms,
            options.sample_interval_ms,
            market.tick_size_microquote // market.lots_per_base,
            options.tick_size_microquote // market.lots_per_base,
        )
        self.samples: list[OptionsSample] = []
        """Since the first index."""
        self.listings: dict[int, Listing] = {}
        """Of every series that ever was."""
        self.symbols: dict[int, str] = {}
        self.trades: list[Trade] = []
        self.trade_times_ms: list[int] = []
        """Of these, by block."""
        self._accounts = dict(accounts)
        self._attempts = tuple(attempts)
        self._envelopes = {each.envelope_id for each in attempts}
        self._answers: dict[bytes, Receipt] = {}
        self._conservation = Conservation()
        self._points: list[IndexPoint] = []
        self._quoted: set[int] = set()
        self._settled: dict[int, tuple[int, ExpiryEvent]] = {}
        self._booked: dict[tuple[bytes, int], int] = {}
        self._last: EngineState | None = None

    def note_block(self, state: EngineState, output: BlockOutput) -> None:
        """Take in a block."""
        self._last = state
        self._conservation.note_block(state)
        for event in output.events:
            self._note_event(state.time_ms, event)
        for fill in output.fills:
            if fill.market in self.listings:
                self.trades.append(make_trade(fill))
                self.trade_times_ms.append(state.time_ms)
        for receipt in output.receipts:
            if receipt.envelope_id in self._envelopes:
                self._answers[receipt.envelope_id] = receipt
        underlying = state.markets[self.market.market]
        if underlying.index_price == 0:
            return
        self._points.append(IndexPoint(state.time_ms, underlying.index_price, not underlying.stale))
        series = {}
        for market_id in self.listings:
            market = state.markets.get(market_id)
            if market is None or market.series is None or market.index_price == 0:
                continue
            bid, ask = market.book.bids.best_price(), market.book.asks.best_price()
            series[market_id] = SeriesSample(market.mark_price, market.series.vol_ppm, bid, ask)
            if bid is not None and ask is not None:
                self._quoted.add(market_id)
        self.samples.append(OptionsSample(state.time_ms, underlying.index_price, series))

    def _note_event(self, time_ms: int, event: Event) -> None:
        if isinstance(event, SeriesListedEvent):
            if event.underlying == self.market.market:
                self.listings[event.market] = Listing(
                    event.expiry_ms, event.strike_ticks, event.is_call
                )
                self.symbols[event.market] = event.symbol
        elif isinstance(event, ExpiryEvent):
            if event.underlying == self.market.market:
                self._settled[event.expiry_ms] = time_ms, event
        elif isinstance(event, SettlementEvent):
            self._booked[event.account, event.market] = event.amount_microquote

    # ---- what it comes to --------------------------------------------------------------------

    def compute_settlements(self) -> dict[int, Settlement]:
        """What every expiry that could be settled must come to, by time."""
        found = {}
        for expiry_ms in sorted({each.expiry_ms for each in self.listings.values()}):
            settlement = compute_settlement(
                self.terms, expiry_ms, self._points, self.listings, self.trades
            )
            if settlement is not None:
                found[expiry_ms] = settlement
        return found

    def compute_totals(self, due: Mapping[int, Settlement]) -> list[tuple[str, int]]:
        """What each account must receive or pay in all settlements together, by name."""
        totals: dict[bytes, int] = {}
        for settlement in due.values():
            for (account, _), amount in settlement.payouts.items():
                totals[account] = totals.get(account, 0) + amount
        return sorted(
            (self._accounts.get(account, (account.hex()[:16], 0))[0], amount)
            for account, amount in totals.items()
        )

    def find_problems(self, due: Mapping[int, Settlement]) -> list[str]:
        """Where the engine has settled otherwise: when, at what price, and to the micro-quote whom
        with how much; and whose balance in the end is not what follows from it."""
        problems = []
        for expiry_ms in sorted({*due, *self._settled}):
            if expiry_ms not in due or expiry_ms not in self._settled:
                who = "only the engine" if expiry_ms in self._settled else "the engine has not"
                problems.append(f"expiry {expiry_ms}: {who} settled it")
                continue
            wanted, (time_ms, event) = due[expiry_ms], self._settled[expiry_ms]
            if time_ms != wanted.time_ms:
                problems.append(
                    f"expiry {expiry_ms}: settled at {time_ms}, due at {wanted.time_ms}"
                )
            price = Fraction(event.price_sum_ticks, event.price_samples)
            if price != wanted.price_ticks or event.price_samples != len(wanted.samples):
                problems.append(
                    f"expiry {expiry_ms}: settled at {price} of {event.price_samples} samples, "
                    f"due {wanted.price_ticks} of {len(wanted.samples)}"
                )
        amounts = {key: paid for each in due.values() for key, paid in each.payouts.items()}
        problems += find_difference(amounts, self._booked)
        if self._last is not None:
            if self._last.settlement_pool != -sum(amounts.values()):
                problems.append(
                    f"the settlement pool holds {self._last.settlement_pool}, "
                    f"and payouts leave {-sum(amounts.values())}"
                )
            problems += self._find_wrong_balances(self._last, due)
        return problems

    def _find_wrong_balances(
        self, state: EngineState, due: Mapping[int, Settlement]
    ) -> Iterable[str]:
        for account, (name, deposit) in sorted(self._accounts.items()):
            wanted = compute_balance(self.terms, account, deposit, self.trades, due.values())
            found = state.accounts[account].quote
            if wanted != found:
                yield f"{name} has {found} micro-quote in the end, due {wanted}"

    @property
    def seen(self) -> OptionsSeen:
        """What it comes to."""
        due = self.compute_settlements()
        totals = self.compute_totals(due)
        spreads = tuple(self._describe(each) for each in self._attempts)
        amounts = [each for settlement in due.values() for each in settlement.payouts.values()]
        return OptionsSeen(
            heights=self._conservation.heights,
            conservation_problem=self._conservation.problem,
            settlement_problems=tuple(self.find_problems(due)),
            series_listed=len(self.listings),
            series_quoted=len(self._quoted),
            option_trades=len(self.trades),
            premium_microquote=sum(
                each.price_ticks * each.lots * self.terms.premium_unit_microquote
                for each in self.trades
            ),
            expiries=tuple(self._describe_expiry(*each) for each in due.items()),
            expiries_settled=len(due),
            positions_settled=len(amounts),
            accounts_settled=len(totals),
            balances_compared=len(self._accounts),
            paid_microquote=sum(max(each, 0) for each in amounts),
            pool_microquote=-sum(amounts),
            payouts=tuple(totals),
            spreads=spreads,
            spreads_accepted=sum(
                each.account == PORTFOLIO_SPREADER
                and each.code == ReasonCode.OK
                and each.filled_lots > 0
                for each in spreads
            ),
            spreads_refused=sum(
                each.account != PORTFOLIO_SPREADER and each.code == ReasonCode.MARGIN_INSUFFICIENT
                for each in spreads
            ),
        )

    def _describe_expiry(self, expiry_ms: int, settlement: Settlement) -> ExpirySeen:
        series = [each for each in self.listings.values() if each.expiry_ms == expiry_ms]
        return ExpirySeen(
            expiry_ms,
            len(settlement.samples),
            str(settlement.price_ticks),
            round(settlement.price_ticks * self.market.tick_size_microquote),
            len(series),
            len(settlement.payouts),
            sum(max(each, 0) for each in settlement.payouts.values()),
        )

    def _describe(self, attempt: SpreadAttempt) -> SpreadSeen:
        receipt = self._answers.get(attempt.envelope_id)
        return SpreadSeen(
            attempt.account,
            attempt.bought,
            attempt.sold,
            attempt.lots,
            "" if receipt is None else receipt.code.value,
            0 if receipt is None else receipt.filled_lots,
        )


def make_trade(fill: Fill) -> Trade:
    """A fill, told by its buyer and its seller."""
    taker, maker = (
        (fill.taker, fill.taker_fee_microquote),
        (fill.maker, fill.maker_fee_microquote),
    )
    buyer, seller = (taker, maker) if fill.taker_side is Side.BUY else (maker, taker)
    return Trade(
        fill.market, fill.price_ticks, fill.size_lots, buyer[0], seller[0], buyer[1], seller[1]
    )


def record_options(
    network: Network,
    liars: Collection[str],
    day: OptionsDay,
    attempts: Sequence[SpreadAttempt],
) -> OptionsRecord:
    """Repeat the chain of an honest node that has been stopped. Raises `OperatorError`."""
    honest = next(node.name for node in network.nodes if node.name not in liars)
    params = find_market(network.genesis().engine.markets, day.market)
    accounts = {
        network.account(plan.name).account: (plan.name, plan.deposit_microquote)
        for plan in day.accounts()
    }
    record = OptionsRecord(params, accounts, attempts)
    replay(network.home(honest), on_block=record.note_block)
    return record
