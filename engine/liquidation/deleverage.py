"""Deleveraging: the last step of a liquidation, against the positions of others.

Positions of a market sum to zero, so whoever has a position that cannot be sold stands against
others who have gained by it. The position is closed with them at mark, and the part of the debt
that goes with the lots, by their weight, is paid

    by the insurance fund, as far as it reaches, then out of the fees;
    by who has the other side, in the price of the lots: at most what it has gained with them since
        it opened its position, or their maintenance margin if that is more.

What that leaves is the account's debt: known, counted by the gate on withdrawals, and paid when
fund or fees have something again. So a debt that was made elsewhere, by options that have settled,
say, does not fall on who happens to have the other side of a lot that is left.

First comes who has gained most and has least at stake for it (the ranking of BitMEX):

    rank = gain x leverage   if there is a gain, else   gain / leverage

    gain      (value of the position at mark - its cost) / |cost|
    leverage  |value of the position| / its share of the account's equity

Equal ranks go by account id. Nobody is asked who is under liquidation, has no equity, has no
position on the other side, or would be below its maintenance margin afterwards; only if that leaves
something, those are who would still have equity.

Ranks are computed once in a block for a side of a market, over at most `DELEVERAGE_RANKED_MAX`
positions, with at most `DELEVERAGE_LOOKS_MAX` looks at accounts and their markets, which begin
where the turns of the block ended (`engine.liquidation.distress`). An exchange with more of them is
gone over in parts, a new one in each block.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from engine.accounts.account import Account, Exposure
from engine.cross_margin import compute_position_margin
from engine.limits import (
    BALANCE_ABS_MAX_MICROQUOTE,
    DELEVERAGE_CHECKS_PER_BLOCK_MAX,
    DELEVERAGE_LOOKS_MAX,
    DELEVERAGE_RANKED_MAX,
    DELEVERAGE_RANKINGS_PER_BLOCK_MAX,
    DELEVERAGE_TRADES_PER_BLOCK_MAX,
)
from engine.liquidation.assessment import (
    assess,
    compute_fresh_weight,
    compute_total_weight,
    compute_weight,
    list_fresh,
)
from engine.liquidation.distress import count_looks
from engine.liquidation.handover import Needs, check_taking, hand_over
from engine.liquidation.stages import report_step
from engine.margin import compute_equity
from engine.receipts import DeleverageEvent, LiquidationStep, ReasonCode
from engine.run import bound_amount

if TYPE_CHECKING:
    from engine.run import BlockRun
    from engine.state import EngineState
    from engine.trading.market import Market

_SCALE: Final = 10**9
"""Ranks are integers in parts of this, rounded down."""


class Deleveraging:
    """The deleveraging of one block."""

    __slots__ = ("_checks", "_rankings", "_run", "_trades")

    def __init__(self, run: BlockRun) -> None:
        self._run = run
        self._rankings: dict[tuple[int, int], list[Exposure]] = {}
        """By market and side."""
        self._trades = 0
        self._checks = 0

    def close(self, account: Account) -> None:
        """Close the account's positions against others', as far as this block may."""
        before = self._run.state.insurance + self._run.state.fees
        insurance = self._run.state.insurance
        for exposure in sorted(list_fresh(account), key=_market_id):
            ranking = self._rank(exposure.market, -1 if exposure.lots > 0 else 1)
            for needs in (Needs.MAINTENANCE, Needs.EQUITY):
                self._close_with(exposure, ranking, needs)
        state = self._run.state
        if state.insurance + state.fees != before:
            step = LiquidationStep.COVERED
            report_step(self._run, account, step, insurance=state.insurance - insurance)

    def _rank(self, market: Market, side: int) -> list[Exposure]:
        """The positions of one side of a market, by rank; none if there were too many rankings."""
        known = self._rankings.get((market.market_id, side))
        if known is not None:
            return known
        if len(self._rankings) >= DELEVERAGE_RANKINGS_PER_BLOCK_MAX:
            return []
        ranking = rank_positions(self._run.state, market, side)
        self._rankings[market.market_id, side] = ranking
        return ranking

    def _close_with(self, exposure: Exposure, ranking: list[Exposure], needs: Needs) -> None:
        run, state = self._run, self._run.state
        account = exposure.account
        market = exposure.market
        market_id = market.market_id
        weight, total_weight = compute_weight(exposure), compute_fresh_weight(account)
        equity = assess(state, account).equity
        for other in ranking:
            if exposure.lots == 0 or self._trades >= DELEVERAGE_TRADES_PER_BLOCK_MAX:
                return
            if other.lots * exposure.lots >= 0 or other.account.distress is not None:
                continue
            size = min(abs(exposure.lots), abs(other.lots))
            lots = size if exposure.lots > 0 else -size
            # Up: what the account lacks beside these lots is never more than its share.
            debt = max(-(equity * weight * size // (total_weight * abs(exposure.lots))), 0)
            insured = min(debt, state.insurance + max(state.fees, 0))
            paid = lots * market.mark_value + min(debt - insured, compute_loss_max(other, size))
            if abs(account.quote + paid + insured) > BALANCE_ABS_MAX_MICROQUOTE:
                continue
            if not self._may_check(other):
                continue
            changes = {market_id: lots}
            code = check_taking(state, other.account, changes, -paid, needs)
            if code is not ReasonCode.OK:
                continue
            self._trades += 1
            hand_over(run, account, other.account, changes, {market_id: paid})
            pay_debt(state, account, insured)
            weight, total_weight = compute_weight(exposure), compute_fresh_weight(account)
            equity = assess(state, account).equity
            run.events.append(
                DeleverageEvent(
                    market.market_id,
                    account.account_id,
                    other.account.account_id,
                    lots,
                    bound_amount(paid),
                    bound_amount(account.equity),
                )
            )

    def _may_check(self, other: Exposure) -> bool:
        """Count one more look at an account, if this block may have it."""
        cost = count_looks(other.account)
        if self._checks + cost > DELEVERAGE_CHECKS_PER_BLOCK_MAX:
            return False
        self._checks += cost
        return True


def pay_debt(state: EngineState, account: Account, amount: int) -> int:
    """Pay so much of an account's debt, as far as there is money: out of the insurance fund, and
    what that lacks out of the fees. Return what the fund has paid."""
    insured = min(amount, state.insurance)
    paid = insured + min(amount - insured, max(state.fees, 0))
    state.insurance -= insured
    state.fees -= paid - insured
    account.quote += paid
    account.equity += paid
    return insured


def compute_loss_max(exposure: Exposure, size: int) -> int:
    """What others' debts may cost who gives up so many lots: the gain with them since the position
    was opened, or their maintenance margin if that is more. Rounded down."""
    held = abs(exposure.lots)
    gain = (exposure.lots * exposure.market.mark_value - exposure.cost) * size // held
    return max(gain, compute_position_margin(exposure.market, exposure.lots) * size // held)


def _market_id(exposure: Exposure) -> int:
    return exposure.market.market_id


def rank_positions(state: EngineState, market: Market, side: int) -> list[Exposure]:
    """Positions of one side of a market, who is deleveraged first at the front."""
    liquidations = state.liquidations
    assert liquidations is not None
    roster = liquidations.roster
    start = bisect_right(roster, liquidations.cursor)
    ranked: list[tuple[int, bytes, Exposure]] = []
    looks = 0
    for step in range(len(roster)):
        if looks >= DELEVERAGE_LOOKS_MAX:
            break
        account = state.accounts[roster[(start + step) % len(roster)]]
        exposure = account.exposures.get(market.market_id)
        if exposure is None or exposure.lots * side <= 0 or account.distress is not None:
            looks += 1
            continue
        looks += count_looks(account)
        equity = compute_equity(state, account)
        if equity > 0:
            ranked.append((-compute_rank(exposure, equity), account.account_id, exposure))
            if len(ranked) == DELEVERAGE_RANKED_MAX:
                break
    ranked.sort(key=_rank_key)
    return [entry[2] for entry in ranked]


def _rank_key(entry: tuple[int, bytes, Exposure]) -> tuple[int, bytes]:
    return entry[0], entry[1]


def compute_rank(exposure: Exposure, equity: int) -> int:
    """The rank of a position of an account with positive equity, in 10^-9, rounded down."""
    value = exposure.lots * exposure.market.mark_value
    gain = value - exposure.cost
    cost = max(abs(exposure.cost), 1)
    # leverage = lever / stake
    lever = abs(value) * compute_total_weight(exposure.account)
    stake = equity * compute_weight(exposure)
    if gain > 0:
        return gain * lever * _SCALE // (cost * stake)
    return gain * stake * _SCALE // (cost * max(lever, 1))
