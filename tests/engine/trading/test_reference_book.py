"""The book and matching against an independent one: flat lists, sorted anew for every order.

Hypothesis plays one instruction in one block, on the whole engine and on the reference, and after
each everything must be equal: the receipt, the fills, every order of the book in priority order,
every position and balance, the fees; and money is conserved and positions sum to zero. Owners are
rich, so margin decides nothing here. The profile `long` (`--hypothesis-profile=long`) plays at
least 100,000 instructions.
"""

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from engine.instructions import (
    Amend,
    Cancel,
    CancelAll,
    MarketOrder,
    PlaceOrder,
    SelfTradeMode,
    Side,
    TimeInForce,
)
from engine.views import view_account, view_book

OWNERS = [bytes([value]) * 32 for value in range(1, 4)]
BALANCE = 10**12
MAKER_FEE_PPM, TAKER_FEE_PPM = -150, 400
UNIT = 10
"""Micro-quote of one lot at one tick on the exchange of these tests."""

LONG_INSTRUCTIONS = 100_000
LOWEST_KEY = -(2**40)
LEVELS = 1_000


@dataclass
class Resting:
    """An order of the reference book."""

    order_id: int
    owner: bytes
    side: int
    price: int
    lots: int
    order: PlaceOrder


@dataclass
class Result:
    """What a receipt has to say."""

    accepted: bool
    filled: int = 0
    resting: int = 0
    notional: int = 0
    fee: int = 0


REFUSED = Result(False)


def round_up(notional, fee_ppm):
    """The signed fee, rounded up."""
    quotient, remainder = divmod(notional * fee_ppm, 1_000_000)
    return quotient + (remainder > 0)


