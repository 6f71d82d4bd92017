"""Plays messages on one book, as the engine's state and matching do around it.

A module of its own because it is compiled with the engine's: a loop in the interpreter would be
most of what is measured.
"""

from __future__ import annotations

from array import array
from typing import Final

from engine.accounts.account import Account
from engine.genesis import MarketParams
from engine.instructions import SelfTradeMode, TimeInForce
from engine.trading.book import Order
from engine.trading.market import Market

_GTC: Final = TimeInForce.GTC
_CANCEL_MAKER: Final = SelfTradeMode.CANCEL_MAKER

Block = tuple["array[int]", "array[int]", "array[int]"]
"""Messages as columns: order ids, prices in ticks, and lots, which are positive to buy, negative to
sell, and 0 to cancel."""


class BookPlayer:
    """A book of one market and its orders by id, which a book leaves to the engine's state."""

    def __init__(self, params: MarketParams) -> None:
        market = Market(params)
        self.exposure = Account(bytes(32)).exposure(market)
        self.book = market.book
        self.orders: dict[int, Order] = {}
        self.fills = 0
        self.cancelled = 0

    def play(self, block: Block) -> None:
        """Take one message after the other."""
        exposure, book, orders = self.exposure, self.book, self.orders
        bids, asks = book.bids, book.asks
        fills = cancelled = 0
        ids, prices, sizes = block
        for order_id, price, lots in zip(ids, prices, sizes, strict=True):
            if lots == 0:
                order = orders.pop(order_id, None)
                if order is not None:
                    book.remove(order)
                    cancelled += 1
                continue
            if lots > 0:
                side, left, threshold, opposite = 1, lots, -price, asks
            else:
                side, left, threshold, opposite = -1, -lots, price, bids
            keys = opposite.keys
            while left and keys and keys[-1] >= threshold:
                maker = opposite.levels[keys[-1]].head
                fills += 1
                if left < maker.lots:
                    book.reduce(maker, left)
                    left = 0
                else:
                    left -= maker.lots
                    book.remove(maker)
                    del orders[maker.order_id]
            if left:
                order = Order(
                    order_id, exposure, side, price, left, 0, _GTC, _CANCEL_MAKER, False, 0
                )
                orders[order_id] = order
                book.add(order)
        self.fills += fills
        self.cancelled += cancelled
