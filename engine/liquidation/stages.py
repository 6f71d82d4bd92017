"""In which stage of its liquidation an account is, and the events that tell of it.

    closing      until closing has taken too long, or little of the margin is left
    auction      then, while there is equity
    insolvent    while there is none

Auction and insolvency follow the equity both ways: a price that comes back ends the insurance
fund's offer at once. Nobody goes back to closing; whom the books could not help in time is sold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.limits import PPM
from engine.liquidation.assessment import assess
from engine.margin import compute_equity, compute_maintenance_margin
from engine.receipts import LiquidationEvent, LiquidationStage, LiquidationStep
from engine.run import bound_amount

if TYPE_CHECKING:
    from engine.accounts.account import Account
    from engine.genesis import LiquidationParams
    from engine.liquidation.distress import Distress
    from engine.run import BlockRun

_CLOSING: Final = LiquidationStage.CLOSING
_AUCTION: Final = LiquidationStage.AUCTION
_INSOLVENT: Final = LiquidationStage.INSOLVENT

_STEPS: Final = {_AUCTION: LiquidationStep.AUCTIONED, _INSOLVENT: LiquidationStep.INSOLVENT}


def find_stage(
    params: LiquidationParams, stage: LiquidationStage, elapsed_ms: int, equity: int, margin: int
) -> LiquidationStage:
    """The stage that follows on one in which an account has been for so long."""
    if equity >= margin:
        return stage
    if equity <= 0:
        return _INSOLVENT
    if stage != _CLOSING or equity * PPM < params.backstop_ppm * margin:
        return _AUCTION
    return _AUCTION if elapsed_ms >= params.closing_max_ms else _CLOSING


def follow_equity(run: BlockRun, params: LiquidationParams, record: Distress) -> None:
    """Enter the stage that equity and time ask for. The account's caches are fresh and the clock is
    up to date."""
    account = record.account
    judged = assess(run.state, account)
    stage = find_stage(params, record.stage, record.elapsed_ms, judged.equity, judged.margin)
    if stage != record.stage:
        record.enter(stage)
        report_step(run, account, _STEPS[stage])


def report_step(
    run: BlockRun,
    account: Account,
    step: LiquidationStep,
    market_id: int = 0,
    lots: int = 0,
    notional: int = 0,
    insurance: int = 0,
) -> None:
    """Tell what was done about an account."""
    equity = compute_equity(run.state, account)
    margin = compute_maintenance_margin(account)
    run.events.append(
        LiquidationEvent(
            account.account_id,
            step,
            bound_amount(equity),
            bound_amount(margin),
            market_id,
            lots,
            bound_amount(notional),
            insurance,
        )
    )
