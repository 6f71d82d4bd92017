"""The clearing price and the shares, against a search over all prices that follows the rules word
by word; and whole auctions of the engine, against an exchange of flat lists that knows no more.
"""

from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.genesis import Matching
from engine.instructions import PlaceOrder, SelfTradeMode, Side, TimeInForce
from engine.limits import CALL_AUCTION_CROWD_MAX, CALL_AUCTION_ROUNDS_MAX
from engine.trading import clearing
from engine.trading.clearing import Offer, Queue, clear
from localnet.splitmix import SplitMix

PRICES = range(1, 16)
ORDERS = st.lists(st.tuples(st.sampled_from(PRICES[2:-2]), st.integers(1, 9)), max_size=8)
REFERENCES = st.sampled_from(range(-1, 20))


def find_price(buys, sells, reference, prices=PRICES):
    """The price by the rules in their order; None if no price has a volume."""

    def bid(price):
        return sum(lots for limit, lots in buys if limit >= price)

    def offered(price):
        return sum(lots for limit, lots in sells if limit <= price)

    volumes = {price: min(bid(price), offered(price)) for price in prices}
    largest = max(volumes.values())
    if not largest:
        return None
    left = [price for price in prices if volumes[price] == largest]
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


@settings(max_examples=250)
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
    crowd = [(10, 1)] * (CALL_AUCTION_CROWD_MAX + 500)
    _, bought, _ = run(crowd, [(10, 700)], 10)
    assert bought == [1] * 700 + [0] * (len(crowd) - 700)
    _, bought, _ = run([(10, 2)] * len(crowd), [(10, 1_001)], 10)
    assert bought == [2] + [1] * 999 + [0] * 500
    _, bought, _ = run(crowd, [(10, 1_200)], 10)
    assert bought == [1] * 1_200 + [0] * 300


def test_of_a_crowd_only_the_oldest_count_as_imbalance(monkeypatch):
    monkeypatch.setattr(clearing, "CALL_AUCTION_CROWD_MAX", 2)
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


# ---- whole auctions ------------------------------------------------------------------------------

OWNERS = [bytes([value]) * 32 for value in range(1, 5)]
INDEX = 1_000
MAKER_FEE_PPM, TAKER_FEE_PPM = -150, 400
UNIT = 10
IOC, FOK = TimeInForce.IOC, TimeInForce.FOK


@dataclass
class Open:
    """An order of the exchange of flat lists."""

    order_id: int
    owner: bytes
    order: PlaceOrder
    lots: int
    admitted: int
    joined: bool = True
    filled: int = 0

    @property
    def place(self):
        return (-int(self.order.side) * self.order.price_ticks, self.order_id)


def crosses(one, other):
    return one.side * (one.price_ticks - other.price_ticks) >= 0


