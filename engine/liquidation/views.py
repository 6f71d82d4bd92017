"""What a gateway shows of liquidations: who, how far, what is for sale and for how much; and the
funds behind."""

from bisect import bisect_right

from msgspec import Struct

from engine.accounts.account import Account
from engine.limits import PPM
from engine.liquidation.assessment import assess
from engine.liquidation.bidding import compute_offer, compute_part_ppm
from engine.liquidation.phase import is_withdrawal_gated
from engine.liquidation.stages import find_stage
from engine.margin import compute_equity, compute_maintenance_margin
from engine.receipts import LiquidationStage
from engine.state import EngineState


class HoldingView(Struct, frozen=True, array_like=True):
    """One position of an account under liquidation."""

    market: int
    size_lots: int
    """Negative for a short."""
    value_microquote: int
    """At the mark, signed: what a bidder for all of it pays."""


class LiquidationView(Struct, frozen=True, array_like=True):
    """The liquidation of one account; prices are those for all that it has."""

    account: bytes
    stage: LiquidationStage
    equity_microquote: int
    maintenance_margin_microquote: int
    elapsed_ms: int
    """In this stage, without the time in which an index was stale."""
    next_stage_ms: int
    """Block time at which this stage is over: closing becomes an auction, an auction that has
    offered all of the equity and an insolvent account are deleveraged. 0 while it waits."""
    is_waiting: bool
    """An index is stale without which nobody can tell: nothing happens."""
    offer_microquote: int
    """The premium that a bidder for all of it may ask; 0 before the auction."""
    offer_ppm: int
    """The same as a bid says it: in parts of the maintenance margin, rounded down."""
    for_sale_ppm: int
    """The part of it that is for sale at that premium; 0 before the auction."""
    insured_microquote: int
    """What of the offer the insurance fund pays, because the account has not got it."""
    holdings: tuple[HoldingView, ...]
    """By market."""


class InsuranceView(Struct, frozen=True, array_like=True):
    """The insurance fund, who needs it, and the exchange's other pools."""

    insurance_microquote: int
    started_microquote: int
    """What the fund had at genesis."""
    fees_microquote: int
    """The fees' bucket, which pays the debts that the fund cannot."""
    funding_pool_microquote: int
    """What funding has taken from one side and not yet given to the other."""
    settlement_pool_microquote: int
    """Dust of options' settlements."""
    is_liquidating: bool
    """False: this exchange liquidates nobody."""
    closing: int
    """Accounts whose positions are closed in the books."""
    auctions: int
    """Accounts of which slices are for sale."""
    insolvent: int
    """Accounts without equity."""
    negative: int
    """Accounts below zero."""
    debts_microquote: int
    """What these lack together."""
    is_gated: bool
    """No withdrawal leaves: the debts are more than insurance fund and fees hold."""


def view_liquidation(state: EngineState, account: Account) -> LiquidationView | None:
    """How far an account's liquidation has come; None: it is under none."""
    record, liquidations = account.distress, state.liquidations
    if record is None or liquidations is None:
        return None
    params = liquidations.params
    equity = compute_equity(state, account)
    margin = compute_maintenance_margin(account)
    judged = assess(state, account)
    is_waiting = judged.is_waiting
    elapsed_ms = record.elapsed_ms
    stage = record.stage
    if not is_waiting:
        elapsed_ms = record.count_elapsed_ms(state.time_ms, params.retry_ms)
        if stage != LiquidationStage.CLOSING:
            # What a bid of the next block meets, whether or not the engine has looked since.
            stage = find_stage(params, stage, elapsed_ms, judged.equity, judged.margin)
            elapsed_ms = elapsed_ms if stage == record.stage else record.paused_ms
    offer = for_sale_ppm = 0
    if stage != LiquidationStage.CLOSING and judged.equity < judged.margin:
        offer = compute_offer(params, stage, elapsed_ms, judged.equity, judged.margin)
        for_sale_ppm = compute_part_ppm(params, stage, judged.equity, judged.margin, offer)
    lasts_ms = {
        LiquidationStage.CLOSING: params.closing_max_ms,
        LiquidationStage.AUCTION: params.auction_fast_ms + params.auction_slow_ms,
        LiquidationStage.INSOLVENT: params.insolvent_ms,
    }[stage]
    return LiquidationView(
        account.account_id,
        stage,
        equity,
        margin,
        elapsed_ms,
        0 if is_waiting else max(state.time_ms, state.time_ms + lasts_ms - elapsed_ms),
        is_waiting,
        offer,
        min(PPM, offer * PPM // judged.margin) if judged.margin else 0,
        for_sale_ppm,
        max(0, offer - judged.equity) if stage == LiquidationStage.INSOLVENT else 0,
        tuple(
            HoldingView(market_id, each.lots, each.lots * each.market.mark_value)
            for market_id, each in sorted(account.exposures.items())
            if each.lots
        ),
    )


def view_liquidations(state: EngineState, after: bytes, limit: int) -> tuple[LiquidationView, ...]:
    """Up to `limit` accounts under liquidation, by rising id after `after`."""
    if state.liquidations is None:
        return ()
    found = sorted(state.liquidations.records)
    start = bisect_right(found, after)
    views = (view_liquidation(state, state.accounts[each]) for each in found[start : start + limit])
    return tuple(view for view in views if view is not None)


def view_insurance(state: EngineState) -> InsuranceView:
    """The insurance fund, and how many accounts are under liquidation."""
    liquidations = state.liquidations
    stages = [] if liquidations is None else [each.stage for each in liquidations.records.values()]
    return InsuranceView(
        state.insurance,
        0 if liquidations is None else liquidations.params.insurance_microquote,
        state.fees,
        state.funding_pool,
        state.settlement_pool,
        liquidations is not None,
        stages.count(LiquidationStage.CLOSING),
        stages.count(LiquidationStage.AUCTION),
        stages.count(LiquidationStage.INSOLVENT),
        0
        if liquidations is None
        else sum(1 for each in liquidations.records.values() if each.debt),
        0 if liquidations is None else liquidations.debts,
        liquidations is not None and is_withdrawal_gated(state),
    )
