"""The liquidation phase: finding accounts below their maintenance margin, and closing them.

    found        equity < maintenance margin, at mark; orders are cancelled, open and waiting ones
    closing      parts of positions are closed in the books, at the fillable price or better
    auction      slices of all that it has are for sale (`engine.liquidation.bidding`): when closing
                 has taken too long, or little of the margin is left
    insolvent    the same while no equity is left: the insurance fund pays who takes a slice
    deleveraging positions are closed against others' (`engine.liquidation.deleverage`): when the
                 fund cannot pay what all insolvent accounts lack, or nobody has taken the rest of
                 one in time, be it insolvent or in an auction that has offered all of its equity

An account that covers its maintenance margin again is let go at its next step. The engine does all
this by itself; nobody has to ask for it, and but for bids nobody can do anything about it.

Prices of closing (shape of dYdX v4), of a position with weight w out of W, its share of the
equity E and of the maintenance margin M being E w / W and M w / W:

    fillable     mark value - clamp(adjustment x (1 - E / M), 0, 1) x spread x share of M
    bankruptcy   mark value - share of E, the taker's fee paid

for a long, with the signs turned for a short. The limit of a closing order is the stricter of the
two, rounded so that it is stricter still. So closing takes no more from the account than the share
that the closed part has in its equity: E / M never falls by it, and what is above the share pays
the liquidation fee to the insurance fund. With portfolio margin w / W is by how much M falls if the
part is closed; a position without which M would not fall is a hedge, and is not closed. If the
heaviest are all such, the auction begins at once: it sells all of them together.

Work in a block is bounded by the limits `LIQUIDATION_*`; who is not reached has its turn in one of
the next blocks. Where an index is stale, the positions in fresh markets decide
(`engine.liquidation.assessment`); if they do not, the liquidation waits and its clock stands still.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from engine.accounts.account import Account, Exposure
from engine.accounts.fees import find_taker_fee_ppm
from engine.instructions import SelfTradeMode
from engine.limits import (
    BALANCE_ABS_MAX_MICROQUOTE,
    DEBT_WAIT_MAX_MS,
    LIQUIDATION_MATCHES_MAX,
    LIQUIDATION_STEPS_PER_BLOCK_MAX,
    LIQUIDATION_TRIES_PER_STEP_MAX,
    LIQUIDATION_WORK_PER_BLOCK_MAX,
    PORTFOLIO_MATCH_WEIGHT,
    PPM,
    PRICE_MAX_TICKS,
)
from engine.liquidation.assessment import (
    Assessment,
    assess,
    compute_fresh_margin,
    compute_fresh_weight,
    compute_weight,
    list_fresh,
)
from engine.liquidation.bidding import run_bids
from engine.liquidation.deleverage import Deleveraging, pay_debt
from engine.liquidation.distress import Distress, Liquidations, count_looks
from engine.liquidation.stages import follow_equity, report_step
from engine.margin import compute_equity, compute_maintenance_margin, refresh_margin
from engine.portfolio.margin import compute_requirements
from engine.receipts import (
    LiquidationStage,
    LiquidationStep,
    ReasonCode,
    Receipt,
)
from engine.trading.matching import Taker, compute_threshold, match_order
from engine.waiting.waitlist import cancel_everything, settle_pairs

if TYPE_CHECKING:
    from engine.genesis import LiquidationParams
    from engine.run import BlockRun
    from engine.schedule import Task
    from engine.state import EngineState

_CLOSING: Final = LiquidationStage.CLOSING
_INSOLVENT: Final = LiquidationStage.INSOLVENT


def is_withdrawal_gated(state: EngineState) -> bool:
    """Must everybody's withdrawals wait, because accounts lack more than insurance fund and fees
    hold?

    Until it is known who bears that, nobody may leave before the others (the rule of Derive). It
    counts what was found and as it was when last looked at (`LIQUIDATION_LOOKS_PER_BLOCK_MAX` says
    how soon that is). Where nobody is liquidated it goes over all accounts: to be asked once a
    block, and only when somebody wants to withdraw.
    """
    if state.liquidations is not None:
        debts = state.liquidations.debts
    else:
        debts = sum(max(-compute_equity(state, account), 0) for account in state.accounts.values())
    return debts > state.insurance + max(state.fees, 0)


def run_liquidations(run: BlockRun, bids: list[list[Task]], receipts: list[Receipt | None]) -> None:
    """The liquidation phase, with the block's bids: those of each sender, in rank order."""
    liquidations = run.state.liquidations
    if liquidations is None:
        for queue in bids:
            for task in queue:
                receipts[task.slot] = task.answer(ReasonCode.AUCTION_UNKNOWN)
        return
    if bids:
        run_bids(run, bids, receipts)
    _find(run)
    _run_steps(run, liquidations)
    settle_pairs(run)


