"""Choosing between cross and portfolio margin: an instruction of the account's owner.

It runs among the cancels, which touch nothing but the sender's own account, so their order between
senders cannot matter, and before the block's orders, which the new mode judges.
"""

from engine.accounts.account import Account
from engine.instructions import MarginMode, SetMarginMode
from engine.limits import PORTFOLIO_POSITIONS_MAX
from engine.margin import refresh_margin
from engine.portfolio.margin import PortfolioCache, count_markets
from engine.receipts import ReasonCode, Receipt, Status
from engine.run import BlockRun

_OK = ReasonCode.OK


def set_margin_mode(
    run: BlockRun, account: Account, instruction: SetMarginMode, envelope_id: bytes, index: int
) -> Receipt:
    """Margin the account in another way, if it has the margin for it. The same way is fine."""
    code = _OK
    if (instruction.mode == MarginMode.PORTFOLIO) != (account.portfolio is not None):
        code = _switch(run, account, instruction.mode)
    status = Status.ACCEPTED if code is _OK else Status.REFUSED
    return Receipt(envelope_id, index, status, code)


def _switch(run: BlockRun, account: Account, mode: MarginMode) -> ReasonCode:
    state = run.state
    if mode == MarginMode.PORTFOLIO:
        if not state.has_portfolios:
            return ReasonCode.PORTFOLIO_UNAVAILABLE
        if count_markets(account) > PORTFOLIO_POSITIONS_MAX:
            return ReasonCode.PORTFOLIO_TOO_MANY_MARKETS
    if any(each.lots and each.market.stale for each in account.exposures.values()):
        return ReasonCode.ORACLE_STALE
    before = account.portfolio
    account.portfolio = PortfolioCache() if mode == MarginMode.PORTFOLIO else None
    refresh_margin(state, account)
    if account.equity < account.im:
        account.portfolio = before
        account.margin_epoch = -1
        return ReasonCode.MARGIN_INSUFFICIENT
    state.mark_dirty(account)
    return _OK
