"""The order book alone: how many messages a second `engine.trading.book.Book` takes.

Of a hundred messages for one market 60 add an order that rests, 35 cancel an open one and 5 are
priced so far through the other side that they take what they ask for; all around a mid that walks
at random. What is timed is everything a book does for a message: make the order, find what it
crosses, trade in priority, queue what is left, find an order by its id and take it out. Accounts,
margin, receipts and roots are the engine's (`localnet.bench.engine`).
"""

import time
from array import array
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from localnet.bench.book_player import Block, BookPlayer
from localnet.bench.workload import ADD_PERCENT, CANCEL_PERCENT
from localnet.markets import make_plain_market
from localnet.splitmix import SplitMix

MESSAGES_DEFAULT: Final = 2_000_000

BLOCK_MESSAGES: Final = 1_000
"""Messages that are played in one piece, as a block of the engine is."""

_SEED: Final = 1
_BASE_PRICE_TICKS: Final = 100_000
_DEPTH_TICKS: Final = 100
_ADD_LOTS_MAX: Final = 20
_TAKE_LOTS_MAX: Final = 90
"""Takers and cancels together remove a little less than is added, so that the book grows to tens
of thousands of orders."""
_MID_MOVE_ONE_IN: Final = 64
"""The mid moves by a tick at one in so many messages."""


class BookRun(Struct, frozen=True):
    """What the book did with all messages."""

    messages: int
    elapsed_s: float
    messages_per_s: float
    fills: int
    cancelled: int
    resting_orders: int
    """At the end."""


def make_player() -> BookPlayer:
    """A player with an empty book."""
    return BookPlayer(make_plain_market(1, "BOOK"))


def make_blocks(messages: int) -> list[Block]:
    """The same messages every time.

    A second book plays along, so that cancels name orders that are open and adds do not cross what
    rests before their block; only what moves inside a block may make it otherwise.
    """
    random = SplitMix(_SEED)
    player = make_player()
    placed: list[int] = []
    blocks: list[Block] = []
    mid = _BASE_PRICE_TICKS
    for first_id in range(1, messages + 1, BLOCK_MESSAGES):
        block: Block = (array("q"), array("q"), array("q"))
        ids, prices, lots = block
        best_bid = player.book.bids.best_price() or 0
        best_ask = player.book.asks.best_price() or 2 * _BASE_PRICE_TICKS
        new: list[int] = []
        for order_id in range(first_id, min(first_id + BLOCK_MESSAGES, messages + 1)):
            word = random.below(2**60)
            word, kind = divmod(word, 100)
            word, move = divmod(word, 2 * _MID_MOVE_ONE_IN)
            mid += (move == 1) - (move == 0)
            if ADD_PERCENT <= kind < ADD_PERCENT + CANCEL_PERCENT:
                open_id = _pick_open(player, placed, random)
                if open_id is not None:
                    ids.append(open_id)
                    prices.append(0)
                    lots.append(0)
                    continue
            side = 1 if word & 1 else -1
            word, distance = divmod(word >> 1, _DEPTH_TICKS)
            ids.append(order_id)
            if kind >= ADD_PERCENT + CANCEL_PERCENT:
                prices.append(mid + side * _DEPTH_TICKS)
                lots.append(side * (1 + word % _TAKE_LOTS_MAX))
                continue
            price = mid - side * (1 + distance)
            prices.append(min(price, best_ask - 1) if side > 0 else max(price, best_bid + 1))
            lots.append(side * (1 + word % _ADD_LOTS_MAX))
            new.append(order_id)
        player.play(block)
        placed += new
        blocks.append(block)
    return blocks


def _pick_open(player: BookPlayer, placed: list[int], random: SplitMix) -> int | None:
    """Some order of an earlier block that was open after it, out of `placed`."""
    while placed:
        position = random.below(len(placed))
        placed[position], placed[-1] = placed[-1], placed[position]
        order_id = placed.pop()
        if order_id in player.orders:
            return order_id
    return None


def measure_book(blocks: list[Block], after_block: Callable[[], object]) -> BookRun:
    """Play all blocks on an empty book; `after_block` is what the engine does after each."""
    player = make_player()
    started = time.perf_counter()
    for block in blocks:
        player.play(block)
        after_block()
    elapsed_s = time.perf_counter() - started
    assert player.book.order_count == len(player.orders), "the book holds what is open"
    messages = sum(len(ids) for ids, _, _ in blocks)
    return BookRun(
        messages=messages,
        elapsed_s=round(elapsed_s, 3),
        messages_per_s=round(messages / elapsed_s, 1),
        fills=player.fills,
        cancelled=player.cancelled,
        resting_orders=player.book.order_count,
    )
