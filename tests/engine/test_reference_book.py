"""The book against an independent one: a flat list, sorted anew for every order."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.instructions import Amend, Cancel, PlaceOrder, SelfTradeMode, Side, TimeInForce

OWNERS = [bytes([value]) * 32 for value in range(1, 4)]


@dataclass
class Resting:
    """An order of the reference book."""

    order_id: int
    owner: bytes
    side: int
    price: int
    lots: int
    order: PlaceOrder


class ReferenceBook:
    """Matching as the rules say it, with no thought of speed."""

    def __init__(self):
        self.orders: list[Resting] = []
        self.next_id = 1
        self.fills: list[tuple[int, int, int]] = []

    def crossed(self, order):
        """What the order reaches, in the order in which it would trade."""
        reached = [
            other
            for other in self.orders
            if other.side == -order.side and (other.price - order.price_ticks) * order.side <= 0
        ]
        return sorted(reached, key=lambda other: (other.price * order.side, other.order_id))

    def place(self, owner, order):
        """The order's effect; returns (accepted, filled, resting)."""
        crossed = self.crossed(order)
        mode = order.self_trade
        if order.tif is TimeInForce.FOK:
            fillable = 0
            for other in crossed:
                if other.owner != owner:
                    fillable += other.lots
                elif mode is not SelfTradeMode.CANCEL_MAKER and fillable < order.size_lots:
                    fillable = 0
                    break
            if fillable < order.size_lots:
                return False, 0, 0
        if order.tif is TimeInForce.POST_ONLY and self.would_trade(owner, order, crossed):
            return False, 0, 0
        order_id, self.next_id = self.next_id, self.next_id + 1
        left, filled = order.size_lots, 0
        while left and (crossed := self.crossed(order)):
            other = crossed[0]
            lots = min(left, other.lots)
            if other.owner != owner:
                self.fills.append((other.order_id, other.price, lots))
                filled += lots
                left -= lots
                other.lots -= lots
            elif mode is SelfTradeMode.DECREMENT:
                left -= lots
                other.lots -= lots
            else:
                if mode is not SelfTradeMode.CANCEL_TAKER:
                    other.lots = 0
                if mode is not SelfTradeMode.CANCEL_MAKER:
                    left = 0
            self.orders = [resting for resting in self.orders if resting.lots]
        if order.tif is TimeInForce.IOC:
            left = 0
        if left:
            side, price = int(order.side), order.price_ticks
            self.orders.append(Resting(order_id, owner, side, price, left, order))
        return True, filled, left

    def would_trade(self, owner, order, crossed):
        """Whether self-trade prevention leaves an order of somebody else in the way."""
        left = order.size_lots
        for other in crossed:
            if left <= 0:
                return False
            if other.owner != owner:
                return True
            if order.self_trade in (SelfTradeMode.CANCEL_TAKER, SelfTradeMode.CANCEL_BOTH):
                return False
            if order.self_trade is SelfTradeMode.DECREMENT:
                left -= other.lots
        return False

    def cancel(self, owner, order_id):
        kept = [o for o in self.orders if (o.order_id, o.owner) != (order_id, owner)]
        found = len(kept) < len(self.orders)
        self.orders = kept
        return found

    def amend(self, owner, amend):
        for resting in self.orders:
            if (resting.order_id, resting.owner) == (amend.order_id, owner):
                if resting.price == amend.price_ticks and amend.size_lots <= resting.lots:
                    resting.lots = amend.size_lots
                    return
                self.orders.remove(resting)
                old = resting.order
                self.place(
                    owner,
                    PlaceOrder(
                        1,
                        old.side,
                        amend.price_ticks,
                        amend.size_lots,
                        old.tif,
                        self_trade=old.self_trade,
                    ),
                )
                return


def _places():
    return st.builds(
        PlaceOrder,
        st.just(1),
        st.sampled_from(Side),
        st.integers(996, 1_004),
        st.integers(1, 9),
        st.sampled_from(TimeInForce),
        st.just(False),
        st.sampled_from(SelfTradeMode),
    )


_STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),
        _places()
        | _places()
        | st.builds(Cancel, st.integers(1, 40))
        | st.builds(
            Amend, st.integers(1, 40), st.just(0), st.integers(996, 1_004), st.integers(1, 9)
        ),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(_STEPS)
def test_every_stream_of_orders_ends_like_the_reference_book(make_world, steps):
    world = make_world()
    reference = ReferenceBook()
    fills = []
    for owner_index, instruction in steps:
        owner = OWNERS[owner_index]
        receipt = world.one(owner, instruction)
        if isinstance(instruction, PlaceOrder):
            accepted, filled, resting = reference.place(owner, instruction)
            assert accepted == (receipt.status.name != "REFUSED")
            assert (filled, resting) == (receipt.filled_lots, receipt.resting_lots)
        elif isinstance(instruction, Cancel):
            found = reference.cancel(owner, instruction.order_id)
            assert found == (receipt.status.name == "CANCELLED")
        else:
            reference.amend(owner, instruction)
        fills += [
            (fill.maker_order_id, fill.price_ticks, fill.size_lots) for fill in world.output.fills
        ]
        assert fills == reference.fills
        assert world.open_lots() == {o.order_id: o.lots for o in reference.orders}