def _run_steps(run: BlockRun, liquidations: Liquidations) -> None:
    """Step through who is due, who waits longest first, as far as the work of a block may go: so
    accounts of which nothing comes take next to none of others' time."""
    deleveraging = Deleveraging(run)
    work = 0
    for account_id in liquidations.agenda.due_first(run.time_ms, LIQUIDATION_STEPS_PER_BLOCK_MAX):
        if work >= LIQUIDATION_WORK_PER_BLOCK_MAX:
            return
        record = liquidations.records[account_id]
        work += count_looks(record.account) - len(run.events) - 2 * len(run.fills)
        _step(run, deleveraging, record)
        work += len(run.events) + 2 * len(run.fills)


def _find(run: BlockRun) -> None:
    """Look at the accounts whose turn it is."""
    state = run.state
    liquidations = state.liquidations
    assert liquidations is not None
    for account in liquidations.next_accounts(state.accounts):
        if account.distress is None and is_liquidatable(state, account):
            record = Distress(account, _CLOSING, run.time_ms)
            liquidations.begin(record)
            liquidations.note_equity(record, compute_equity(state, account))
            state.mark_dirty(account)
            report_step(run, account, LiquidationStep.BEGUN)


def is_liquidatable(state: EngineState, account: Account) -> bool:
    """Is the account below its maintenance margin, whatever its stale positions are worth?"""
    is_fresh = account.margin_epoch == state.margin_epoch and account.portfolio is None
    if is_fresh and account.equity >= account.im:
        return False
    judged = assess(state, account)
    return judged.equity < judged.margin and not judged.is_waiting


