"""The oracle's own rules of a call auction, against the engine's, on books that seldom come up."""

from random import Random
from types import SimpleNamespace
from typing import Any, cast

from engine.trading.clearing import Offer, Queue, clear
from localnet.sim.oracles.call import Wish, find_price, pair_off, share_out


def clear_by_engine(wishes: list[Wish], index_ticks: int) -> tuple[int | None, dict[int, int]]:
    """Price, and lots by order."""
    queues: dict[int, Queue] = {}
    for side in (1, -1):
        offers = []
        for each in sorted((each for each in wishes if each.side == side), key=lambda w: w.place):
            order: Any = SimpleNamespace(
                order_id=each.order_id, side=side, price=each.price_ticks, lots=each.lots
            )
            offers.append(Offer(cast(Any, order), each.lots, True))
        queues[side] = Queue(iter(offers))
    price = clear(queues[1], queues[-1], index_ticks)
    found = [offer for queue in queues.values() for offer in queue.offers if offer.filled]
    return price, {offer.order.order_id: offer.filled for offer in found}


def test_both_come_to_the_same_price_and_the_same_shares() -> None:
    random = Random(1)
    cleared = 0
    for _ in range(1_500):
        wishes = [
            Wish(order_id, random.choice((1, -1)), random.randint(1, 12), random.randint(1, 9))
            for order_id in range(random.randint(2, 14))
        ]
        index_ticks = random.randint(1, 14)
        price, traded = clear_by_engine(wishes, index_ticks)
        assert find_price(wishes, index_ticks) == price
        if price is not None:
            cleared += 1
            assert share_out(wishes, price) == traded
            pairs = list(pair_off(wishes, traded))
            assert sum(lots for _, _, lots in pairs) * 2 == sum(traded.values())
    assert cleared > 1_000


def test_what_is_left_over_decides_before_the_index_does() -> None:
    one_bid_more = [Wish(1, 1, 10, 5), Wish(2, -1, 6, 3)]
    assert find_price(one_bid_more, 7) == 10
    one_ask_more = [Wish(1, 1, 10, 3), Wish(2, -1, 6, 5)]
    assert find_price(one_ask_more, 7) == 6
    either = [Wish(1, 1, 9, 5), Wish(2, 1, 4, 7), Wish(3, -1, 3, 5), Wish(4, -1, 5, 7)]
    assert [find_price(either, index_ticks) for index_ticks in (1, 8)] == [4, 5]
    even = [Wish(1, 1, 10, 3), Wish(2, -1, 6, 3)]
    assert [find_price(even, index_ticks) for index_ticks in (1, 8, 20)] == [6, 8, 10]
    assert find_price([Wish(1, 1, 5, 3), Wish(2, -1, 6, 3)], 5) is None
