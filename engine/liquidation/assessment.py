"""What an account under liquidation is judged by, where an index on which it depends is stale.

Nobody knows what a position is worth whose index has no reports, so nothing is done because of it,
and it is not traded. But one lot in such a market must not shield all the rest. So the account is
judged by its positions in fresh markets alone, with the benefit of the doubt:

    equity    at mark, the last one where the index is stale, plus the doubt: what all stale
              positions would gain if their price moved by its whole band in the account's favour
    margin    the maintenance margin of the fresh positions; with portfolio margin, which is that
              of all positions on an underlying together, of those on which none is stale

An account below its margin by these is below whatever its stale positions are worth, as long as the
price is within the band (`price_band_ppm`) of the last mark: beyond that no order would be accepted
either. Then the fresh positions are closed, sold and deleveraged as if they were all that it has,
at that equity, so that the insurance fund never pays for the doubt; with portfolio margin what is
fresh beside something stale of its underlying comes last, by a debt alone. All others wait, and
their clocks stand still. Of an option the doubt is the band of its underlying: none moves by more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.cross_margin import compute_position_margin
from engine.limits import PPM
from engine.margin import compute_equity, compute_maintenance_margin
from engine.portfolio.margin import compute_maintenance_of, find_underlying

if TYPE_CHECKING:
    from engine.accounts.account import Account, Exposure
    from engine.state import EngineState


class Assessment:
    """What an account is judged by at this moment, in micro-quote."""

    __slots__ = ("equity", "is_waiting", "margin")

    def __init__(self, equity: int, margin: int, is_waiting: bool) -> None:
        self.equity = equity
        self.margin = margin
        self.is_waiting = is_waiting
        """Only its stale positions could decide: nothing happens."""


def assess(state: EngineState, account: Account) -> Assessment:
    """Judge an account; changes nothing."""
    equity = compute_equity(state, account)
    doubt = 0
    is_stale = False
    for exposure in account.exposures.values():
        if exposure.lots and exposure.market.stale:
            is_stale = True
            doubt += compute_doubt(exposure)
    if not is_stale:
        return Assessment(equity, compute_maintenance_margin(account), False)
    equity += doubt
    margin = compute_fresh_margin(account)
    return Assessment(equity, margin, not list_fresh(account) or equity >= margin)


def compute_doubt(exposure: Exposure) -> int:
    """What a position whose index is stale may be worth more than at its last mark, rounded up."""
    market = exposure.market
    if market.series is not None:
        assert market.chain is not None, "a series belongs to a chain"
        market = market.chain.underlying
    return -(-abs(exposure.lots) * market.mark_value * market.params.price_band_ppm // PPM)


def list_fresh(account: Account) -> list[Exposure]:
    """The positions that are to be closed and sold: those in markets that are not stale. With
    portfolio margin those go first on whose underlying nothing is stale, for the margin tells of
    them alone; the others are its hedges, as far as anybody knows."""
    fresh = [each for each in account.exposures.values() if each.lots and not each.market.stale]
    if account.portfolio is None:
        return fresh
    underlyings = _find_fresh_underlyings(account)
    return [each for each in fresh if find_underlying(each.market) in underlyings] or fresh


def _find_fresh_underlyings(account: Account) -> dict[int, None]:
    """On which underlyings the account has positions none of which is stale, as keys."""
    held = [each.market for each in account.exposures.values() if each.lots]
    stale = {find_underlying(market): None for market in held if market.stale}
    found = map(find_underlying, held)
    return {underlying: None for underlying in found if underlying not in stale}


def compute_fresh_margin(account: Account) -> int:
    """The maintenance margin that is known whatever stale positions are worth."""
    if account.portfolio is not None:
        return compute_maintenance_of(account, _find_fresh_underlyings(account))
    return sum(compute_position_margin(each.market, each.lots) for each in list_fresh(account))


def compute_weight(exposure: Exposure) -> int:
    """The share of a position in the risk of its account, to compare with those of the others."""
    return max(compute_position_margin(exposure.market, exposure.lots), 1) if exposure.lots else 0


def compute_total_weight(account: Account) -> int:
    """The weights of all positions of an account."""
    return sum(compute_weight(exposure) for exposure in account.exposures.values())


def compute_fresh_weight(account: Account) -> int:
    """The weights of all positions that can be traded."""
    return sum(compute_weight(exposure) for exposure in list_fresh(account))