def _step(run: BlockRun, deleveraging: Deleveraging, record: Distress) -> None:
    """Do what is to be done about an account now, and note when to look again."""
    state = run.state
    liquidations = state.liquidations
    assert liquidations is not None
    params = liquidations.params
    account = record.account
    state.mark_dirty(account)
    is_waiting = assess(state, account).is_waiting
    record.advance(run.time_ms, params.retry_ms, is_waiting)
    if not is_waiting and not has_positions(account) and compute_equity(state, account) >= 0:
        # It has money again, and so may have orders.
        liquidations.note_equity(record, 0)
        liquidations.end(record)
        report_step(run, account, LiquidationStep.ENDED)
        return
    if not is_waiting:
        cancel_everything(run, account, ReasonCode.LIQUIDATION_ORDER_CANCELLED, None)
        refresh_margin(state, account)
        is_closing = record.stage == _CLOSING and record.cool_ms <= run.time_ms
        if is_closing:
            closed_ppm = close_part(run, params, account)
            if closed_ppm is None:
                record.elapsed_ms = max(record.elapsed_ms, params.closing_max_ms)
            elif closed_ppm:
                record.cool_ms = run.time_ms - (-params.cooldown_ms * closed_ppm // PPM)
        follow_equity(run, params, record)
        liquidations.note_equity(record, account.equity)
        judged = assess(state, account)
        # Who covers the margin again is let go below, whatever the stage was called.
        if record.stage != _CLOSING and judged.equity < judged.margin:
            if _must_deleverage(liquidations, state.insurance, record):
                deleveraging.close(account)
            if account.equity < 0 and not has_positions(account):
                _cover(run, account)
        if account.equity >= compute_maintenance_margin(account):
            liquidations.end(record)
            report_step(run, account, LiquidationStep.ENDED)
            return
        liquidations.note_equity(record, account.equity)
    wait_ms = params.retry_ms
    if account.equity < 0 and not has_positions(account):
        # Nothing can be done before somebody has money: longer and longer, others have their turn.
        wait_ms = max(wait_ms, min(record.elapsed_ms, DEBT_WAIT_MAX_MS))
    liquidations.schedule(record, run.time_ms + wait_ms)


def _must_deleverage(liquidations: Liquidations, insurance: int, record: Distress) -> bool:
    """Has nobody taken this one in time, or the insurance fund too little for what all insolvent
    accounts lack?"""
    params = liquidations.params
    if record.stage != _INSOLVENT:
        return record.elapsed_ms >= params.auction_fast_ms + params.auction_slow_ms
    return record.elapsed_ms >= params.insolvent_ms or insurance < liquidations.debts


def has_positions(account: Account) -> bool:
    """Has the account any position?"""
    return any(exposure.lots for exposure in account.exposures.values())


def _cover(run: BlockRun, account: Account) -> None:
    """Pay the debt of an account without positions: out of the insurance fund, and what that lacks
    out of the fees. What both lack remains its debt, to be paid when there is more."""
    equity = account.equity
    insured = pay_debt(run.state, account, -equity)
    if account.equity != equity:
        report_step(run, account, LiquidationStep.COVERED, insurance=-insured)


def close_part(run: BlockRun, params: LiquidationParams, account: Account) -> int | None:
    """Close a part of the heaviest position, and where its book does not take all of that, of the
    next ones; return how much of a part that was, in ppm, rounded up. None: with none of them
    closed would the account need less.

    So a bid of one lot in one market, or hundreds before all others, put nothing off. The account's
    caches are fresh.
    """
    held = [
        (-compute_weight(exposure), exposure.market.market_id, exposure)
        for exposure in list_fresh(account)
    ]
    is_useful = False
    closed_ppm = 0
    for _, _, exposure in sorted(held)[:LIQUIDATION_TRIES_PER_STEP_MAX]:
        part = weigh_part(params, exposure)
        if part.weight <= 0:
            continue
        is_useful = True
        closed_ppm += _close_exposure(run, params, exposure, part)
        if closed_ppm >= PPM or (closed_ppm and is_covered(run.state, account)):
            break
    return min(closed_ppm, PPM) if is_useful else None


def is_covered(state: EngineState, account: Account) -> bool:
    """Has an account under liquidation its maintenance margin again, for all that is known?"""
    judged = assess(state, account)
    return judged.equity >= judged.margin


class Part:
    """A part of a position that may be closed, and its weight in what its account needs."""

    __slots__ = ("lots", "total", "weight")

    def __init__(self, lots: int, weight: int, total: int) -> None:
        self.lots = lots
        self.weight = weight
        self.total = total


def weigh_part(params: LiquidationParams, exposure: Exposure) -> Part:
    """What to close of a position at once. With portfolio margin its weight is by how much less
    margin all of it needs without it: nothing or less, if it is the hedge of the rest."""
    account = exposure.account
    market = exposure.market
    size = abs(exposure.lots)
    if account.portfolio is None:
        return Part(size, compute_weight(exposure), compute_fresh_weight(account))
    # What closing a part relieves is no less, lot by lot, for a smaller one: margins are convex.
    lots = min(compute_part(params, size, market.mark_value), market.order_size_max_lots)
    before = compute_maintenance_margin(account)
    after = compute_requirements(account, market, -lots if exposure.lots > 0 else lots)[1]
    return Part(lots, before - after, max(compute_fresh_margin(account), 1))


def _close_exposure(
    run: BlockRun, params: LiquidationParams, exposure: Exposure, part: Part
) -> int:
    """Close a part of one position, if its book takes any; return how much of it, in ppm, rounded
    up."""
    state = run.state
    account = exposure.account
    market = exposure.market
    side = -1 if exposure.lots > 0 else 1
    equity = account.equity
    judged = assess(state, account)
    share = judged.equity * part.weight // part.total
    fee_ppm = find_taker_fee_ppm(state, account, market)
    price = compute_close_price(params, exposure, part, judged, fee_ppm)
    opposite = market.book.opposite(side)
    threshold = compute_threshold(side, price)
    if price == 0 or not opposite.keys or opposite.keys[-1] < threshold:
        return 0
    wanted = compute_part(params, abs(exposure.lots), market.mark_value)
    wanted = min(wanted, market.order_size_max_lots)
    # What one order may do is bounded by the orders that it meets, too.
    reachable = islice(opposite.crossed_orders(threshold), LIQUIDATION_MATCHES_MAX)
    lots = min(wanted, sum(order.lots for order in reachable))
    best = abs(opposite.keys[-1]) if side < 0 else price
    if abs(account.quote) + 2 * best * lots * market.unit > BALANCE_ABS_MAX_MICROQUOTE:
        return 0
    mode = SelfTradeMode.CANCEL_MAKER
    # Orders whose owners have not the margin are met, too, and give nothing.
    matches = LIQUIDATION_MATCHES_MAX * PORTFOLIO_MATCH_WEIGHT
    taker = Taker(state.next_order_id, exposure, side, price, lots, mode, fee_ppm, matches)
    state.next_order_id += 1
    match_order(run, taker)
    filled = taker.filled_lots
    if filled == 0:
        return 0
    # What the account has left above the share of what was closed pays the fee.
    left = share * filled // part.lots + account.equity - equity
    fee = max(0, min(-(-taker.notional * params.fee_ppm // PPM), left))
    account.quote -= fee
    account.equity -= fee
    state.insurance += fee
    report_step(
        run,
        account,
        LiquidationStep.CLOSED,
        market.market_id,
        side * filled,
        taker.notional,
        fee,
    )
    return -(-filled * PPM // wanted)


def compute_part(params: LiquidationParams, size: int, mark_value: int) -> int:
    """How many lots of a position are closed at once: all of a small one. Rounded up."""
    if size * mark_value <= params.part_min_microquote:
        return size
    least = -(-params.part_min_microquote // mark_value)
    return max(least, -(-size * params.part_ppm // PPM))


def compute_close_price(
    params: LiquidationParams,
    exposure: Exposure,
    part: Part,
    judged: Assessment,
    fee_ppm: int,
) -> int:
    """The limit price of closing a part of a position, in ticks; 0 if there is none.

    The caches are fresh; `fee_ppm` is what the account pays as a taker.
    """
    market = exposure.market
    margin = judged.margin
    share = judged.equity * part.weight // part.total
    used = max(0, min(PPM, params.adjustment_ppm * (margin - judged.equity) // max(margin, 1)))
    spread = used * params.spread_ppm * margin * part.weight // (PPM * PPM * part.total)
    value = part.lots * market.mark_value
    ticks = part.lots * market.unit
    if exposure.lots > 0:
        fillable = -(-(value - spread) // ticks)
        bankruptcy = -(-(value - share) * PPM // (ticks * (PPM - fee_ppm)))
        price = max(fillable, bankruptcy, 1)
        return price if price <= PRICE_MAX_TICKS else 0
    fillable = (value + spread) // ticks
    bankruptcy = (value + share) * PPM // (ticks * (PPM + fee_ppm))
    return max(min(fillable, bankruptcy, PRICE_MAX_TICKS), 0)
