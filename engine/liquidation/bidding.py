"""Dutch auctions of what an account under liquidation has: anybody may bid for a slice of it all.

A slice is the same part of every position, so an auction treats a portfolio like a single position
and whoever takes a slice takes its hedges, too. Lots change hands at mark, which moves no equity;
what a bidder earns is the *premium* beside, stated for the whole portfolio:

    auction      offer = equity x discount(t), from `discount_start` to `discount_fast` within
                 `auction_fast_ms`, then to all of the equity within `auction_slow_ms`
    insolvent    offer = insured maximum x t / insolvent_ms, at most all of it, the maximum being
                 `insured_premium_max_ppm` of the maintenance margin

The maximum bounds what owners can gain who bid for their own accounts under another key, shortly
before nobody would get a premium any more: it is others' money that they ask for.

Bids name the least premium that they ask for, in parts of the maintenance margin, and the largest
part that they take. All bids of a block clear at one premium: those that ask for no more than the
offer go in rising order of what they ask, until no more is for sale, and what the last of them asks
all get. Equal bids go in the order of their senders' rank (`engine.schedule`). So waiting longer
than others is the only way to a higher premium, as in any Dutch auction, and whoever is fast has no
advantage within a block.

For sale is what brings the account back above its maintenance margin by the buffer, no more:

    part = ((1 + buffer) M - E) / ((1 + buffer) M - premium)        rounded up

(The form of Derive's auctions.) An insolvent account sells everything, and the insurance fund pays:
the premium, and the slice's share of what the account lacks. It sells no more than the fund can pay
for. Lots are rounded up, of all slices of a block together, so that the last lot of a position
goes, too, and who gets none gets no premium. No slice weighs less than one lot of any position, so
that nobody picks the coarsest of them by rounding. Premiums are rounded down, and so is the share
of the debt, so that no number of small bids costs the fund more than one large one.

Bids run first in the liquidation phase, at what the auctions offer by then; each account is in the
stage that its equity asks for by then. A bidder has to cover
its initial margin with the slice; a bid that fails leaves no trace but its receipt, and counts for
nothing where it is decided who gets what and for how much. A block looks
at a bounded number of bids, and at none that asks for more than is offered or whose bidder has not
even the maintenance margin of the slice: such bids cost their senders nothing, and would take the
places of those who can pay. In each turn whoever has more equity is looked at first, for bids that
fail for want of initial margin cost nothing either, and dust is for sale, too.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Final

from engine.accounts.sub_accounts import find_account
from engine.instructions import Bid
from engine.limits import (
    BALANCE_ABS_MAX_MICROQUOTE,
    BID_MOVES_PER_BLOCK_MAX,
    BIDS_PER_BLOCK_MAX,
    PPM,
)
from engine.liquidation.assessment import assess, compute_weight, list_fresh
from engine.liquidation.distress import count_looks
from engine.liquidation.handover import Needs, check_taking, hand_over
from engine.liquidation.stages import follow_equity
from engine.margin import compute_equity, compute_maintenance_margin, refresh_margin
from engine.receipts import (
    AuctionEvent,
    LiquidationStage,
    ReasonCode,
    Receipt,
    SliceEvent,
)
from engine.run import bound_amount

if TYPE_CHECKING:
    from engine.accounts.account import Account
    from engine.genesis import LiquidationParams
    from engine.liquidation.distress import Distress
    from engine.run import BlockRun
    from engine.schedule import Task
    from engine.state import EngineState

_OK: Final = ReasonCode.OK

_PLACE: Final = itemgetter(0, 1, 2)
_RANK: Final = itemgetter(0, 1)


class Sale:
    """What one auction sells in this block: the portfolio as it is before the first bid, with fresh
    caches."""

    __slots__ = (
        "account",
        "equity",
        "lots",
        "margin",
        "offer",
        "params",
        "premium",
        "record",
        "sold_ppm",
    )

    def __init__(self, state: EngineState, params: LiquidationParams, record: Distress) -> None:
        account = record.account
        self.account = account
        self.record = record
        self.params = params
        judged = assess(state, account)
        self.equity = judged.equity
        self.margin = judged.margin
        fresh = {exposure.market.market_id: exposure.lots for exposure in list_fresh(account)}
        self.lots = dict(sorted(fresh.items()))
        self.offer = compute_offer(
            params, record.stage, record.elapsed_ms, self.equity, self.margin
        )
        self.premium = 0
        """At which all its bids clear; for the whole portfolio."""
        self.sold_ppm = 0

    def compute_least_ppm(self) -> int:
        """The smallest part that a bid may ask for: it weighs as much as a lot of any position,
        rounded up. Of smaller ones, lots rounded up would be most."""
        exposures = self.account.exposures
        total = sum(compute_weight(exposures[market_id]) for market_id in self.lots)
        return max(
            -(-compute_weight(exposures[market_id]) * PPM // (total * abs(lots)))
            for market_id, lots in self.lots.items()
        )

    def is_covered(self, equity: int, bid: Bid) -> bool:
        """Has a bidder the maintenance margin of the slice that it asks for, hedged or not?"""
        part_ppm = min(bid.portion_ppm, self.compute_part_ppm(self.ask(bid)))
        return equity * PPM >= self.margin * part_ppm

    def ask(self, bid: Bid) -> int:
        """What a bid asks for the whole portfolio, rounded up."""
        return -(-self.margin * bid.premium_ppm // PPM)

    def compute_part_ppm(self, premium: int) -> int:
        """How much is for sale at a premium."""
        return compute_part_ppm(self.params, self.record.stage, self.equity, self.margin, premium)

    def cut(self, start_ppm: int, part_ppm: int) -> dict[int, int]:
        """The lots of the part that follows on those before it: all parts of the block together are
        rounded up, so that many small ones have no more of any position than a large one."""
        sizes: dict[int, int] = {}
        for market_id, lots in self.lots.items():
            sold = -(-abs(lots) * start_ppm // PPM)
            size = -(-abs(lots) * (start_ppm + part_ppm) // PPM) - sold
            if size:
                sizes[market_id] = size if lots > 0 else -size
        return sizes

    def compute_insured(self, part_ppm: int) -> int:
        """What the insurance fund must pay for a part at the premium of the block, rounded down."""
        if self.equity > 0:
            return 0
        return self.premium * part_ppm // PPM + -self.equity * part_ppm // PPM


def compute_part_ppm(
    params: LiquidationParams, stage: LiquidationStage, equity: int, margin: int, premium: int
) -> int:
    """The part of a portfolio that is for sale at a premium for the whole, rounded up."""
    if stage == LiquidationStage.INSOLVENT:
        return PPM
    target = margin * (PPM + params.buffer_ppm) // PPM
    if target <= premium:
        return PPM
    return min(PPM, -(-(target - equity) * PPM // (target - premium)))


def compute_offer(
    params: LiquidationParams, stage: LiquidationStage, elapsed_ms: int, equity: int, margin: int
) -> int:
    """What an auction offers for the whole portfolio after so long in a stage, rounded down."""
    if stage == LiquidationStage.INSOLVENT:
        most = margin * params.insured_premium_max_ppm // PPM
        if elapsed_ms >= params.insolvent_ms:
            return most
        return most * elapsed_ms // params.insolvent_ms
    return max(0, equity * compute_discount_ppm(params, elapsed_ms) // PPM)


def compute_discount_ppm(params: LiquidationParams, elapsed_ms: int) -> int:
    """The part of the equity that an auction offers after so much time, rounded down."""
    start, fast = params.discount_start_ppm, params.discount_fast_ppm
    if elapsed_ms < params.auction_fast_ms:
        return start + (fast - start) * elapsed_ms // params.auction_fast_ms
    later_ms = min(elapsed_ms - params.auction_fast_ms, params.auction_slow_ms)
    return fast + (PPM - fast) * later_ms // params.auction_slow_ms


def run_bids(run: BlockRun, queues: list[list[Task]], receipts: list[Receipt | None]) -> None:
    """Clear the bids of a block: those of each sender, in rank order."""
    auctions: dict[bytes, list[tuple[int, int, Task]]] = {}
    counter = _Counter(run)
    entries: list[tuple[int, int, int, Task]] = []
    for rank, queue in enumerate(queues):
        for turn, task in enumerate(queue):
            bidder = _find_bidder(run, task)
            if isinstance(bidder, ReasonCode):
                receipts[task.slot] = task.answer(bidder)
            else:
                entries.append((turn, -counter.get_equity(bidder), rank, task))
    # Whoever has more goes first: nobody fills the places with accounts that have next to nothing.
    for turn, _, rank, task in sorted(entries, key=_PLACE):
        code = counter.admit(task)
        if code is _OK:
            bid = task.instruction
            assert isinstance(bid, Bid)
            auctions.setdefault(bid.account, []).append((turn, rank, task))
        else:
            receipts[task.slot] = task.answer(code)
    for account_id in sorted(auctions):
        ranked = sorted(auctions[account_id], key=_RANK)
        _clear(run, [task for _, _, task in ranked], receipts)


class _Counter:
    """Which bids of a block are looked at: those that could get something, before they count."""

    __slots__ = ("_bids", "_equities", "_moves", "_run", "_sales")

    def __init__(self, run: BlockRun) -> None:
        self._run = run
        self._sales: dict[bytes, Sale | ReasonCode] = {}
        """By account, what its auction sells before the first bid, or why it sells nothing."""
        self._equities: dict[bytes, int] = {}
        """Of bidders."""
        self._bids = 0
        self._moves = 0

    def admit(self, task: Task) -> ReasonCode:
        """Why a bid that is one by itself is not looked at. The work that this takes is counted
        once for each auction and each bidder, not for each bid."""
        bid = task.instruction
        assert isinstance(bid, Bid)
        account = self._run.state.accounts[bid.account]
        if bid.account not in self._sales:
            if self._is_full(count_looks(account)):
                return ReasonCode.AUCTION_TOO_MANY_BIDS
            self._moves += count_looks(account)
            self._sales[bid.account] = _open_sale(self._run, account)
        sale = self._sales[bid.account]
        if isinstance(sale, ReasonCode):
            return sale
        if sale.ask(bid) > sale.offer:
            return ReasonCode.AUCTION_PREMIUM_TOO_HIGH
        if bid.portion_ppm < sale.compute_least_ppm():
            return ReasonCode.AUCTION_PORTION_INVALID
        bidder = find_account(self._run.state, task.sender, task.sub)
        assert bidder is not None, "the bid was looked at"
        if not sale.is_covered(self.get_equity(bidder), bid):
            return ReasonCode.MARGIN_INSUFFICIENT
        cost = len(sale.lots) + count_looks(bidder)
        if self._bids == BIDS_PER_BLOCK_MAX or self._is_full(cost):
            return ReasonCode.AUCTION_TOO_MANY_BIDS
        self._bids += 1
        self._moves += cost
        return _OK

    def _is_full(self, cost: int) -> bool:
        return self._moves + cost > BID_MOVES_PER_BLOCK_MAX

    def get_equity(self, bidder: Account) -> int:
        """What a bidder has before the first bid of the block."""
        equity = self._equities.get(bidder.account_id)
        if equity is None:
            equity = compute_equity(self._run.state, bidder)
            self._equities[bidder.account_id] = equity
        return equity


def _find_bidder(run: BlockRun, task: Task) -> Account | ReasonCode:
    """Who bids, or why a bid is no bid, whatever others bid."""
    state = run.state
    bid = task.instruction
    assert isinstance(bid, Bid)
    bidder = find_account(state, task.sender, task.sub)
    if bidder is None:
        return ReasonCode.ACCOUNT_UNKNOWN
    if not 1 <= bid.portion_ppm <= PPM:
        return ReasonCode.AUCTION_PORTION_INVALID
    if not 0 <= bid.premium_ppm <= PPM:
        return ReasonCode.AUCTION_PREMIUM_INVALID
    liquidations = state.liquidations
    record = None if liquidations is None else liquidations.records.get(bid.account)
    if record is None or record.stage == LiquidationStage.CLOSING:
        return ReasonCode.AUCTION_UNKNOWN
    if bidder is record.account:
        return ReasonCode.AUCTION_OWN
    return bidder


def _open_sale(run: BlockRun, account: Account) -> Sale | ReasonCode:
    """What an account's auction sells now, in the stage that its equity asks for, or why it sells
    nothing."""
    liquidations = run.state.liquidations
    assert liquidations is not None
    record = liquidations.records[account.account_id]
    if assess(run.state, account).is_waiting:
        return ReasonCode.ORACLE_STALE
    refresh_margin(run.state, account)
    run.state.mark_dirty(account)
    record.advance(run.time_ms, liquidations.params.retry_ms, False)
    follow_equity(run, liquidations.params, record)
    sale = Sale(run.state, liquidations.params, record)
    return sale if sale.lots and sale.equity < sale.margin else ReasonCode.AUCTION_UNKNOWN


def _clear(run: BlockRun, tasks: list[Task], receipts: list[Receipt | None]) -> None:
    """Sell slices of one account to the bids for it."""
    liquidations = run.state.liquidations
    assert liquidations is not None
    bid = tasks[0].instruction
    assert isinstance(bid, Bid)
    # Once more: the account may itself have bought in an auction that was cleared before.
    sale = _open_sale(run, run.state.accounts[bid.account])
    if isinstance(sale, ReasonCode):
        for task in tasks:
            receipts[task.slot] = task.answer(sale)
        return
    chosen: list[tuple[Task, Bid, Account]] = []
    takings: dict[bytes, _Taking] = {}
    asked_ppm = 0
    for ask, _, task, bid in sorted(_list_asks(sale, tasks), key=_ask):
        part_ppm = sale.compute_part_ppm(ask) - asked_ppm
        if ask > sale.offer:
            receipts[task.slot] = task.answer(ReasonCode.AUCTION_PREMIUM_TOO_HIGH)
            continue
        if part_ppm <= 0:
            receipts[task.slot] = task.answer(ReasonCode.AUCTION_SOLD)
            continue
        bidder = find_account(run.state, task.sender, task.sub)
        assert bidder is not None, "its bid was looked at"
        # Who cannot take what it asks for must not be in the way of those who can.
        taking = takings.setdefault(bidder.account_id, _Taking())
        code = taking.add(run.state, sale, bidder, ask, asked_ppm, min(bid.portion_ppm, part_ppm))
        if code is not _OK:
            receipts[task.slot] = task.answer(code)
            continue
        asked_ppm += bid.portion_ppm
        sale.premium = ask
        chosen.append((task, bid, bidder))
    for task, bid, bidder in chosen:
        receipts[task.slot] = task.answer(_sell(run, sale, bidder, bid.portion_ppm))
    liquidations.note_equity(sale.record, sale.account.equity)


class _Taking:
    """What one bidder is to get in an auction, before anything is sold."""

    __slots__ = ("_part_ppm", "_sizes")

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self._part_ppm = 0

    def add(
        self,
        state: EngineState,
        sale: Sale,
        bidder: Account,
        ask: int,
        start_ppm: int,
        part_ppm: int,
    ) -> ReasonCode:
        """One more part, if the bidder has the margin for all of them at the premium that this one
        asks for: what all get is no less."""
        sizes = dict(self._sizes)
        for market_id, lots in sale.cut(start_ppm, part_ppm).items():
            sizes[market_id] = sizes.get(market_id, 0) + lots
        paid = sum(lots * state.markets[market_id].mark_value for market_id, lots in sizes.items())
        premium = ask * (self._part_ppm + part_ppm) // PPM
        code = check_taking(state, bidder, sizes, premium - paid, Needs.INITIAL)
        if code is _OK:
            self._sizes = sizes
            self._part_ppm += part_ppm
        return code


def _list_asks(sale: Sale, tasks: list[Task]) -> list[tuple[int, int, Task, Bid]]:
    asks: list[tuple[int, int, Task, Bid]] = []
    for place, task in enumerate(tasks):
        bid = task.instruction
        assert isinstance(bid, Bid)
        asks.append((sale.ask(bid), place, task, bid))
    return asks


def _ask(entry: tuple[int, int, Task, Bid]) -> tuple[int, int]:
    return entry[0], entry[1]


def _sell(run: BlockRun, sale: Sale, bidder: Account, portion_ppm: int) -> ReasonCode:
    """Give a bidder a slice, as large as it wants and there is, or say why not."""
    state = run.state
    account = sale.account
    part_ppm = min(portion_ppm, sale.compute_part_ppm(sale.premium) - sale.sold_ppm)
    if part_ppm <= 0:
        return ReasonCode.AUCTION_SOLD
    if sale.compute_insured(part_ppm) > state.insurance:
        part_ppm = state.insurance * PPM // (sale.premium - sale.equity)
        if part_ppm == 0:
            return ReasonCode.AUCTION_UNINSURED
    insured = sale.compute_insured(part_ppm)
    premium = sale.premium * part_ppm // PPM
    sizes = sale.cut(sale.sold_ppm, part_ppm)
    if not sizes:
        return ReasonCode.AUCTION_SOLD
    paid = {
        market_id: lots * state.markets[market_id].mark_value for market_id, lots in sizes.items()
    }
    code = check_taking(state, bidder, sizes, premium - sum(paid.values()), Needs.INITIAL)
    if code is not _OK:
        return code
    left = account.quote + sum(paid.values()) + insured - premium
    if max(abs(left), abs(account.quote)) > BALANCE_ABS_MAX_MICROQUOTE:
        return ReasonCode.ORDER_BALANCE_OVERFLOW
    hand_over(run, account, bidder, sizes, paid)
    for market_id, lots in sizes.items():
        run.events.append(
            SliceEvent(
                market_id,
                account.account_id,
                bidder.account_id,
                lots,
                bound_amount(paid[market_id]),
            )
        )
    bidder.quote += premium
    bidder.equity += premium
    account.quote += insured - premium
    account.equity += insured - premium
    state.insurance -= insured
    state.mark_dirty(bidder)
    state.mark_dirty(account)
    sale.sold_ppm += part_ppm
    run.events.append(
        AuctionEvent(
            account.account_id,
            bidder.account_id,
            part_ppm,
            bound_amount(premium),
            insured,
            bound_amount(account.equity),
            bound_amount(compute_maintenance_margin(account)),
        )
    )
    return _OK
