"""What a call auction must come to, by rules written down here: one price, and who trades at it.

The volume is the largest that any price gives; of these prices the one that leaves least over; of
those at which bids are left over the highest, at which asks are the lowest; then the nearest to the
index.
Whoever asks for less than the price gives trades in full; those at the price share what is left in
proportion, rounded down, and the rest goes by one lot to the oldest.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple


class Wish(NamedTuple):
    """An order, as an auction sees it."""

    order_id: int
    side: int
    price_ticks: int
    lots: int

    @property
    def place(self) -> tuple[int, int]:
        """The best comes first."""
        return (-self.side * self.price_ticks, self.order_id)


class _Stretch(NamedTuple):
    """Neighbouring prices that give the same."""

    least: int
    most: int
    volume: int
    excess: int
    """Bids that are left over, or asks if it is negative."""


def find_price(wishes: Sequence[Wish], index_ticks: int) -> int | None:
    """The price of an auction; None if nobody trades."""
    stretches = [each for each in _list_stretches(wishes) if each.volume]
    if not stretches:
        return None
    best = max(each.volume for each in stretches)
    left = [each for each in stretches if each.volume == best]
    least = min(abs(each.excess) for each in left)
    left = [each for each in left if abs(each.excess) == least]
    # With bids left over the price goes up as far as it may, with asks left over down.
    ends = [max((each.most for each in left if each.excess > 0), default=None)]
    ends.append(min((each.least for each in left if each.excess < 0), default=None))
    nearest = [min(max(index_ticks, each.least), each.most) for each in left if not each.excess]
    nearest += [price for price in ends if price is not None]
    return min(nearest, key=lambda price: abs(price - index_ticks))


def _list_stretches(wishes: Sequence[Wish]) -> Iterator[_Stretch]:
    """Each limit by itself, and the prices between two of them."""
    limits = sorted({each.price_ticks for each in wishes})
    for place, limit in enumerate(limits):
        yield _weigh(wishes, limit, limit)
        if place + 1 < len(limits) and limit + 1 < limits[place + 1]:
            yield _weigh(wishes, limit + 1, limits[place + 1] - 1)


def _weigh(wishes: Iterable[Wish], least: int, most: int) -> _Stretch:
    bid = asked = 0
    for each in wishes:
        if each.side > 0 and each.price_ticks >= least:
            bid += each.lots
        elif each.side < 0 and each.price_ticks <= least:
            asked += each.lots
    return _Stretch(least, most, min(bid, asked), bid - asked)


def share_out(wishes: Sequence[Wish], price: int) -> dict[int, int]:
    """Lots that each order trades at a price, by its id; those without any are left out."""
    bids = [each for each in wishes if each.side > 0 and each.price_ticks >= price]
    asks = [each for each in wishes if each.side < 0 and each.price_ticks <= price]
    volume = min(sum(each.lots for each in bids), sum(each.lots for each in asks))
    traded: dict[int, int] = {}
    for side in (bids, asks):
        better = [each for each in side if each.price_ticks != price]
        margin = sorted(each for each in side if each.price_ticks == price)
        left = volume - sum(each.lots for each in better)
        assert left >= 0, "a better limit trades in full"
        total = sum(each.lots for each in margin)
        shares = [each.lots * left // total for each in margin]
        for place in range(left - sum(shares)):
            shares[place] += 1
        traded.update((each.order_id, each.lots) for each in better)
        traded.update((each.order_id, lots) for each, lots in zip(margin, shares, strict=True))
    return {order_id: lots for order_id, lots in traded.items() if lots}


def pair_off(wishes: Sequence[Wish], traded: dict[int, int]) -> Iterator[tuple[int, int, int]]:
    """Who trades with whom: (id of the bid, id of the ask, lots), best and oldest first."""
    bids, asks = (
        [each for each in sorted(wishes, key=lambda each: each.place) if each.side == side]
        for side in (1, -1)
    )
    queue = [[each.order_id, traded[each.order_id]] for each in asks if each.order_id in traded]
    for bid in bids:
        left = traded.get(bid.order_id, 0)
        while left:
            ask = queue[0]
            lots = min(left, ask[1])
            yield bid.order_id, ask[0], lots
            left -= lots
            ask[1] -= lots
            if not ask[1]:
                queue.pop(0)
    assert not queue, "both sides trade the same"
