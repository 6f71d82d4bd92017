"""The formulas of cross margin: what one market's positions and open orders ask of an account.

    IM     = sum over markets of ceil(max(longs x im_rate, shorts x im_rate_short) / 10^6)
    MM     = sum over markets of ceil(|position| x mm_rate / 10^6)

`longs = p + buys` and `shorts = sells - p` are the ends of what open orders can make of the
position: all buys filled, or all sells. Whenever one of these is negative the other is larger than
its absolute value. The rates of a market are those of a long and of a short lot: a perpetual's
are the same, its mark value times the market's ppm. Marks and ppm are set before the instructions
of a block and hold through it, also where initial margin grows with open interest
(`engine.prices.open_interest`).

Two facts keep the hot path short, and every change to the formulas must keep them true:

* A fill of a resting order never raises the account's IM: one end stays, the other moves towards
  it. So a maker whose equity after the fill still covers its IM *before* the fill passes.
* An incoming order is checked once, as if all of it traded at its limit price and paid the taker
  fee there. Every possible fill is at least as good, so it needs no check while it trades.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.limits import PPM
from engine.products import multiply

if TYPE_CHECKING:
    from engine.trading.market import Market


def compute_orders_margin(market: Market, longs: int, shorts: int) -> int:
    """The IM of the ends of a position with its open orders, in micro-quote."""
    worst = multiply(longs, market.im_rate)
    other = multiply(shorts, market.im_rate_short)
    if other > worst:
        worst = other
    return -(-worst // PPM)


def compute_position_margin(market: Market, lots: int) -> int:
    """The MM of a position, in micro-quote."""
    rate = market.mm_rate if lots > 0 else -market.mm_rate_short
    return -(-multiply(lots, rate) // PPM)
