"""Who places orders, and when: the post-only phase, the takers' and the rounds behind it.

In each phase senders take turns, one instruction of each (`schedule`). What has woken takes its
owner's turn, before the owner's own takers. Where markets call auctions, the takers of the others
run first; then each of these markets lets all join that would take there, and clears.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.accounts.sub_accounts import find_account
from engine.instructions import (
    Amend,
    ConditionalOrder,
    MarketOrder,
    OneCancelsOther,
    PlaceOrder,
    TimeInForce,
    TrailingStop,
    TwapOrder,
)
from engine.limits import TRIGGER_ROUNDS_MAX
from engine.receipts import ReasonCode, Receipt
from engine.schedule import add_woken, take_turns
from engine.trading.call_auction import CallAuction, Entry
from engine.trading.placement import make_limit, place_market_order, place_order
from engine.waiting.orders import Conditional, Twap, Waiting
from engine.waiting.pairs import place_pair
from engine.waiting.slices import cut_slice, end_slice, place_twap, run_slice
from engine.waiting.triggers import WAKE_ID, fire, place_conditional, release, report_wake

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.accounts.account import Account
    from engine.run import BlockRun
    from engine.schedule import Task
    from engine.trading.market import Market
    from engine.waiting.triggers import Wakes

# Enum members are looked up once: an attribute of an enum class costs as much as a whole check.
_POST_ONLY: Final = TimeInForce.POST_ONLY


def split_placements(
    placements: list[list[Task]], replacements: dict[int, PlaceOrder]
) -> tuple[list[list[Task]], list[list[Task]]]:
    """Each sender's queue for the post-only phase and for the taker phase; an amend is in neither
    if nothing replaces what it has cancelled."""
    post_only: list[list[Task]] = []
    takers: list[list[Task]] = []
    for queue in placements:
        makers_queue: list[Task] = []
        takers_queue: list[Task] = []
        for task in queue:
            order = task.instruction
            if isinstance(order, PlaceOrder):
                is_taker = order.tif is not _POST_ONLY
            elif isinstance(order, Amend):
                replacement = replacements.get(task.slot)
                if replacement is None:
                    continue
                is_taker = replacement.tif is not _POST_ONLY
            else:
                is_taker = isinstance(order, MarketOrder)
            if is_taker:
                takers_queue.append(task)
            else:
                makers_queue.append(task)
        if makers_queue:
            post_only.append(makers_queue)
        if takers_queue:
            takers.append(takers_queue)
    return post_only, takers


class OrderPhases:
    """The phases of one block in which orders are placed."""

    __slots__ = ("_receipts", "_replacements", "_run", "_seed")

    def __init__(
        self,
        run: BlockRun,
        seed: bytes,
        replacements: dict[int, PlaceOrder],
        receipts: list[Receipt | None],
    ) -> None:
        self._run = run
        self._seed = seed
        self._replacements = replacements
        """The orders that amends still have to place, by receipt slot."""
        self._receipts = receipts

    def run_post_only(self, queues: list[list[Task]]) -> None:
        """Post-only orders, and what only waits."""
        self._place(queues)

    def run_takers(self, takers: list[list[Task]], woken: list[Waiting]) -> None:
        """Every other order, and what has woken by indices, marks and clocks."""
        queues: Sequence[Sequence[Task | Waiting]] = takers
        if woken:
            queues = add_woken(self._seed, woken, takers)
        if not self._run.state.has_call_auctions:
            self._place(queues)
            return
        continuous, called = self._split_by_market(queues)
        self._place(continuous)
        for market_id in sorted(called):
            self._call_auction(self._run.state.markets[market_id], called[market_id])

    def run_rounds(self, wakes: Wakes) -> None:
        """What the takers' trades have reached takes in turn, and what these trades reach, ..."""
        for _ in range(TRIGGER_ROUNDS_MAX):
            woken = wakes.by_trades()
            if not woken:
                return
            self._place(add_woken(self._seed, woken, []))
        wakes.mark_by_trades()

    def _place(self, queues: Sequence[Sequence[Task | Waiting]]) -> None:
        """One instruction of each sender in turn, or what has woken, in continuous markets."""
        run, receipts = self._run, self._receipts
        state = run.state
        for task in take_turns(queues):
            if isinstance(task, Waiting):
                _run_woken(run, task)
                continue
            account = find_account(state, task.sender, task.sub)
            order = task.instruction
            if account is None:
                receipt = task.answer(ReasonCode.ACCOUNT_UNKNOWN)
            elif isinstance(order, PlaceOrder):
                receipt = place_order(run, account, order, task.envelope_id, task.index)
            elif isinstance(order, MarketOrder):
                receipt = place_market_order(run, account, order, task.envelope_id, task.index)
            elif isinstance(order, Amend):
                order = self._replacements[task.slot]
                receipt = place_order(run, account, order, task.envelope_id, task.index)
            else:
                receipt = _place_waiting(run, account, task)
            receipts[task.slot] = receipt

    def _split_by_market(
        self, queues: Sequence[Sequence[Task | Waiting]]
    ) -> tuple[list[list[Task | Waiting]], dict[int, list[list[Task | Waiting]]]]:
        """The queues of continuous markets, and those of each market with an auction, by its id."""
        continuous: list[list[Task | Waiting]] = []
        called: dict[int, list[list[Task | Waiting]]] = {}
        for queue in queues:
            parts: dict[int, list[Task | Waiting]] = {}
            for task in queue:
                market = self._run.state.markets.get(self._find_market(task))
                key = market.market_id if market is not None and market.has_call_auctions else 0
                parts.setdefault(key, []).append(task)
            for key, part in parts.items():
                if key:
                    called.setdefault(key, []).append(part)
                else:
                    continuous.append(part)
        return continuous, called

    def _find_market(self, task: Task | Waiting) -> int:
        if isinstance(task, Waiting):
            return task.market.market_id
        order = task.instruction
        if isinstance(order, Amend):
            return self._replacements[task.slot].market
        assert isinstance(order, PlaceOrder | MarketOrder)
        return order.market

    def _call_auction(self, market: Market, queues: Sequence[Sequence[Task | Waiting]]) -> None:
        """Let all that is queued join, clear, settle, and answer everybody in the order of
        joining."""
        run, receipts = self._run, self._receipts
        auction = CallAuction(run, market)
        joined: list[tuple[Task | Waiting, Receipt | Entry]] = []
        for task in take_turns(queues):
            if isinstance(task, Waiting):
                placed = _wake(run, task)
                if placed is not None:
                    joined.append((task, auction.join(task.account, placed, WAKE_ID, 0)))
                continue
            account = find_account(run.state, task.sender, task.sub)
            if account is None:
                receipts[task.slot] = task.answer(ReasonCode.ACCOUNT_UNKNOWN)
                continue
            order = task.instruction
            if isinstance(order, MarketOrder):
                order = make_limit(order)
            elif isinstance(order, Amend):
                order = self._replacements[task.slot]
            assert isinstance(order, PlaceOrder)
            joined.append((task, auction.join(account, order, task.envelope_id, task.index)))
        auction.conclude()
        for task, answer in joined:
            if isinstance(task, Waiting):
                receipt = answer
                if isinstance(receipt, Entry):
                    receipt = auction.answer(receipt, WAKE_ID, 0)
                filled = report_wake(run, task, receipt)
                if isinstance(task, Twap):
                    end_slice(run, task, filled)
            elif isinstance(answer, Receipt):
                receipts[task.slot] = answer
            else:
                receipts[task.slot] = auction.answer(answer, task.envelope_id, task.index)


def _place_waiting(run: BlockRun, account: Account, task: Task) -> Receipt:
    order = task.instruction
    if isinstance(order, OneCancelsOther):
        return place_pair(run, account, order, task.envelope_id, task.index)
    if isinstance(order, TwapOrder):
        return place_twap(run, account, order, task.envelope_id, task.index)
    assert isinstance(order, ConditionalOrder | TrailingStop)
    return place_conditional(run, account, order, task.envelope_id, task.index)


def _run_woken(run: BlockRun, order: Waiting) -> None:
    if isinstance(order, Conditional):
        fire(run, order)
    else:
        assert isinstance(order, Twap)
        run_slice(run, order)


def _wake(run: BlockRun, order: Waiting) -> PlaceOrder | None:
    """What a waiting order places; None if it is gone, or places nothing this time."""
    if isinstance(order, Conditional):
        return release(run, order)
    assert isinstance(order, Twap)
    placed = cut_slice(run, order)
    if placed is None:
        end_slice(run, order, 0)
    return placed