class ReferenceBook:
    """Matching as the rules say it, with no thought of speed."""

    def __init__(self):
        self.orders: list[Resting] = []
        self.next_id = 1
        self.fills: list[tuple[int, int, int, int]] = []
        self.positions = dict.fromkeys(OWNERS, 0)
        self.quotes = dict.fromkeys(OWNERS, BALANCE)
        self.fees = 0

    def queue(self, side):
        """All orders of a side in the order in which they would trade."""
        orders = [order for order in self.orders if order.side == side]
        return sorted(orders, key=lambda order: (-order.price * side, order.order_id))

    def crossed(self, order):
        """What the order reaches, in the order in which it would trade."""
        return [
            other
            for other in self.queue(-order.side)
            if (other.price - order.price_ticks) * order.side <= 0
        ]

    def place(self, owner, order):
        """Run an order to its end."""
        left = size = order.size_lots
        if order.reduce_only:
            left = size = min(size, max(-order.side * self.positions[owner], 0))
            if not size:
                return REFUSED
        crossed = self.crossed(order)
        if order.tif is TimeInForce.FOK and not self.is_fillable(owner, order, size, crossed):
            return REFUSED
        if order.tif is TimeInForce.POST_ONLY and self.would_trade(owner, order, size, crossed):
            return REFUSED
        order_id, self.next_id = self.next_id, self.next_id + 1
        filled = notional = 0
        while left and (crossed := self.crossed(order)):
            other = crossed[0]
            lots = min(left, other.lots)
            if other.owner != owner:
                left -= lots
                filled += lots
                notional += lots * other.price * UNIT
                self.fill_maker(other, lots, order_id)
            elif order.self_trade is SelfTradeMode.DECREMENT:
                left -= lots
                other.lots -= lots
            else:
                if order.self_trade is not SelfTradeMode.CANCEL_TAKER:
                    other.lots = 0
                if order.self_trade is not SelfTradeMode.CANCEL_MAKER:
                    left = 0
            self.drop_empty()
        assert order.tif is not TimeInForce.FOK or left == 0, "what is promised is filled"
        fee = round_up(notional, TAKER_FEE_PPM)
        self.settle(owner, order.side * filled, -order.side * notional, fee)
        resting = 0
        if left and order.tif is not TimeInForce.IOC:
            resting = self.rest(owner, order, order_id, left)
        return Result(True, filled, resting, notional, fee)

    def fill_maker(self, maker, lots, taker_id):
        """One trade, as its maker sees it."""
        notional = lots * maker.price * UNIT
        maker.lots -= lots
        self.fills.append((maker.order_id, taker_id, maker.price, lots))
        fee = round_up(notional, MAKER_FEE_PPM)
        self.settle(maker.owner, maker.side * lots, -maker.side * notional, fee)

    def settle(self, owner, lots, quote, fee):
        self.positions[owner] += lots
        self.quotes[owner] += quote - fee
        self.fees += fee
        if lots:
            self.shrink_reduce_only(owner)

    def rest(self, owner, order, order_id, lots):
        """Rest what is left; how much of it rests in the end."""
        side = int(order.side)
        if order.reduce_only:
            lots = min(lots, max(-side * self.positions[owner], 0))
        self.orders.append(Resting(order_id, owner, side, order.price_ticks, lots, order))
        self.shrink_reduce_only(owner)
        return sum(each.lots for each in self.orders if each.order_id == order_id)

    def shrink_reduce_only(self, owner):
        """Reduce-only orders may close the position together and no more; who is farthest from
        trading gives first."""
        position = self.positions[owner]
        mine = [each for each in self.orders if each.owner == owner and each.order.reduce_only]
        for each in mine:
            if each.side * position >= 0:
                each.lots = 0
        for each in sorted(mine, key=lambda each: (each.side * each.price, -each.order_id)):
            excess = sum(other.lots for other in mine) - abs(position)
            each.lots -= max(min(excess, each.lots), 0)
        self.drop_empty()

    def drop_empty(self):
        self.orders = [order for order in self.orders if order.lots]

    def is_fillable(self, owner, order, size, crossed):
        """Whether others surely fill it all. A reduce-only order may shrink by an earlier fill of
        its owner: then neither it nor what comes after of that owner counts."""
        fillable = 0
        counted, left_out = set(), set()
        for other in crossed:
            if other.owner == owner:
                if order.self_trade is not SelfTradeMode.CANCEL_MAKER:
                    break
            elif other.order.reduce_only and other.owner in counted:
                left_out.add(other.owner)
            elif other.owner not in left_out:
                counted.add(other.owner)
                fillable += other.lots
                if fillable >= size:
                    return True
        return False

    def would_trade(self, owner, order, size, crossed):
        """Whether self-trade prevention leaves an order of somebody else in the way."""
        for other in crossed:
            if size <= 0:
                return False
            if other.owner != owner:
                return True
            if order.self_trade in (SelfTradeMode.CANCEL_TAKER, SelfTradeMode.CANCEL_BOTH):
                return False
            if order.self_trade is SelfTradeMode.DECREMENT:
                size -= other.lots
        return False

    def find(self, owner, order_id):
        for order in self.orders:
            if (order.order_id, order.owner) == (order_id, owner):
                return order
        return None

    def cancel(self, owner, order_id):
        order = self.find(owner, order_id)
        if order is None:
            return REFUSED
        self.orders.remove(order)
        return Result(True)

    def cancel_all(self, owner):
        self.orders = [order for order in self.orders if order.owner != owner]
        return Result(True)

    def amend(self, owner, amend):
        resting = self.find(owner, amend.order_id)
        if resting is None:
            return REFUSED
        if resting.price == amend.price_ticks and amend.size_lots <= resting.lots:
            resting.lots = amend.size_lots
            return Result(True, resting=resting.lots)
        self.orders.remove(resting)
        old = resting.order
        return self.place(
            owner,
            PlaceOrder(
                1,
                old.side,
                amend.price_ticks,
                amend.size_lots,
                old.tif,
                old.reduce_only,
                old.self_trade,
            ),
        )


OWNER = st.sampled_from(OWNERS)
SIDE = st.sampled_from(Side)
PRICE = st.integers(998, 1_002)
"""Few, so that queues are long."""
LOTS = st.integers(1, 9)
MODE = st.sampled_from(SelfTradeMode)
PICK = st.integers(0, 63)
RESTING_TIFS = (TimeInForce.GTC, TimeInForce.POST_ONLY)


