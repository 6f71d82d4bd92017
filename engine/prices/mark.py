"""The mark price: what positions are valued and margined at, the index or a little beside it.

    vote     once every `interval_ms`: the premium at which the book would fill the impact notional
             (`engine.prices.premium`), from the book that the block before left, within
             +-premium_max
    average  <- (average x (average_ms - interval_ms) + vote x interval_ms) / average_ms
    mark     = median(index, index x (1 + average), median(best bid, best ask, last trade))

(Shape of Hyperliquid: the median of three, a moving average of 150 s.) While a side of the book is
empty the index stands for the third price; before the first trade it stands for the last one.

The index is one of the three, so the mark never lies farther from it than the average, nor than the
book does at the moment, and with them on different sides it is the index. To move it one must hold
both: standing depth worth the impact notional, for a time that compares to `average_ms`, against
everybody who may trade with it. A vote counts for one interval, however long ago the last was, so
a pause gives one block's book no more weight; and an empty book votes for no premium.

The mark is computed in the system phase, out of the index of this block and the book and trades of
those before: nobody inside a block can move the mark that the block judges by, and no
permutation of its envelopes changes it. It is computed when the index has moved and when a vote is
due, so at most once a block, and in markets where nothing happens not at all. While the oracle is
stale it stands still: the index, which it leans on, is then nothing that anybody vouches for.

Without `MarkParams` the mark is the index. Units: votes in parts per 10^9, the average in parts per
10^15, so that rounding it toward zero never holds it up by more than 10^-9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.limits import PPM
from engine.prices.open_interest import compute_scaled_margin
from engine.prices.premium import PPB, compute_next_due, compute_premium, divide_toward_zero

if TYPE_CHECKING:
    from engine.genesis import MarkParams
    from engine.receipts import Fill
    from engine.state import EngineState
    from engine.trading.market import Market

AVERAGE_SCALE: Final = 10**15
"""The moving average of a premium as large as the index itself."""


class Mark:
    """What a market with a mark of its own remembers between blocks, beside the mark itself."""

    __slots__ = ("average", "due_ms", "index_price", "last_price", "params")

    def __init__(self, params: MarkParams) -> None:
        self.params = params
        self.average = 0
        """Of the premium, in parts per `AVERAGE_SCALE`."""
        self.last_price = 0
        """The price of the last trade, in ticks; 0 before the first."""
        self.due_ms = 0
        """From this block time on the next vote is due."""
        self.index_price = 0
        """Cache: the index that the mark was computed with."""


def update_marks(state: EngineState, time_ms: int) -> None:
    """System phase, after the indices: move the marks that have cause to, and scaled margins."""
    moved = False
    for market in state.perpetuals.values():
        if market.index_price and not market.stale:
            moved = _update_mark(market, time_ms) or moved
    if moved:
        state.margin_epoch += 1


def _update_mark(market: Market, time_ms: int) -> bool:
    """Move one mark and the margin that goes with it, if need be; return whether one moved."""
    price = _find_mark(market, time_ms)
    margin_ppm = market.initial_margin_ppm
    interest = market.params.open_interest
    if interest is not None:
        value = market.open_interest * price * market.unit
        margin_ppm = compute_scaled_margin(margin_ppm, interest, value)
    if price == market.mark_price and margin_ppm == market.scaled_margin_ppm:
        return False
    market.scaled_margin_ppm = margin_ppm
    market.set_mark(price)
    market.dirty = True
    return True


def _find_mark(market: Market, time_ms: int) -> int:
    """Where the mark must be now, in ticks, after a vote if one is due."""
    mark, index_price = market.mark, market.index_price
    if mark is None:
        return index_price
    if time_ms >= mark.due_ms:
        _take_vote(market, mark, time_ms)
    elif index_price == mark.index_price:
        return market.mark_price
    mark.index_price = index_price
    book_price = compute_book_price(market, mark.last_price)
    return compute_mark_price(index_price, mark.average, book_price)


def _take_vote(market: Market, mark: Mark, time_ms: int) -> None:
    params = mark.params
    most = params.premium_max_ppm * (PPB // PPM)
    vote_ppb = compute_premium(market, params.impact_notional_microquote)
    mark.average = compute_average(mark.average, max(-most, min(most, vote_ppb)), params)
    mark.due_ms = compute_next_due(time_ms, params.interval_ms)
    market.dirty = True


def compute_average(average: int, vote_ppb: int, params: MarkParams) -> int:
    """The moving average after a vote, toward zero: rounding brings the mark to the index."""
    kept = average * (params.average_ms - params.interval_ms)
    added = vote_ppb * (AVERAGE_SCALE // PPB) * params.interval_ms
    return divide_toward_zero(kept + added, params.average_ms)


def compute_book_price(market: Market, last_price: int) -> int:
    """The median of best bid, best ask and last trade, in ticks."""
    bid, ask = market.book.bids.best_price(), market.book.asks.best_price()
    if bid is None or ask is None:
        return market.index_price
    # A book is never crossed between blocks, so the median is what lies between the two.
    return max(bid, min(ask, last_price or market.index_price))


def compute_mark_price(index_price: int, average: int, book_price: int) -> int:
    """The median of index, index with the average premium (rounded to the index), and book."""
    averaged = index_price + divide_toward_zero(index_price * average, AVERAGE_SCALE)
    return sorted((index_price, averaged, book_price))[1]


def note_last_prices(state: EngineState, fills: list[Fill]) -> None:
    """After the block: remember each market's last trade for the marks of the next blocks."""
    last_prices = {fill.market: fill.price_ticks for fill in fills}
    for market_id, price in last_prices.items():
        market = state.markets[market_id]
        if market.mark is not None and market.mark.last_price != price:
            market.mark.last_price = price
            market.dirty = True
