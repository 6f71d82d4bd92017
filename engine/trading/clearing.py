"""The clearing price of a call auction, and who trades how much at it. Numbers only.

Every order of an auction trades at one price, at which `D(p)` lots are bid for (limits at or above
`p`) and `S(p)` are offered (limits at or below it). The price is chosen by these rules, in turn:

1. The volume `min(D, S)` is the largest.
2. Of these prices, the imbalance `|D - S|` is the smallest.
3. If bids are in excess at all that are left, the highest one; if asks are, the lowest one.
4. Otherwise the one nearest to the reference price. (If bids are in excess at some and asks at
   others, only the last of the one and the first of the other are left, which are neighbours.)

So whoever bids more than the price (or asks less) trades in full, and only orders whose limit *is*
the price may go short, on one side alone: they are the margin. What the others leave is shared out
among them in proportion to their lots, rounded down; the lots that rounding leaves go one each to
the oldest. Of a crowd at one price only the oldest count (`CALL_AUCTION_CROWD_MAX`), unless it
takes more to fill the other side.

Prices are whole ticks and so is the reference: no price is ever rounded.

Nothing here looks further into a book than it must. Pairing the best bid with the best ask until
they do not cross finds the largest volume. Let `low` and `high` be the limits of the last pair;
all prices from `low` to `high` have that volume. What is left of bids lies below what is left of
asks, so between the two the imbalance is zero, and it grows from there in both directions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.limits import CALL_AUCTION_CROWD_MAX

if TYPE_CHECKING:
    from engine.trading.book import Order


class Offer:
    """What one order brings to an auction."""

    __slots__ = ("fee", "filled", "is_taker", "lots", "notional", "order", "price")

    def __init__(self, order: Order, lots: int, is_taker: bool) -> None:
        self.order = order
        self.price = order.price
        self.lots = lots
        """At most the order's: a reduce-only order may bring less."""
        self.is_taker = is_taker
        """It came for this auction; all others rested before."""
        self.filled = 0
        self.notional = 0
        self.fee = 0


class Queue:
    """The offers of one side, best price and oldest first, read as far as somebody asks."""

    __slots__ = ("_source", "offers")

    def __init__(self, source: Iterator[Offer]) -> None:
        self._source = source
        self.offers: list[Offer] = []

    def at(self, position: int) -> Offer | None:
        """The offer at a position, or None behind the last."""
        while len(self.offers) <= position:
            offer = next(self._source, None)
            if offer is None:
                return None
            self.offers.append(offer)
        return self.offers[position]


def clear(buys: Queue, sells: Queue, reference: int) -> int | None:
    """Set what every offer trades, and return the price; None if nothing trades."""
    volume = low = high = 0
    bought = sold = buy_taken = sell_taken = 0
    buy, sell = buys.at(0), sells.at(0)
    while buy is not None and sell is not None and buy.price >= sell.price:
        low, high = sell.price, buy.price
        lots = min(buy.lots - buy_taken, sell.lots - sell_taken)
        volume += lots
        buy_taken += lots
        sell_taken += lots
        if buy_taken == buy.lots:
            bought, buy_taken = bought + 1, 0
            buy = buys.at(bought)
        if sell_taken == sell.lots:
            sold, sell_taken = sold + 1, 0
            sell = sells.at(sold)
    if not volume:
        return None
    floor = low if buy is None else max(low, buy.price + 1)
    ceiling = high if sell is None else min(high, sell.price - 1)
    if floor > ceiling:
        floor, ceiling = low, high
        if buy is not None and buy.price == high:
            floor = high
        elif sell is not None and sell.price == low:
            ceiling = low
        else:
            assert buy is not None, "bids have something left"
            assert sell is not None, "asks have something left"
            assert sell.price == buy.price + 1, "else there were prices of no imbalance"
            floor, ceiling = buy.price, sell.price
            excess = _sum_left(buys, bought, buy_taken) - _sum_left(sells, sold, sell_taken)
            if excess > 0:
                floor = ceiling
            elif excess < 0:
                ceiling = floor
    price = min(max(reference, floor), ceiling)
    _share_out(buys, price, volume)
    _share_out(sells, price, volume)
    return price


def _sum_left(queue: Queue, position: int, taken: int) -> int:
    """Lots at the price of the offer at `position`, of it and the next ones, less `taken`."""
    first = queue.at(position)
    assert first is not None
    lots = -taken
    for place in range(position, position + CALL_AUCTION_CROWD_MAX):
        offer = queue.at(place)
        if offer is None or offer.price != first.price:
            break
        lots += offer.lots
    return lots


def _share_out(queue: Queue, price: int, volume: int) -> None:
    """Give one side its volume: all to those with better limits, the rest to the margin."""
    left = volume
    position = 0
    offer = queue.at(position)
    while offer is not None and offer.price * offer.order.side > price * offer.order.side:
        offer.filled = offer.lots
        left -= offer.lots
        position += 1
        offer = queue.at(position)
    assert left >= 0, "whoever offers a better price than the clearing price trades in full"
    margin: list[Offer] = []
    total = 0
    while left and (total < left or len(margin) < CALL_AUCTION_CROWD_MAX):
        offer = queue.at(position)
        if offer is None or offer.price != price:
            break
        margin.append(offer)
        total += offer.lots
        position += 1
    assert total >= left, "both sides trade the whole volume"
    rest = left
    for offer in margin:
        offer.filled = offer.lots * left // total
        rest -= offer.filled
    for position in range(rest):
        margin[position].filled += 1
