"""How far from the index a book would fill an order of some size: what funding and marks vote on.

    premium = (max(0, impact bid - index) - max(0, index - impact ask)) / index

The impact bid is the average price at which a sale worth the *impact notional* would fill, the
impact ask that of a purchase: to move them takes standing depth and not one order at the best
price. Units: premiums in parts per 10^9 (ppb).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.limits import IMPACT_LEVELS_MAX

if TYPE_CHECKING:
    from engine.trading.book import BookSide
    from engine.trading.market import Market

PPB: Final = 1_000_000_000
"""Premiums and rates are integers in parts per 10^9; a millionth of one is 1,000."""


def compute_next_due(now_ms: int, interval_ms: int) -> int:
    """The first multiple of the interval after now: everybody's samples begin on the minute."""
    return (now_ms // interval_ms + 1) * interval_ms


def divide_toward_zero(numerator: int, denominator: int) -> int:
    """The quotient without its fraction: neither side of a payment gains from the rounding."""
    quotient = abs(numerator) // denominator
    return quotient if numerator >= 0 else -quotient


def compute_premium(market: Market, impact_notional: int) -> int:
    """How far from the index the book would fill the impact notional, in ppb of the index,
    rounded toward zero. A side that is not so deep says nothing."""
    unit, index_price = market.unit, market.index_price
    bid = compute_impact_price(market.book.bids, unit, impact_notional)
    ask = compute_impact_price(market.book.asks, unit, impact_notional)
    premium = 0
    if bid is not None:
        above = bid[0] - index_price * bid[1]
        premium += max(above, 0) * PPB // (index_price * bid[1])
    if ask is not None:
        below = index_price * ask[1] - ask[0]
        premium -= max(below, 0) * PPB // (index_price * ask[1])
    return premium


def compute_impact_price(side: BookSide, unit: int, notional: int) -> tuple[int, int] | None:
    """The average price at which an order worth `notional` would fill against a side of the book,
    in ticks as an exact fraction (numerator, denominator); None if the side is not so deep in
    `IMPACT_LEVELS_MAX` levels."""
    missing = notional
    lots = 0
    for position in range(1, min(len(side.keys), IMPACT_LEVELS_MAX) + 1):
        key = side.keys[-position]
        price_value = side.sign * key * unit
        level_lots = side.levels[key].lots
        if price_value * level_lots >= missing:
            # notional / ((lots + missing / price_value) x unit), with one denominator.
            return notional * price_value, (lots * price_value + missing) * unit
        missing -= price_value * level_lots
        lots += level_lots
    return None