class Exchange:
    """One market with auctions; everybody is rich."""

    def __init__(self):
        self.open = []
        self.positions = Counter()
        self.quotes = Counter()
        self.fees = 0
        self.receipts = {}

    def block(self, admitted):
        """Run (order id, owner, order) in the order of the ids."""
        self.receipts = {}
        for each in self.open:
            each.joined, each.filled = False, 0
        entries = [self.join(*each) for each in admitted]
        price = self.clear(entries)
        if price is not None:
            for each in self.open:
                self.settle(each, price)
        self.open = [each for each in self.open if each.lots]
        for entry in entries:
            if entry in self.open and entry.order.tif in (IOC, FOK):
                self.open.remove(entry)
        self.shrink()
        for entry in entries:
            left = entry.lots if entry in self.open else 0
            self.receipts[entry.order_id] = (entry.filled, left)

    def join(self, order_id, owner, order):
        lots = order.size_lots
        if order.reduce_only:
            lots = min(lots, -order.side * self.positions[owner])
        entry = Open(order_id, owner, order, lots, lots)
        own = [
            each
            for each in self.open
            if each.owner == owner and each.order.side != order.side and crosses(order, each.order)
        ]
        for each in sorted(own, key=lambda each: each.place):
            if not entry.lots:
                break
            if order.self_trade == SelfTradeMode.DECREMENT:
                both = min(entry.lots, each.lots)
                entry.lots -= both
                each.lots -= both
            else:
                if order.self_trade != SelfTradeMode.CANCEL_TAKER:
                    each.lots = 0
                if order.self_trade != SelfTradeMode.CANCEL_MAKER:
                    entry.lots = 0
        self.open = [each for each in self.open if each.lots]
        if entry.lots:
            self.open.append(entry)
        return entry

    def clear(self, entries):
        for turn in range(CALL_AUCTION_ROUNDS_MAX + 1):
            price = self.fill()
            foks = [each for each in entries if each.order.tif is FOK and each in self.open]
            missing = [each for each in foks if each.filled < each.admitted]
            if not missing:
                return price
            missing.sort(key=lambda each: (each.filled - each.admitted, -each.order_id))
            killed = missing[: (len(missing) + 1) // 2]
            for each in killed if turn < CALL_AUCTION_ROUNDS_MAX - 1 else foks:
                each.filled = 0
                self.open.remove(each)
        raise AssertionError("the last round kills all")

    def fill(self):
        """Set what everybody trades, and return the price."""
        sides = []
        for sign in (1, -1):
            ahead, offers = Counter(), []
            mine = [each for each in self.open if each.order.side == sign]
            for each in sorted(mine, key=lambda each: each.place):
                each.filled, lots = 0, each.lots
                if each.order.reduce_only:
                    room = -sign * self.positions[each.owner] - ahead[each.owner]
                    lots = min(lots, max(room, 0))
                ahead[each.owner] += lots
                offers.append((each, lots))
            sides.append(sorted(offers, key=lambda offer: offer[0].order_id))
        plain = [[(each.order.price_ticks, lots) for each, lots in side] for side in sides]
        price = find_price(*plain, INDEX, range(INDEX - 30, INDEX + 30))
        if price is None:
            return None
        bid = sum(lots for limit, lots in plain[0] if limit >= price)
        offered = sum(lots for limit, lots in plain[1] if limit <= price)
        for sign, side, orders in zip((1, -1), sides, plain, strict=True):
            shares = find_shares(orders, price, min(bid, offered), sign)
            for (each, _), share in zip(side, shares, strict=True):
                each.filled = share
        return price

    def settle(self, each, price):
        side = int(each.order.side)
        notional = each.filled * price * UNIT
        each.lots -= each.filled
        self.positions[each.owner] += side * each.filled
        self.quotes[each.owner] -= side * notional

    def shrink(self):
        """Reduce-only orders never exceed the position: the last to trade gives way first."""
        for owner in OWNERS:
            mine = [each for each in self.open if each.owner == owner and each.order.reduce_only]
            position = self.positions[owner]
            for each in mine:
                if each.order.side * position >= 0:
                    each.lots = 0
            excess = sum(each.lots for each in mine) - abs(position)
            for each in sorted(mine, key=lambda each: each.place, reverse=True):
                less = max(min(excess, each.lots), 0)
                each.lots -= less
                excess -= less
        self.open = [each for each in self.open if each.lots]


def draw_order(draw):
    tif = (TimeInForce.GTC, TimeInForce.GTC, IOC, FOK)[draw(4)]
    side = Side.BUY if draw(2) else Side.SELL
    mode = SelfTradeMode(draw(4))
    return PlaceOrder(1, side, INDEX - 6 + draw(13), 1 + draw(30), tif, draw(4) == 0, mode)


def check_refusal(receipt, owner, order, exchange):
    if receipt.code == "order.reduce_only_would_increase":
        assert order.side * exchange.positions[owner] >= 0
    else:
        assert receipt.code == "order.fok_unfillable"
        assert order.tif is FOK
        assert order.self_trade != SelfTradeMode.CANCEL_MAKER


@settings(max_examples=120)
@given(st.integers(0, 2**32), st.integers(1, 12))
def test_whole_auctions_come_to_what_flat_lists_come_to(make_world, seed, blocks):
    world = make_world(
        matching=Matching.AUCTION, maker_fee_ppm=MAKER_FEE_PPM, taker_fee_ppm=TAKER_FEE_PPM
    )
    start = world.quote(OWNERS[0])
    draw = SplitMix(seed).below
    exchange = Exchange()
    paid = Counter()
    for _ in range(blocks):
        bundles = [
            (OWNERS[draw(4)], [draw_order(draw) for _ in range(1 + draw(4))])
            for _ in range(1 + draw(6))
        ]
        envelopes = [world.envelope(owner, *orders) for owner, orders in bundles]
        asked = {
            (envelope.envelope_id, place): (owner, order)
            for envelope, (owner, orders) in zip(envelopes, bundles, strict=True)
            for place, order in enumerate(orders)
        }
        output = world.block(envelopes)
        admitted = []
        for receipt in output.receipts:
            owner, order = asked[receipt.envelope_id, receipt.index]
            if receipt.status.name == "REFUSED":
                check_refusal(receipt, owner, order, exchange)
            else:
                admitted.append((receipt.order_id, owner, order))
        exchange.block(sorted(admitted, key=lambda each: each[0]))
        for receipt in output.receipts:
            if receipt.order_id:
                due = exchange.receipts[receipt.order_id]
                assert (receipt.filled_lots, receipt.resting_lots) == due
        joined = {order_id for order_id, _, _ in admitted}
        for fill in output.fills:
            for owner, order_id, fee in (
                (fill.maker, fill.maker_order_id, fill.maker_fee_microquote),
                (fill.taker, fill.taker_order_id, fill.taker_fee_microquote),
            ):
                paid[owner] += fee
                notional = fill.price_ticks * fill.size_lots * UNIT
                rate = TAKER_FEE_PPM if order_id in joined else MAKER_FEE_PPM
                assert abs(fee * 1_000_000 - notional * rate) < 1_000_000
        assert world.open_lots() == {
            each.order_id: each.lots
            for each in sorted(exchange.open, key=lambda each: each.order_id)
        }
        for owner in OWNERS:
            assert world.position(owner) == exchange.positions[owner]
            assert world.quote(owner) == start + exchange.quotes[owner] - paid[owner]