class BookMachine(RuleBasedStateMachine):
    """Both books and every instruction that an owner may send to them."""

    make_world = None
    instructions = 0

    @initialize()
    def start(self):
        self.world = type(self).make_world(
            balance=BALANCE, maker_fee_ppm=MAKER_FEE_PPM, taker_fee_ppm=TAKER_FEE_PPM
        )
        self.deposits = self.world.state.deposits_total
        self.reference = ReferenceBook()
        self.fills = []

    def pick(self, number):
        """Some open order."""
        return self.reference.orders[number % len(self.reference.orders)]

    def pick_closing(self, number):
        """Somebody with a position, and the side that closes it."""
        holders = [owner for owner in OWNERS if self.reference.positions[owner]]
        owner = holders[number % len(holders)]
        return owner, Side.SELL if self.reference.positions[owner] > 0 else Side.BUY

    def has_orders(self):
        return bool(self.reference.orders)

    def has_positions(self):
        return any(self.reference.positions.values())

    @rule(
        owner=OWNER,
        side=SIDE,
        price=PRICE,
        lots=LOTS,
        tif=st.sampled_from(TimeInForce),
        mode=MODE,
    )
    def place(self, owner, side, price, lots, tif, mode):
        order = PlaceOrder(1, side, price, lots, tif, False, mode)
        self.play(owner, order, self.reference.place(owner, order))

    @rule(owner=OWNER, side=SIDE, distance=st.integers(0, 2), lots=st.integers(1, 30))
    def quote(self, owner, side, distance, lots):
        """What fills the book on both sides."""
        order = PlaceOrder(1, side, 1_000 - side * distance, lots, TimeInForce.POST_ONLY)
        self.play(owner, order, self.reference.place(owner, order))

    @rule(owner=OWNER, side=SIDE, price=PRICE, slack=st.integers(-2, 1), mode=MODE)
    def fill_or_kill(self, owner, side, price, slack, mode):
        """All that others offer, or a little more or less."""
        order = PlaceOrder(1, side, price, 1, TimeInForce.FOK, False, mode)
        offers = [other for other in self.reference.crossed(order) if other.owner != owner]
        order = replace(order, size_lots=max(sum(offer.lots for offer in offers) + slack, 1))
        self.play(owner, order, self.reference.place(owner, order))

    @rule(
        owner=OWNER, side=SIDE, price=PRICE, lots=st.integers(1, 30), reduce_only=st.booleans(),
        mode=MODE,
    )  # fmt: skip
    def take(self, owner, side, price, lots, reduce_only, mode):
        order = MarketOrder(1, side, price, lots, reduce_only, mode)
        limit = PlaceOrder(1, side, price, lots, TimeInForce.IOC, reduce_only, mode)
        self.play(owner, order, self.reference.place(owner, limit))

    @precondition(has_positions)
    @rule(number=PICK, distance=st.integers(0, 3), lots=LOTS, tif=st.sampled_from(RESTING_TIFS))
    def reduce(self, number, distance, lots, tif):
        """A reduce-only order that is to rest until the position of its owner shrinks."""
        owner, side = self.pick_closing(number)
        order = PlaceOrder(1, side, 1_000 - side * distance, lots, tif, True)
        self.play(owner, order, self.reference.place(owner, order))

    @precondition(has_positions)
    @rule(
        number=PICK, price=PRICE, lots=LOTS, tif=st.sampled_from(TimeInForce),
        reduce_only=st.booleans(), mode=MODE,
    )  # fmt: skip
    def close(self, number, price, lots, tif, reduce_only, mode):
        """An order that shrinks a position, or turns it."""
        owner, side = self.pick_closing(number)
        order = PlaceOrder(1, side, price, lots, tif, reduce_only, mode)
        self.play(owner, order, self.reference.place(owner, order))

    @precondition(has_orders)
    @rule(number=PICK)
    def cancel(self, number):
        order = self.pick(number)
        cancel = Cancel(order.order_id)
        self.play(order.owner, cancel, self.reference.cancel(order.owner, order.order_id))

    @rule(owner=OWNER, order_id=st.integers(1, 63))
    def cancel_blindly(self, owner, order_id):
        self.play(owner, Cancel(order_id), self.reference.cancel(owner, order_id))

    @precondition(has_orders)
    @rule(number=PICK, lots=st.integers(1, 30))
    def size_down(self, number, lots):
        order = self.pick(number)
        amend = Amend(order.order_id, 0, order.price, min(lots, order.lots))
        self.play(order.owner, amend, self.reference.amend(order.owner, amend))

    @precondition(has_orders)
    @rule(number=PICK, price=PRICE, lots=LOTS)
    def amend(self, number, price, lots):
        order = self.pick(number)
        amend = Amend(order.order_id, 0, price, lots)
        self.play(order.owner, amend, self.reference.amend(order.owner, amend))

    @precondition(has_orders)
    @rule(number=PICK)
    def cancel_all(self, number):
        """Rarely, or no book would ever be deep."""
        if number > 50:
            owner = self.pick(number).owner
            self.play(owner, CancelAll(1), self.reference.cancel_all(owner))

    def play(self, owner, instruction, expected):
        """The engine's turn; then everything is compared."""
        type(self).instructions += 1
        world, reference = self.world, self.reference
        receipt = world.one(owner, instruction)
        assert (
            Result(
                receipt.status.name != "REFUSED",
                receipt.filled_lots,
                receipt.resting_lots,
                receipt.filled_notional_microquote,
                receipt.fee_microquote,
            )
            == expected
        )
        self.fills += [
            (fill.maker_order_id, fill.taker_order_id, fill.price_ticks, fill.size_lots)
            for fill in world.output.fills
        ]
        assert self.fills == reference.fills
        self.compare_books()
        self.compare_accounts()

    def compare_books(self):
        state, reference = self.world.state, self.reference
        book = state.markets[1].book
        shown = view_book(state, 1, LEVELS)
        for side, levels in ((book.bids, shown.bids), (book.asks, shown.asks)):
            queue = reference.queue(side.sign)
            assert [
                (order.order_id, order.exposure.account.account_id, order.price, order.lots)
                for order in side.crossed_orders(LOWEST_KEY)
            ] == [(order.order_id, order.owner, order.price, order.lots) for order in queue]
            sums = {}
            for order in queue:
                lots, count = sums.get(order.price, (0, 0))
                sums[order.price] = (lots + order.lots, count + 1)
            assert [
                (level.price_ticks, (level.size_lots, level.orders)) for level in levels
            ] == list(sums.items())
        assert book.order_count == len(reference.orders)
        assert state.orders.keys() == {order.order_id for order in reference.orders}
        assert not book.is_crossed()

    def compare_accounts(self):
        state, reference = self.world.state, self.reference
        for owner in OWNERS:
            view = view_account(state, owner)
            assert view.quote_microquote == reference.quotes[owner]
            assert self.world.position(owner) == reference.positions[owner]
            orders = [order for order in reference.orders if order.owner == owner]
            assert [order.order_id for order in view.orders] == sorted(
                order.order_id for order in orders
            )
            reduce_only = [order for order in orders if order.order.reduce_only]
            assert sum(order.lots for order in reduce_only) <= abs(reference.positions[owner])
        assert state.fees == reference.fees
        quotes = sum(account.quote for account in state.accounts.values())
        assert quotes + state.fees == self.deposits
        positions = [account.exposures.values() for account in state.accounts.values()]
        assert sum(exposure.lots for exposures in positions for exposure in exposures) == 0


def test_every_stream_of_orders_ends_like_the_reference_book(make_world, is_long):
    class Machine(BookMachine):
        """Counts for this test alone."""

    Machine.make_world = staticmethod(make_world)
    run = settings(
        max_examples=1_300 if is_long else 80,
        stateful_step_count=100 if is_long else 60,
        deadline=None,
    )
    run_state_machine_as_test(Machine, settings=run)
    assert not is_long or Machine.instructions >= LONG_INSTRUCTIONS
