"""The clearing price and the shares, against a search over all prices that follows the rules word
by word."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import clearing
from engine.clearing import Offer, Queue, clear
from engine.limits import AUCTION_CROWD_MAX

PRICES = range(1, 16)
ORDERS = st.lists(st.tuples(st.sampled_from(PRICES[2:-2]), st.integers(1, 9)), max_size=8)
REFERENCES = st.sampled_from(range(-1, 20))


def find_price(buys, sells, reference):
    """The price by the rules in their order; None if no price has a volume."""

    def bid(price):
        return sum(lots for limit, lots in buys if limit >= price)

    def offered(price):
        return sum(lots for limit, lots in sells if limit <= price)

    volumes = {price: min(bid(price), offered(price)) for price in PRICES}
    largest = max(volumes.values())
    if not largest:
        return None
    left = [price for price in PRICES if volumes[price] == largest]
    excess = {price: bid(price) - offered(price) for price in left}
    smallest = min(abs(each) for each in excess.values())
    left = [price for price in left if abs(excess[price]) == smallest]
    if all(excess[price] > 0 for price in left):
        return max(left)
    if all(excess[price] < 0 for price in left):
        return min(left)
    if smallest:
        left = [
            max(price for price in left if excess[price] > 0),
            min(price for price in left if excess[price] < 0),
        ]
    return min(left, key=lambda price: abs(price - reference))


def find_shares(orders, price, volume, sign):
    """What each order of a side trades, in the order given, which is that of age."""
    shares = [lots if sign * (limit - price) > 0 else 0 for limit, lots in orders]
    left = volume - sum(shares)
    margin = [place for place, (limit, _) in enumerate(orders) if limit == price]
    total = sum(orders[place][1] for place in margin)
    if total:
        for place in margin:
            shares[place] = orders[place][1] * left // total
    for place in margin:
        if sum(shares) < volume:
            shares[place] += 1
    return shares


def run(buys, sells, reference):
    """The price and both sides' shares, in the order given."""
    queues, offers = [], []
    for sign, orders in ((1, buys), (-1, sells)):
        side = [
            Offer(SimpleNamespace(price=limit, side=sign), lots, False) for limit, lots in orders
        ]
        offers.append(side)
        queues.append(Queue(iter(sorted(side, key=lambda offer: -offer.order.side * offer.price))))
    price = clear(*queues, reference)
    return price, *([offer.filled for offer in side] for side in offers)


@settings(max_examples=400)
@given(ORDERS, ORDERS, REFERENCES)
def test_price_and_shares_are_those_of_a_search_over_all_prices(buys, sells, reference):
    price, bought, sold = run(buys, sells, reference)
    assert price == find_price(buys, sells, reference)
    if price is None:
        assert not any(bought + sold)
        return
    volume = sum(bought)
    assert volume == sum(sold) > 0
    assert bought == find_shares(buys, price, volume, 1)
    assert sold == find_shares(sells, price, volume, -1)


@given(ORDERS, ORDERS, REFERENCES)
def test_no_other_price_would_trade_more_and_nobody_trades_beyond_a_limit(buys, sells, reference):
    price, bought, sold = run(buys, sells, reference)
    for other in PRICES:
        bid = sum(lots for limit, lots in buys if limit >= other)
        offered = sum(lots for limit, lots in sells if limit <= other)
        assert min(bid, offered) <= sum(bought)
    for sign, orders, shares in ((1, buys, bought), (-1, sells, sold)):
        for (limit, lots), share in zip(orders, shares, strict=True):
            assert 0 <= share <= lots
            assert not share or sign * (limit - price) >= 0
            if price is not None and sign * (limit - price) > 0:
                assert share == lots, "a better limit than the price trades in full"


@pytest.mark.parametrize(
    ("buys", "sells", "reference", "price"),
    [
        ([(10, 5)], [(10, 5)], 3, 10),
        ([(12, 5)], [(8, 5)], 10, 10),
        ([(12, 5)], [(8, 5)], 3, 8),
        ([(12, 5)], [(8, 5)], 15, 12),
        ([(12, 6)], [(8, 5)], 3, 12),
        ([(12, 5)], [(8, 6)], 15, 8),
        ([(12, 5), (9, 4)], [(8, 5)], 3, 10),
        ([(12, 5), (9, 4)], [(8, 5), (10, 3)], 3, 10),
        ([(12, 5), (9, 3)], [(8, 5), (10, 4)], 15, 9),
        ([(12, 5), (9, 4)], [(8, 5), (10, 4)], 3, 9),
        ([(12, 5), (9, 4)], [(8, 5), (10, 4)], 15, 10),
        ([(9, 5)], [(10, 5)], 10, None),
        ([], [(10, 5)], 10, None),
    ],
    ids=[
        "one price",
        "the reference inside",
        "the reference below",
        "the reference above",
        "more bids than asks",
        "more asks than bids",
        "no bid may be left above",
        "the smaller excess of two neighbours, asks",
        "the smaller excess of two neighbours, bids",
        "equal excess, the reference below",
        "equal excess, the reference above",
        "nothing crosses",
        "nobody bids",
    ],
)
def test_the_rules_choose_the_price_in_their_order(buys, sells, reference, price):
    assert run(buys, sells, reference)[0] == price


def test_the_margin_shares_in_proportion_and_the_oldest_get_what_rounding_leaves():
    price, bought, sold = run([(10, 7), (10, 7), (10, 1), (11, 2)], [(9, 12)], 10)
    # 10 lots are left for 15: floors 4, 4, 0; of the last two the two oldest get one each.
    assert (price, bought, sold) == (10, [5, 5, 0, 2], [12])


def test_of_a_crowd_only_the_oldest_share_unless_it_takes_more():
    crowd = [(10, 1)] * (AUCTION_CROWD_MAX + 500)
    _, bought, _ = run(crowd, [(10, 700)], 10)
    assert bought == [1] * 700 + [0] * (len(crowd) - 700)
    _, bought, _ = run([(10, 2)] * len(crowd), [(10, 1_001)], 10)
    assert bought == [2] + [1] * 999 + [0] * 500
    _, bought, _ = run(crowd, [(10, 1_200)], 10)
    assert bought == [1] * 1_200 + [0] * 300


def test_of_a_crowd_only_the_oldest_count_as_imbalance(monkeypatch):
    monkeypatch.setattr(clearing, "AUCTION_CROWD_MAX", 2)
    takers = [(12, 5)], [(8, 5)]
    bids, asks = [(9, 1), (9, 1), (9, 8)], [(10, 3)]
    assert run(takers[0] + bids, takers[1] + asks, 3)[0] == 9
    monkeypatch.undo()
    assert run(takers[0] + bids, takers[1] + asks, 3)[0] == 10


def test_a_side_is_read_no_further_than_its_price_is_reached():
    deep = [(price, 1) for price in range(1_000, 0, -1)]
    read = []

    def source():
        for limit, lots in deep:
            read.append(limit)
            yield Offer(SimpleNamespace(price=limit, side=1), lots, False)

    sells = Queue(iter([Offer(SimpleNamespace(price=1, side=-1), 3, False)]))
    assert clear(Queue(source()), sells, 1) == 998
    assert len(read) == 4
